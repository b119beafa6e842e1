"""From scores to places where more counts than the score: pins, variety, limits, exploration.

A list is filled from its first place to its last. On each place stands, first, what is pinned
there; otherwise the best of the candidates that may still stand, by maximal marginal relevance
(Carbonell & Goldstein, 1998) where variety is asked for; and with the chance `share` a candidate
drawn evenly from the first `pool` of those. So the chance that an item had to stand on a place,
given the items above it, is known exactly: `1 - share + share / n` for the best of n candidates,
`share / n` for another. Off-policy estimates of lists need these (McInerney et al., 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from momentary.types import BoolArray, FloatArray, IntArray

Top = Callable[[int], IntArray]
"""The best so many allowed items, best first; fewer if there are no more."""

_FIRST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many items of a list may share a value.

    Attributes:
        codes: Each item's value, -1 where unknown, which is never limited. Shape (items,).
        most: Of one value.
    """

    codes: IntArray
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """How much a list avoids what is alike.

    Attributes:
        strength: 0 counts the score alone, 1 the variety alone.
        codes: Alike are items of one value: the share of the places above that hold it.
        vectors: Alike are vectors of length 1: the largest cosine with a place above. One of the
            two is given. Shape (items, width).
    """

    strength: float
    codes: IntArray | None = None
    vectors: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How many places are given to chance.

    Attributes:
        share: The chance of each place to be drawn.
        pool: Evenly from so many of the best that may stand there.
    """

    share: float
    pool: int
    rng: np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A list with what is known of its places.

    Attributes:
        items: Item indices, best first. Shape (places,).
        propensities: The chance of each to stand there, given those above. Shape (places,).
        explored: Whether it was drawn. Shape (places,).
        pinned: Whether it was put there. Shape (places,).
    """

    items: IntArray
    propensities: tuple[float, ...]
    explored: BoolArray
    pinned: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What counts besides the score.

    Attributes:
        pins: Item by place, from 0; limits do not keep them off, but count them.
        limits: On equal values.
        variety: None counts the score alone.
        exploration: None leaves nothing to chance.
    """

    pins: dict[int, int]
    limits: list[Limit]
    variety: Variety | None
    exploration: Exploration | None


def arrange(row: FloatArray, k: int, *, top: Top, shape: Shape) -> Arrangement:
    """Fill one list of at most `k` places.

    Args:
        row: Scores, higher is better. Shape (items,).
        k: Places.
        top: The candidates.
        shape: What counts besides the score.
    """
    pins, exploration = shape.pins, shape.exploration
    pool = 0 if exploration is None else exploration.pool
    candidates = _Candidates(top, row, first=max(_FIRST, 4 * k, pool + k), variety=shape.variety)
    for item in pins.values():
        candidates.drop(item)
    standing: list[int] = []
    chances: list[float] = []
    drawn: list[bool] = []
    put: list[bool] = []
    while len(standing) < k:
        item, chance, explored = pins.get(len(standing), -1), 1.0, False
        if item < 0 or item in standing:
            item, chance, explored = candidates.choose(exploration)
        if item < 0:
            # Nothing is left: what is pinned to lower places moves up.
            waiting = (pins[place] for place in sorted(pins))
            item = next((each for each in waiting if each not in standing), -1)
        if item < 0:
            break
        put.append(item in pins.values())
        standing.append(item)
        chances.append(chance)
        drawn.append(explored)
        candidates.stand(item, shape.limits)
    return Arrangement(
        items=np.array(standing, dtype=np.int64),
        propensities=tuple(chances),
        explored=np.array(drawn, dtype=np.bool_),
        pinned=np.array(put, dtype=np.bool_),
    )


class _Candidates:
    """The best items that may still stand; more are looked up when these are used up."""

    def __init__(self, top: Top, row: FloatArray, *, first: int, variety: Variety | None) -> None:
        self._top = top
        self._row = row
        self._variety = variety
        self._standing: list[int] = []
        self._gone: set[int] = set()
        self._full: list[tuple[IntArray, int]] = []
        self._used: dict[tuple[int, int], int] = {}
        self._depth = 0
        self._items: IntArray = np.zeros(0, dtype=np.int64)
        self._free: BoolArray = np.zeros(0, dtype=np.bool_)
        self._deepen(first)

    def drop(self, item: int) -> None:
        """An item that is no candidate."""
        self._gone.add(item)
        self._free[self._items == item] = False

    def stand(self, item: int, limits: list[Limit]) -> None:
        """An item stands; it, and what it leaves no room for, is no candidate any more."""
        self.drop(item)
        self._standing.append(item)
        self._likeness = self._likeness_after(item)
        for at, limit in enumerate(limits):
            code = int(limit.codes[item])
            if code < 0:
                continue
            self._used[at, code] = self._used.get((at, code), 0) + 1
            if self._used[at, code] == limit.most:
                self._full.append((limit.codes, code))
                self._free &= limit.codes[self._items] != code

    def choose(self, exploration: Exploration | None) -> tuple[int, float, bool]:
        """An item, the chance that it had, and whether it was drawn; -1 if none is left."""
        while not (free := self._free.nonzero()[0]).size:
            if not self._deepen(4 * self._depth):
                return -1, 1.0, False
        best = int(self._best(free))
        if exploration is None:
            return int(self._items[best]), 1.0, False
        share, among = exploration.share, free[: exploration.pool]
        chosen, explored = best, exploration.rng.random() < share
        if explored:
            chosen = int(among[exploration.rng.integers(len(among))])
        chance = (1 - share) * (chosen == best) + share / len(among) * (chosen in among)
        return int(self._items[chosen]), float(chance), explored

    def _best(self, free: IntArray) -> int:
        variety = self._variety
        if variety is None or not self._standing:
            return int(free[0])
        worth = (1 - variety.strength) * self._relevance[free]
        worth = worth - variety.strength * self._likeness[free]
        return int(free[int(np.argmax(worth))])

    def _deepen(self, depth: int) -> bool:
        """Look up the best `depth`; False if there are no more than before."""
        before = self._depth and len(self._items)
        if self._depth and before < self._depth:
            return False
        self._depth = depth
        self._items = self._top(depth)
        self._free = ~np.isin(self._items, list(self._gone))
        for codes, code in self._full:
            self._free &= codes[self._items] != code
        self._relevance = _from_0_to_1(self._row[self._items])
        self._likeness = np.zeros(len(self._items), dtype=np.float32)
        standing, self._standing = self._standing, []
        for item in standing:
            self._standing.append(item)
            self._likeness = self._likeness_after(item)
        return len(self._items) > before

    def _likeness_after(self, item: int) -> FloatArray:
        """How alike the candidates are to what stands, the last of which is `item`."""
        variety = self._variety
        if variety is None:
            return self._likeness
        if variety.vectors is not None:
            cosines: FloatArray = variety.vectors[self._items] @ variety.vectors[item]
            return np.maximum(self._likeness, cosines)
        if variety.codes is None:
            raise ValueError("variety has neither codes nor vectors; give one of them.")
        code = variety.codes[item]
        same = (variety.codes[self._items] == code) & (code >= 0)
        places = len(self._standing)
        mean: FloatArray = self._likeness + (same - self._likeness) / np.float32(places)
        return mean


def _from_0_to_1(scores: FloatArray) -> FloatArray:
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if high <= low:
        return np.isfinite(scores).astype(np.float32)
    found: FloatArray = np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)
    return found
