"""Sums of rows of a sparse table."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from momentary.types import FloatArray, IntArray


@numba.njit(cache=True, nogil=True)
def add_rows(
    queries: tuple[IntArray, IntArray, FloatArray],
    table: tuple[IntArray, NDArray[np.int32], FloatArray],
    sums: FloatArray,
) -> None:
    """Add to each row of `sums` the table's rows of a session's items, each times its weight.

    Args:
        queries: Items of the sessions, end to end; where each session starts, and the end; the
            weight of each event. Shapes (events,), (rows + 1,), (events,).
        table: A square matrix in CSR form: where each item's row starts, and the end; columns;
            values. Shapes (items + 1,), (entries,), (entries,).
        sums: Shape (rows, items).
    """
    items, offsets, weights = queries
    indptr, columns, values = table
    for row in range(len(offsets) - 1):
        for event in range(offsets[row], offsets[row + 1]):
            for entry in range(indptr[items[event]], indptr[items[event] + 1]):
                sums[row, columns[entry]] += weights[event] * values[entry]
