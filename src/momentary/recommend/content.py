"""Items that are alike by their content, whether anybody clicked them or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.data.tags import TAGS
from momentary.errors import DataError
from momentary.models.learned_likeness import LEARNED, LearnedLikeness
from momentary.recommend.fusion import MOST_PARTS, UNLIKE, Compared, Fusion, Part
from momentary.recommend.learned import Insight, LearnedPart, spread_over
from momentary.types import BoolArray, FloatArray, IntArray, ObjectArray

_SAMPLED = 2_000
_PAIRED = 300
_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """One neighbour.

    Attributes:
        item_id: Which item.
        similarity: Over the views and attributes that both have, in standard deviations above two
            items at random; see `fusion`.
        views: Share of each view in the similarity, largest first.
        shared: Attributes on which both agree, as "name: value".
        likely: Attributes on which both probably agree, and the chance of it, largest first.
    """

    item_id: str
    similarity: float
    views: tuple[tuple[str, float], ...]
    shared: tuple[str, ...]
    likely: tuple[tuple[str, float], ...] = ()


class ContentIndex:
    """Vectors of the items by view (image, colour, text, ...), and attributes beside them.

    Every view is centred, brought to length 1, and its similarities to a common spread, so that
    the weights compare; so are the attributes, of which a rare agreement says more. Where one of
    two items lacks a view or an attribute, the others say what it would be (see `fusion`). Items
    that come later are measured by the centres and spreads of those that were there first.

    Args:
        item_ids: In the order of the rows.
        views: Vectors by name; a row of zeros says that the item lacks it.
        weights: By view; a view that is not named weighs 1.
        attributes: Columns of strings, None where unknown. Each weighs by what its agreement tells,
            all together at most as much as one view; `weights` calls them "tags".
        learned: A likeness learned from labels, which is one more part, with weights of its own;
            where `plain` is asked for, it is left out.
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        views: Mapping[str, FloatArray],
        *,
        weights: Mapping[str, float] | None = None,
        attributes: Mapping[str, ObjectArray] | None = None,
        learned: LearnedLikeness | None = None,
    ) -> None:
        for name, vectors in views.items():
            if len(vectors) != len(item_ids):
                raise DataError(
                    f"view {name!r} has {len(vectors)} rows; there are {len(item_ids)} items."
                )
        self.weights = dict(weights or {})
        self._ids = list(item_ids)
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        self._gone: set[int] = set()
        self._attributes = {
            name: _Column(values.tolist()) for name, values in (attributes or {}).items()
        }
        centers = {} if learned is None else learned.model.centers
        self._views = {
            name: _View.of(vectors, center=centers.get(name)) for name, vectors in views.items()
        }
        self._learned: LearnedPart | None = None
        if learned is not None:
            units = {name: view.unit for name, view in self._views.items()}
            self._learned = LearnedPart(learned, units, count=len(self._ids))
        self._fusion: Fusion | None = None

    def __len__(self) -> int:
        return len(self._ids) - len(self._gone)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    @property
    def item_ids(self) -> tuple[str, ...]:
        """In the order of the rows, gone ones included."""
        return tuple(self._ids)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that any item has."""
        return tuple(self._views)

    @property
    def learned(self) -> LearnedLikeness | None:
        """What it knows of likeness by labels."""
        return None if self._learned is None else self._learned.learned

    def put(
        self,
        item_id: str,
        views: Mapping[str, FloatArray],
        *,
        attributes: Mapping[str, str | None] | None = None,
    ) -> None:
        """Add an item, or replace all that was known of it.

        Args:
            item_id: Which.
            views: Vectors as the encoders gave them, each of shape (width,).
            attributes: By name.

        Raises:
            DataError: If a vector has another width than its view.
        """
        self._require_widths(views)
        row = self._rows.setdefault(item_id, len(self._ids))
        if row == len(self._ids):
            self._ids.append(item_id)
        known = attributes or {}
        for name in sorted(views.keys() - self._views.keys()):
            nothing = np.zeros((row, len(views[name])), dtype=np.float32)
            centers = {} if self.learned is None else self.learned.model.centers
            self._views[name] = _View.of(nothing, center=centers.get(name))
        for name in sorted(known.keys() - self._attributes.keys()):
            self._attributes[name] = _Column([None] * row)
        for name, view in self._views.items():
            view.put(row, views.get(name))
        if self._learned is not None:
            self._learned.put(row, self._units_at(row))
        for name, column in self._attributes.items():
            column.put(row, known.get(name))

    def remove(self, item_id: str) -> None:
        """Let an item be on no list from now on, whether it was there or not."""
        row = self._rows.pop(item_id, None)
        if row is not None:
            self._gone.add(row)
            for view in self._views.values():
                view.put(row, None)
            if self._learned is not None:
                self._learned.put(row, {})

    def similarities(
        self,
        query: Mapping[str, FloatArray],
        *,
        attributes: Mapping[str, ObjectArray] | None = None,
        plain: bool = False,
    ) -> FloatArray:
        """How alike every item is to each query. Shape (queries, items).

        Args:
            query: Some of the views, each of shape (queries, width).
            attributes: Some of the attributes, None where unknown, each of shape (queries,).
            plain: Whether the learned likeness is left out.
        """
        codes = self._codes(attributes or {})
        return self.fuse(self._compared(self._units(query), codes, plain=plain))

    def neighbours(
        self, item_id: str, k: int, *, plain: bool = False, by: str | None = None
    ) -> list[Alike]:
        """The items most like one of them, itself left out.

        Args:
            item_id: Which.
            k: Most items.
            plain: Whether the learned likeness is left out.
            by: The only view that counts, "tags" for the attributes; items without it are left out.

        Raises:
            DataError: If the item is unknown, or has nothing to be compared by.
        """
        row = self._row(item_id)
        compared = self._about(row, plain=plain)
        if by is not None:
            compared = self._only(compared, by, row=row)
        return self._answer(compared, self._units_at(row), k=k, row=row)

    def likeness(self, item_id: str) -> FloatArray:
        """How alike every item is to one of them, itself and gone ones very little. Shape (items,).

        Raises:
            DataError: If the item is unknown.
        """
        row = self._row(item_id)
        return self._listable(self.fuse(self._about(row))[0], row)

    def compared(self, item_id: str, others: Sequence[str]) -> Compared:
        """How near some items are to one, part by part; for `fuse`.

        Raises:
            DataError: If one of them is unknown.
        """
        return self._about(self._row(item_id), np.array([self._row(each) for each in others]))

    def asked(self, query: Mapping[str, FloatArray]) -> Compared:
        """How near every item is to each query, part by part; for `fuse`."""
        return self._compared(self._units(query), {})

    def fuse(self, compared: Compared, weights: Mapping[str, float] | None = None) -> FloatArray:
        """The likeness of every pair, in standard deviations. Shape (queries, items).

        Args:
            compared: Part by part, of this index.
            weights: By view, instead of the index's own.
        """
        chosen = self._weights_of(compared) if weights is None else weights
        return self._fused_by().fuse(compared, chosen)

    def directions(self, *, width: int = 128) -> FloatArray:
        """The principal directions of a sample of the items' `fused` vectors. (numbers, width)."""
        sample = self.fused(self._ids[:: max(len(self._ids) // _SAMPLED, 1)])
        _, _, found = np.linalg.svd(sample, full_matrices=False)
        return np.asarray(found[:width].T, dtype=np.float32)

    def compact(self, item_ids: Sequence[str], directions: FloatArray) -> FloatArray:
        """As `fused`, in fewer numbers. Shape (items, width).

        Args:
            item_ids: Which.
            directions: From this index; views that came later count for nothing.
        """
        found = np.zeros((len(item_ids), directions.shape[1]), dtype=np.float32)
        for start in range(0, len(item_ids), _AT_ONCE):
            part = self.fused(item_ids[start : start + _AT_ONCE])
            found[start : start + _AT_ONCE] = part[:, : len(directions)] @ directions
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def compare(
        self,
        item_id: str,
        others: Sequence[str],
        *,
        plain: bool = False,
        by: str | None = None,
    ) -> list[Alike]:
        """How one item is like some others, in their order; those without content are left out.

        Raises:
            DataError: As `neighbours`.
        """
        row = self._row(item_id)
        rows = [self._rows[each] for each in others if each in self._rows]
        if not rows:
            return []
        compared = self._about(row, np.array(rows, dtype=np.int64), plain=plain)
        if by is not None:
            compared = self._only(compared, by, row=row)
        fused = self.fuse(compared)[0]
        insights = self._insights(compared, self._units_at(row), rows)
        return [
            self._alike(compared, fused, place, insight=insights[place], row=row, item=item)
            for place, item in enumerate(rows)
        ]

    def views_of(self, item_id: str) -> list[str]:
        """The views that an item has.

        Raises:
            DataError: If the item is unknown.
        """
        row = self._row(item_id)
        return [name for name, view in self._views.items() if view.there[row]]

    def parts_of(self, item_id: str) -> list[str]:
        """The same, and "tags" if it has attributes.

        Raises:
            DataError: If the item is unknown.
        """
        row = self._row(item_id)
        tagged = any(column.values[row] is not None for column in self._attributes.values())
        return [*self.views_of(item_id), *([TAGS] if tagged else [])]

    def search(
        self, query: Mapping[str, FloatArray], k: int, *, plain: bool = False
    ) -> list[Alike]:
        """The items most like a picture, a text or both, as the encoders gave them.

        Args:
            query: Some of the views, each of shape (width,).
            k: Most items.
            plain: Whether the learned likeness is left out.
        """
        units = self._units({name: vector[None] for name, vector in query.items()})
        return self._answer(self._compared(units, {}, plain=plain), units, k=k)

    def fused(self, item_ids: Sequence[str]) -> FloatArray:
        """One vector an item from all its views, of length 1. Shape (items, width).

        The cosine of two is the weighted mean of their views' similarities; a view that one of
        them lacks counts as unlike. An item without any view, or unknown, has zeros.
        """
        rows = np.array([self._rows.get(each, -1) for each in item_ids], dtype=np.int64)
        parts = [np.zeros((len(rows), 0), dtype=np.float32)]
        weights: Mapping[str, float] = self.weights
        if self._learned is not None:
            weights = self._learned.learned.weights
            scale = np.sqrt(weights.get(LEARNED, 1.0) / float(self._learned.spread))
            part = self._learned.centered(np.maximum(rows, 0)) * np.float32(scale)
            part[rows < 0] = 0
            parts.append(part)
        for name, view in self._views.items():
            scale = np.sqrt(weights.get(name, 1.0) / float(view.spread))
            part = view.unit[np.maximum(rows, 0)] * np.float32(scale)
            part[rows < 0] = 0
            parts.append(part)
        joined = np.concatenate(parts, axis=1)
        lengths = np.linalg.norm(joined, axis=1, keepdims=True)
        return np.asarray(joined / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def _require_widths(self, views: Mapping[str, FloatArray]) -> None:
        for name, vector in views.items():
            if name in self._views and self._views[name].width != len(vector):
                raise DataError(
                    f"view {name!r} has width {self._views[name].width}, the vector "
                    f"{len(vector)}; encode the catalogue anew."
                )

    def _row(self, item_id: str) -> int:
        if item_id not in self._rows:
            raise DataError(f"item {item_id!r} has no content here; encode it first.")
        return self._rows[item_id]

    def _fused_by(self) -> Fusion:
        """How the parts go together, learned from the items that are there when first asked."""
        if self._fusion is None:
            rows = np.arange(len(self._ids))[:: max(len(self._ids) // _PAIRED, 1)]
            units = {name: view.unit[rows] for name, view in self._views.items()}
            codes = {name: column.codes[rows] for name, column in self._attributes.items()}
            self._fusion = Fusion.of(self._compared(units, codes, rows))
        return self._fusion

    def _about(self, row: int, rows: IntArray | None = None, *, plain: bool = False) -> Compared:
        """How near every item, or each of some, is to one, by view and by attributes."""
        codes = {name: column.codes[row : row + 1] for name, column in self._attributes.items()}
        return self._compared(self._units_at(row), codes, rows, plain=plain)

    def _only(self, compared: Compared, view: str, *, row: int) -> Compared:
        """The same by one view alone."""
        known = [*self._views, *([TAGS] if self._attributes else [])]
        if view not in known:
            raise DataError(f"there is no view {view!r} here; there are {', '.join(known)}.")
        has = self.parts_of(self._ids[row])
        if view not in has:
            raise DataError(
                f"item {self._ids[row]!r} has no {view}; it has {', '.join(has) or 'nothing'}."
            )
        return compared.only(view)

    def _units_at(self, row: int) -> dict[str, FloatArray]:
        return {name: view.unit[row : row + 1] for name, view in self._views.items()}

    def _weights_of(self, compared: Compared) -> Mapping[str, float]:
        """The index's own weights, or those of the learned likeness where that takes part.

        A view that is alone counts, whatever it weighs beside others.
        """
        if len({part.view for part in compared.parts}) == 1:
            return {}
        if self._learned is not None and any(part.view == LEARNED for part in compared.parts):
            return self._learned.learned.weights
        return self.weights

    def _units(self, query: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        for name in query:
            if name not in self._views:
                raise DataError(f"there is no view {name!r}; there are {', '.join(self._views)}.")
        return {name: _unit(each, self._views[name].center) for name, each in query.items()}

    def _codes(self, attributes: Mapping[str, ObjectArray]) -> dict[str, IntArray]:
        return {
            name: self._attributes[name].codes_of(values.tolist())
            for name, values in attributes.items()
            if name in self._attributes
        }

    def _compared(
        self,
        units: Mapping[str, FloatArray],
        codes: Mapping[str, IntArray],
        rows: IntArray | None = None,
        *,
        plain: bool = False,
    ) -> Compared:
        """Part by part: all views and attributes, those too that nobody asks about."""
        items = len(self._ids) if rows is None else len(rows)
        chosen = slice(items) if rows is None else rows
        queries = len(next(iter(units.values()), next(iter(codes.values()), ())))
        unknown = (
            np.zeros((queries, items), dtype=np.float32),
            np.zeros((queries, items), dtype=np.bool_),
        )
        parts, found = [], []
        for name, view in self._views.items():
            parts.append(Part(name=name, view=name))
            found.append(view.near(units[name], chosen) if name in units else unknown)
        if self._learned is not None and not plain:
            parts.append(Part(name=LEARNED, view=LEARNED))
            found.append(self._learned.near(units, chosen) or unknown)
        told = sum(column.telling**2 for column in self._attributes.values()) ** 0.5
        for name, column in [*self._attributes.items()][: MOST_PARTS - len(parts)]:
            share = column.telling / max(told, 1.0)
            parts.append(Part(name=f"{TAGS}: {name}", view=TAGS, share=share))
            found.append(column.near(codes[name], chosen) if name in codes else unknown)
        near, there = [each for each, _ in found], [each for _, each in found]
        return Compared(parts=tuple(parts), near=tuple(near), there=tuple(there))

    def _listable(self, fused: FloatArray, row: int) -> FloatArray:
        """The same, with the item itself and those that are gone behind all others."""
        found = fused.copy()
        found[[*self._gone, *([row] if row >= 0 else [])]] = -np.inf
        return found

    def _answer(
        self, compared: Compared, units: Mapping[str, FloatArray], *, k: int, row: int = -1
    ) -> list[Alike]:
        if k < 1:
            raise DataError(f"k is {k}; it must be 1 or more.")
        fused = self._listable(self.fuse(compared)[0], row)
        best = np.argsort(-fused, kind="stable")[:k]
        best = best[fused[best] > UNLIKE]
        insights = self._insights(compared, units, best.tolist())
        return [
            self._alike(compared, fused, item, insight=insight, row=row, item=item)
            for item, insight in zip(best.tolist(), insights, strict=True)
        ]

    def _insights(
        self, compared: Compared, units: Mapping[str, FloatArray], rows: Sequence[int]
    ) -> list[Insight | None]:
        """What the learned likeness says of some items, where it takes part."""
        if self._learned is None or all(part.view != LEARNED for part in compared.parts):
            return [None] * len(rows)
        others = {name: view.unit[np.array(rows, np.int64)] for name, view in self._views.items()}
        return [*self._learned.explain(units, others)]

    def _alike(
        self,
        compared: Compared,
        fused: FloatArray,
        place: int,
        *,
        insight: Insight | None,
        row: int,
        item: int,
    ) -> Alike:
        return Alike(
            item_id=self._ids[item],
            similarity=float(fused[place]),
            views=self._why(compared.take(place), insight),
            shared=self._shared(row, item),
            likely=() if insight is None else insight.likely,
        )

    def _why(self, pair: Compared, insight: Insight | None) -> tuple[tuple[str, float], ...]:
        said = self._fused_by().told(pair, self._weights_of(pair))
        if insight is not None:
            said = spread_over(said, LEARNED, insight.views)
        total = sum(max(value, 0.0) for value in said.values())
        ordered = sorted(said.items(), key=lambda pair: -pair[1])
        return tuple((name, value / total) for name, value in ordered if value > 0)

    def _shared(self, row: int, item: int) -> tuple[str, ...]:
        if row < 0:
            return ()
        found = []
        for name, column in self._attributes.items():
            one = column.values[row]
            if one and one == column.values[item]:
                found.append(f"{name}: {one}")
        return tuple(found)


class _View:
    """Unit vectors around a centre, with room for more rows."""

    def __init__(self, held: FloatArray, center: FloatArray, *, spread: np.float32) -> None:
        self._held = held
        self._there: BoolArray = np.any(held != 0, axis=1)
        self._count = len(held)
        self.center = center
        self.spread = spread

    @classmethod
    def of(cls, vectors: FloatArray, *, center: FloatArray | None = None) -> _View:
        if center is None or len(center) != vectors.shape[1]:
            center = _center(vectors)
        unit = _unit(vectors, center)
        return cls(unit, center, spread=_spread(unit))

    @property
    def unit(self) -> FloatArray:
        """Shape (items, width)."""
        return self._held[: self._count]

    @property
    def there(self) -> BoolArray:
        """Whether an item has the view. Shape (items,)."""
        there: BoolArray = self._there[: self._count]
        return there

    @property
    def width(self) -> int:
        """Numbers a vector."""
        return int(self._held.shape[1])

    def near(self, unit: FloatArray, rows: IntArray | slice) -> tuple[FloatArray, BoolArray]:
        """How near some rows are to queries, and whether both are there. (queries, rows) each."""
        there = np.any(unit != 0, axis=1)[:, None] & self.there[None, rows]
        return np.asarray(unit @ self.unit[rows].T / self.spread), there

    def put(self, row: int, vector: FloatArray | None) -> None:
        """Set one row, which may be the next one; None says that the item lacks the view."""
        if row >= len(self._held):
            more = max(64, len(self._held) // 8)
            self._held = np.pad(self._held, ((0, more), (0, 0)))
            self._there = np.pad(self._there, (0, more))
        self._count = max(self._count, row + 1)
        unit = 0 if vector is None else _unit(vector[None], self.center)[0]
        self._held[row] = unit
        self._there[row] = bool(np.any(self._held[row] != 0))


class _Column:
    """An attribute's values, and the same as numbers, which compare fast.

    Attributes:
        values: None where unknown.
        chance: That two items at random agree.
    """

    def __init__(self, values: list[str | None]) -> None:
        known = list(Counter(value for value in values if value is not None).values())
        pairs = sum(known) * (sum(known) - 1)
        self.chance = (sum(n * (n - 1) for n in known) + 1) / (pairs + 2)
        self.values: list[str | None] = []
        self._numbers: dict[str, int] = {}
        self._codes = np.full(max(len(values), 64), -1, dtype=np.int64)
        for row, value in enumerate(values):
            self.put(row, value)

    @property
    def codes(self) -> IntArray:
        """Equal for equal values, -1 where unknown. Shape (items,)."""
        return self._codes[: len(self.values)]

    @property
    def telling(self) -> float:
        """What an agreement says, log 1 / chance, for every standard deviation of it."""
        return math.log(1 / self.chance) * math.sqrt(self.chance * (1 - self.chance))

    def codes_of(self, values: Sequence[str | None]) -> IntArray:
        """The numbers of some values, -1 where unknown; new values are like no other."""
        new = len(self._numbers)
        found = [-1 if each is None else self._numbers.get(each, new) for each in values]
        return np.array(found, dtype=np.int64)

    def near(self, own: IntArray, rows: IntArray | slice) -> tuple[FloatArray, BoolArray]:
        """Agreement with some rows in standard deviations, its mean 0, and whether both are known.

        Args:
            own: Of the queries, from `codes_of`.
            rows: Which.
        """
        deviation = math.sqrt(self.chance * (1 - self.chance))
        low, high = -self.chance / deviation, (1 - self.chance) / deviation
        others = self.codes[None, rows]
        both = (own[:, None] >= 0) & (others >= 0)
        agree = own[:, None] == others
        return np.where(agree, np.float32(high), np.float32(low)) * both, both

    def put(self, row: int, value: str | None) -> None:
        """Set one row, which may be the next one."""
        if row == len(self.values):
            self.values.append(None)
        if row >= len(self._codes):
            more = len(self._codes) // 2
            self._codes = np.pad(self._codes, (0, more), constant_values=-1)
        self.values[row] = value
        number = -1
        if value is not None:
            number = self._numbers.setdefault(value, len(self._numbers))
        self._codes[row] = number


def learn_weights(
    index: ContentIndex,
    query: Mapping[str, FloatArray],
    *,
    labels: IntArray,
    item_labels: IntArray,
    grid: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
    k: int = 10,
) -> dict[str, float]:
    """Weights under which the neighbours share most labels: one view after the other, twice.

    Args:
        index: Of the items; its own weights are where the search starts.
        query: Views of items that are not in the index.
        labels: Of the queries, several kinds side by side. Shape (queries, kinds).
        item_labels: Of the items. Shape (items, kinds).
        grid: Weights that are tried.
        k: Neighbours that are looked at.
    """
    weights = {name: index.weights.get(name, 1.0) for name in query}
    compared = index.asked(query)  # the same for all weights

    def agreement(tried: Mapping[str, float]) -> float:
        best = np.argpartition(-index.fuse(compared, tried), k, axis=1)[:, :k]
        return float((item_labels[best] == labels[:, None, :]).mean())

    for name in [*weights, *weights]:
        tried = [{**weights, name: weight} for weight in grid]
        usable = [each for each in tried if any(each.values())]
        weights = max(usable, key=agreement)
    return weights


def _center(vectors: FloatArray) -> FloatArray:
    there = np.any(vectors != 0, axis=1)
    mean = vectors[there].mean(axis=0) if there.sum() > 1 else np.zeros(vectors.shape[1])
    return np.asarray(mean, dtype=np.float32)


def _unit(vectors: FloatArray, center: FloatArray) -> FloatArray:
    there = np.any(vectors != 0, axis=1)[:, None]
    moved = (vectors - center) * there
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _spread(vectors: FloatArray) -> np.float32:
    """Standard deviation of the similarities of a few hundred items that have the view."""
    vectors = vectors[np.any(vectors != 0, axis=1)]
    some = vectors[:: max(len(vectors) // 300, 1)]
    apart = (some @ some.T)[~np.eye(len(some), dtype=np.bool_)]
    return np.float32(apart.std() if apart.size and apart.std() > 0 else 1)
