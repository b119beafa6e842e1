"""Adam (Kingma & Ba, ICLR 2015, arXiv 1412.6980) for the few rows of a table that a step touches.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

Rows that a step does not touch keep p, m and v as they are. Where every row moves in every step,
one gradient carries a rare item, whose v is all but forgotten, ten times as far.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from momentary.types import FloatArray, IntArray

_B1, _B2 = 0.9, 0.999


class RowAdam:
    """The moments of one table.

    Args:
        table: Changed in place. Shape (rows, width).
        eps: Keeps the first steps finite.
    """

    def __init__(self, table: FloatArray, *, eps: float = 1e-8) -> None:
        self._table = table
        self._mean = np.zeros_like(table)
        self._square = np.zeros_like(table)
        self._eps = eps
        self._steps = 0

    def step(self, rows: IntArray, gradient: FloatArray, *, learning_rate: float) -> None:
        """Move the named rows, each of which is named once."""
        self._steps += 1
        root = math.sqrt(1 - _B2**self._steps)
        _move(
            (self._table, self._mean, self._square),
            rows,
            gradient,
            np.float32(learning_rate * root / (1 - _B1**self._steps)),
            np.float32(self._eps * root),
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _move(  # noqa: PLR0917 - kernels are called by position
    tables: tuple[FloatArray, FloatArray, FloatArray],
    rows: IntArray,
    gradient: FloatArray,
    rate: np.float32,
    eps: np.float32,
) -> None:
    table, mean, square = tables
    keep, share = np.float32(_B1), np.float32(1 - _B1)
    keep_square, share_square = np.float32(_B2), np.float32(1 - _B2)
    for i in range(len(rows)):
        row = rows[i]
        for j in range(table.shape[1]):
            g = gradient[i, j]
            m = keep * mean[row, j] + share * g
            v = keep_square * square[row, j] + share_square * g * g
            mean[row, j], square[row, j] = m, v
            table[row, j] -= rate * m / (np.sqrt(v) + eps)
