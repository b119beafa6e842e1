"""The items that can be recommended, in SQL (SQLite or PostgreSQL)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from momentary.types import Item, ItemTable, ObjectArray

METADATA = sa.MetaData()

ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("item_id", sa.Text, primary_key=True),
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
)
"""The fields of `momentary.types.Item`; `properties` is JSON text."""

_FIELDS = tuple(column.name for column in ITEMS.columns)
_TABLE_FIELDS = (
    *("name", "price", "available", "hidden"),
    *("brand", "category", "group_id", "properties"),
)
_Row = tuple[Any, ...]
_UNKNOWN: _Row = (None, None, True, False, None, None, None, None)
_BATCH = 5000
_LOOKUP = 500
_INSERTS: dict[str, Callable[[sa.Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


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
        """
        with self.engine.begin() as connection:
            return upsert_rows(connection, map(_row, items))

    def get(self, item_id: str) -> Item | None:
        """The item, or None when the catalogue does not know it."""
        with self.engine.connect() as connection:
            query = sa.select(ITEMS).where(ITEMS.c.item_id == item_id)
            found = connection.execute(query).mappings().first()
        return None if found is None else _item(found)

    def delete(self, item_id: str) -> bool:
        """Forget an item; False when it was not there."""
        with self.engine.begin() as connection:
            done = connection.execute(sa.delete(ITEMS).where(ITEMS.c.item_id == item_id))
        return done.rowcount > 0

    def count(self) -> int:
        """How many items there are."""
        with self.engine.connect() as connection:
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(ITEMS)).scalar_one()
            )

    def items(self) -> Iterator[Item]:
        """Every item, by ascending id."""
        with self.engine.connect() as connection:
            query = sa.select(ITEMS).order_by(ITEMS.c.item_id)
            for row in connection.execute(query).mappings():
                yield _item(row)

    def table(self, ids: Sequence[str]) -> ItemTable:
        """The catalogue as columns in the order of `ids`.

        Items that the catalogue does not know have no name, no price and no attributes, and are
        available; hidden items are not available.
        """
        known = self._known(ids)
        rows = [known.get(item_id, _UNKNOWN) for item_id in ids]
        names, prices, available, hidden, *_ = zip(*rows, strict=True) if rows else [()] * 8
        return ItemTable(
            item_ids=_objects(ids),
            names=_objects(names),
            price=np.array(prices, dtype=np.float64),
            available=np.array(available, dtype=np.bool_) & ~np.array(hidden, dtype=np.bool_),
            attributes=_attributes(rows),
        )

    def _known(self, ids: Sequence[str]) -> dict[str, _Row]:
        """Rows by id; past a few hundred, one scan is faster than many lookups."""
        query = sa.select(ITEMS.c.item_id, *(ITEMS.c[name] for name in _TABLE_FIELDS))
        if len(ids) <= _LOOKUP:
            query = query.where(ITEMS.c.item_id.in_(list(ids)))
        with self.engine.connect() as connection:
            found = connection.execute(query).all()
        return {item_id: tuple(row) for item_id, *row in found}


def upsert_rows(connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> int:
    """Upsert rows of the table `items` inside the caller's transaction; how many there were."""
    insert = _INSERTS[connection.dialect.name](ITEMS)
    replaced = {name: insert.excluded[name] for name in _FIELDS if name != "item_id"}
    statement = insert.on_conflict_do_update(index_elements=["item_id"], set_=replaced)
    remaining = iter(rows)
    done = 0
    while batch := list(islice(remaining, _BATCH)):
        # PostgreSQL refuses to touch one row twice in a statement: the last one counts.
        unique = {row["item_id"]: row for row in batch}
        connection.execute(statement, list(unique.values()))
        done += len(batch)
    return done


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
    own = _TABLE_FIELDS[4:7]
    columns: dict[str, list[str | None]] = {
        name: [row[4 + place] for row in rows] for place, name in enumerate(own)
    }
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for place, row in enumerate(rows):
        if row[7] is None:
            continue
        for name, value in decode(row[7]).items():
            if name in own or not isinstance(value, (str, int, float)):
                continue
            if name not in columns:
                columns[name] = [None] * len(rows)
            columns[name][place] = value if type(value) is str else _word(value)
    return {name: _objects(values) for name, values in columns.items()}


def _word(value: str | float) -> str:
    """A scalar property as text; bools as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
