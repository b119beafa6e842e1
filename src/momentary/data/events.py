"""The append-only event log: write, read, time range, erase.

A log lies in an SQLite file or in PostgreSQL (see `databases`). Next to the events stand the
exposures: what the server answered, with the arm and the propensity, so that bandits and off-policy
estimates need no second record. They are no `view_item_list` events, because those say what a page
truly showed, and only the page knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from momentary.data.databases import LogConnection, Transaction
from momentary.data.embedded import SqliteLog
from momentary.types import EVENT_TYPES, Event

IdColumn = Literal["session_id", "user_id", "anonymous_id"]
"""The columns that say who did something."""

_ROOM_BYTES = 65_536
_EVENT_COLUMNS = (
    "event_id, user_id, anonymous_id, session_id, item_id, event_type, timestamp_us, value, "
    "price, currency, quantity, recommendation_id, position, properties"
)
_ADD_EVENT = (
    f"INSERT INTO events ({_EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_EXPOSURE_COLUMNS = (
    "recommendation_id, user_id, anonymous_id, session_id, items, model_version, variant, "
    "propensity, timestamp_us, propensities"
)
_ADD_EXPOSURE = f"INSERT INTO exposures ({_EXPOSURE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer offered to one visitor.

    Attributes:
        items: The items, best first; an item's position is its place here, from 0.
        variant: The arm that answered.
        propensity: The chance that the arm had to give this answer, above 0 and up to 1.
        propensities: The chance of each item to stand on its place, given those above; their
            product is `propensity`. None where nothing was left to chance.
    """

    recommendation_id: str
    items: tuple[str, ...]
    model_version: str
    variant: str
    propensity: float
    timestamp_us: int
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    propensities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """The receipt of an erasure: rows that are gone."""

    events: int
    exposures: int


def new_id(now_us: int) -> str:
    """A name that nothing else has; names ascend with time, so that their index stays compact.

    >>> len(new_id(0))
    32
    """
    return f"{now_us:014x}{secrets.token_hex(9)}"


def new_ids(now_us: int, count: int) -> list[str]:
    """Several such names: chance comes cheaper by the dozen.

    >>> len(set(new_ids(0, 100)))
    100
    """
    digits = secrets.token_hex(9 * count)
    return [f"{now_us:014x}{digits[place : place + 18]}" for place in range(0, 18 * count, 18)]


class EventLog:
    """Events in the order in which they came, each `event_id` once.

    What `append` has returned survives a crash of the process and of the machine. One thread
    at a time may use a log; `read`, `exposures` and `counts` have connections of their own.

    Args:
        place: A connection from `Database.open_log`, or the path of an SQLite file, which is made
            if it is missing.

    Raises:
        DataError: The file is no event log, or cannot be opened.
    """

    def __init__(self, place: Path | LogConnection) -> None:
        self._log: LogConnection = SqliteLog(place) if isinstance(place, Path) else place

    def append(self, events: Sequence[Event], *, exposures: Sequence[Exposure] = ()) -> list[bool]:
        """Write all or nothing in one transaction, which is on the disk on return.

        Returns:
            For each event, False if its `event_id` was there already: then nothing changed.

        Raises:
            StorageError: The log cannot be written.
        """
        rows = [_event_row(event) for event in events]
        shown = [_exposure_row(exposure) for exposure in exposures]
        if not rows and not shown:
            return []

        def write(transaction: Transaction) -> list[bool]:
            moved = self._moved(transaction, [event.event_id for event in events])
            kept = [row for row in rows if row[0] not in moved] if moved else rows
            added = iter(transaction.add(_ADD_EVENT, kept) if kept else [])
            if shown:
                transaction.add(_ADD_EXPOSURE, shown)
            return [row[0] not in moved and next(added) for row in rows]

        return self._log.transact(write)

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """Those of `event_ids` that the log holds, or held until compaction moved them."""
        ids = self._log.members(event_ids)
        own, moved = self._log.among("event_id"), self._log.among("event_id")
        query = f"SELECT event_id FROM events WHERE {own} "
        query += f"UNION SELECT event_id FROM moved WHERE {moved}"
        return {event_id for (event_id,) in self._log.fetch(query, (ids, ids))}

    def check(self) -> None:
        """Find out whether the log takes writes, by writing as much as a tick may.

        Raises:
            StorageError: It does not.
        """
        beat = "UPDATE pulse SET beats = beats + 1, ballast = ?"

        def write(ballast: str | None) -> None:
            self._log.transact(lambda transaction: transaction.execute(beat, (ballast,)))

        write("x" * _ROOM_BYTES)
        write(None)

    @property
    def identity(self) -> str:
        """What tells this log from all others."""
        return str(self._log.fetch("SELECT identity FROM pulse")[0][0])

    def read(self, *, start_us: int | None = None, end_us: int | None = None) -> Iterator[Event]:
        """The events with `start_us` <= time < `end_us`, by time and then by arrival."""
        for row in self._scan("events", _EVENT_COLUMNS, start_us=start_us, end_us=end_us):
            yield _event(row)

    def exposures(
        self, *, start_us: int | None = None, end_us: int | None = None
    ) -> Iterator[Exposure]:
        """The exposures with `start_us` <= time < `end_us`, by time and then by arrival."""
        for row in self._scan("exposures", _EXPOSURE_COLUMNS, start_us=start_us, end_us=end_us):
            yield _exposure(row)

    def counts(
        self, *, start_us: int, end_us: int, event_types: Sequence[str] = EVENT_TYPES
    ) -> dict[str, int]:
        """Events by item with `start_us` <= time < `end_us`; may be called from any thread."""
        query = (
            "SELECT item_id, count(*) FROM events WHERE timestamp_us >= ? AND timestamp_us < ? "
            f"AND event_type IN ({', '.join('?' * len(event_types))}) GROUP BY item_id"
        )
        return dict(self._log.stream(query, (start_us, end_us, *event_types)))

    def exposure(self, recommendation_id: str) -> Exposure | None:
        """One answer, None if there is none of that name."""
        query = f"SELECT {_EXPOSURE_COLUMNS} FROM exposures WHERE recommendation_id = ?"
        rows = self._log.fetch(query, (recommendation_id,))
        return _exposure(rows[0]) if rows else None

    def recent(self, limit: int) -> list[Event]:
        """The last `limit` events in order of arrival, oldest first."""
        query = f"SELECT {_EVENT_COLUMNS} FROM events ORDER BY seq DESC LIMIT ?"
        return [_event(row) for row in reversed(self._log.fetch(query, (limit,)))]

    def history(
        self,
        column: IdColumn,
        value: str,
        *,
        limit: int,
        event_types: Sequence[str] = EVENT_TYPES,
    ) -> list[Event]:
        """The last `limit` events of one session or visitor in order of arrival, oldest first.

        Args:
            column: Which id `value` is.
            value: The session or visitor.
            limit: Most events.
            event_types: Only these count.
        """
        query = (
            f"SELECT {_EVENT_COLUMNS} FROM events WHERE {_id_column(column)} = ? "
            f"AND event_type IN ({', '.join('?' * len(event_types))}) ORDER BY seq DESC LIMIT ?"
        )
        rows = self._log.fetch(query, (value, *event_types, limit))
        return [_event(row) for row in reversed(rows)]

    @property
    def ordered(self) -> bool:
        """Whether a row that becomes visible later always has a higher number."""
        return isinstance(self._log, SqliteLog)

    def last(self) -> int:
        """Number of the newest event, 0 if there is none."""
        return int(self._log.fetch("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def between(self, after: int, until: int) -> list[Event]:
        """The events with `after` < number <= `until`, in order of arrival."""
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq"
        return [_event(row) for row in self._log.fetch(query, (after, until))]

    def arrivals(self, after: int, *, start_us: int) -> Iterator[tuple[int, Event]]:
        """Number and event of those with `after` < number and `start_us` <= time, by number.

        May be called from any thread.
        """
        query = (
            f"SELECT seq, {_EVENT_COLUMNS} FROM events WHERE seq > ? AND timestamp_us >= ? "
            "ORDER BY seq"
        )
        for number, *row in self._log.stream(query, (after, start_us)):
            yield number, _event(row)

    def count(self) -> int:
        """Events in the log."""
        return int(self._log.fetch("SELECT count(*) FROM events")[0][0])

    def erase(
        self,
        *,
        user_ids: Sequence[str] = (),
        anonymous_ids: Sequence[str] = (),
        session_ids: Sequence[str] = (),
        moved_ids: Sequence[str] = (),
    ) -> Erased:
        """Delete the events and exposures that carry any of these ids, down to the last byte.

        `moved_ids` are of events that compaction took out; the log forgets them, too.

        The tables are written anew, because pages keep stale copies of rows that once moved:
        deleting alone leaves them. That takes time in proportion to the log.

        Raises:
            ValueError: No id is given.
            StorageError: The log cannot be written.
        """
        given = {"user_id": user_ids, "anonymous_id": anonymous_ids, "session_id": session_ids}
        ids = [(column, values) for column, values in given.items() if values]
        if not ids:
            raise ValueError("erase was given no id; give user_ids, anonymous_ids or session_ids.")
        where = " OR ".join(self._log.among(column) for column, _ in ids)
        values = [self._log.members(each) for _, each in ids]

        moved = self._log.among("event_id")

        def delete(transaction: Transaction) -> Erased:
            transaction.execute(f"DELETE FROM moved WHERE {moved}", (self._log.members(moved_ids),))
            return Erased(
                events=transaction.execute(f"DELETE FROM events WHERE {where}", values),
                exposures=transaction.execute(f"DELETE FROM exposures WHERE {where}", values),
            )

        erased = self._log.transact(delete)
        self._log.rewrite()
        return erased

    def old(self, table: str, columns: str, *, before_us: int) -> Iterator[tuple[Any, ...]]:
        """Rows of `events` or `exposures` with time < `before_us`, as they came.

        The newest row is left out: a log that let it go would give its number to another.
        """
        newest = f"(SELECT max(seq) FROM {table})"
        query = f"SELECT {columns} FROM {table} WHERE timestamp_us < ? AND seq < {newest} "
        query += "ORDER BY seq"
        return self._log.stream(query, (before_us,))

    def old_count(self, *, before_us: int) -> int:
        """Events and exposures with time < `before_us`; may be called from any thread."""
        query = "SELECT (SELECT count(*) FROM events WHERE timestamp_us < ?) + "
        query += "(SELECT count(*) FROM exposures WHERE timestamp_us < ?)"
        ((count,),) = self._log.stream(query, (before_us, before_us))
        return int(count)

    def drop_events(self, event_ids: Sequence[str], *, now_us: int) -> None:
        """Let events go that a segment holds now; their ids still count once."""
        ids = self._log.members(event_ids)
        chosen = self._log.among("event_id")

        def drop(transaction: Transaction) -> None:
            transaction.execute(
                "INSERT INTO moved (event_id, moved_us) "
                f"SELECT event_id, {now_us:d} FROM events WHERE {chosen} "
                "ON CONFLICT (event_id) DO NOTHING",
                (ids,),
            )
            transaction.execute(f"DELETE FROM events WHERE {chosen}", (ids,))

        self._log.transact(drop)

    def drop_exposures(self, recommendation_ids: Sequence[str]) -> None:
        """Let answers go that a segment holds now."""
        chosen = self._log.among("recommendation_id")
        values = (self._log.members(recommendation_ids),)
        statement = f"DELETE FROM exposures WHERE {chosen}"
        self._log.transact(lambda transaction: transaction.execute(statement, values))

    def forget_moved(self, *, before_us: int) -> int:
        """Forget the ids of events that were moved before a time; how many."""
        statement = "DELETE FROM moved WHERE moved_us < ?"
        return self._log.transact(lambda each: each.execute(statement, (before_us,)))

    def close(self) -> None:
        """Let go of the log; closing twice is harmless."""
        self._log.close()

    def _moved(self, transaction: Transaction, event_ids: Sequence[str]) -> set[str]:
        """Those of `event_ids` that compaction took out of the log."""
        if not event_ids:
            return set()
        query = f"SELECT event_id FROM moved WHERE {self._log.among('event_id')}"
        found = transaction.fetch(query, (self._log.members(event_ids),))
        return {event_id for (event_id,) in found}

    def _scan(
        self, table: str, columns: str, *, start_us: int | None, end_us: int | None
    ) -> Iterator[tuple[Any, ...]]:
        bounds = [("timestamp_us >= ?", start_us), ("timestamp_us < ?", end_us)]
        given = [(clause, value) for clause, value in bounds if value is not None]
        where = "WHERE " + " AND ".join(clause for clause, _ in given) if given else ""
        query = f"SELECT {columns} FROM {table} {where} ORDER BY timestamp_us, seq"
        return self._log.stream(query, [value for _, value in given])


def _id_column(column: str) -> str:
    if column not in ("session_id", "user_id", "anonymous_id"):
        raise ValueError(f"{column!r} names nobody; use session_id, user_id or anonymous_id.")
    return column


def _event_row(event: Event) -> tuple[Any, ...]:
    properties = event.properties
    return (
        event.event_id,
        event.user_id,
        event.anonymous_id,
        event.session_id,
        event.item_id,
        event.event_type,
        event.timestamp_us,
        event.value,
        event.price,
        event.currency,
        event.quantity,
        event.recommendation_id,
        event.position,
        None if properties is None else msgspec.json.encode(properties).decode(),
    )


def _event(row: Iterable[Any]) -> Event:
    *fields, properties = row
    names = _EVENT_COLUMNS.split(", ")
    decoded = None if properties is None else msgspec.json.decode(properties)
    return Event(**dict(zip(names, [*fields, decoded], strict=True)))


def _exposure_row(exposure: Exposure) -> tuple[Any, ...]:
    chances = exposure.propensities
    return (
        exposure.recommendation_id,
        exposure.user_id,
        exposure.anonymous_id,
        exposure.session_id,
        msgspec.json.encode(exposure.items).decode(),
        exposure.model_version,
        exposure.variant,
        exposure.propensity,
        exposure.timestamp_us,
        None if chances is None else msgspec.json.encode(chances).decode(),
    )


def _exposure(row: Iterable[Any]) -> Exposure:
    columns = dict(zip(_EXPOSURE_COLUMNS.split(", "), row, strict=True))
    items = msgspec.json.decode(columns.pop("items"), type=tuple[str, ...])
    given = columns.pop("propensities")
    chances = None if given is None else msgspec.json.decode(given, type=tuple[float, ...])
    return Exposure(items=items, propensities=chances, **columns)
