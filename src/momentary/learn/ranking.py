"""Ranks and lists over the whole catalogue, for models whose score is a product."""

from __future__ import annotations

import numpy as np

from momentary.learn.arithmetic import kernel, largest
from momentary.types import FloatArray, IntArray

_QUERIES, _ITEMS = 512, 1024
"""What is scored at once: small enough to be counted while it is in the cache."""
_ROUNDING = 2.0**-23
"""A score in a block mostly differs by less than this share of both lengths from the same score by
itself; where it does not, the target is ranked in a row of its own."""
_CHUNK = 64
"""So many scores are passed over at once when none of them makes the list."""


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
    rows = np.arange(len(targets))
    return rank_and_list(hidden, item_vectors, biases, rows=rows, targets=targets, k=0)[0]


def rank_and_list(
    hidden: FloatArray,
    item_vectors: FloatArray,
    biases: FloatArray,
    *,
    rows: IntArray,
    targets: IntArray,
    k: int,
) -> tuple[IntArray, IntArray]:
    """Find ranks as `rank_blocks` does, for any number of targets a query, and the best items.

    Args:
        hidden: One query a row. Shape (queries, units).
        item_vectors: Shape (items, units).
        biases: -inf ranks an item behind all others. Shape (items,).
        rows: The query of each target, ascending. Shape (targets,).
        targets: Items. Shape (targets,).
        k: Length of the lists; 0 makes none.

    Returns:
        Ranks from 1, of shape (targets,), and the best items of each query, best first, ties by
        lower index, of shape (queries, k); -1 where there are fewer items.

    Raises:
        ValueError: If the score of a target is NaN.
    """
    ranks = np.empty(len(targets), dtype=np.int64)
    lists = np.full((len(hidden), k), -1, dtype=np.int64)
    best = np.full((len(hidden), k), -np.inf, dtype=np.float32)
    for begin in range(0, len(hidden), _QUERIES):
        block = slice(begin, begin + _QUERIES)
        asked = slice(*np.searchsorted(rows, (begin, begin + _QUERIES)))
        ranks[asked] = _rank(
            hidden[block],
            item_vectors,
            biases,
            rows=rows[asked] - begin,
            targets=targets[asked],
            top=(lists[block], best[block]),
        )
    return ranks, lists


def _rank(
    queries: FloatArray,
    item_vectors: FloatArray,
    biases: FloatArray,
    *,
    rows: IntArray,
    targets: IntArray,
    top: tuple[IntArray, FloatArray],
) -> IntArray:
    own, spread = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    _score(queries, item_vectors, rows, targets, (own, spread))
    own += biases[targets]
    if np.isnan(own).any():
        row = int(np.argmax(np.isnan(own)))
        raise ValueError(f"the score of target {targets[row]} is NaN; train the model again.")
    # No other item may score between these, and the target must: then where exactly it stands in
    # its block does not matter, which is known only when other blocks are counted already.
    spread *= np.float32(_ROUNDING)
    least, most = own - spread, own + spread
    ranks, above = np.zeros(len(targets), dtype=np.int64), np.zeros(len(targets), dtype=np.int64)
    met = np.empty_like(own)
    room = np.empty(len(queries) * _ITEMS, dtype=np.float32)
    block_of = targets // _ITEMS
    for first in range(0, len(item_vectors), _ITEMS):
        vectors, offsets = item_vectors[first : first + _ITEMS], biases[first : first + _ITEMS]
        scores = room[: len(queries) * len(vectors)].reshape(len(queries), len(vectors))
        np.matmul(queries, vectors.T, out=scores)
        _count(scores, offsets, rows, (least, most), (ranks, above))
        if top[0].shape[1]:
            keep_best(scores, offsets, first, items=top[0], values=top[1])
        here = np.flatnonzero(block_of == first // _ITEMS)
        met[here] = scores[rows[here], targets[here] - first] + biases[targets[here]]
    clear = (met >= least) & (met <= most) & (ranks == above + 1)
    again = np.flatnonzero(~clear)
    whole = queries[rows[again]] @ item_vectors.T + biases
    ranks[again] = (whole >= whole[np.arange(len(again)), targets[again], None]).sum(axis=1)
    return ranks


@kernel
def _score(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    queries: FloatArray,
    item_vectors: FloatArray,
    rows: IntArray,
    targets: IntArray,
    found: tuple[FloatArray, FloatArray],
) -> None:
    """Score the targets, without their biases; and the product of both lengths."""
    for i in range(len(rows)):
        query, vector = queries[rows[i]], item_vectors[targets[i]]
        total, one, other = np.float32(0), np.float32(0), np.float32(0)
        for j in range(len(query)):
            total += query[j] * vector[j]
            one += query[j] * query[j]
            other += vector[j] * vector[j]
        found[0][i], found[1][i] = total, np.sqrt(one) * np.sqrt(other)


@kernel
def _count(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    scores: FloatArray,
    biases: FloatArray,
    rows: IntArray,
    bounds: tuple[FloatArray, FloatArray],
    counts: tuple[IntArray, IntArray],
) -> None:
    """Add how many scores reach the lower bound of each target, and how many exceed the upper."""
    one, zero = np.float32(1), np.float32(0)
    for i in range(len(rows)):
        row, least, most = scores[rows[i]], bounds[0][i], bounds[1][i]
        reach, exceed = zero, zero
        for j in range(len(row)):  # a float counts exactly here, in the lanes that compare
            score = row[j] + biases[j]
            reach += one if score >= least else zero
            exceed += one if score > most else zero
        counts[0][i] += np.int64(reach)
        counts[1][i] += np.int64(exceed)


@kernel
def keep_best(
    scores: FloatArray, biases: FloatArray, first: int, *, items: IntArray, values: FloatArray
) -> None:
    """Keep the best items so far of each row, best first; the first to reach a score stays ahead.

    Args:
        scores: Of the items from `first` on, without their biases. Shape (queries, some items).
        biases: Theirs. Shape (some items,).
        first: Index of the first one.
        items: The best so far, -1 where there are none. Shape (queries, k).
        values: Their scores, -inf where there are none. Shape (queries, k).
    """
    last = items.shape[1] - 1
    for i in range(len(scores)):
        row, kept, best = scores[i], values[i], items[i]
        for begin in range(0, len(row), _CHUNK):
            end = min(begin + _CHUNK, len(row))
            highest = row[begin] + biases[begin]
            for j in range(begin, end):
                highest = largest(highest, row[j] + biases[j])
            if highest > kept[last] or best[last] < 0:
                for j in range(begin, end):
                    score = row[j] + biases[j]
                    if score > kept[last] or best[last] < 0:
                        _insert(best, kept, item=first + j, score=score)


@kernel
def _insert(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    items: IntArray, values: FloatArray, item: int, score: np.float32
) -> None:
    """Put an item in its place and let the last one go."""
    place = len(items) - 1
    while place > 0 and (items[place - 1] < 0 or values[place - 1] < score):
        items[place], values[place] = items[place - 1], values[place - 1]
        place -= 1
    items[place], values[place] = item, score
