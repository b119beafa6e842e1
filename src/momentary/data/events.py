"""The append-only event log: write, read, time range, erase.

A log is one SQLite file. Next to the events stand the exposures: what the server answered, with
the arm and the propensity, so that bandits and off-policy estimates need no second record. They
are no `view_item_list` events, because those say what a page truly showed, and only the page knows.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from momentary.errors import DataError
from momentary.types import EVENT_TYPES, Event

IdColumn = Literal["session_id", "user_id", "anonymous_id"]
"""The columns that say who did something."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    user_id TEXT,
    anonymous_id TEXT,
    session_id TEXT,
    item_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    timestamp_us BIGINT NOT NULL,
    value REAL,
    price REAL,
    currency TEXT,
    quantity REAL,
    recommendation_id TEXT,
    position INTEGER,
    properties TEXT
);
CREATE INDEX events_time ON events (timestamp_us);
CREATE INDEX events_session ON events (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX events_user ON events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX events_anonymous ON events (anonymous_id) WHERE anonymous_id IS NOT NULL;
CREATE TABLE exposures (
    seq INTEGER PRIMARY KEY,
    recommendation_id TEXT NOT NULL UNIQUE,
    user_id TEXT,
    anonymous_id TEXT,
    session_id TEXT,
    items TEXT NOT NULL,
    model_version TEXT NOT NULL,
    variant TEXT NOT NULL,
    propensity REAL NOT NULL,
    timestamp_us BIGINT NOT NULL
);
"""
# Exposures are written with every answer and searched seldom, so they have no index to keep.
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
    "propensity, timestamp_us"
)
_ADD_EXPOSURE = f"INSERT INTO exposures ({_EXPOSURE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer offered to one visitor.

    Attributes:
        items: The items, best first; an item's position is its place here, from 0.
        variant: The arm that answered.
        propensity: The chance that the arm had to give this answer, above 0 and up to 1.
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


class EventLog:
    """Events in the order in which they came, each `event_id` once.

    What `append` has returned survives a crash of the process and of the machine. One thread
    at a time may use a log; `read` and `exposures` have connections of their own.

    Args:
        path: The file; made if it is missing.

    Raises:
        DataError: The file is no event log, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = _connect(path)
        except sqlite3.Error as error:
            raise DataError(
                f"{path} cannot be opened as an event log ({error}); "
                "check that its folder exists and can be written."
            ) from error

    def append(self, events: Sequence[Event], *, exposures: Sequence[Exposure] = ()) -> list[bool]:
        """Write all or nothing in one transaction, which is on the disk on return.

        Returns:
            For each event, False if its `event_id` was there already: then nothing changed.
        """
        rows = [_event_row(event) for event in events]
        shown = [_exposure_row(exposure) for exposure in exposures]
        if not rows and not shown:
            return []
        with self._transaction() as execute:
            added = [execute(_ADD_EVENT, row).rowcount == 1 for row in rows]
            for row in shown:
                execute(_ADD_EXPOSURE, row)
        return added

    def known(self, event_ids: Sequence[str]) -> set[str]:
        """Those of `event_ids` that the log holds."""
        query = "SELECT event_id FROM events WHERE event_id IN (SELECT value FROM json_each(?))"
        found = self._connection.execute(query, (msgspec.json.encode(event_ids).decode(),))
        return {event_id for (event_id,) in found}

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
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return dict(connection.execute(query, (start_us, end_us, *event_types)).fetchall())

    def exposure(self, recommendation_id: str) -> Exposure | None:
        """One answer, None if there is none of that name."""
        query = f"SELECT {_EXPOSURE_COLUMNS} FROM exposures WHERE recommendation_id = ?"
        row = self._connection.execute(query, (recommendation_id,)).fetchone()
        return None if row is None else _exposure(row)

    def recent(self, limit: int) -> list[Event]:
        """The last `limit` events in order of arrival, oldest first."""
        query = f"SELECT {_EVENT_COLUMNS} FROM events ORDER BY seq DESC LIMIT ?"
        rows = self._connection.execute(query, (limit,)).fetchall()
        return [_event(row) for row in reversed(rows)]

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
        rows = self._connection.execute(query, (value, *event_types, limit)).fetchall()
        return [_event(row) for row in reversed(rows)]

    def count(self) -> int:
        """Events in the log."""
        (count,) = self._connection.execute("SELECT count(*) FROM events").fetchone()
        return int(count)

    def erase(
        self,
        *,
        user_ids: Sequence[str] = (),
        anonymous_ids: Sequence[str] = (),
        session_ids: Sequence[str] = (),
    ) -> Erased:
        """Delete the events and exposures that carry any of these ids, down to the last byte.

        The whole file is written anew, because pages keep stale copies of rows that once moved:
        deleting alone leaves them. That takes time in proportion to the log.

        Raises:
            ValueError: No id is given.
        """
        given = {"user_id": user_ids, "anonymous_id": anonymous_ids, "session_id": session_ids}
        ids = [(column, values) for column, values in given.items() if values]
        if not ids:
            raise ValueError("erase was given no id; give user_ids, anonymous_ids or session_ids.")
        where = " OR ".join(f"{column} IN (SELECT value FROM json_each(?))" for column, _ in ids)
        values = [msgspec.json.encode(list(each)).decode() for _, each in ids]
        with self._transaction() as execute:
            events = execute(f"DELETE FROM events WHERE {where}", values).rowcount
            exposures = execute(f"DELETE FROM exposures WHERE {where}", values).rowcount
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Erased(events=events, exposures=exposures)

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it; closing twice is harmless."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection.execute
            connection.execute("COMMIT")
        except BaseException:
            # A failed COMMIT may have ended the transaction already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _scan(
        self, table: str, columns: str, *, start_us: int | None, end_us: int | None
    ) -> Iterator[tuple[Any, ...]]:
        bounds = [("timestamp_us >= ?", start_us), ("timestamp_us < ?", end_us)]
        given = [(clause, value) for clause, value in bounds if value is not None]
        where = "WHERE " + " AND ".join(clause for clause, _ in given) if given else ""
        query = f"SELECT {columns} FROM {table} {where} ORDER BY timestamp_us, seq"
        # A connection of its own sees one moment of the log, however long the caller takes.
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            yield from connection.execute(query, [value for _, value in given])


def _connect(path: Path) -> sqlite3.Connection:
    # The server calls sqlite3 straight from its event loop: a thread or an async wrapper costs
    # more than the group commit itself, and requests of one tick wait for that commit anyway.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise DataError(
                f"{path} has version {version}, and this momentary knows versions up to "
                f"{_VERSION}; upgrade momentary."
            )
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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
    )


def _exposure(row: Iterable[Any]) -> Exposure:
    columns = dict(zip(_EXPOSURE_COLUMNS.split(", "), row, strict=True))
    items = msgspec.json.decode(columns.pop("items"), type=tuple[str, ...])
    return Exposure(items=items, **columns)
