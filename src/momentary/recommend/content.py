"""Items that are alike by their content, whether anybody clicked them or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.errors import DataError
from momentary.types import BoolArray, FloatArray, IntArray, ObjectArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """One neighbour.

    Attributes:
        item_id: Which item.
        similarity: Weighted mean over the views that both have, at most 1.
        views: Share of each view in the similarity, largest first.
        shared: Attributes on which both agree, as "name: value".
    """

    item_id: str
    similarity: float
    views: tuple[tuple[str, float], ...]
    shared: tuple[str, ...]


class ContentIndex:
    """Vectors of the items by view (image, colour, text, ...), and attributes beside them.

    Every view is centred, brought to length 1, and its similarities to a common spread, so that
    the weights compare. Where one of two items lacks a view, the others decide.

    Args:
        item_ids: In the order of the rows.
        views: Vectors by name; a row of zeros says that the item lacks it.
        weights: By view; a view that is not named weighs 1.
        attributes: Columns of strings, None where unknown; they count as the view "tags".
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        views: Mapping[str, FloatArray],
        *,
        weights: Mapping[str, float] | None = None,
        attributes: Mapping[str, ObjectArray] | None = None,
    ) -> None:
        for name, vectors in views.items():
            if len(vectors) != len(item_ids):
                raise DataError(
                    f"view {name!r} has {len(vectors)} rows; there are {len(item_ids)} items."
                )
        self.item_ids = tuple(item_ids)
        self.weights = dict(weights or {})
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        self._attributes = dict(attributes or {})
        self._centers = {name: _center(vectors) for name, vectors in views.items()}
        self._views = {name: _unit(each, self._centers[name]) for name, each in views.items()}
        self._spreads = {name: _spread(vectors) for name, vectors in self._views.items()}

    def similarities(self, query: Mapping[str, FloatArray]) -> FloatArray:
        """How alike every item is to each query. Shape (queries, items).

        Args:
            query: Some of the views, each of shape (queries, width).
        """
        return self._fused(self._by_view(query))

    def neighbours(self, item_id: str, k: int) -> list[Alike]:
        """The items most like one of them, itself left out.

        Raises:
            DataError: If the item is unknown.
        """
        if item_id not in self._rows:
            raise DataError(f"item {item_id!r} has no content here; encode it first.")
        row = self._rows[item_id]
        query = {name: vectors[row : row + 1] for name, vectors in self._views.items()}
        return self._answer(self._by_view(query, moved=True), k=k, row=row)

    def search(self, query: Mapping[str, FloatArray], k: int) -> list[Alike]:
        """The items most like a picture, a text or both, as the encoders gave them.

        Args:
            query: Some of the views, each of shape (width,).
            k: Most items.
        """
        return self._answer(
            self._by_view({name: vector[None] for name, vector in query.items()}), k=k
        )

    def _by_view(
        self, query: Mapping[str, FloatArray], *, moved: bool = False
    ) -> dict[str, tuple[FloatArray, BoolArray]]:
        found = {}
        for name, vectors in query.items():
            if name not in self._views:
                raise DataError(f"there is no view {name!r}; there are {', '.join(self._views)}.")
            unit = vectors if moved else _unit(vectors, self._centers[name])
            own = self._views[name]
            both = np.any(unit != 0, axis=1)[:, None] & np.any(own != 0, axis=1)[None, :]
            found[name] = (unit @ own.T / self._spreads[name], both)
        return found

    def _tags(self, row: int) -> tuple[FloatArray, BoolArray]:
        """Share of the attributes that both name on which they agree. Shapes (1, items)."""
        agreed = np.zeros(len(self.item_ids), dtype=np.float32)
        known = np.zeros(len(self.item_ids), dtype=np.float32)
        for column in self._attributes.values():
            if column[row] is not None:
                known += np.array([value is not None for value in column])
                agreed += column == column[row]
        share = np.divide(agreed, known, out=np.zeros_like(agreed), where=known > 0)
        return share[None], (known > 0)[None]

    def _fused(self, parts: Mapping[str, tuple[FloatArray, BoolArray]]) -> FloatArray:
        weights = {name: np.float32(self.weights.get(name, 1.0)) for name in parts}
        total = sum(weights[name] * there for name, (_, there) in parts.items())
        mixed = sum(weights[name] * near * there for name, (near, there) in parts.items())
        return np.asarray(
            np.divide(mixed, total, out=np.full_like(mixed, -1e9), where=np.asarray(total) > 0),
            dtype=np.float32,
        )

    def _answer(
        self, parts: dict[str, tuple[FloatArray, BoolArray]], *, k: int, row: int = -1
    ) -> list[Alike]:
        if k < 1:
            raise DataError(f"k is {k}; it must be 1 or more.")
        if row >= 0 and self._attributes:
            parts["tags"] = self._tags(row)
        fused = self._fused(parts)[0].copy()
        if row >= 0:
            fused[row] = -np.inf
        best = np.argsort(-fused, kind="stable")[:k]
        return [
            Alike(
                item_id=self.item_ids[item],
                similarity=float(fused[item]),
                views=self._why(parts, item),
                shared=self._shared(row, item),
            )
            for item in best[fused[best] > -1e8].tolist()
        ]

    def _why(
        self, parts: Mapping[str, tuple[FloatArray, BoolArray]], item: int
    ) -> tuple[tuple[str, float], ...]:
        said = {
            name: max(self.weights.get(name, 1.0) * float(near[0, item]), 0.0)
            for name, (near, there) in parts.items()
            if there[0, item]
        }
        total = sum(said.values())
        ordered = sorted(said.items(), key=lambda pair: -pair[1])
        return tuple((name, value / total) for name, value in ordered if value > 0)

    def _shared(self, row: int, item: int) -> tuple[str, ...]:
        if row < 0:
            return ()
        pairs = ((name, column[row], column[item]) for name, column in self._attributes.items())
        return tuple(f"{name}: {one}" for name, one, other in pairs if one and one == other)


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
    parts = index._by_view(query)  # noqa: SLF001 - the views do not change with the weights

    def agreement(tried: Mapping[str, float]) -> float:
        mixed = sum(np.float32(tried[name]) * near * there for name, (near, there) in parts.items())
        best = np.argpartition(-np.asarray(mixed), k, axis=1)[:, :k]
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
    """Standard deviation of the similarities of a few hundred items, spread over all."""
    some = vectors[:: max(len(vectors) // 300, 1)]
    apart = (some @ some.T)[~np.eye(len(some), dtype=np.bool_)]
    return np.float32(apart.std() if apart.size and apart.std() > 0 else 1)
