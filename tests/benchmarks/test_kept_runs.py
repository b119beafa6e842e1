"""Figures that are kept are taken up as long as their settings are today's."""

from dataclasses import dataclass, field

import pytest

from benchmarks import sessions
from benchmarks.kept_runs import KeptRuns, agree
from benchmarks.report import RESULTS
from momentary.models.artifact import make


@dataclass(frozen=True)
class Inner:
    width: int = 3
    added: tuple[int, ...] = ()


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    parts: tuple[Inner, ...] = (Inner(),)
    added: dict[str, float] = field(default_factory=dict)


KEPT = {"rate": 0.5, "parts": [{"width": 3}]}


@pytest.mark.parametrize(
    ("today", "same"),
    [
        (Settings(), True),
        (Settings(rate=0.4), False),
        (Settings(added={"a": 1.0}), False),
        (Settings(parts=(Inner(width=4),)), False),
        (Settings(parts=(Inner(added=(1,)),)), False),
        (Settings(parts=(Inner(), Inner())), False),
    ],
)
def test_an_option_that_was_not_there_may_stand_at_its_default(today, same):
    assert agree(KEPT, today) == same


def test_an_option_that_is_gone_makes_other_settings():
    assert not agree({**KEPT, "gone": 1}, Settings())


def test_what_is_put_is_found_again_for_the_same_settings_alone(tmp_path):
    file = tmp_path / "folder" / "runs.json"
    KeptRuns(file).put("a", Settings(rate=float("inf")), {"recall": 0.25}, commit="0123")
    again = KeptRuns(file)
    assert again.get("a", Settings(rate=float("inf"))) == {"recall": 0.25}
    assert again.get("a", Settings()) is None
    assert again.get("b", Settings()) is None
    again.put("a", Settings(), {"recall": 0.5}, commit="4567")
    assert KeptRuns(file).get("a", Settings()) == {"recall": 0.5}
    assert [each.name for each in file.parent.iterdir()] == ["runs.json"]


def test_the_benchmark_of_sessions_fits_nothing_that_is_recorded():
    """A new option must not cost hours: the recorded figures still are of today's settings."""
    kept = KeptRuns(RESULTS / "sessions_runs.json")
    for data, models in sessions.SETTINGS.items():
        for kind, settings in models.items():
            config = make(kind, settings).config
            for seed in range(3 if kind in sessions.CHANCE else 1):
                name = sessions.name_of(data, kind, seed)
                assert kept.get(name, config) is not None, name
