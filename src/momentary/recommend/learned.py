"""The learned likeness of an index's items: one more part of how near they are, and what it says.

Two items are near where the network that `recommend.teaching` fitted gives the same values of the
shop's attributes high chances for both. It reads the views, so whatever has content has a place in
it: new items and uploaded pictures, too, of which nobody told any attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.models.learned_likeness import LearnedLikeness
from momentary.types import BoolArray, FloatArray, IntArray

_SAMPLED = 300
_PROBABLE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """What the learned likeness says of two items.

    Attributes:
        views: Of each view, how surely it alone says that their labels agree; 0 where one lacks it.
        likely: Labels that both probably have, as "name: value", with the chance of it; first
            those on which two items seldom agree.
    """

    views: Mapping[str, float]
    likely: tuple[tuple[str, float], ...]


class LearnedPart:
    """Vectors of an index's items whose product is the chance that labels agree.

    Args:
        learned: Reads the views.
        units: Of the items by view, around the centres of `learned`, of length 1, zeros where
            lacking. Shapes (items, width).
        count: Items.
    """

    def __init__(
        self, learned: LearnedLikeness, units: Mapping[str, FloatArray], *, count: int
    ) -> None:
        self.learned = learned
        own = self._own(units)
        self._there: BoolArray = np.zeros(count, dtype=np.bool_)
        width = sum(len(each) for each in learned.values.values())
        self._vectors = np.zeros((count, width), dtype=np.float32)
        if own and count:
            self._vectors, self._there = self._read(own)
        some = self._vectors[self._there]
        some = some[:: max(len(some) // _SAMPLED, 1)]
        apart = (some @ some.T)[~np.eye(len(some), dtype=np.bool_)]
        self._usual = np.float32(apart.mean() if apart.size else 0)
        self.spread = np.float32(apart.std() if apart.size and apart.std() > 0 else 1)
        self._center: FloatArray = some.mean(axis=0) if len(some) else self._vectors[:0].sum(axis=0)
        self._telling = self._told_by(some)

    def near(
        self, units: Mapping[str, FloatArray], rows: IntArray | slice
    ) -> tuple[FloatArray, BoolArray] | None:
        """How near some items are to queries, in standard deviations, and whether that is known.

        None where the queries have no view that it reads. Shapes (queries, items).
        """
        own = self._own(units)
        if not own:
            return None
        vectors, asked = self._read(own)
        there = asked[:, None] & self._there[None, rows]
        near = (vectors @ self._vectors[rows].T - self._usual) / self.spread
        return np.asarray(near * there, dtype=np.float32), there

    def centered(self, rows: IntArray) -> FloatArray:
        """The vectors of some items around the middle, zeros where unknown. Shape (rows, dim)."""
        moved = (self._vectors[rows] - self._center) * self._there[rows, None]
        return np.asarray(moved, dtype=np.float32)

    def put(self, row: int, units: Mapping[str, FloatArray]) -> None:
        """Set one item, which may be the next one; its views have the shape (1, width)."""
        if row >= len(self._vectors):
            more = row + 1 - len(self._vectors) + max(64, len(self._vectors) // 8)
            self._vectors = np.pad(self._vectors, ((0, more), (0, 0)))
            self._there = np.pad(self._there, (0, more))
        own = self._own(units)
        self._vectors[row], self._there[row] = 0, False
        if own:
            vectors, there = self._read(own)
            self._vectors[row], self._there[row] = vectors[0], there[0]

    def explain(
        self, query: Mapping[str, FloatArray], others: Mapping[str, FloatArray]
    ) -> list[Insight]:
        """What it says of one query and each of some items.

        Args:
            query: Shapes (1, width).
            others: Shapes (items, width).
        """
        count = len(next(iter(others.values()), ()))
        asked, known = self._own(query), self._own(others)
        alone: dict[str, FloatArray] = {}
        for name in asked.keys() & known.keys():
            one, other = {name: asked[name]}, {name: known[name]}
            sure = self._read(one)[0] @ self._read(other)[0].T
            there = np.any(asked[name] != 0) & np.any(known[name] != 0, axis=1)
            alone[name] = sure[0] * there
        likely = self._likely(asked, known, count) if alone else [()] * count
        return [
            Insight(
                views={name: float(each[place]) for name, each in alone.items()},
                likely=likely[place],
            )
            for place in range(count)
        ]

    def _likely(
        self, asked: Mapping[str, FloatArray], known: Mapping[str, FloatArray], count: int
    ) -> list[tuple[tuple[str, float], ...]]:
        found: list[list[tuple[str, float]]] = [[] for _ in range(count)]
        one, others = self.learned.chances(asked), self.learned.chances(known)
        for kind in self._telling:
            values = self.learned.values[kind]
            both = one[kind][0] * others[kind]
            chance, best = both.sum(axis=1), both.argmax(axis=1)
            for place in np.flatnonzero(chance >= _PROBABLE).tolist():
                found[place].append((f"{kind}: {values[best[place]]}", float(chance[place])))
        return [tuple(each) for each in found]

    def _told_by(self, some: FloatArray) -> tuple[str, ...]:
        """The kinds, first those on which two items at random seldom agree."""
        places = np.cumsum([len(each) for each in self.learned.values.values()])[:-1]
        weights = self.learned.model.config.weights or {}
        usual = {}
        for kind, part in zip(self.learned.values, np.split(some, places, axis=1), strict=True):
            usual[kind] = float(np.square(part.mean(axis=0)).sum()) if len(part) else 0.0
            usual[kind] /= max(weights.get(kind, 1.0), 1e-9)
        return tuple(sorted(usual, key=lambda kind: usual[kind]))

    def _own(self, units: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The views that the network reads."""
        return {name: units[name] for name in self.learned.model.centers if name in units}

    def _read(self, own: Mapping[str, FloatArray]) -> tuple[FloatArray, BoolArray]:
        there: BoolArray = np.any(np.concatenate([*own.values()], axis=1) != 0, axis=1)
        vectors = self.learned.vectors(self.learned.chances(own)) * there[:, None]
        return np.asarray(vectors, dtype=np.float32), there


def spread_over(
    told: Mapping[str, float], part: str, views: Mapping[str, float]
) -> dict[str, float]:
    """What each view adds to a likeness, when what one part adds is shared out by other views.

    >>> spread_over({"text": 1.0, "likeness": 3.0}, "likeness", {"text": 0.2, "image": 0.4})
    {'text': 2.0, 'image': 2.0}
    """
    found = {name: value for name, value in told.items() if name != part}
    total, extra = sum(views.values()), told.get(part, 0.0)
    for name, value in views.items():
        found[name] = found.get(name, 0.0) + (extra * value / total if total > 0 else 0.0)
    return found


def joined_kinds(kinds: Sequence[str]) -> str:
    """Names of attributes in a sentence.

    >>> joined_kinds(["type", "colour", "gender"])
    'type, colour and gender'
    """
    return " and ".join(filter(None, [", ".join(kinds[:-1]), *kinds[-1:]]))
