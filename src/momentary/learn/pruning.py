"""Keep the strongest entries of every row of a sparse matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from momentary.types import FloatArray, IntArray


def strongest_per_row(
    values: FloatArray, indptr: IntArray, columns: NDArray[np.int32], *, limit: int, rank: IntArray
) -> IntArray:
    """Find the `limit` largest entries of every row of a matrix in CSR form.

    Args:
        values: Entries, row by row. Shape (entries,).
        indptr: Row r holds entries `indptr[r]` to `indptr[r + 1]`. Shape (rows + 1,).
        columns: Column of each entry. Shape (entries,).
        limit: Entries to keep in a row.
        rank: Decides between equal entries: the column of lower rank wins. Shape (columns,).

    Returns:
        Positions of the entries kept, ascending. Shape (kept,).

    >>> strongest_per_row(
    ...     np.array([0.1, 0.9, 0.5], dtype=np.float32), np.array([0, 3]),
    ...     np.array([0, 1, 2], dtype=np.int32), limit=2, rank=np.arange(3),
    ... ).tolist()
    [1, 2]
    """
    keep = np.ones(len(values), dtype=np.bool_)
    for row in np.flatnonzero(np.diff(indptr) > limit):
        start, end = indptr[row], indptr[row + 1]
        strength = values[start:end]
        threshold = np.partition(strength, len(strength) - limit)[len(strength) - limit]
        rivals = np.flatnonzero(strength >= threshold)  # `limit` of them, or more when some tie
        order = np.lexsort((rank[columns[start + rivals]], -strength[rivals]))
        keep[start:end] = False
        keep[start + rivals[order[:limit]]] = True
    return np.flatnonzero(keep)
