"""The catalogue's columns, laid out so that a condition is tested once for each value.

A column of 37,000 items has a few hundred brands: a test looks at each brand once, and the items
take its answer by their code. Columns that did not change keep their codes when an item does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from momentary.types import BoolArray, IntArray, ItemTable, ObjectArray

OWN = ("brand", "category", "group_id")
"""Attributes that are fields of an item; the others are its properties."""

_FEW = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One attribute as codes into its distinct values.

    Attributes:
        source: What it was made from.
        values: Distinct values, in order of appearance.
        codes: Index of each item's value, -1 where unknown. Shape (items,).
    """

    source: ObjectArray
    values: tuple[str, ...]
    codes: IntArray

    def where(self, holds: Callable[[str], bool]) -> BoolArray:
        """Items whose value is known and passes. Shape (items,)."""
        # The last entry answers for code -1.
        passed = np.fromiter(
            (*map(holds, self.values), False), dtype=np.bool_, count=len(self.values) + 1
        )
        found: BoolArray = passed[self.codes]
        return found

    def numbers(self) -> NDArray[np.float64]:
        """Values read as numbers, NaN where they are none. Shape (items,)."""
        read = np.array([*map(as_number, self.values), math.nan], dtype=np.float64)
        found: NDArray[np.float64] = read[self.codes]
        return found


class Attributes:
    """The columns of one table, made when they are first asked for.

    Args:
        table: The catalogue.
        before: Attributes of an earlier table over the same items, whose columns are kept where
            they are still the same, and mended where little has changed.
    """

    def __init__(self, table: ItemTable, *, before: Attributes | None = None) -> None:
        self.table = table
        self._columns: dict[str, Column] = {}
        self._older: dict[str, Column] = {} if before is None else before.known()

    def __len__(self) -> int:
        return len(self.table)

    def has(self, name: str) -> bool:
        """Whether any item has such an attribute."""
        return name in self.table.attributes

    def properties(self) -> list[str]:
        """The names that `properties.` may stand before, in order."""
        return sorted(name for name in self.table.attributes if name not in OWN)

    def known(self) -> dict[str, Column]:
        """The columns that were asked for so far, of this table or an earlier one."""
        return self._older | self._columns

    def column(self, name: str) -> Column:
        """One attribute, or `item_id` or `name`; unknown throughout if no item has it."""
        column = self._columns.get(name)
        if column is None:
            source = self._source(name)
            older = self._older.pop(name, None)
            column = _coded(source) if older is None else _mended(older, source)
            self._columns[name] = column
        return column

    def _source(self, name: str) -> ObjectArray:
        """The array that a column is made from."""
        own = {"item_id": self.table.item_ids, "name": self.table.names}
        found = own.get(name, self.table.attributes.get(name))
        return np.full(len(self), None, dtype=np.object_) if found is None else found


def as_number(text: str) -> float:
    """The number that a text is, NaN if it is none.

    >>> as_number("4.50"), as_number("large")
    (4.5, nan)
    """
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _mended(column: Column, source: ObjectArray) -> Column:
    """A column whose source has become another; only what differs is looked up."""
    if source is column.source:
        return column
    if len(source) != len(column.source) or len(column.values) > len(source):
        # The second: many changes have left values behind that no item has.
        return _coded(source)
    differ = np.flatnonzero(source != column.source)
    if len(differ) > _FEW:
        return _coded(source)
    known = {value: code for code, value in enumerate(column.values)}
    codes = column.codes.copy()
    for item in differ.tolist():
        value = source[item]
        codes[item] = -1 if value is None else known.setdefault(value, len(known))
    return Column(source=source, values=tuple(known), codes=codes)


def _coded(source: ObjectArray) -> Column:
    known: dict[str, int] = {}
    codes = np.fromiter(
        (-1 if value is None else known.setdefault(value, len(known)) for value in source),
        dtype=np.int64,
        count=len(source),
    )
    return Column(source=source, values=tuple(known), codes=codes)
