"""A bundle with items placed behind its own: what nobody has touched is scored like the rest.

A new item begins with what its content says. As visitors choose it, what stands beside it in their
visits takes over: with n visits, behaviour weighs n / (n + half). Nothing is trained; a model that
is trained later on the same visits knows the item by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from momentary.data.tags import tag_rows
from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import Bundle
from momentary.models.protocol import Placeable, Scorer
from momentary.recommend.alike import content_reasons
from momentary.recommend.content import ContentIndex
from momentary.recommend.reasons import Neighbours, Reasons, Related
from momentary.types import FloatArray, IntArray, Item, ItemTable, Sessions

if TYPE_CHECKING:
    from momentary.models.content_factor import Content
    from momentary.models.placement import Placement

_LATEST = 5
_NONE: IntArray = np.zeros(0, dtype=np.int64)
_NOTHING: FloatArray = np.zeros(0, dtype=np.float32)


@dataclass(slots=True, kw_only=True)
class Company:
    """What visitors chose beside a new item.

    Attributes:
        visits: Visits that hold the item.
        beside: Other items' ids, with the visits that hold both.
    """

    visits: int = 0
    beside: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """Where an item stands by its content: a row, or its nearest known items."""

    row: FloatArray | None
    near: IntArray
    weights: FloatArray
    confidence: float


class Placed:
    """The new items of one bundle.

    Args:
        bundle: With a placement.

    Raises:
        ValueError: If the bundle has no placement.
    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.placement is None:
            raise ValueError("the bundle has no placement; train it on encoded content.")
        self._bundle = bundle
        self._placement: Placement = bundle.placement
        self._stands: dict[str, _Stand] = {}
        self.company: dict[str, Company] = {}
        """By new item, what visitors chose beside it; `bundle` reads it."""

    def __len__(self) -> int:
        return len(self._stands)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._stands

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The new items, in the order of their indices."""
        return tuple(self._stands)

    def put(self, item: Item, views: Mapping[str, FloatArray]) -> bool:
        """Place an item, or place it anew; False for one that the model knows, or without content.

        Args:
            item: Which.
            views: What the encoders say of it. Shape (width,) each.
        """
        return item.item_id in self.put_many([item], {name: v[None] for name, v in views.items()})

    def put_many(self, items: Sequence[Item], views: Mapping[str, FloatArray]) -> set[str]:
        """Place items; the ids of those that were placed.

        Args:
            items: In the order of the rows of `views`.
            views: Shape (items, width) each.
        """
        there = np.zeros(len(items), dtype=np.bool_)
        for vectors in views.values():
            there |= np.any(vectors != 0, axis=1)
        new = [
            row
            for row, item in enumerate(items)
            if there[row] and item.item_id not in self._bundle.items
        ]
        if not new:
            return set()
        chosen = [items[row] for row in new]
        own = {name: vectors[new] for name, vectors in views.items()}
        content = self._placement.content(own, tags=tag_rows(chosen))
        sure = self._placement.confidence(content)
        if self._placement.config.way == "rows":
            for item, row, each in zip(chosen, self._tuned(content), sure.tolist(), strict=True):
                self._stands[item.item_id] = _Stand(
                    row=row, near=_NONE, weights=_NOTHING, confidence=each
                )
        else:
            company = self._placement.near(content)
            for item, (near, weights), each in zip(chosen, company, sure.tolist(), strict=True):
                if len(near):
                    self._stands[item.item_id] = _Stand(
                        row=None, near=near, weights=weights, confidence=each
                    )
        return {item.item_id for item in chosen if item.item_id in self._stands}

    def bundle(self) -> Bundle:
        """The bundle with the new items behind its own, as they stand now."""
        if not self._stands:
            return self._bundle
        ids = self.item_ids
        known, scorers = self._bundle.items, self._bundle.scorers
        beside = [self._beside(item_id) for item_id in ids]
        main = scorers["main"]
        shares = np.array([self._share(item_id) for item_id in ids], dtype=np.float32)
        bigger: Scorer
        if isinstance(main, Placeable):
            bigger = main.with_items(self._rows(main, beside, shares))
        else:
            mixed = PlacedScorer(main, len(known), self._mixes(beside, shares))
            bigger = cast(Scorer, mixed)
        visits = [self.company.get(item_id, Company()).visits for item_id in ids]
        fallback = PlacedScorer(
            scorers["fallback"],
            len(known),
            [Mix(offset=float(count)) for count in visits],
        )
        related = PlacedRelated(cast(Related, scorers["related"]), len(known), beside)
        return replace(
            self._bundle,
            items=Vocabulary([*known.ids, *ids]),
            scorers={
                **scorers,
                "main": bigger,
                "fallback": cast(Scorer, fallback),
                "related": cast(Scorer, related),
            },
        )

    def confidence(self) -> dict[str, float]:
        """How much the known items say of each new one, 0 to 1."""
        return {item_id: stand.confidence for item_id, stand in self._stands.items()}

    def _tuned(self, content: Content) -> FloatArray:
        """Rows by content, ready to stand among the model's own. Shape (items, width)."""
        model = self._bundle.scorers["main"]
        if not isinstance(model, Placeable):
            raise ValueError("the placement predicts rows, but the model has none; train anew.")
        config = self._placement.config
        rows = self._placement.rows(content)
        return model.tuned(rows, scale=config.scale, offset=config.offset)

    def _share(self, item_id: str) -> float:
        """How much behaviour weighs for a new item."""
        company = self.company.get(item_id)
        if company is None or not company.beside:
            return 0.0
        return company.visits / (company.visits + self._placement.config.half)

    def _beside(self, item_id: str) -> dict[int, int]:
        """Known items beside a new one, with the visits that hold both."""
        company = self.company.get(item_id)
        if company is None:
            return {}
        indices = ((self._bundle.items.index(each), n) for each, n in company.beside.items())
        return {index: count for index, count in indices if index >= 0}

    def _rows(
        self, model: Placeable, beside: Sequence[Mapping[int, int]], shares: FloatArray
    ) -> FloatArray:
        rows = np.stack([stand.row for stand in self._stands.values() if stand.row is not None])
        own, _ = model.item_rows()
        for place, found in enumerate(beside):
            if not found or not shares[place]:
                continue
            weights = np.array(list(found.values()), dtype=np.float32)
            behaviour = weights @ own[list(found)] / weights.sum()
            rows[place] += shares[place] * (behaviour - rows[place])
        return rows

    def _mixes(self, beside: Sequence[Mapping[int, int]], shares: FloatArray) -> list[Mix]:
        config = self._placement.config
        mixes = []
        for stand, found, share in zip(self._stands.values(), beside, shares, strict=True):
            counts = np.array(list(found.values()), dtype=np.float32)
            rest = float(1 - share)
            mixes.append(
                Mix(
                    near=stand.near,
                    weights=stand.weights * np.float32(rest * config.scale),
                    lift=rest * config.offset,
                    beside=np.array(list(found), dtype=np.int64),
                    shares=np.float32(share) * counts / max(float(counts.sum()), 1.0),
                )
            )
        return mixes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A new item as a mix of known ones; see `placement` for how content is scaled.

    Attributes:
        near: Items that stand for it by its content; a click on it counts for the first.
        weights: Of each.
        lift: Added to what the content says.
        beside: Items that visitors chose beside it.
        shares: Of each.
        offset: Added to the score.
    """

    near: IntArray = field(default_factory=lambda: _NONE)
    weights: FloatArray = field(default_factory=lambda: _NOTHING)
    lift: float = 0.0
    beside: IntArray = field(default_factory=lambda: _NONE)
    shares: FloatArray = field(default_factory=lambda: _NOTHING)
    offset: float = 0.0

    @property
    def stand_in(self) -> int:
        """The known item for which a click on this one counts; -1 where there is none."""
        return int(np.concatenate([self.near, self.beside, [-1]])[0])


class PlacedScorer:
    """Any scorer with new items behind its own, each a mix of known ones.

    A click on a new item counts as one on the known item that it is most like, or as none.
    """

    def __init__(self, inner: Scorer, n_items: int, mixes: Sequence[Mix]) -> None:
        self._inner = inner
        self._n_items = n_items
        self._mixes = tuple(mixes)
        stand_ins = np.array([mix.stand_in for mix in mixes], dtype=np.int64)
        self._stand_ins = np.concatenate([np.arange(n_items, dtype=np.int64), stand_ins])
        self.kind = inner.kind  # what reasons are worded by
        if hasattr(inner, "sources"):
            self.sources = self._sources
        if hasattr(inner, "likest"):
            self.likest = self._likest

    def score(self, sessions: Sessions) -> FloatArray:
        """Score known and new items. Shape (sessions, items)."""
        own = self._inner.score(self._known(sessions))
        new = np.zeros((len(own), len(self._mixes)), dtype=np.float32)
        # What it stands beside costs a service without content time to start.
        from momentary.models.placement import spread_root

        root = spread_root(own)[:, 0]
        for place, mix in enumerate(self._mixes):
            new[:, place] = mix.offset + np.float32(mix.lift) * root
            if len(mix.near):
                new[:, place] += own[:, mix.near] @ mix.weights / root
            if len(mix.beside):
                new[:, place] += own[:, mix.beside] @ mix.shares
        return np.concatenate([own, new], axis=1)

    def _sources(self, session: IntArray, items: IntArray) -> list[dict[str, float]]:
        known = self._stand_ins[session]
        stand_ins = np.maximum(self._stand_ins[items], 0)
        found: list[dict[str, float]] = self._inner.sources(  # type: ignore[attr-defined]
            known[known >= 0], stand_ins
        )
        return [
            shares if item < self._n_items else {}
            for item, shares in zip(items.tolist(), found, strict=True)
        ]

    def _likest(self, session: IntArray, item: int) -> tuple[int, tuple[str, ...]] | None:
        """Among known items; what new ones are like, `ContentReasons` tells."""
        if item >= self._n_items:
            return None
        found: tuple[int, tuple[str, ...]] | None = self._inner.likest(  # type: ignore[attr-defined]
            session[session < self._n_items], item
        )
        return found

    def _known(self, sessions: Sessions) -> Sessions:
        """The sessions in known items alone."""
        items = self._stand_ins[sessions.items]
        kept = items >= 0
        known = replace(sessions, items=items)
        return known if kept.all() else known.keep(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Near:
    """As `reasons.Neighbours`."""

    items: IntArray
    similarities: FloatArray
    counts: IntArray


class PlacedRelated:
    """What occurs together, new items by what visitors chose beside them since they came.

    Args:
        inner: Of the known items.
        n_items: How many those are.
        beside: For each new item, known items and the visits that hold both.
    """

    def __init__(self, inner: Related, n_items: int, beside: Sequence[Mapping[int, int]]) -> None:
        self._inner = inner
        self._n_items = n_items
        self._beside = tuple(beside)
        self._new: dict[int, dict[int, int]] = {}
        for place, found in enumerate(beside):
            for item, count in found.items():
                self._new.setdefault(item, {})[n_items + place] = count

    def related(self, item: int, k: int) -> Neighbours:
        """At most `k` neighbours of one item, best first."""
        if item >= self._n_items:
            return _counted(self._beside[item - self._n_items], k)
        found = self._inner.related(item, k)
        new = self._new.get(item)
        if not new:
            return found
        more = _counted(new, k)
        # A new item's similarity is not yet known on the scale of the others: it stands by counts.
        most = max(int(found.counts.max(initial=0)), int(more.counts.max()))
        best = float(found.similarities.max(initial=0)) or 1.0
        similarities = np.concatenate([found.similarities, best * more.counts / most])
        order = np.argsort(-similarities, kind="stable")[:k]
        return _Near(
            items=np.concatenate([found.items, more.items])[order].astype(np.int64),
            similarities=similarities[order].astype(np.float32),
            counts=np.concatenate([found.counts, more.counts])[order].astype(np.int64),
        )


class ContentReasons(Reasons):
    """Reasons that say of a new item which click it is like, and in what.

    Args:
        inner: Reasons from counts.
        table: Names of the items.
        index: The items by likeness.
        n_items: Items from this index on are new.
    """

    def __init__(
        self, inner: Reasons, table: ItemTable, index: ContentIndex, *, n_items: int
    ) -> None:
        self.related = inner.related
        self._inner = inner
        self._items = table
        self._index = index
        self._n_items = n_items

    def with_table(self, table: ItemTable) -> ContentReasons:
        """The same evidence in the names of another table over the same items."""
        inner = self._inner.with_table(table)
        return ContentReasons(inner, table, self._index, n_items=self._n_items)

    def explain(self, session: IntArray, listed: IntArray) -> list[tuple[str, ...]]:
        """Say why each item of a list is on it; see `Reasons.explain`."""
        said = self._inner.explain(session, listed)
        latest = list(dict.fromkeys(session[::-1].tolist()))[:_LATEST]
        return [
            (*self._like(item, latest), *reasons)[:2] if item >= self._n_items else reasons
            for item, reasons in zip(listed.tolist(), said, strict=True)
        ]

    def explain_similar(self, item: int, listed: IntArray) -> list[tuple[str, ...]]:
        """Say how each item of a list goes together with one item."""
        return self._inner.explain_similar(item, listed)

    def _like(self, item: int, latest: Sequence[int]) -> tuple[str, ...]:
        """What a new item has in common with the click that it is most like."""
        ids = self._items.item_ids
        if ids[item] not in self._index:
            return ()
        found = self._index.compare(ids[item], [ids[each] for each in latest if each != item])
        if not found:
            return ("new here",)
        best = max(found, key=lambda each: each.similarity)
        row = next(each for each in latest if ids[each] == best.item_id)
        name = self._items.names[row] or best.item_id
        why = content_reasons(best)
        return (f"new here; like {name}: {', '.join(why)}",) if why else ("new here",)


def _counted(found: Mapping[int, int], k: int) -> _Near:
    """Neighbours by the visits that hold both, most first."""
    items = np.array(list(found), dtype=np.int64)
    counts = np.array(list(found.values()), dtype=np.int64)
    order = np.lexsort((items, -counts))[:k]
    best = counts.max(initial=1)
    return _Near(
        items=items[order],
        similarities=(counts[order] / best).astype(np.float32),
        counts=counts[order],
    )
