"""Vectors of items, for every process that serves the shop.

The process that looked at an item keeps its vectors in the catalogue's database, so that others
need neither the picture, which may have been sent with the item, nor the time to look at it. What a
service looked at has a revision, and running services follow it. What `momentary encode` looked at
and other machines shall have is revision 0: it is a whole catalogue, and they take it when they
read theirs (see `recommend.sharing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from momentary.data.catalog import BY_BYTES, METADATA, insert_into, next_revision, writing
from momentary.errors import StorageError

TOPIC = "vectors"

ITEM_VECTORS = sa.Table(
    "item_vectors",
    METADATA,
    sa.Column("item_id", BY_BYTES, primary_key=True),
    sa.Column("view", BY_BYTES, primary_key=True),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("item_vectors_by_revision", "revision"),
)
"""A row for each item and view; one with the view "" says that the item has nothing to compare.

One with the item "" says whose vectors a view consists of, with a mark in the place of a content.
"""

_NOTHING = ""
_NOBODY = ""


class Kept(NamedTuple):
    """One vector.

    Attributes:
        encoder: Whose it is.
        content: Hash of what was encoded.
        vector: Little-endian float32.
    """

    encoder: str
    content: bytes
    vector: bytes


class Given(NamedTuple):
    """One vector and whose it is."""

    item_id: str
    view: str
    kept: Kept


class ItemVectors:
    """Reads and writes the vectors of one shop.

    Args:
        engine: Of a workspace.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def put(self, item_id: str, views: Mapping[str, Kept]) -> int:
        """Let an item have these vectors and no others; the revision that this made.

        Raises:
            DataError: The database takes nothing now.
        """
        found = views or {_NOTHING: Kept("", b"", b"")}
        with writing(self._engine) as connection:
            revision = next_revision(connection, TOPIC)
            connection.execute(sa.delete(ITEM_VECTORS).where(ITEM_VECTORS.c.item_id == item_id))
            rows = [
                {"item_id": item_id, "view": view, "revision": revision, **kept._asdict()}
                for view, kept in sorted(found.items())
            ]
            connection.execute(sa.insert(ITEM_VECTORS), rows)
        return revision

    def delete(self, item_id: str) -> None:
        """Forget an item's vectors; whoever follows the catalogue knows that it is gone.

        Raises:
            DataError: The database takes nothing now.
        """
        with writing(self._engine) as connection:
            connection.execute(sa.delete(ITEM_VECTORS).where(ITEM_VECTORS.c.item_id == item_id))

    def since(self, revision: int) -> dict[str, int]:
        """Items whose vectors changed after a revision, and the revision of each.

        Raises:
            StorageError: If the database does not answer.
        """
        newest = sa.func.max(ITEM_VECTORS.c.revision)
        query = sa.select(ITEM_VECTORS.c.item_id, newest).group_by(ITEM_VECTORS.c.item_id)
        followed = ITEM_VECTORS.c.revision > max(revision, 0)
        query = query.where(followed).order_by(newest)
        return {item_id: int(number) for item_id, number in self._rows(query)}

    def contents(self) -> dict[str, list[tuple[str, str, bytes]]]:
        """Of each item that a service looked at: view, encoder, and hash of what was encoded.

        Raises:
            StorageError: If the database does not answer.
        """
        query = sa.select(*(ITEM_VECTORS.c[name] for name in ("item_id", "view", "encoder")))
        query = query.add_columns(ITEM_VECTORS.c.content).where(ITEM_VECTORS.c.view != _NOTHING)
        query = query.where(ITEM_VECTORS.c.revision > 0)
        found: dict[str, list[tuple[str, str, bytes]]] = {}
        for item_id, view, encoder, content in self._rows(query):
            found.setdefault(item_id, []).append((view, encoder, content))
        return found

    def of(self, item_id: str) -> tuple[int, dict[str, Kept]]:
        """The revision of an item's vectors, 0 for none, and the vectors by view.

        Raises:
            StorageError: If the database does not answer.
        """
        names = ("view", "encoder", "content", "vector", "revision")
        query = sa.select(*(ITEM_VECTORS.c[name] for name in names))
        rows = self._rows(query.where(ITEM_VECTORS.c.item_id == item_id))
        revision = max((int(row[4]) for row in rows), default=0)
        found = {row[0]: Kept(row[1], row[2], row[3]) for row in rows if row[0] != _NOTHING}
        return revision, found

    def give(self, given: Iterable[Given]) -> None:
        """Keep vectors that running services need not follow; one that they did keeps its number.

        Raises:
            DataError: The database takes nothing now.
        """
        self._give([(each.item_id, each.view, each.kept) for each in given])

    def mark(self, marks: Mapping[str, tuple[str, bytes]]) -> None:
        """Say of every view whose vectors it consists of, and that there are new ones.

        Raises:
            DataError: The database takes nothing now.
        """
        self._give(
            [(_NOBODY, view, Kept(encoder, mark, b"")) for view, (encoder, mark) in marks.items()]
        )

    def marks(self) -> dict[str, tuple[str, bytes]]:
        """Encoder and mark by view, as `mark` was told.

        Raises:
            StorageError: If the database does not answer.
        """
        columns = (ITEM_VECTORS.c[name] for name in ("view", "encoder", "content"))
        query = sa.select(*columns).where(ITEM_VECTORS.c.item_id == _NOBODY)
        return {view: (encoder, mark) for view, encoder, mark in self._rows(query)}

    def contents_of(self, view: str) -> dict[str, tuple[str, bytes]]:
        """Encoder and hash of what was encoded, by item.

        Raises:
            StorageError: If the database does not answer.
        """
        columns = (ITEM_VECTORS.c[name] for name in ("item_id", "encoder", "content"))
        query = sa.select(*columns)
        query = query.where(ITEM_VECTORS.c.item_id != _NOBODY, ITEM_VECTORS.c.view == view)
        return {item_id: (encoder, content) for item_id, encoder, content in self._rows(query)}

    def read(self, view: str, item_ids: Sequence[str]) -> dict[str, Kept]:
        """The vectors of some items, by item; a few hundred at most.

        Raises:
            StorageError: If the database does not answer.
        """
        names = ("item_id", "encoder", "content", "vector")
        query = sa.select(*(ITEM_VECTORS.c[name] for name in names))
        query = query.where(ITEM_VECTORS.c.view == view, ITEM_VECTORS.c.item_id.in_(item_ids))
        return {row[0]: Kept(*row[1:]) for row in self._rows(query)}

    def _give(self, given: Sequence[tuple[str, str, Kept]]) -> None:
        rows = [
            {"item_id": item_id, "view": view, "revision": 0, **kept._asdict()}
            for item_id, view, kept in given
        ]
        if not rows:
            return
        insert = insert_into(ITEM_VECTORS, self._engine.dialect)
        replaced = {name: insert.excluded[name] for name in Kept._fields}
        statement = insert.on_conflict_do_update(index_elements=["item_id", "view"], set_=replaced)
        empty = sa.and_(
            ITEM_VECTORS.c.view == _NOTHING,
            ITEM_VECTORS.c.item_id.in_([row["item_id"] for row in rows]),
        )
        with writing(self._engine) as connection:
            connection.execute(sa.delete(ITEM_VECTORS).where(empty))
            connection.execute(statement, rows)

    def _rows(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._engine.connect() as connection:
                return [tuple(row) for row in connection.execute(query)]
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            raise StorageError(
                f"vectors cannot be read ({said}); see to the catalogue's database."
            ) from error
