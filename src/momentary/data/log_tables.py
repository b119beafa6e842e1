"""The tables of an event log, written down once for every database."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

METADATA = sa.MetaData()

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", _SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text),
    sa.Column("anonymous_id", sa.Text),
    sa.Column("session_id", sa.Text),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("timestamp_us", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("price", sa.Double),
    sa.Column("currency", sa.Text),
    sa.Column("quantity", sa.Double),
    sa.Column("recommendation_id", sa.Text),
    sa.Column("position", sa.BigInteger),
    sa.Column("properties", sa.Text),
)
"""`seq` is the order of arrival."""

EXPOSURES = sa.Table(
    "exposures",
    METADATA,
    sa.Column("seq", _SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("recommendation_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text),
    sa.Column("anonymous_id", sa.Text),
    sa.Column("session_id", sa.Text),
    sa.Column("items", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("timestamp_us", sa.BigInteger, nullable=False),
)
"""Written with every answer and searched seldom, so there is no further index to keep.

As they were at first; the chance of each place, a JSON array or nothing, came later: see `_STEPS`.
"""

MOVED = sa.Table(
    "moved",
    METADATA,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("moved_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Ids of events that compaction took out of the log, so that they still count once."""

PULSE = sa.Table(
    "pulse",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("beats", sa.BigInteger, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
)
"""One row: what tells this log from all others, and what is written to find out whether the log
takes writes again: a number, and a ballast that needs as much room as a tick's events."""


def _by_arrival(column: str) -> ExecutableDDLElement:
    """Finds the last events of one id without sorting; SQLite's indexes end in `seq` anyway.

    Written out, because an index with a condition for PostgreSQL loads all of its dialect.
    """
    name = f"events_{column.removesuffix('_id')}"
    where = f"{column} IS NOT NULL"
    statement: sa.DDL = sa.DDL(  # type: ignore[no-untyped-call]
        f"CREATE INDEX {name} ON events ({column}, seq) WHERE {where}"
    )
    return statement


_TIME = sa.Index("events_time", EVENTS.c.timestamp_us)
_IDS = [_by_arrival(name) for name in ("session_id", "user_id", "anonymous_id")]
_SHOWN_TIME = sa.Index("exposures_time", EXPOSURES.c.timestamp_us)
_MOVED_TIME = sa.Index("moved_time", MOVED.c.moved_us)

_CHANCES: sa.DDL = sa.DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE exposures ADD COLUMN propensities TEXT"
)

_BALLAST: sa.DDL = sa.DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE pulse ADD COLUMN ballast TEXT"
)

_STEPS: tuple[tuple[ExecutableDDLElement, ...], ...] = (
    (CreateTable(EVENTS), CreateIndex(_TIME), *_IDS, CreateTable(EXPOSURES)),
    (
        CreateTable(MOVED),
        CreateIndex(_MOVED_TIME),
        CreateTable(PULSE),
    ),
    (_CHANCES,),
    (CreateIndex(_SHOWN_TIME), _BALLAST),
)
_WITH_PULSE = 2
VERSION = len(_STEPS)
"""The version of the tables that this momentary writes."""


def upgrade(version: int, execute: Callable[[str], object], dialect: sa.Dialect) -> None:
    """Bring the tables from `version` (0: none) to `VERSION`.

    Args:
        version: Of the tables that are there, at most `VERSION`.
        execute: Runs one statement in the caller's transaction.
        dialect: Of the database.
    """
    for step in _STEPS[version:]:
        for statement in step:
            execute(str(statement.compile(dialect=dialect)))
    if version < _WITH_PULSE:
        name = uuid.uuid4().hex
        execute(f"INSERT INTO pulse (id, beats, identity) VALUES (1, 0, '{name}')")
