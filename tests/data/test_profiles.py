"""Columns are described over the whole file, exactly while that is cheap."""

from contextlib import closing

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from momentary.data import profiles
from momentary.data.layouts import Layout
from momentary.data.profiles import Profiles
from momentary.data.rows import Cursor, RawRows


def profile(*columns):
    """The one column of a file that comes in these pieces."""
    layout = Layout(file_type="parquet", names=("a b",))
    with closing(duckdb.connect()) as database:
        found = Profiles(layout, database)
        for column in columns:
            lines = np.arange(len(column), dtype=np.int64)
            found.add(
                RawRows(columns={"a b": column}, lines=lines, excerpts=lambda _: [], end=Cursor())
            )
        (described,) = found.columns()
        return described


def test_values_count_once_over_all_pieces():
    pieces = [pa.array([f"v{i % 54}" for i in range(start, start + 500)]) for start in range(0, 9)]
    described = profile(*pieces, pa.array(["", None]))
    assert (described.distinct, described.estimated) == (54, False)
    assert described.null_share == pytest.approx(2 / 4502)
    assert (described.type, described.example) == ("text", "v0")


@pytest.mark.parametrize(
    ("column", "distinct", "null_share"),
    [
        (pa.array([1.0, np.nan, None, 1.0]), 1, 0.5),
        (pa.array(["x", "", "y"]).dictionary_encode(), 2, 1 / 3),
        (pa.array([[1], [1, 2], None, [1]]), 2, 1 / 4),
        (pa.array([1, 2, 1], pa.decimal256(60, 2)), 2, 0.0),
        (pa.nulls(3), 0, 1.0),
        (pa.array([b"\xff", b"\xfe"]), 2, 0.0),
    ],
)
def test_columns_of_any_type_are_counted(column, distinct, null_share):
    described = profile(column)
    assert (described.distinct, described.null_share) == (distinct, pytest.approx(null_share))


def test_many_values_are_estimated_and_say_so(monkeypatch):
    monkeypatch.setattr(profiles, "EXACT_UP_TO", 4096)
    pieces = [pa.array(np.arange(start, start + 50_000)) for start in range(0, 200_000, 25_000)]
    described = profile(*pieces)
    assert described.estimated
    assert described.distinct == pytest.approx(225_000, rel=0.05)
