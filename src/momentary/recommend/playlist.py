"""Ordered lists by likeness: from one item, or on a way between two.

A list x_1 .. x_n is found by beam search. With s the cosine of two items' vectors and p(t) the
place on the way (the first item, or the great circle from the first to the last), item t adds

    smoothness s(x_{t-1}, x_t) + closeness s(p(t), x_t)
        - spread max over earlier items but the last of s(x_j, x_t) - curve |c(x_t) - c(t)|

where c is a number of each item (energy, price) brought to ranks from 0 to 1. What may not stand
(repeats, two of a brand too near each other) is never tried. It serves songs, products and
articles alike; nothing in it knows what an item is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.learn.bounds import require_ranges
from momentary.types import BoolArray, FloatArray, IntArray, ObjectArray

TOLERANCE = 2.5
"""Robust deviations below which an item of a list usually counts as an outlier."""

_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A number that is to rise or fall along the list.

    Attributes:
        values: Of each item, such as energy or price; NaN where unknown. Shape (items,).
        shape: What it is to be from the first to the last place, in shares of the candidates'
            ranks: (0, 1) rises, (0, 1, 0) rises and falls. Between two, a straight line.
        weight: How much missing it by the whole range costs.
    """

    values: NDArray[np.float64]
    shape: tuple[float, ...] = (0.0, 1.0)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or not all(0 <= each <= 1 for each in self.shape):
            raise DataError(
                f"the curve is {self.shape}; give two numbers or more from 0 to 1, as in (0, 1)."
            )
        if not self.weight >= 0:
            raise DataError(f"the curve's weight is {self.weight}; it must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far apart items must stand that share a value, such as an artist or a brand.

    Attributes:
        values: Of each item; None where unknown, which equals nothing. Shape (items,).
        between: At least so many others stand between two of them; as many as the list has
            places let each value stand once.
    """

    values: ObjectArray
    between: int

    def __post_init__(self) -> None:
        if self.between < 0:
            raise DataError(f"a gap has {self.between} items between; it must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistConfig:
    """What a list is like.

    Attributes:
        length: Items on it, the first and the last included.
        smoothness: Weight of each item's likeness to the one before.
        closeness: Weight of its likeness to the place on the way.
        spread: Weight of its likeness to the nearest earlier one but the last, which counts
            against it: above 0 the list does not go in circles.
        twins: Items more alike than this are one thing twice, such as two pressings of a song:
            only one of them stands on the list. Above 1, nothing is a twin.
        candidates: Items that are looked at, those most like any place on the way.
        beam: Lists that are followed at once.
    """

    length: int = 20
    smoothness: float = 1.0
    closeness: float = 1.0
    spread: float = 0.3
    twins: float = 0.995
    candidates: int = 500
    beam: int = 12

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)


_RANGES: dict[str, tuple[float, float]] = {
    "length": (1, 500),
    "smoothness": (0, 100),
    "closeness": (0, 100),
    "spread": (0, 100),
    "twins": (-1, 2),
    "candidates": (1, 5_000),
    "beam": (1, 500),
}

DEFAULT_PLAYLIST = PlaylistConfig()
"""Twenty items that move on gently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where a list begins and ends, and what may stand on it; all are indices of items.

    Attributes:
        first: The item it begins with.
        last: The item it ends with; None lets it stay near the first.
        allowed: Items that may stand between them; None allows all. Shape (items,).
        gaps: Values that must stand apart.
        curve: A number that is to rise or fall.
    """

    first: int
    last: int | None = None
    allowed: BoolArray | None = None
    gaps: tuple[Gap, ...] = field(default=())
    curve: Curve | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistFigures:
    """How a list is.

    Attributes:
        smoothness: Mean cosine of neighbours on the list.
        roughest: Smallest cosine of neighbours.
        spread: One minus the mean cosine of any two.
        distinct: Share of items that stand there once.
    """

    smoothness: float
    roughest: float
    spread: float
    distinct: float


def playlist(
    vectors: FloatArray, wanted: Wanted, *, config: PlaylistConfig = DEFAULT_PLAYLIST
) -> IntArray:
    """Item indices in order, `first` in front; shorter than asked where nothing more may stand.

    Args:
        vectors: What the items are like. A row of zeros says that nothing is known of an item,
            which then stands on no list. Shape (items, width).
        wanted: Ends, and what may stand between.
        config: What the list is like.

    Raises:
        DataError: If an end is unknown or nothing is known of it, both are the same, or the last
            item may not stand where it must.

    >>> line = np.array([[1, 0], [0.9, 0.1], [0.1, 0.9], [0, 1]], dtype=np.float32)
    >>> playlist(line, Wanted(first=0, last=3), config=PlaylistConfig(length=4)).tolist()
    [0, 1, 2, 3]
    """
    length = config.length
    lengths = np.linalg.norm(vectors, axis=1)
    _check_ends(wanted, lengths, length=length)
    way = _way(vectors, lengths, wanted, length=length)
    pool, near = _candidates(vectors, lengths, wanted, way=way, most=config.candidates)
    unit = vectors[pool] / lengths[pool, None]
    search = _Search(
        alike=unit @ unit.T,
        near=near,
        off=_off_curve(wanted.curve, pool, length=length),
        gaps=[_coded(gap, pool, length=length) for gap in wanted.gaps],
        ends=wanted.last is not None,
        config=config,
    )
    return np.asarray(pool[search.best()], dtype=np.int64)


def figures(vectors: FloatArray, order: IntArray) -> PlaylistFigures:
    """Measure a list, whoever made it; one item alone is smooth and has no spread."""
    unit = vectors[order] / np.maximum(np.linalg.norm(vectors[order], axis=1), _TINY)[:, None]
    alike = unit @ unit.T
    steps = np.diag(alike, 1)
    apart = alike[np.triu_indices(len(order), 1)]
    return PlaylistFigures(
        smoothness=float(steps.mean()) if len(steps) else 1.0,
        roughest=float(steps.min()) if len(steps) else 1.0,
        spread=float(1 - apart.mean()) if len(apart) else 0.0,
        distinct=len(set(order.tolist())) / max(len(order), 1),
    )


def without_outliers(
    vectors: FloatArray, listed: IntArray, *, seed: int | None = None, tolerance: float = TOLERANCE
) -> IntArray:
    """A list that behaviour made, without what sounds, looks or reads like none of the others.

    An intro track or a wrong variant is chosen together with the rest and yet is unlike it. An
    item goes when its mean cosine to the others lies `tolerance` robust deviations (1.4826 times
    the median absolute one) below the median; where fewer than four are known, nothing goes.

    Args:
        vectors: A row of zeros says that nothing is known of an item, which then stays.
        listed: Item indices, best first. Shape (k,).
        seed: The item that the list is about, which counts as one of the others.
        tolerance: In robust deviations; larger removes less.
    """
    if not tolerance > 0:
        raise DataError(f"tolerance is {tolerance}; it must be above 0, such as 2.5.")
    lengths = np.linalg.norm(vectors[listed], axis=1)
    known = lengths > _TINY
    if int(known.sum()) < 4:
        return listed
    unit = vectors[listed[known]] / lengths[known, None]
    others = unit
    if seed is not None and (size := float(np.linalg.norm(vectors[seed]))) > _TINY:
        others = np.concatenate([unit, vectors[seed][None] / size])
    agreement = (unit @ others.T).sum(axis=1) - 1  # each is one of the others
    agreement /= len(others) - 1
    middle = np.median(agreement)
    deviation = max(1.4826 * float(np.median(np.abs(agreement - middle))), 1e-6)
    stays = np.ones(len(listed), dtype=np.bool_)
    stays[np.flatnonzero(known)[agreement < middle - tolerance * deviation]] = False
    return listed[stays]


@dataclass(slots=True)
class _Path:
    """A list so far, as candidates; the first candidate is its first item."""

    places: list[int]
    value: float
    free: BoolArray
    nearest: FloatArray


class _Search:
    """The beam. Candidate 0 is the first item; with `ends`, candidate 1 is the last one."""

    def __init__(
        self,
        *,
        alike: FloatArray,
        near: FloatArray,
        off: FloatArray,
        gaps: list[tuple[IntArray, int]],
        ends: bool,
        config: PlaylistConfig,
    ) -> None:
        self._alike = alike
        self._near = near
        self._off = off
        self._gaps = gaps
        self._ends = ends
        self._config = config

    def best(self) -> list[int]:
        """The candidates of the best list among the longest."""
        last = self._config.length - 1
        beam = [self._start()]
        for place in range(1, last if self._ends else last + 1):
            grown = self._grown(beam, place)
            if not grown:
                break
            beam = grown
        if not self._ends:
            return max(beam, key=lambda path: path.value).places
        return self._closed(beam)

    def _start(self) -> _Path:
        free = self._alike[0] <= self._config.twins
        free[0] = False
        if self._ends:
            free &= self._alike[1] <= self._config.twins
            free[1] = False
        return _Path(
            places=[0],
            value=0.0,
            free=free,
            nearest=np.full(len(self._alike), -1, dtype=np.float32),
        )

    def _grown(self, beam: list[_Path], place: int) -> list[_Path]:
        config = self._config
        values, owners, chosen = [], [], []
        for owner, path in enumerate(beam):
            usable = np.flatnonzero(path.free & self._fits(path))
            if not len(usable):
                continue
            gain = config.smoothness * self._alike[path.places[-1], usable]
            gain = gain + config.closeness * self._near[place, usable] - self._off[place, usable]
            if place > 1:
                gain = gain - config.spread * np.maximum(path.nearest[usable], 0)
            if self._ends and place == config.length - 2:
                gain = gain + config.smoothness * self._alike[usable, 1]
            best = np.argsort(-gain, kind="stable")[: config.beam]
            values.append(path.value + gain[best])
            owners.append(np.full(len(best), owner))
            chosen.append(usable[best])
        if not values:
            return []
        value, owner_of = np.concatenate(values), np.concatenate(owners)
        item = np.concatenate(chosen)
        kept = np.argsort(-value, kind="stable")[: config.beam]
        return [
            self._after(beam[owner_of[at]], int(item[at]), value=float(value[at]))
            for at in kept.tolist()
        ]

    def _after(self, path: _Path, item: int, *, value: float) -> _Path:
        free = path.free & (self._alike[item] <= self._config.twins)
        free[item] = False
        # What stood last until now is an earlier item from now on.
        nearest = np.maximum(path.nearest, self._alike[path.places[-1]])
        return _Path(places=[*path.places, item], value=value, free=free, nearest=nearest)

    def _fits(self, path: _Path) -> BoolArray:
        """Candidates that keep every gap to the items before, and to the last one's place."""
        fits = self._apart(path.places)
        left = self._config.length - 1 - len(path.places)
        for codes, between in self._gaps:
            if self._ends and codes[1] >= 0 and left <= between:
                fits &= codes != codes[1]
        return fits

    def _apart(self, places: list[int]) -> BoolArray:
        """Candidates that keep every gap to the items before."""
        fits = np.ones(len(self._alike), dtype=np.bool_)
        for codes, between in self._gaps:
            for earlier in places[-between:] if between else ():
                if codes[earlier] >= 0:
                    fits &= codes != codes[earlier]
        return fits

    def _closed(self, beam: list[_Path]) -> list[int]:
        """The best path with the last item behind it, cut short until that may stand."""
        for path in sorted(beam, key=lambda each: -each.value):
            for stop in range(len(path.places), 0, -1):
                if self._apart(path.places[:stop])[1]:
                    return [*path.places[:stop], 1]
        raise DataError(
            "the last item may not stand so near the first by the gaps; make the list longer or "
            "the gaps smaller."
        )


def _check_ends(wanted: Wanted, lengths: FloatArray, *, length: int) -> None:
    ends = [wanted.first] if wanted.last is None else [wanted.first, wanted.last]
    for end in ends:
        if not 0 <= end < len(lengths):
            raise DataError(f"item {end} is unknown; there are {len(lengths)}, from 0.")
        if lengths[end] <= _TINY:
            raise DataError(f"nothing is known of item {end}; encode its content first.")
    if wanted.first == wanted.last:
        raise DataError("the list begins and ends with the same item; leave the last one out.")
    if len(ends) > length:
        raise DataError(f"a list of {length} cannot hold its {len(ends)} ends; make it longer.")


def _way(vectors: FloatArray, lengths: FloatArray, wanted: Wanted, *, length: int) -> FloatArray:
    """Where each place ought to be: the first item, or the great circle. Shape (length, width)."""
    first = vectors[wanted.first] / lengths[wanted.first]
    if wanted.last is None:
        return np.repeat(first[None], length, axis=0)
    last = vectors[wanted.last] / lengths[wanted.last]
    share = np.linspace(0, 1, length, dtype=np.float32)[:, None]
    angle = float(np.arccos(np.clip(first @ last, -1, 1)))
    if np.sin(angle) < 1e-4:  # the same direction, or opposite ones, which no circle joins
        points = (1 - share) * first + share * last
    else:
        points = np.sin((1 - share) * angle) * first + np.sin(share * angle) * last
    sizes = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(sizes, _TINY), dtype=np.float32)


def _candidates(
    vectors: FloatArray, lengths: FloatArray, wanted: Wanted, *, way: FloatArray, most: int
) -> tuple[IntArray, FloatArray]:
    """The ends, then the items nearest to any place. Shapes (candidates,), (length, candidates)."""
    ends = [wanted.first] if wanted.last is None else [wanted.first, wanted.last]
    distinct = way[:1] if wanted.last is None else way
    near = (vectors @ distinct.T).T / np.maximum(lengths, _TINY)  # (places, items)
    usable = lengths > _TINY
    if wanted.allowed is not None:
        usable = usable & wanted.allowed
    usable = usable.copy()
    usable[ends] = False
    # Ranked place by place, so that a place with few neighbours keeps some.
    best = np.argsort(-np.where(usable, near, -np.inf), axis=1, kind="stable")[:, :most]
    order = dict.fromkeys(best.T.ravel().tolist())
    inner = [item for item in order if usable[item]][:most]
    pool = np.array([*ends, *inner], dtype=np.int64)
    found = near[:, pool]
    return pool, np.asarray(
        np.repeat(found, len(way), axis=0) if wanted.last is None else found, dtype=np.float32
    )


def _off_curve(curve: Curve | None, pool: IntArray, *, length: int) -> FloatArray:
    """What missing the curve costs. Shape (length, candidates)."""
    if curve is None or curve.weight == 0:
        return np.zeros((length, len(pool)), dtype=np.float32)
    values = curve.values[pool]
    known = ~np.isnan(values)
    if not known.any():
        raise DataError("the curve's number is unknown of every candidate; leave the curve out.")
    ordered = np.sort(values[known])
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    ranks = (low + high) / 2 / len(ordered)
    knots = np.linspace(0, 1, len(curve.shape))
    target = np.interp(np.linspace(0, 1, length), knots, curve.shape)
    off = np.abs(ranks[None, :] - target[:, None])
    off[:, ~known] = 0.5  # an unknown number neither fits nor fails
    return np.asarray(curve.weight * off, dtype=np.float32)


def _coded(gap: Gap, pool: IntArray, *, length: int) -> tuple[IntArray, int]:
    """The values as numbers, -1 where unknown; and how many others stand between."""
    codes: dict[object, int] = {}
    found = [
        -1 if value is None else codes.setdefault(value, len(codes))
        for value in gap.values[pool].tolist()
    ]
    return np.array(found, dtype=np.int64), min(gap.between, length)
