"""What encoders have seen of a catalogue, read from a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from momentary.data.catalog import Catalog
from momentary.data.item_vectors import ItemVectors
from momentary.encoders.store import VectorStore
from momentary.errors import ArtifactError
from momentary.models.artifact import load_likeness
from momentary.models.learned_likeness import LearnedLikeness
from momentary.recommend.content import ContentIndex
from momentary.recommend.sharing import is_shared, receive
from momentary.types import FloatArray, Item, ItemTable, ObjectArray

LIKENESS = "likeness"
"""Folder of a workspace with what `momentary train-likeness` learned."""

_TELLING = 0.5
"""An attribute that has more values than this share of its items names them, and groups none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The items of a catalogue, hidden ones left out, with their vectors.

    Attributes:
        items: By ascending id.
        views: Vectors by view; a row of zeros says that an item lacks it. (items, width) each.
        attributes: Columns of strings that group items, None where unknown.
        encoders: By view, the encoder that its vectors come from.
        learned: What `momentary train-likeness` learned from the attributes; None where it did not.
        trouble: Why what it learned cannot be used; "" where it can.
    """

    items: tuple[Item, ...]
    views: Mapping[str, FloatArray]
    attributes: Mapping[str, ObjectArray]
    encoders: Mapping[str, str]
    learned: LearnedLikeness | None = None
    trouble: str = ""

    @property
    def item_ids(self) -> list[str]:
        """In the order of the rows."""
        return [item.item_id for item in self.items]

    def index(
        self,
        weights: Mapping[str, float] | None = None,
        *,
        learned: LearnedLikeness | None = None,
    ) -> ContentIndex:
        """The items by likeness; `weights` by view, and the `learned` part, if it is to count."""
        return ContentIndex(
            self.item_ids,
            self.views,
            weights=weights,
            attributes=self.attributes,
            learned=learned,
        )


def anything_encoded(catalog: Catalog, file: Path) -> bool:
    """Whether there are vectors; those that other machines of the shop have are taken first.

    Raises:
        DataError: If the file is no vector store.
        StorageError: If a database that machines share does not answer.
    """
    if is_shared(catalog.engine):
        receive(ItemVectors(catalog.engine), file)
    return file.is_file()


def read_encoded(catalog: Catalog, file: Path) -> Encoded:
    """Read what `momentary encode` kept in `file`, here or on another machine of the shop.

    Without any there is no view. What cannot be used of a learned likeness is no error: `trouble`
    says it.

    Raises:
        DataError: If the file is no vector store.
        StorageError: If a database that machines share does not answer.
    """
    items = tuple(item for item in catalog.items() if not item.hidden)
    ids = [item.item_id for item in items]
    views: dict[str, FloatArray] = {}
    encoders: dict[str, str] = {}
    if anything_encoded(catalog, file):
        with VectorStore(file) as store:
            encoders = store.views()
            for view, encoder in encoders.items():
                vectors, there = store.read(encoder, ids)
                if there.any():
                    views[view] = vectors
    encoders = {view: encoders[view] for view in views}
    learned, trouble = _learned(file.parent / LIKENESS, encoders)
    return Encoded(
        items=items,
        views=views,
        attributes=telling(catalog.table(ids)),
        encoders=encoders,
        learned=learned,
        trouble=trouble,
    )


def _learned(folder: Path, encoders: Mapping[str, str]) -> tuple[LearnedLikeness | None, str]:
    """What is kept and can read the vectors of these encoders, and why nothing else."""
    if not encoders:
        return None, ""
    try:
        learned = load_likeness(folder)
    except ArtifactError as error:
        # It says what to do, and others say what to do then.
        return None, f"the learned likeness is left out: {str(error).removesuffix('.')}"
    unlike = "" if learned is None else learned.unlike(encoders)
    if unlike:
        return None, f"the learned likeness is left out: {unlike}. Run: momentary train-likeness"
    return learned, ""


def telling(table: ItemTable) -> dict[str, ObjectArray]:
    """The attributes that several items share; what names each item alone groups nothing."""
    found = {}
    for name, column in table.attributes.items():
        known = [value for value in column.tolist() if value is not None]
        if known and len(set(known)) <= max(_TELLING * len(known), 1):
            found[name] = column
    return found


def own_attributes(table: ItemTable, names: Sequence[str]) -> dict[str, str | None]:
    """Those attributes of a table of one item, by name."""
    return {name: table.attributes[name][0] for name in names if name in table.attributes}
