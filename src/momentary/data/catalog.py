"""The items that can be recommended, in SQL (SQLite or PostgreSQL)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from momentary.errors import DataError, StorageError
from momentary.types import Item, ItemTable, ObjectArray

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

METADATA = sa.MetaData()

BY_BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text whose order is the same on every server, whatever its language."""

ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("item_id", BY_BYTES, primary_key=True),
    sa.Column("group_id", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("image", sa.Text),
    sa.Column("audio", sa.Text),
    sa.Column("video", sa.Text),
    sa.Column("brand", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("price", sa.Double),
    sa.Column("currency", sa.Text),
    sa.Column("available", sa.Boolean, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("properties", sa.Text),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("items_by_revision", "revision"),
)
"""The fields of `momentary.types.Item`, `properties` as JSON text, whether it was deleted, and the
revision of the items that its last change made.

A deleted item leaves a row without content, a tombstone: an item that has no row counts as
available, because events may name items that nobody has described.
"""

REVISIONS = sa.Table(
    "revisions",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
"""How often what processes follow was changed: "items", "vectors", "models", "erasures"."""

_OWN = ("deleted", "revision")
_FIELDS = tuple(name for name in ITEMS.columns.keys() if name not in _OWN)  # noqa: SIM118
_TABLE_FIELDS = (
    *("item_id", "name", "price", "available", "hidden", "deleted"),
    *("brand", "category", "group_id", "properties"),
)
_Row = Sequence[Any]
_UNKNOWN: _Row = (None, None, None, True, False, False, None, None, None, None)
_TOMBSTONE = {name: None for name in _FIELDS} | {"available": False, "hidden": True}
_THERE = sa.not_(ITEMS.c.deleted)
_ITEM = sa.select(*(ITEMS.c[name] for name in _FIELDS)).where(_THERE)
_BATCH = 5000
_LOOKUP = 500


class Changes(NamedTuple):
    """What changed in the catalogue.

    Attributes:
        revision: Of the items; they may be newer than it says, never older.
        items: Item by id, None for one that was deleted.
        more: Whether more changed than was asked for.
    """

    revision: int
    items: dict[str, Item | None]
    more: bool


class Catalog:
    """Reads and writes items.

    Args:
        engine: A database that holds the table `items`; a `Workspace` makes one.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def upsert(self, items: Iterable[Item]) -> int:
        """Add items, or replace those whose id is known, all of them or none.

        Returns:
            How many items were given.

        Raises:
            DataError: If the database cannot be written, such as while an import is at it.
        """
        with writing(self.engine) as connection:
            return upsert_rows(connection, map(_row, items))

    def get(self, item_id: str) -> Item | None:
        """The item, or None when the catalogue does not know it."""
        with self._read() as connection:
            query = _ITEM.where(ITEMS.c.item_id == item_id)
            found = connection.execute(query).mappings().first()
        return None if found is None else _item(found)

    def delete(self, item_id: str) -> bool:
        """Forget an item and remember that it is gone; False when it was not there.

        Until it is put again, `table` says that it may be on no list, even if it never was there.

        Raises:
            DataError: If the database cannot be written, such as while an import is at it.
        """
        with writing(self.engine) as connection:
            query = sa.select(ITEMS.c.item_id).where(ITEMS.c.item_id == item_id, _THERE)
            was_there = connection.execute(query).first() is not None
            upsert_rows(connection, [{**_TOMBSTONE, "item_id": item_id}], deleted=True)
        return was_there

    def count(self) -> int:
        """How many items there are."""
        query = sa.select(sa.func.count()).select_from(ITEMS).where(_THERE)
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    def items(self) -> Iterator[Item]:
        """Every item, by ascending id."""
        with self._read() as connection:
            for row in connection.execute(_ITEM.order_by(ITEMS.c.item_id)).mappings():
                yield _item(row)

    def revisions(self) -> dict[str, int]:
        """How often each topic was changed; one that never was is missing.

        Raises:
            StorageError: If the database does not answer.
        """
        with self._read() as connection:
            rows = connection.execute(sa.select(REVISIONS.c.topic, REVISIONS.c.revision))
            return {topic: int(revision) for topic, revision in rows}

    def changes(self, since: int, *, most: int) -> Changes:
        """The items that were changed after a revision; the first `most` of them.

        Raises:
            StorageError: If the database does not answer.
        """
        after = sa.select(ITEMS.c.item_id).where(ITEMS.c.revision > since)
        after = after.order_by(ITEMS.c.revision, ITEMS.c.item_id).limit(most + 1)
        with self._read() as connection:
            revision = topic_revision(connection, ITEMS.name)
            ids = list(connection.execute(after).scalars())
            more, ids = len(ids) > most, ids[:most]
            known = {
                row["item_id"]: _item(row)
                for start in range(0, len(ids), _LOOKUP)
                for row in connection.execute(
                    _ITEM.where(ITEMS.c.item_id.in_(ids[start : start + _LOOKUP]))
                ).mappings()
            }
        items = {item_id: known.get(item_id) for item_id in ids}
        return Changes(revision=revision, items=items, more=more)

    def table(self, ids: Sequence[str]) -> ItemTable:
        """The catalogue as columns in the order of `ids`.

        Items that the catalogue does not know have no name, no price and no attributes, and are
        available. Deleted items are hidden, and hidden items are not available.
        """
        revision, known = self._known(ids)
        rows = [known.get(item_id, _UNKNOWN) for item_id in ids]
        empty: list[_Row] = [()] * len(_UNKNOWN)
        _, names, prices, *flags = (list(zip(*rows, strict=True)) or empty)[:6]
        available, hidden, deleted = (np.array(flag, dtype=np.bool_) for flag in flags)
        return ItemTable(
            item_ids=_objects(ids),
            names=_objects(names),
            price=np.array(prices, dtype=np.float64),
            available=available & ~hidden,
            attributes=_attributes(rows),
            hidden=hidden,
            deleted=deleted,
            revision=revision,
        )

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            raise StorageError(
                f"the catalogue cannot be read ({said}); see to its database."
            ) from error

    def _known(self, ids: Sequence[str]) -> tuple[int, dict[str, _Row]]:
        """The revision, and rows by id that are no older.

        Past a few hundred ids, one scan is faster than many lookups.
        """
        query = sa.select(*(ITEMS.c[name] for name in _TABLE_FIELDS))
        if len(ids) <= _LOOKUP:
            query = query.where(ITEMS.c.item_id.in_(list(ids)))
        with self._read() as connection:
            revision = topic_revision(connection, ITEMS.name)
            return revision, {row[0]: row for row in connection.execute(query)}


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction on the catalogue.

    Raises:
        DataError: If the database cannot be written, or cannot hold a value.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.OperationalError as error:
        raise DataError(
            f"the catalogue cannot be written ({error.orig}); try again later, because an "
            "import holds it until it ends."
        ) from error
    except sa.exc.DBAPIError as error:
        raise DataError(f"the catalogue cannot hold a value ({error.orig}); mend it.") from error


def upsert_rows(
    connection: sa.Connection, rows: Iterable[dict[str, Any]], *, deleted: bool = False
) -> int:
    """Upsert rows of the table `items` inside the caller's transaction; how many there were.

    Args:
        connection: In a transaction.
        rows: The fields of `momentary.types.Item`, `properties` as JSON text.
        deleted: Whether the rows are tombstones; others bring a deleted item back.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        return 0
    remaining = chain([first], remaining)
    # From here on other writers wait, so that a later revision is of a later change.
    revision = next_revision(connection, ITEMS.name)
    insert = insert_into(ITEMS, connection.dialect).values(deleted=deleted, revision=revision)
    replaced = {name: insert.excluded[name] for name in (*_FIELDS, *_OWN) if name != "item_id"}
    statement = insert.on_conflict_do_update(index_elements=["item_id"], set_=replaced)
    done = 0
    while batch := list(islice(remaining, _BATCH)):
        # PostgreSQL refuses to touch one row twice in a statement: the last one counts.
        unique = {row["item_id"]: row for row in batch}
        connection.execute(statement, list(unique.values()))
        done += len(batch)
    return done


def next_revision(connection: sa.Connection, topic: str) -> int:
    """Begin a change of a topic, one process at a time until the transaction ends."""
    insert = insert_into(REVISIONS, connection.dialect).values(topic=topic, revision=1)
    statement = insert.on_conflict_do_update(
        index_elements=["topic"], set_={"revision": REVISIONS.c.revision + 1}
    )
    return int(connection.execute(statement.returning(REVISIONS.c.revision)).scalar_one())


def topic_revision(connection: sa.Connection, topic: str) -> int:
    """How often a topic was changed."""
    query = sa.select(REVISIONS.c.revision).where(REVISIONS.c.topic == topic)
    return int(connection.execute(query).scalar() or 0)


def insert_into(table: sa.Table, dialect: sa.Dialect) -> sqlite.Insert | postgresql.Insert:
    """How a database inserts or replaces."""
    if dialect.name == "sqlite":
        return sqlite.insert(table)
    # Only a catalogue in PostgreSQL pays for its dialect.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _row(item: Item) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in _FIELDS}
    if item.properties is not None:
        row["properties"] = msgspec.json.encode(item.properties).decode()
    return row


def _item(row: sa.RowMapping) -> Item:
    fields = dict(row)
    if fields["properties"] is not None:
        fields["properties"] = msgspec.json.decode(fields["properties"])
    return Item(**fields)


def _objects(values: Sequence[object]) -> ObjectArray:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def _attributes(rows: Sequence[_Row]) -> dict[str, ObjectArray]:
    """Brand, category, group and the scalar properties as strings, None where unknown."""
    own = _TABLE_FIELDS[6:9]
    columns: dict[str, list[str | None]] = {
        name: [row[6 + place] for row in rows] for place, name in enumerate(own)
    }
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for place, row in enumerate(rows):
        if row[9] is None:
            continue
        for name, value in decode(row[9]).items():
            if name in own or not isinstance(value, (str, int, float)):
                continue
            if name not in columns:
                columns[name] = [None] * len(rows)
            columns[name][place] = value if type(value) is str else _word(value)
    return {name: _objects(values) for name, values in columns.items()}


def _word(value: str | float) -> str:
    """A scalar property as text; bools as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
