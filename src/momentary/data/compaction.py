"""Move old events and answers from the live log to Parquet segments, losing and doubling nothing.

The rows are written to segments first, which one transaction lists; only then the log lets them
go, piece by piece, so that a service which is writing waits for milliseconds. Between the two
steps a row is in both places, and every reader counts it once; after a crash there, the next
compaction finds its rows listed and only lets them go.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from momentary.data.events import EventLog, new_id
from momentary.data.scratch import scratch
from momentary.data.segments import Segment, place_segments, sweep_segments, write_segments
from momentary.data.workspace import (
    BUCKET_SQL,
    EXPOSURE_SCHEMA,
    IMPORTS,
    LOCK_WAIT_S,
    LOG_SCHEMA,
    SEGMENTS,
    VIEW_SCHEMA,
    VISITOR_SQL,
    Workspace,
    parquet_sql,
    sql_text,
    table_of,
)

if TYPE_CHECKING:
    import duckdb

DAY_US = 86_400_000_000
_READ_AT_ONCE = 20_000
_DROPPED_AT_ONCE = 500
_PAUSE_S = 0.002


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction did.

    Attributes:
        events: Events that left the live log.
        exposures: Answers that did.
        segments: Files that were written.
        forgotten_ids: Ids of events moved long ago, which count as new from now on.
    """

    events: int = 0
    exposures: int = 0
    segments: int = 0
    forgotten_ids: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How one of the log's two tables becomes segments.

    Attributes:
        name: Of the table and of the folder of segments.
        log: Columns in the log.
        stored: Columns of a segment.
        key: What names a row.
        drop: Lets rows of the log go.
    """

    name: str
    log: pa.Schema
    stored: Sequence[str]
    key: str
    drop: Callable[[EventLog, Sequence[str]], None]


def compact(
    workspace: Workspace,
    *,
    now_us: int,
    keep_days: int = 14,
    idempotency_days: int = 30,
    wait_s: float = LOCK_WAIT_S,
) -> Compacted:
    """Move what is older than `keep_days` by its own time; a service may run meanwhile.

    Args:
        workspace: Whose log.
        now_us: The time now, in microseconds since 1970.
        keep_days: What is younger stays in the live log.
        idempotency_days: Ids of events that were moved longer ago are forgotten.
        wait_s: How long to wait for an import, an erasure or another compaction to end.

    Raises:
        SettingsError: If another holds the workspace for longer than `wait_s`.
        StorageError: If the log gives or takes nothing.
    """
    if not workspace.database.has_log():
        return Compacted()
    before_us = now_us - keep_days * DAY_US

    def drop_events(log: EventLog, ids: Sequence[str]) -> None:
        log.drop_events(ids, now_us=now_us)

    kinds = (
        _Kind(
            name="events",
            log=LOG_SCHEMA,
            stored=VIEW_SCHEMA.names,
            key="event_id",
            drop=drop_events,
        ),
        _Kind(
            name="exposures",
            log=EXPOSURE_SCHEMA,
            stored=[*EXPOSURE_SCHEMA.names, "bucket"],
            key="recommendation_id",
            drop=EventLog.drop_exposures,
        ),
    )
    staging = workspace.root / "staging" / "compaction"
    with (
        workspace.exclusive("import", wait_s=wait_s),
        closing(workspace.open_log()) as log,
    ):
        sweep_segments(workspace)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        moved = [
            _move(workspace, log, kind, staging=staging, before_us=before_us, now_us=now_us)
            for kind in kinds
        ]
        forgotten = log.forget_moved(before_us=now_us - idempotency_days * DAY_US)
        shutil.rmtree(staging)
    (events, event_files), (exposures, exposure_files) = moved
    return Compacted(
        events=events,
        exposures=exposures,
        segments=event_files + exposure_files,
        forgotten_ids=forgotten,
    )


def _move(
    workspace: Workspace,
    log: EventLog,
    kind: _Kind,
    *,
    staging: Path,
    before_us: int,
    now_us: int,
) -> tuple[int, int]:
    """Write the old rows of one table to segments, then let the log drop them.

    Returns:
        How many rows, and how many segments.
    """
    with scratch(staging / f"{kind.name}.duckdb") as connection:
        connection.execute(f"SET temp_directory = {sql_text(str(staging / 'spill'))}")
        _load(connection, log, kind, before_us=before_us)
        (rows,) = connection.execute("SELECT count(*) FROM staged").fetchall()[0]
        if not rows:
            return 0, 0
        _find_fresh(connection, workspace, kind)
        import_id = f"live-{new_id(now_us)}"
        segments = write_segments(
            connection,
            "fresh",
            staging=staging,
            import_id=import_id,
            kind=kind.name,
        )
        place_segments(workspace, staging, segments)
        if segments:
            _list(workspace, segments, import_id=import_id, now_us=now_us)
        for keys in _keys(connection, kind.key):
            kind.drop(log, keys)
            # A service that waits for the log gets its turn.
            time.sleep(_PAUSE_S)
    return rows, len(segments)


def _load(
    connection: duckdb.DuckDBPyConnection, log: EventLog, kind: _Kind, *, before_us: int
) -> None:
    """Fill the table `staged`; what a stranger was shown names nobody."""
    columns = ", ".join(kind.log.names)
    connection.register("given", kind.log.empty_table())
    named = f"SELECT *, coalesce({VISITOR_SQL}, 'n:') AS visitor FROM given"
    ready = (
        f"SELECT {', '.join(kind.stored)} FROM (SELECT *, {BUCKET_SQL} AS bucket FROM ({named}))"
    )
    connection.execute(f"CREATE TABLE staged AS {ready}")
    rows: Iterator[tuple[Any, ...]] = log.old(kind.name, columns, before_us=before_us)
    while part := list(islice(rows, _READ_AT_ONCE)):
        connection.register("given", table_of(part, kind.log))
        connection.execute(f"INSERT INTO staged {ready}")


def _find_fresh(connection: duckdb.DuckDBPyConnection, workspace: Workspace, kind: _Kind) -> None:
    """Fill the table `fresh`: the rows that no segment holds, as after a crash some may."""
    paths = workspace.segments(kind=kind.name)
    known = f"ANTI JOIN {parquet_sql(paths)} AS known USING ({kind.key})" if paths else ""
    connection.execute(f"CREATE TABLE fresh AS SELECT * FROM staged {known}")


def _list(workspace: Workspace, segments: list[Segment], *, import_id: str, now_us: int) -> None:
    rows = sum(int(part["events"]) for part in segments)
    with workspace.engine.begin() as database:
        database.execute(
            sa.insert(IMPORTS).values(
                import_id=import_id,
                kind="compaction",
                source="the live log",
                size_bytes=0,
                sha256="",
                rows_read=rows,
                rows_added=rows,
                rows_updated=0,
                duplicates=0,
                rejects=0,
                finished_us=now_us,
            )
        )
        database.execute(sa.insert(SEGMENTS), segments)


def _keys(connection: duckdb.DuckDBPyConnection, key: str) -> Iterator[list[str]]:
    """The names of all staged rows, some at a time."""
    names = connection.execute(f"SELECT {key} FROM staged ORDER BY {key}")
    while part := names.fetchmany(_DROPPED_AT_ONCE):
        yield [name for (name,) in part]
