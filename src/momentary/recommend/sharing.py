"""Vectors that `momentary encode` made, for every machine of a shop.

Each machine keeps vectors in a file of its own folder. Where machines share a database, `give` puts
them there and `receive` takes what another machine gave, so that one of them looks at the pictures
and all know what they are like. For each view the database says whose vectors it consists of, and
by a mark that is new after every giving, whether there is anything to take.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from momentary.data.item_vectors import Given, ItemVectors, Kept
from momentary.encoders.store import VectorStore
from momentary.types import Progress, silent

_TAKEN = "\x1ftaken"
"""In the place of an encoder: the marks that this machine has followed."""

_MARK_BYTES = 16
_AT_ONCE = 500


def is_shared(engine: sa.Engine) -> bool:
    """Whether other machines may read the same database; SQLite lies in the folder itself."""
    return engine.dialect.name != "sqlite"


def give(
    vectors: ItemVectors, file: Path, item_ids: list[str], *, progress: Progress = silent
) -> int:
    """Let other machines have the vectors that this one has of these items; how many were new.

    Raises:
        DataError: If the database takes nothing now.
        StorageError: If it does not answer.
    """
    given = 0
    with VectorStore(file) as store:
        views = store.views()
        for done, (view, encoder) in enumerate(views.items()):
            there, digests = vectors.contents_of(view), store.digests(encoder, item_ids)
            new = [
                item_id
                for item_id, digest in sorted(digests.items())
                if there.get(item_id) != (encoder, digest)
            ]
            for part in _parts(new):
                read = store.read(encoder, part)[0].astype("<f4")
                vectors.give(
                    Given(item_id, view, Kept(encoder, digests[item_id], vector.tobytes()))
                    for item_id, vector in zip(part, read, strict=True)
                )
            given += len(new)
            progress(done + 1, len(views), f"{given:,} given")
        if given or {view: encoder for view, (encoder, _) in vectors.marks().items()} != views:
            marks = {view: (each, secrets.token_bytes(_MARK_BYTES)) for view, each in views.items()}
            vectors.mark(marks)
    return given


def receive(vectors: ItemVectors, file: Path) -> int:
    """Take what other machines gave since the last time; how many vectors that were.

    Raises:
        StorageError: If the database does not answer.
    """
    marks, taken = vectors.marks(), 0
    if not marks:
        return 0
    with VectorStore(file) as store:
        known = store.digests(_TAKEN, list(marks))
        new = {view: each for view, each in marks.items() if known.get(view) != each[1]}
        if not new:
            return 0
        for view, (encoder, _) in new.items():
            there = {
                item_id: digest
                for item_id, (whose, digest) in vectors.contents_of(view).items()
                if whose == encoder
            }
            mine = store.digests(encoder, list(there))
            lacking = [each for each, digest in there.items() if mine.get(each) != digest]
            for part in _parts(lacking):
                taken += _take(store, encoder, vectors.read(view, part))
            store.use(view, encoder)
        taken_marks = [(view, mark) for view, (_, mark) in new.items()]
        store.put(_TAKEN, vectors={}, names=taken_marks)
    return taken


def _take(store: VectorStore, encoder: str, found: dict[str, Kept]) -> int:
    mine = {item_id: each for item_id, each in found.items() if each.encoder == encoder}
    read = {each.content: np.frombuffer(each.vector, dtype="<f4") for each in mine.values()}
    names = [(item_id, each.content) for item_id, each in mine.items()]
    store.put(encoder, vectors=read, names=names)
    return len(mine)


def _parts(item_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(item_ids), _AT_ONCE):
        yield item_ids[start : start + _AT_ONCE]
