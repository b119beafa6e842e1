"""Ranks in the whole catalogue, for models whose score is a product with an item vector."""

from __future__ import annotations

import numpy as np

from momentary.learn.arithmetic import kernel
from momentary.types import FloatArray, IntArray

_QUERIES, _ITEMS = 512, 1024
"""What is scored at once: small enough to be counted while it is in the cache."""


def rank_blocks(
    hidden: FloatArray, item_vectors: FloatArray, biases: FloatArray, *, targets: IntArray
) -> IntArray:
    """Find each target's rank when item i scores `item_vectors[i] . hidden + biases[i]`.

    The rank is the number of items that score at least as high, the target itself among them: ties
    count against it, and every cutoff is served at once. The scores of the whole catalogue are
    never held.

    Args:
        hidden: One query a row. Shape (queries, units).
        item_vectors: Shape (items, units).
        biases: -inf ranks an item behind all others. Shape (items,).
        targets: One item a query. Shape (queries,).

    Returns:
        Ranks from 1. Shape (queries,).

    Raises:
        ValueError: If the score of a target is NaN.

    >>> vectors = np.array([[1.0], [3.0], [3.0]], dtype=np.float32)
    >>> hidden, biases = np.ones((2, 1), dtype=np.float32), np.zeros(3, dtype=np.float32)
    >>> rank_blocks(hidden, vectors, biases, targets=np.array([0, 1])).tolist()
    [3, 2]
    """
    parts = [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(targets), _QUERIES):
        block = slice(begin, begin + _QUERIES)
        parts.append(_rank(hidden[block], item_vectors, biases, targets=targets[block]))
    return np.concatenate(parts)


def _rank(
    queries: FloatArray, item_vectors: FloatArray, biases: FloatArray, *, targets: IntArray
) -> IntArray:
    own = (queries @ item_vectors[targets].T).diagonal() + biases[targets]
    if np.isnan(own).any():
        row = int(np.argmax(np.isnan(own)))
        raise ValueError(f"the score of target {targets[row]} is NaN; train the model again.")
    ranks = np.zeros(len(targets), dtype=np.int64)
    met = np.empty_like(own)
    room = np.empty(len(queries) * _ITEMS, dtype=np.float32)
    for first in range(0, len(item_vectors), _ITEMS):
        vectors = item_vectors[first : first + _ITEMS]
        scores = room[: len(queries) * len(vectors)].reshape(len(queries), len(vectors))
        np.matmul(queries, vectors.T, out=scores)
        _count(scores, biases[first : first + _ITEMS], own, ranks=ranks)
        here = np.flatnonzero((targets >= first) & (targets < first + len(vectors)))
        met[here] = scores[here, targets[here] - first] + biases[targets[here]]
    # A product may round another way in another place: such a query is counted in its own row.
    again = np.flatnonzero(met != own)
    whole = queries[again] @ item_vectors.T + biases
    ranks[again] = (whole >= whole[np.arange(len(again)), targets[again], None]).sum(axis=1)
    return ranks


@kernel
def _count(scores: FloatArray, biases: FloatArray, own: FloatArray, *, ranks: IntArray) -> None:
    one, zero = np.float32(1), np.float32(0)
    for i in range(len(scores)):
        row, least, count = scores[i], own[i], zero
        for j in range(len(row)):  # a float counts exactly here, in the lanes that compare
            count += one if row[j] + biases[j] >= least else zero
        ranks[i] += np.int64(count)
