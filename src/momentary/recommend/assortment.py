"""All that can be recommended: what a model knows, and what it can place by its content."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from momentary.data.catalog import Catalog
from momentary.data.item_vectors import TOPIC, ItemVectors
from momentary.encoders.store import VectorStore
from momentary.models.artifact import Bundle
from momentary.recommend.assembly import assemble
from momentary.recommend.content import ContentIndex
from momentary.recommend.encoded import (
    Encoded,
    anything_encoded,
    own_attributes,
    read_encoded,
)
from momentary.recommend.pipeline import Recommender
from momentary.recommend.placed import Company, ContentReasons, Placed
from momentary.types import FloatArray, Item, ItemTable


class Assortment:
    """A bundle, the catalogue's content, and the items that stand where the content puts them.

    Args:
        bundle: Trained models.
        encoded: The catalogue's content; without views there is none.

    Attributes:
        bundle: As it was trained.
        index: The items by likeness; None where nothing is encoded.
        placed: Items that the bundle does not know; None where it cannot place any.
        revision: Of the vectors of new items in the database when the content was read.
        lacking: Items whose vectors in the database were not in the file that was read.
        trouble: Why a learned likeness is not in the index; "" where it is, or there is none.
    """

    def __init__(self, bundle: Bundle, encoded: Encoded) -> None:
        self.bundle = bundle
        self.index: ContentIndex | None = None
        self.placed: Placed | None = None
        self.revision = 0
        self.lacking: Collection[str] = ()
        self.trouble = encoded.trouble
        self._encoders = dict(encoded.encoders)
        self._grouping = tuple(encoded.attributes)
        self._compact: tuple[FloatArray, FloatArray] | None = None
        placement = bundle.placement
        if encoded.views:
            weights = None if placement is None else placement.config.weights
            self.index = encoded.index(weights, learned=encoded.learned)
        if self.index is not None and placement is not None and not self.unlike():
            self.placed = Placed(bundle)
            self.placed.put_many(encoded.items, encoded.views)

    @classmethod
    def read(cls, bundle: Bundle, catalog: Catalog, file: Path) -> Self:
        """Bring a bundle together with what `momentary encode` kept in `file`.

        Raises:
            DataError: If the file is no vector store.
        """
        if not anything_encoded(catalog, file):
            return cls(bundle, Encoded(items=(), views={}, attributes={}, encoders={}))
        # In this order: what comes meanwhile is at worst taken in twice.
        revision = catalog.revisions().get(TOPIC, 0)
        lacking = _lacking(ItemVectors(catalog.engine), file)
        found = cls(bundle, read_encoded(catalog, file))
        found.revision, found.lacking = revision, lacking
        return found

    def knew(self, item_id: str, *, revision: int) -> bool:
        """Whether the content held an item's vectors of a revision when it was read."""
        return revision <= self.revision and item_id not in self.lacking

    @property
    def encoders(self) -> Mapping[str, str]:
        """By view, the encoder whose vectors are compared here."""
        return self._encoders

    def unlike(self) -> dict[str, str]:
        """Views whose vectors come from another encoder than the model learned from."""
        if self.bundle.placement is None:
            return {}
        learned = self.bundle.placement.config.encoders
        return {
            view: encoder
            for view, encoder in self._encoders.items()
            if learned.get(view, encoder) != encoder
        }

    def put(self, item: Item, views: Mapping[str, FloatArray], row: ItemTable) -> bool:
        """Let an item be what its content says; True if the recommender has to be made anew.

        Args:
            item: Which.
            views: Its vectors by view, of these `encoders`; may be empty. Shape (width,) each.
            row: The item's facts.

        Raises:
            DataError: If a vector has another width than its view.
        """
        if self.index is None:
            return False
        if item.hidden or not views:
            self.remove(item.item_id)
            return False
        self.index.put(item.item_id, views, attributes=own_attributes(row, self._grouping))
        return self.placed is not None and self.placed.put(item, views)

    def remove(self, item_id: str) -> None:
        """Let an item be like nothing; where it is placed its facts keep it off lists."""
        if self.index is not None:
            self.index.remove(item_id)

    def set_company(self, company: Mapping[str, Company]) -> None:
        """Say what visitors chose beside new items; the recommender made next knows it."""
        if self.placed is not None:
            self.placed.company = dict(company)

    def extended(self) -> Bundle:
        """The bundle with the new items behind its own."""
        return self.bundle if self.placed is None else self.placed.bundle()

    def recommender(self, table: ItemTable, *, bundle: Bundle, role: str = "main") -> Recommender:
        """What recommends, over known and new items.

        Args:
            table: The catalogue in the order of the bundle's items.
            bundle: From `extended`.
            role: Which of its scorers answers.
        """
        plain = assemble(bundle, table, role=role)
        if self.index is None:
            return plain
        reasons = plain.reasons
        if reasons is not None:
            reasons = ContentReasons(reasons, table, self.index, n_items=len(self.bundle.items))
        return Recommender(
            plain.scorer,
            items=plain.items,
            table=table,
            reasons=reasons,
            vectors=self._vectors(bundle) if role == "main" else None,
            before=plain,
        )

    def _vectors(self, bundle: Bundle) -> FloatArray | None:
        """The items' content in few numbers; those that the model knows are brought there once."""
        if self.index is None:
            return None
        if self._compact is None:
            directions = self.index.directions()
            own = self.index.compact(self.bundle.items.ids, directions)
            self._compact = (directions, own)
        directions, own = self._compact
        new = self.index.compact(bundle.items.ids[len(own) :], directions)
        return np.concatenate([own, new])


def _lacking(told: ItemVectors, file: Path) -> frozenset[str]:
    """The items whose vectors, of encoders that count in this file, are not in it."""
    contents = told.contents()
    with VectorStore(file) as store:
        views = store.views()
        kept = {encoder: store.digests(encoder, list(contents)) for encoder in views.values()}
    return frozenset(
        item_id
        for item_id, vectors in contents.items()
        for view, encoder, content in vectors
        if views.get(view, encoder) == encoder and kept.get(encoder, {}).get(item_id) != content
    )
