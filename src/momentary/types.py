"""The nouns that every room shares: events, items, sessions, recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
TypeArray = NDArray[np.int8]
ObjectArray = NDArray[np.object_]

EVENT_TYPES = (
    "view_item",
    "view_item_list",
    "select_item",
    "add_to_cart",
    "remove_from_cart",
    "view_cart",
    "purchase",
    "refund",
    "rate",
    "review",
    "share",
    "search",
)
"""GA4's names for what a visitor does."""

INTEREST_TYPES = ("view_item", "select_item", "add_to_cart", "purchase", "rate", "review", "share")
"""The event types that say what a visitor wants: models learn from these by default."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that one visitor did with one item.

    Attributes:
        item_id: The item, as the outside world names it.
        event_type: One of `EVENT_TYPES`.
        timestamp_us: When, in microseconds since 1970-01-01 UTC.
        event_id: Names the event; sending it twice counts once.
        user_id: A visitor who is known.
        anonymous_id: A visitor known only by a cookie or a device.
        session_id: The visit, if the sender cuts visits itself.
        value: What the event is worth, or a rating.
        recommendation_id: The answer that showed the item, if one did.
        position: Where on the list the item stood, from 0.
        properties: Anything else.
    """

    item_id: str
    event_type: str
    timestamp_us: int
    event_id: str
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    value: float | None = None
    price: float | None = None
    currency: str | None = None
    quantity: float | None = None
    recommendation_id: str | None = None
    position: int | None = None
    properties: dict[str, Any] | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that can be recommended; the fields are those of schema.org's Product.

    Attributes:
        image: Path or URL of a picture; audio and video alike. Nothing is fetched by storing it.
        group_id: Joins the variants of one product.
        available: False while it cannot be had.
        hidden: True keeps it out of every recommendation.
    """

    item_id: str
    group_id: str | None = None
    name: str | None = None
    description: str | None = None
    image: str | None = None
    audio: str | None = None
    video: str | None = None
    brand: str | None = None
    category: str | None = None
    price: float | None = None
    currency: str | None = None
    available: bool = True
    hidden: bool = False
    properties: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Item sequences stored end to end, oldest event of a session first.

    Attributes:
        items: Item indices, 0 .. n_items-1. Shape (events,).
        offsets: Session s is `items[offsets[s]:offsets[s + 1]]`. Shape (sessions + 1,).
        times_us: Microseconds since 1970, ascending inside a session. Shape (events,).
        users: Index of the visitor, -1 where unknown. Shape (sessions,).
        types: Place of each event's type in `EVENT_TYPES`, -1 where unknown; None: nobody knows
            any. Shape (events,).
    """

    items: IntArray
    offsets: IntArray
    times_us: IntArray
    users: IntArray
    types: TypeArray | None = None

    def __post_init__(self) -> None:
        if len(self.items) != len(self.times_us):
            raise ValueError(
                f"{len(self.items)} items but {len(self.times_us)} times; each event has both."
            )
        if self.types is not None and len(self.types) != len(self.items):
            raise ValueError(
                f"{len(self.items)} items but {len(self.types)} types; name one an event, -1 where "
                "it is unknown, or leave types out."
            )
        if len(self.offsets) != len(self.users) + 1:
            raise ValueError(
                f"{len(self.offsets)} offsets but {len(self.users)} users; "
                "offsets hold one more than there are sessions."
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items):
            raise ValueError(
                f"offsets run from {self.offsets[0]} to {self.offsets[-1]}; "
                f"they must run from 0 to the number of events, {len(self.items)}."
            )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> IntArray:
        """Events in each session. Shape (sessions,)."""
        return np.diff(self.offsets)

    @property
    def last_times_us(self) -> IntArray:
        """Time of each session's last event, 0 for an empty session. Shape (sessions,)."""
        last = np.zeros(len(self), dtype=np.int64)
        filled = self.lengths > 0
        last[filled] = self.times_us[self.offsets[1:][filled] - 1]
        return last

    def session(self, row: int) -> IntArray:
        """Items of one session, oldest first."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: IntArray) -> Sessions:
        """The sessions at `rows`, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[rows], lengths)
        return Sessions(
            items=self.items[events],
            offsets=offsets,
            times_us=self.times_us[events],
            users=self.users[rows],
            types=None if self.types is None else self.types[events],
        )

    def keep(self, kept: BoolArray) -> Sessions:
        """All sessions, without the events that are not `kept`. Shape (events,).

        >>> Sessions.from_lists([[3, 1], [2]]).keep(np.array([True, False, False])).offsets.tolist()
        [0, 1, 1]
        """
        before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return Sessions(
            items=self.items[kept],
            offsets=before[self.offsets],
            times_us=self.times_us[kept],
            users=self.users,
            types=None if self.types is None else self.types[kept],
        )

    @classmethod
    def from_lists(
        cls,
        sessions: Sequence[Sequence[int] | IntArray],
        *,
        times_us: Sequence[Sequence[int] | IntArray] | None = None,
        users: Sequence[int] | IntArray | None = None,
        types: Sequence[Sequence[int] | IntArray] | None = None,
    ) -> Sessions:
        """Join lists of item indices; without times, event i of the whole happens at second i.

        >>> Sessions.from_lists([[3, 1], [], [2]]).offsets.tolist()
        [0, 2, 2, 3]
        """
        lengths = [len(session) for session in sessions]
        total = sum(lengths)
        return cls(
            items=_joined(sessions, total),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            times_us=(
                np.arange(total, dtype=np.int64) * 1_000_000
                if times_us is None
                else _joined(times_us, total)
            ),
            users=(
                np.full(len(lengths), -1, dtype=np.int64)
                if users is None
                else np.asarray(users, dtype=np.int64)
            ),
            types=None if types is None else _joined(types, total).astype(np.int8),
        )


def _joined(parts: Sequence[Sequence[int] | IntArray], total: int) -> IntArray:
    joined = np.empty(total, dtype=np.int64)
    start = 0
    for part in parts:
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTable:
    """The catalogue as columns, one row an item, in the order of a model's item indices.

    Attributes:
        item_ids: Outside ids. Shape (items,).
        names: Titles, None where unknown. Shape (items,).
        price: NaN where unknown. Shape (items,).
        available: False while an item cannot be had, is hidden or was deleted. Shape (items,).
        attributes: Columns of strings by name (brand, category, group_id and the scalar
            properties), None where unknown. Each of shape (items,).
        hidden: True keeps an item off every list, whatever the rules say; a deleted item is
            hidden, too. None: no item is. Shape (items,).
        deleted: True where the catalogue has deleted the item. None: no item is. Shape (items,).
        revision: Of the catalogue when this was read; rows may be newer, never older. -1 where it
            comes from no catalogue.
    """

    item_ids: ObjectArray
    names: ObjectArray
    price: NDArray[np.float64]
    available: BoolArray
    attributes: Mapping[str, ObjectArray]
    hidden: BoolArray | None = None
    deleted: BoolArray | None = None
    revision: int = -1

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def unknown(cls, ids: Sequence[str]) -> ItemTable:
        """The table of items of which nothing but the ids is known; all of them are available.

        >>> ItemTable.unknown(["tea", "milk"]).available.tolist()
        [True, True]
        """
        item_ids = np.empty(len(ids), dtype=np.object_)
        item_ids[:] = ids
        return cls(
            item_ids=item_ids,
            names=np.full(len(ids), None, dtype=np.object_),
            price=np.full(len(ids), np.nan),
            available=np.ones(len(ids), dtype=np.bool_),
            attributes={},
        )

    def with_row(self, index: int, row: ItemTable) -> ItemTable:
        """The table with one item's facts replaced; columns that stay the same are shared.

        A new attribute appears; one that no item has any more, and `row` does not name, goes.

        Args:
            index: Which item, from 0.
            row: The facts: a table of that item alone.

        Raises:
            ValueError: If there is no such index, or `row` is not one row of that item.
        """
        if not 0 <= index < len(self):
            raise ValueError(f"index is {index}; the table has {len(self)} items, from 0.")
        if row.item_ids.tolist() != [self.item_ids[index]]:
            raise ValueError(
                f"row holds {row.item_ids.tolist()}; give {self.item_ids[index]!r} alone, which is "
                f"item {index}."
            )
        return ItemTable(
            item_ids=self.item_ids,
            names=_with(self.names, index, row.names[0]),
            price=_with(self.price, index, row.price[0]),
            available=_with(self.available, index, row.available[0]),
            attributes=_attributes_with(self.attributes, index, row.attributes, n_items=len(self)),
            hidden=_mask_with(self.hidden, index, row.hidden, n_items=len(self)),
            deleted=_mask_with(self.deleted, index, row.deleted, n_items=len(self)),
            revision=self.revision,
        )

    def holds(self, index: int, row: ItemTable) -> bool:
        """Whether one item's facts are those of a table of that item alone."""
        prices = self.price[index], row.price[0]
        same_price = prices[0] == prices[1] or bool(np.isnan(prices).all())
        flags = zip((self.hidden, self.deleted), (row.hidden, row.deleted), strict=True)
        own = {name: column[index] for name, column in self.attributes.items()}
        other = {name: column[0] for name, column in row.attributes.items()}
        return (
            same_price
            and self.names[index] == row.names[0]
            and bool(self.available[index] == row.available[0])
            and all(
                (mine is not None and bool(mine[index])) == (its is not None and bool(its[0]))
                for mine, its in flags
            )
            and all(own.get(name) == other.get(name) for name in (*own, *other))
        )


def _with(column: NDArray[Any], index: int, value: object) -> NDArray[Any]:
    # NaN, an unknown price, equals nothing: such a column is copied, which is harmless.
    if column[index] == value:
        return column
    changed = column.copy()
    changed[index] = value
    return changed


def _mask_with(
    mask: BoolArray | None, index: int, row: BoolArray | None, *, n_items: int
) -> BoolArray | None:
    value = row is not None and bool(row[0])
    if mask is None:
        return _with(np.zeros(n_items, dtype=np.bool_), index, value) if value else None
    return _with(mask, index, value)


def _attributes_with(
    columns: Mapping[str, ObjectArray],
    index: int,
    row: Mapping[str, ObjectArray],
    *,
    n_items: int,
) -> dict[str, ObjectArray]:
    changed: dict[str, ObjectArray] = {}
    for name in dict.fromkeys((*columns, *row)):
        before = columns[name] if name in columns else np.full(n_items, None, dtype=np.object_)
        after = _with(before, index, row[name][0] if name in row else None)
        if name in row or after is before or any(value is not None for value in after):
            changed[name] = after
    return changed


class Recommendation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One item of an answer.

    Attributes:
        rank: Place on the list, from 1.
        score: Higher is better; comparable inside one answer only.
        reasons: Plain sentences, true of the data the model learned from.
        propensity: The chance that the item had to stand there, given those above it; below 1
            only where places are left to chance.
    """

    item_id: str
    score: float
    rank: int
    reasons: tuple[str, ...] = ()
    propensity: float = 1.0


class Progress(Protocol):
    """Told how far long work has come; the command line draws it."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps are finished; `note` is a few words, such as the loss."""
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """A `Progress` that says nothing."""
