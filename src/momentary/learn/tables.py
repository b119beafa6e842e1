"""Rows of large tables."""

from __future__ import annotations

from momentary.learn.arithmetic import ROWS_AHEAD, kernel, prefetch_row
from momentary.types import FloatArray, IntArray


@kernel
def gather(table: FloatArray, rows: IntArray, taken: FloatArray) -> None:
    """Copy the named rows. Shapes (items, width), (rows,) and, written to, (rows, width)."""
    for i in range(len(rows)):
        prefetch_row(table, rows[min(i + ROWS_AHEAD, len(rows) - 1)])
        row = table[rows[i]]
        for j in range(len(row)):
            taken[i, j] = row[j]
