"""The best items of one query, exactly, from a quarter of the memory that the vectors take.

One product with a large catalogue is bound by how fast the vectors are read. So each is kept as
bytes, too: with w the vector, q its bytes and s its scale, w = s q + e, and for a query h that is
kept as whole numbers p with scale t, h = t p + f,

    |w . h - s t (q . p)| <= |e| |h| + |s q| |f|

The bytes give every item a score with this bound; only items that may stand among the best by it,
mostly a few dozen, are then scored in full. Nothing is lost, whatever the vectors are. Whoever
wants a score for every item may have those of the bytes for the rest.
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

    def best(self, query: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best `k` items, best first, ties by lower index, and their scores.

        Args:
            query: Shape (width,).
            k: Fewer are found if there are not so many.

        Raises:
            ValueError: If the query holds no numbers, or `k` is below 1.
        """
        near, _ = self._near(query, k, biases=self._biases)
        scores = self._vectors[near] @ query + self._biases[near]
        order = np.argsort(-scores, kind="stable")[:k]
        return near[order], scores[order]

    def scores(
        self,
        query: FloatArray,
        *,
        exact: int,
        biases: FloatArray | None = None,
        also: IntArray | None = None,
    ) -> FloatArray:
        """Score every item; all but the best as bytes tell it. Shape (items,).

        Args:
            query: Shape (width,).
            exact: So many best items are found, and scored in full.
            biases: Instead of those of the model. Shape (items,).
            also: Items that are scored in full, too.

        Raises:
            ValueError: If the query holds no numbers, or `exact` is below 1.
        """
        own = self._biases if biases is None else biases
        near, found = self._near(query, exact, biases=own)
        _score_in_full(self._vectors, query, own, near, found)
        if also is not None:
            _score_in_full(self._vectors, query, own, also, found)
        return found

    def _near(
        self, query: FloatArray, k: int, *, biases: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """What may be among the best `k`, and every item's score as bytes tell it."""
        if k < 1:
            raise ValueError(f"k is {k}; a list has at least 1 item.")
        width = len(query)
        whole = query.astype(np.float64)
        size = float(np.abs(whole).max(initial=0))
        if not np.isfinite(size):
            raise ValueError("the query holds NaN or infinity; look for an exploded training.")
        scale = max(size, 1e-30) / self._most
        numbers = np.zeros(self._bytes.shape[1], dtype=np.int16)
        numbers[:width] = np.rint(whole / scale)
        missed = float(np.linalg.norm(whole - numbers[:width] * scale))
        upper, rough = (np.empty(len(biases), dtype=np.float32) for _ in range(2))
        length = float(np.linalg.norm(whole))
        least = _scan(
            self._bytes,
            numbers,
            (self._scales, biases, self._errors, self._norms),
            sizes=(
                np.float32(scale),
                np.float32(length * (1 + _ROUNDING)),
                np.float32(missed * (1 + _ROUNDING)),
            ),
            found=(np.full(min(k, len(biases)), -np.inf, dtype=np.float32), upper, rough),
        )
        near = np.flatnonzero(upper >= least)
        return near[np.isfinite(biases[near])], rough


def _norms(rows: NDArray[np.float64]) -> FloatArray:
    """Lengths, rounded up. Shape (rows,)."""
    lengths: FloatArray = np.linalg.norm(rows, axis=1) * (1 + _ROUNDING) + 1e-30
    return lengths.astype(np.float32)


@kernel
def _score_in_full(  # noqa: PLR0917 - kernels are called by position
    vectors: FloatArray, query: FloatArray, biases: FloatArray, items: IntArray, found: FloatArray
) -> None:
    for item in items:
        total = np.float32(0)
        for j in range(len(query)):
            total += vectors[item, j] * query[j]
        found[item] = total + biases[item]


@kernel
def _scan(
    rows: NDArray[np.int8],
    query: NDArray[np.int16],
    terms: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    *,
    sizes: tuple[np.float32, np.float32, np.float32],
    found: tuple[FloatArray, FloatArray, FloatArray],
) -> np.float32:
    """Score and bound every item; give what as many items as are wanted reach for sure."""
    scales, biases, errors, norms = terms
    lowest, upper, rough = found
    rounding = np.float32(_ROUNDING) * np.float32(len(query))
    last = len(lowest) - 1
    lower = np.empty(_CHUNK, dtype=np.float32)
    totals = np.empty(_CHUNK, dtype=np.int32)
    for begin in range(0, len(rows), _CHUNK):
        count = min(_CHUNK, len(rows) - begin)
        for i in range(count):
            total = np.int32(0)
            row = rows[begin + i]
            for j in range(len(row)):
                # Said twice, since products of whole numbers would be widened.
                total = np.int32(total + np.int32(np.int32(row[j]) * np.int32(query[j])))
            totals[i] = total
        some = slice(begin, begin + count)
        terms_of = (scales[some], biases[some], errors[some], norms[some])
        _bound(totals, terms_of, sizes, rounding, (lower, upper[some], rough[some]))
        highest = np.float32(-np.inf)
        for i in range(count):
            highest = largest(highest, lower[i])
        if highest > lowest[last]:
            for i in range(count):
                _raise(lowest, lower[i])
    least: np.float32 = lowest[last]
    return least


@kernel
def _bound(  # noqa: PLR0917 - kernels are called by position
    totals: NDArray[np.int32],
    terms: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    sizes: tuple[np.float32, np.float32, np.float32],
    rounding: np.float32,
    found: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    """Write some items' lower and upper bounds, and their scores as bytes tell them."""
    scales, biases, errors, norms = terms
    scale, length, missed = sizes
    lower, upper, rough = found
    # Loops over few arrays each become vector instructions; one over all of them does not.
    for i in range(len(rough)):
        rough[i] = scales[i] * scale * np.float32(totals[i]) + biases[i]
    for i in range(len(rough)):
        upper[i] = errors[i] * length + norms[i] * missed
    for i in range(len(rough)):
        upper[i] += rounding * (norms[i] * length + abs(biases[i]) + abs(rough[i]))
    for i in range(len(rough)):
        lower[i] = rough[i] - upper[i]
    for i in range(len(rough)):
        upper[i] += rough[i]


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
