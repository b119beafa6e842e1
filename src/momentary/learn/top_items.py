"""The best items of one query, exactly, from a quarter of the memory that the vectors take.

One product with a large catalogue is bound by how fast the vectors are read. So each is kept as
bytes, too: with w the vector, q its bytes and s its scale, w = s q + e, and for a query h that is
kept as whole numbers p with scale t, h = t p + f,

    |w . h - s t (q . p)| <= |e| |h| + |s q| |f|

The bytes give every item a score with this bound; only items that may stand among the best by it,
mostly a few dozen, are then scored in full. Nothing is lost, whatever the vectors are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from momentary.learn.arithmetic import kernel, largest
from momentary.types import FloatArray, IntArray

_LARGEST_BYTE = 127
_STEP = 32  # whole vector registers of bytes
_CHUNK = 64
_ROUNDING = 2.0**-22  # of float32, with room to spare


class TopItems:
    """Finds the best items for queries that come one at a time.

    Args:
        vectors: Left as they are and not to be changed. Shape (items, width).
        biases: -inf leaves an item out. Shape (items,).
    """

    def __init__(self, vectors: FloatArray, biases: FloatArray) -> None:
        n_items, width = vectors.shape
        self._vectors, self._biases = vectors, biases
        padded = -(-width // _STEP) * _STEP
        self._bytes = np.zeros((n_items, padded), dtype=np.int8)
        largest_of = np.abs(vectors).max(axis=1, initial=0)
        self._scales = (np.maximum(largest_of, 1e-30) / _LARGEST_BYTE).astype(np.float32)
        self._bytes[:, :width] = np.rint(vectors / self._scales[:, None])
        kept = self._bytes[:, :width] * self._scales[:, None].astype(np.float64)
        self._errors = _norms(vectors - kept)
        self._norms = _norms(kept)
        # The sum of a row's products stays below 2^31.
        self._most = min(2047, (2**31 - 1) // (_LARGEST_BYTE * max(padded, 1)))
        self._query = np.zeros(padded, dtype=np.int16)
        self._upper = np.empty(n_items, dtype=np.float32)

    def best(self, query: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best `k` items, best first, ties by lower index, and their scores.

        Args:
            query: Shape (width,).
            k: Fewer are found if there are not so many.

        Raises:
            ValueError: If the query holds no numbers, or `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; a list has at least 1 item.")
        width = len(query)
        whole = query.astype(np.float64)
        size = float(np.abs(whole).max(initial=0))
        if not np.isfinite(size):
            raise ValueError("the query holds NaN or infinity; look for an exploded training.")
        scale = max(size, 1e-30) / self._most
        self._query[:width] = np.rint(whole / scale)
        missed = float(np.linalg.norm(whole - self._query[:width] * scale))
        length = float(np.linalg.norm(whole))
        kept = min(k, len(self._biases))
        least = _scan(
            self._bytes,
            self._query,
            (self._scales * np.float32(scale), self._biases, self._errors, self._norms),
            lengths=(np.float32(length * (1 + _ROUNDING)), np.float32(missed * (1 + _ROUNDING))),
            found=(np.full(kept, -np.inf, dtype=np.float32), self._upper),
        )
        near = np.flatnonzero(self._upper >= least)
        near = near[np.isfinite(self._biases[near])]
        scores = self._vectors[near] @ query + self._biases[near]
        order = np.argsort(-scores, kind="stable")[:kept]
        return near[order], scores[order]


def _norms(rows: NDArray[np.float64]) -> FloatArray:
    """Lengths, rounded up. Shape (rows,)."""
    lengths: FloatArray = np.linalg.norm(rows, axis=1) * (1 + _ROUNDING) + 1e-30
    return lengths.astype(np.float32)


@kernel
def _scan(
    rows: NDArray[np.int8],
    query: NDArray[np.int16],
    terms: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    *,
    lengths: tuple[np.float32, np.float32],
    found: tuple[FloatArray, FloatArray],
) -> np.float32:
    """Bound every item's score from above; give what as many items as are wanted reach for sure."""
    scales, biases, errors, norms = terms
    length, missed = lengths
    lowest, upper = found
    rounding = np.float32(_ROUNDING) * np.float32(len(query))
    last = len(lowest) - 1
    lower = np.empty(_CHUNK, dtype=np.float32)
    for begin in range(0, len(rows), _CHUNK):
        end = min(begin + _CHUNK, len(rows))
        highest = np.float32(-np.inf)
        for i in range(begin, end):
            total = np.int32(0)
            row = rows[i]
            for j in range(len(row)):
                # Said twice, since products of whole numbers would be widened.
                total = np.int32(total + np.int32(np.int32(row[j]) * np.int32(query[j])))
            score = scales[i] * np.float32(total) + biases[i]
            slack = errors[i] * length + norms[i] * missed
            slack += rounding * (norms[i] * length + abs(biases[i]) + abs(score))
            upper[i] = score + slack
            lower[i - begin] = score - slack
            highest = largest(highest, lower[i - begin])
        if highest > lowest[last]:
            for i in range(end - begin):
                _raise(lowest, lower[i])
    least: np.float32 = lowest[last]
    return least


@kernel
def _raise(values: FloatArray, value: np.float32) -> None:
    """Keep the largest values so far, the largest first."""
    place = len(values) - 1
    if value <= values[place]:
        return
    while place > 0 and values[place - 1] < value:
        values[place] = values[place - 1]
        place -= 1
    values[place] = value
