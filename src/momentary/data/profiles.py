"""What every column of a file holds: its type, how much is empty, how many different values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from momentary.data.columns import any_text, as_mask
from momentary.data.diagnosis import Column, short
from momentary.data.layouts import TRACKERS, Layout
from momentary.data.rows import RawRows
from momentary.types import BoolArray

EXACT_UP_TO = 1 << 18
_TYPED_ROWS = 1000


class _Distinct:
    """Counts different hashes by the smallest ones, exactly up to `EXACT_UP_TO`.

    k minimum values (Bar-Yossef et al., RANDOM 2002): if the k-th smallest of hashes that are
    uniform over 0 .. 1 is h, there are about (k - 1) / h; the standard error is 1 / sqrt(k).
    """

    def __init__(self) -> None:
        self.smallest: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.limit = np.uint64(2**64 - 1)
        self._pending: list[NDArray[np.uint64]] = []

    @property
    def estimated(self) -> bool:
        return int(self.limit) < 2**64 - 1

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Take note of hashes, with repeats."""
        self._pending.append(_unique(hashes[hashes <= self.limit]))
        # Merging as rarely as this costs each hash a few comparisons in all.
        if sum(map(len, self._pending)) > max(len(self.smallest), 1 << 14):
            self._merge()

    def _merge(self) -> None:
        self.smallest = _unique(np.concatenate([self.smallest, *self._pending]))[:EXACT_UP_TO]
        self._pending = []
        if len(self.smallest) == EXACT_UP_TO:
            self.limit = self.smallest[-1]

    def count(self) -> int:
        """How many different hashes there are, about."""
        self._merge()
        if not self.estimated:
            return len(self.smallest)
        return round((EXACT_UP_TO - 1) * 2.0**64 / float(self.limit))


def _unique(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(hashes)
    fresh = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    return ordered[fresh]


class Profiles:
    """Looks at the columns of a file, some rows at a time."""

    def __init__(self, layout: Layout, database: duckdb.DuckDBPyConnection) -> None:
        self.names = wanted_columns(layout)
        self._layout = layout
        self._database = database
        self._rows = 0
        self._empty = dict.fromkeys(self.names, 0)
        self._distinct = {name: _Distinct() for name in self.names}
        self._first: dict[str, list[str]] = {name: [] for name in self.names}

    def add(self, raw: RawRows) -> None:
        """Take note of some rows; they hold at least the columns `names`."""
        if self._rows < _TYPED_ROWS:
            for name, values in self._first.items():
                head = any_text(raw.columns[name][:_TYPED_ROWS]).to_pylist()
                values.extend(value for value in head if value)
        self._rows += len(raw.lines)
        columns = [raw.columns[name] for name in self.names]
        try:
            hashes = self._hashes(columns)
        except duckdb.Error:
            # Arrow has types that DuckDB does not know; all of them can be written as text.
            hashes = self._hashes([any_text(column) for column in columns])
        for name, column, found in zip(self.names, columns, hashes, strict=True):
            empty = _empty(column)
            self._empty[name] += int(empty.sum())
            self._distinct[name].add(found[~empty] if empty.any() else found)

    def _hashes(self, columns: Sequence[pa.Array]) -> list[NDArray[np.uint64]]:
        places = [f"c{place}" for place in range(len(columns))]
        self._database.register("profiled", pa.table(dict(zip(places, columns, strict=True))))
        wanted = ", ".join(f"hash({place}) AS {place}" for place in places)
        found = self._database.execute(f"SELECT {wanted} FROM profiled").fetchnumpy()
        self._database.unregister("profiled")
        return [np.asarray(found[place], dtype=np.uint64) for place in places]

    def columns(self) -> tuple[Column, ...]:
        """What was found, in the order of the file."""
        roles: dict[str, str] = {}
        for role, column in self._layout.columns.items():
            roles[column] = f"{roles[column]}, {role}" if column in roles else role
        kept = dict.fromkeys(self._layout.properties, "property")
        time = self._layout.columns.get("timestamp")
        return tuple(
            Column(
                name=short(name),
                role=roles.get(name, kept.get(name)),
                type=_type(self._first[name], is_time=name == time),
                null_share=self._empty[name] / self._rows if self._rows else 1.0,
                distinct=self._distinct[name].count(),
                estimated=self._distinct[name].estimated,
                example=_example(self._first[name]),
            )
            for name in self.names
        )


def _empty(column: pa.Array) -> BoolArray:
    """Where there is nothing: null, an empty text, not a number."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _empty(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ~as_mask(pc.not_equal(column, ""))
    return as_mask(pc.is_null(column, nan_is_null=True))


def wanted_columns(layout: Layout) -> tuple[str, ...]:
    """All columns of a file; of a tracker's file the places that we know."""
    return tuple(layout.columns.values()) if layout.name in TRACKERS else layout.names


def _type(values: Sequence[str], *, is_time: bool) -> str:
    if not values:
        return "empty"
    if is_time:
        return "time"
    try:
        numbers = [float(value) for value in values if len(value) < 40]
    except ValueError:
        return "text"
    if len(numbers) < len(values):
        return "text"
    return "integer" if all("." not in value and "e" not in value for value in values) else "number"


def _example(values: Sequence[str]) -> str:
    """The first value; of a time the fraction is left out if it is zero."""
    return short(re.sub(r"(:\d\d)\.0+(Z?)$", r"\1\2", values[0])) if values else ""
