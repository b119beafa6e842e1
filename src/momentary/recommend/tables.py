"""Tables of items behind each other."""

from __future__ import annotations

import numpy as np

from momentary.types import BoolArray, ItemTable, ObjectArray


def joined(table: ItemTable, more: ItemTable) -> ItemTable:
    """One table of two; an attribute that one of them lacks is unknown there.

    >>> joined(ItemTable.unknown(["tea"]), ItemTable.unknown(["milk"])).item_ids.tolist()
    ['tea', 'milk']
    """
    names = dict.fromkeys((*table.attributes, *more.attributes))
    return ItemTable(
        item_ids=np.concatenate([table.item_ids, more.item_ids]),
        names=np.concatenate([table.names, more.names]),
        price=np.concatenate([table.price, more.price]),
        available=np.concatenate([table.available, more.available]),
        attributes={
            name: np.concatenate([_column(each, name) for each in (table, more)]) for name in names
        },
        hidden=_flags(table.hidden, more.hidden, sizes=(len(table), len(more))),
        deleted=_flags(table.deleted, more.deleted, sizes=(len(table), len(more))),
        revision=min(table.revision, more.revision),
    )


def _column(table: ItemTable, name: str) -> ObjectArray:
    if name in table.attributes:
        return table.attributes[name]
    return np.full(len(table), None, dtype=np.object_)


def _flags(
    one: BoolArray | None, other: BoolArray | None, *, sizes: tuple[int, int]
) -> BoolArray | None:
    if one is None and other is None:
        return None
    parts = [
        np.zeros(size, dtype=np.bool_) if flags is None else flags
        for flags, size in zip((one, other), sizes, strict=True)
    ]
    return np.concatenate(parts)
