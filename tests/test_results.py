"""What benchmarks wrote: figures name their run, and a part run again replaces its own rows."""

import json
import re

import pytest

from benchmarks.report import RESULTS, beside

RUN = {"commit", "date", "machine", "data", "seeds"}
FILES = sorted(RESULTS.glob("*.json"))


def run_of(*whats, date="2026-01-01T00:00:00+00:00", seeds=(0,), **data):
    rows = [{"what": what, "value": 1.0} for what in whats]
    return {
        **{"commit": date[:4], "date": date, "machine": "a machine", "data": data},
        **{"seeds": list(seeds), "rows": rows},
    }


@pytest.mark.parametrize(
    "file", [each for each in FILES if not each.stem.endswith("_runs")], ids=lambda each: each.stem
)
def test_every_figure_names_the_run_that_gave_it(file):
    found = json.loads(file.read_bytes())
    assert found["name"] == file.stem
    assert found["rows"]
    for run in (found, *found.get("parts", {}).values()):
        assert set(run) >= RUN
        assert re.fullmatch("[0-9a-f]{12}", run["commit"])
    for row in found["rows"]:
        assert set(row) >= {"what", "value", "unit", "target", "better", "peer", "peer_value"}
        assert isinstance(row["value"], int | float)
        assert row["better"] in {"higher", "lower"}
        assert "parts" not in found or row["part"] in found["parts"]


def test_a_part_that_is_run_again_replaces_its_own_rows_alone():
    nothing = {"parts": {}, "rows": []}
    first = beside("films", "cold", run_of("a", "b", one="1"), before=nothing)
    second = beside(
        "films", "warm", run_of("c", date="2026-03-01", seeds=(2, 1), two="2"), before=first
    )
    third = beside("films", "cold", run_of("d", date="2026-02-01", one="1"), before=second)
    assert [(row["part"], row["what"]) for row in third["rows"]] == [("cold", "d"), ("warm", "c")]
    assert third["parts"]["cold"]["date"] == "2026-02-01"
    assert {key: third[key] for key in ("commit", "date", "data", "seeds")} == {
        **{"commit": "2026", "date": "2026-03-01"},
        **{"data": {"one": "1", "two": "2"}, "seeds": [0, 1, 2]},
    }
