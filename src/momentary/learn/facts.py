"""What is counted once over past sessions: the events of items, and of pairs of items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from momentary.learn.counts import session_rows
from momentary.learn.covisits import association_vectors, followers
from momentary.learn.pruning import strongest_per_row
from momentary.types import FloatArray, IntArray, Sessions

_HALF_LIVES = (4, 16, 64, 256)
_VECTOR = 64

# Columns of a pair of items (a, b), all counted over past sessions.
PAIR = 7
NEXT, SECOND, AHEAD, BEFORE, BEHIND, LATELY, TOGETHER = range(PAIR)
"""b right after a, two steps after, after at all by 1 / steps; a right after b, after b at all; b
after a of late; both in a session."""
ITEM = 9
"""Numbers that are known of an item by itself."""


class _Pairs(NamedTuple):
    """Pairs of items in CSR form: row a holds every item b that stood near a in a session."""

    indptr: IntArray
    partners: NDArray[np.int32]
    values: FloatArray
    totals: FloatArray


class Facts(NamedTuple):
    """What the features are made of, besides the parts' scores.

    Attributes:
        items: Logarithms of counts and ages. Shape (items, `ITEM`).
        counts: Events of each item. Shape (items,).
        vectors: Unit vectors, near for items that are visited together. Shape (items, width).
    """

    items: FloatArray
    counts: FloatArray
    vectors: FloatArray
    indptr: IntArray
    partners: NDArray[np.int32]
    values: FloatArray
    totals: FloatArray


def facts_of(
    sessions: Sessions,
    *,
    n_items: int,
    life: float,
    rng: np.random.Generator,
    window: int = 10,
    partners: int = 500,
) -> Facts:
    """Count items and pairs of items.

    Args:
        sessions: The past.
        n_items: An item index is below it.
        life: Events in which half-lives are told; the same for pasts that are compared.
        rng: Turns the vectors.
        window: Most steps between the items of a pair.
        partners: Most items whose pairs with one item are kept.
    """
    counts = np.bincount(sessions.items, minlength=n_items).astype(np.float32)
    age = _ages(sessions)
    columns = [np.log1p(counts)]
    for share in _HALF_LIVES:
        weights = np.exp2(-age * (share / life))
        lately = np.bincount(sessions.items, weights=weights, minlength=n_items)
        columns.append(np.log1p(lately))
    columns.append(columns[2] - columns[0])
    columns.append(columns[4] - columns[2])
    for extreme in (np.minimum, np.maximum):
        seen = np.full(n_items, life if extreme is np.minimum else 0.0)
        extreme.at(seen, sessions.items, age)
        columns.append(np.log1p(seen))
    pairs = _pairs_of(sessions, n_items=n_items, life=life, window=window, partners=partners)
    near = followers(sessions, weights=np.ones(len(sessions)), n_items=n_items, window=window)
    vectors = association_vectors(near, width=_VECTOR, rng=rng)
    return Facts(np.stack(columns, axis=1).astype(np.float32), counts, vectors, *pairs)


def _ages(sessions: Sessions) -> NDArray[np.float64]:
    """How many events happened after the end of each event's session. Shape (events,)."""
    order = np.argsort(sessions.last_times_us, kind="stable")
    lengths = sessions.lengths
    later = np.empty(len(sessions), dtype=np.float64)
    later[order] = lengths.sum() - np.cumsum(lengths[order])
    return later[session_rows(sessions)]


def _pairs_of(
    sessions: Sessions, *, n_items: int, life: float, window: int, partners: int
) -> _Pairs:
    rows = session_rows(sessions)
    lately = np.exp2(-_ages(sessions) * (16 / life))
    found = []
    for step in range(1, window + 1):
        near = (rows[step:] == rows[:-step]) & (sessions.items[step:] != sessions.items[:-step])
        place = np.flatnonzero(near)
        found.append((place, np.full(len(place), step)))
    place = np.concatenate([each for each, _ in found])
    steps = np.concatenate([each for _, each in found])
    before, after = sessions.items[place], sessions.items[place + steps]
    keys, entry = np.unique(
        np.concatenate([before * n_items + after, after * n_items + before]), return_inverse=True
    )
    ahead, behind = entry[: len(place)], entry[len(place) :]

    def count(where: IntArray, weights: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(where, weights=weights, minlength=len(keys)).astype(np.float64)

    values = np.empty((len(keys), PAIR), dtype=np.float32)
    values[:, NEXT] = count(ahead, steps == 1)
    values[:, SECOND] = count(ahead, steps == 2)
    values[:, AHEAD] = count(ahead, 1 / steps)
    values[:, BEFORE] = count(behind, steps == 1)
    values[:, BEHIND] = count(behind, 1 / steps)
    values[:, LATELY] = count(ahead, lately[place] / steps)
    values[:, TOGETHER] = count(ahead, np.ones(len(place))) + count(behind, np.ones(len(place)))
    indptr = np.searchsorted(keys, np.arange(n_items + 1) * n_items)
    totals = np.zeros((n_items, PAIR), dtype=np.float32)
    filled = np.flatnonzero(np.diff(indptr))
    if len(filled):
        totals[filled] = np.add.reduceat(values, indptr[filled], axis=0)
    columns = (keys % max(n_items, 1)).astype(np.int32)
    strength = values[:, AHEAD] + values[:, BEHIND]
    kept = strongest_per_row(
        strength, indptr, columns, limit=partners, rank=np.arange(n_items, dtype=np.int64)
    )
    return _Pairs(
        np.searchsorted(kept, indptr).astype(np.int64), columns[kept], values[kept], totals
    )
