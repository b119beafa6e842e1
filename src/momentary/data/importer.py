"""Bring files into a workspace: all of a file or nothing, twice is once, killed is resumed.

The way of one file: its rows are staged as Parquet chunks with a journal, then cut into buckets
by visitor, freed of what is known already, and committed by one database transaction.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from momentary.data import formats
from momentary.data.catalog import ITEMS, upsert_rows, writing
from momentary.data.detection import detect
from momentary.data.formats import EVENT_SCHEMA, ITEM_SCHEMA, Chunk
from momentary.data.layouts import Layout
from momentary.data.rows import Cursor, Reject
from momentary.data.segments import Segment, place_segments, sweep_segments, write_segments
from momentary.data.workspace import (
    BUCKET_SQL,
    IMPORTS,
    LOCK_WAIT_S,
    SEGMENTS,
    VIEW_SCHEMA,
    VISITOR_SQL,
    Workspace,
    parquet_sql,
    sql_text,
)
from momentary.errors import DataError
from momentary.types import Progress, silent


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did.

    Attributes:
        rows: Rows read.
        events_added: New events, now part of the workspace.
        duplicates: Events that were there already, or twice in the file by their event id.
        items_added: Items that the catalogue did not know.
        items_updated: Items that it did.
        skipped: Rows without any item (page views), which are no mistake.
        rejects: Rows that cannot be read.
        reject_files: Where they are listed, a JSON object a line.
        seconds: How long it took.
    """

    rows: int = 0
    events_added: int = 0
    duplicates: int = 0
    items_added: int = 0
    items_updated: int = 0
    skipped: int = 0
    rejects: int = 0
    reject_files: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is imported, and under which name."""

    import_id: str
    kind: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A file to import; what was staged under its key can be used again."""

    path: Path
    layout: Layout
    sha256: str
    key: str


class _Staged(msgspec.Struct, frozen=True):
    """One line of the journal: a chunk that is safe on disk."""

    chunk: str
    rows: int
    kept: int
    rejects: int
    skipped: int
    offset: int
    lines: int


class _RejectLine(msgspec.Struct, frozen=True):
    line: int
    code: str
    reason: str
    raw: str


def import_files(
    workspace: Workspace,
    paths: Iterable[Path],
    *,
    layouts: Mapping[Path, Layout] | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> ImportReport:
    """Import files, each as a whole or not at all, in the order given.

    Args:
        workspace: Where to.
        paths: CSV, TSV, JSONL or Parquet files of events or of items.
        layouts: How to read a file; the others are detected.
        progress: Told the bytes (Parquet: rows) read of each file.
        clock: Seconds since 1970, for the record of the import.

    Raises:
        DataError: If a file cannot be read at all; files before it stay imported.
        SettingsError: If another import is running for longer than `LOCK_WAIT_S`.
    """
    chosen = dict(layouts or {})
    # Every file is looked at before the first one is imported.
    plans = [_plan(path, chosen.get(path) or detect(path)) for path in paths]
    total = ImportReport()
    with workspace.exclusive("import", wait_s=LOCK_WAIT_S):
        _sweep(workspace, keep={plan.key for plan in plans})
        for plan in plans:
            total = _sum(total, _import_file(workspace, plan, progress=progress, clock=clock))
    return total


def import_table(
    workspace: Workspace,
    table: pa.Table,
    *,
    kind: str,
    source: str,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> ImportReport:
    """Import a table that is in memory already, as a whole or not at all.

    Args:
        workspace: Where to.
        table: Columns of `EVENT_SCHEMA` or `ITEM_SCHEMA`; missing columns are null (items:
            available, not hidden).
        kind: "events" or "items".
        source: What to call it in the record of imports.
        progress: Told the buckets written.
        clock: Seconds since 1970, for the record of the import.

    Raises:
        DataError: If a column is unknown, or a required one is missing or null.
    """
    started = time.perf_counter()
    whole = _conformed(table, kind)
    key = _table_sha256(whole)
    with workspace.exclusive("import", wait_s=LOCK_WAIT_S):
        _sweep(workspace, keep=set())
        origin = _Source(
            import_id=_import_id(workspace, key[:16]),
            kind=kind,
            name=source,
            size=whole.nbytes,
            sha256=key,
        )
        staging = workspace.root / "staging" / key[:16]
        staging.mkdir(parents=True, exist_ok=True)
        tally = ImportReport(rows=whole.num_rows)
        commit = _Commit(workspace, origin, staging, clock=clock)
        if kind == "items":
            report = commit.items([whole], tally)
        else:
            report = commit.events(whole, tally, progress=progress)
        shutil.rmtree(staging)
    return msgspec.structs.replace(report, seconds=time.perf_counter() - started)


def _sum(left: ImportReport, right: ImportReport) -> ImportReport:
    names = ImportReport.__struct_fields__
    return ImportReport(**{name: getattr(left, name) + getattr(right, name) for name in names})


# --- staging ----------------------------------------------------------------------------------


def _plan(path: Path, layout: Layout) -> _Plan:
    """Refuse what cannot be read; name the rest by its content and the way it is read."""
    formats.read(path, layout)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    told = {name: getattr(layout, name) for name in Layout.__slots__}
    content = sha256 + msgspec.json.encode(told, order="sorted").decode()
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    return _Plan(path=path, layout=layout, sha256=sha256, key=key)


def _import_file(
    workspace: Workspace, plan: _Plan, *, progress: Progress, clock: Callable[[], float]
) -> ImportReport:
    started = time.perf_counter()
    staging = workspace.root / "staging" / plan.key
    origin = _Source(
        import_id=_import_id(workspace, plan.key),
        kind=plan.layout.kind,
        name=str(plan.path),
        size=plan.path.stat().st_size,
        sha256=plan.sha256,
    )
    staged = _stage(plan.path, plan.layout, staging, progress=progress)
    tally = ImportReport(
        rows=sum(part.rows for part in staged),
        skipped=sum(part.skipped for part in staged),
        rejects=sum(part.rejects for part in staged),
    )
    chunks = [staging / part.chunk for part in staged]
    commit = _Commit(workspace, origin, staging, clock=clock)
    if plan.layout.kind == "items":
        report = commit.items((pq.read_table(chunk) for chunk in chunks), tally)
    else:
        report = commit.events(chunks, tally, progress=progress)
    shutil.rmtree(staging)
    return msgspec.structs.replace(report, seconds=time.perf_counter() - started)


def _stage(path: Path, layout: Layout, staging: Path, *, progress: Progress) -> list[_Staged]:
    """Parse what is not parsed yet; a chunk counts once the journal names it."""
    staging.mkdir(parents=True, exist_ok=True)
    journal = staging / "journal.jsonl"
    staged = _journal(journal)
    start = Cursor(offset=staged[-1].offset, lines=staged[-1].lines) if staged else None
    total = _extent(path, layout)
    place = sum(part.kept for part in staged)
    for chunk in formats.read(path, layout, start=start):
        name = f"chunk-{len(staged):06d}"
        _write_parquet(chunk.table, staging / f"{name}.parquet", first=place)
        place += chunk.table.num_rows
        _write_rejects(chunk.rejects, staging / f"{name}.jsonl")
        entry = _staged(f"{name}.parquet", chunk)
        with journal.open("ab") as stream:
            stream.write(msgspec.json.encode(entry) + b"\n")
            _sync(stream.fileno())
        staged.append(entry)
        progress(min(chunk.end.offset, total), total, f"reading {path.name}")
    return staged


def _staged(name: str, chunk: Chunk) -> _Staged:
    return _Staged(
        chunk=name,
        rows=chunk.rows,
        kept=chunk.table.num_rows,
        rejects=len(chunk.rejects),
        skipped=chunk.skipped,
        offset=chunk.end.offset,
        lines=chunk.end.lines,
    )


def _journal(path: Path) -> list[_Staged]:
    """The chunks that are safe; a last line that was cut by a crash is dropped from the file."""
    if not path.is_file():
        return []
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole) + 1 if whole else 0)
    decode = msgspec.json.Decoder(_Staged).decode
    return [decode(line) for line in whole.split(b"\n") if line]


def _write_parquet(table: pa.Table, path: Path, *, first: int) -> None:
    """Write a chunk, its rows numbered, under its final name when it is whole and on disk."""
    places = pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))
    part = path.with_suffix(".tmp")
    with part.open("wb") as stream:
        pq.write_table(table.append_column("place", places), stream, compression="lz4")
        stream.flush()
        _sync(stream.fileno())
    part.replace(path)


def _write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    if not rejects:
        return
    encode = msgspec.json.encode
    lines = [
        encode(_RejectLine(part.line, part.code, part.reason, part.raw_excerpt)) for part in rejects
    ]
    with path.open("wb") as stream:
        stream.write(b"\n".join(lines) + b"\n")
        stream.flush()
        _sync(stream.fileno())


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _extent(path: Path, layout: Layout) -> int:
    """The last cursor offset, for the progress; of gzip a guess."""
    if layout.file_type == "parquet":
        return int(pq.read_metadata(path).num_rows)
    return path.stat().st_size * (4 if layout.compressed else 1)


def _table_sha256(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for batch in table.to_batches():
        for column in batch.columns:
            for buffer in column.buffers():
                digest.update(buffer or b"")
        digest.update(str(batch.num_rows).encode())
    return digest.hexdigest()


def _import_id(workspace: Workspace, key: str) -> str:
    """The key and how often it was imported before: segment names are never used twice."""
    like = IMPORTS.c.import_id.startswith(f"{key}-", autoescape=True)
    query = sa.select(sa.func.count()).select_from(IMPORTS).where(like)
    with workspace.engine.connect() as connection:
        return f"{key}-{connection.execute(query).scalar_one()}"


def _sweep(workspace: Workspace, *, keep: set[str]) -> None:
    """Remove what interrupted imports left, but for the staged chunks that will be used again.

    The caller holds the import lock, so nobody else is staging.
    """
    staging = workspace.root / "staging"
    for folder in staging.iterdir() if staging.is_dir() else ():
        if folder.name not in keep:
            shutil.rmtree(folder)
    sweep_segments(workspace)


# --- tables in memory -------------------------------------------------------------------------


def _conformed(table: pa.Table, kind: str) -> pa.Table:
    """The table in our schema, or a DataError that says what is wrong."""
    if kind not in ("events", "items"):
        raise DataError(f"kind is {kind!r}; it must be events or items.")
    schema = EVENT_SCHEMA if kind == "events" else ITEM_SCHEMA
    unknown = sorted(set(table.column_names) - set(schema.names))
    if unknown:
        raise DataError(
            f"{kind} have no column {', '.join(unknown)}; rename or drop it. "
            f"The columns are {', '.join(schema.names)}."
        )
    whole = pa.table([_column(table, part) for part in schema], schema=schema)
    required = ["item_id", "event_type", "timestamp_us"] if kind == "events" else ["item_id"]
    for name in required:
        nulls = whole[name].null_count
        if nulls:
            raise DataError(f"column {name} is empty in {nulls} rows; every row needs it.")
    return whole


def _column(table: pa.Table, part: pa.Field) -> pa.ChunkedArray:
    if part.name in table.column_names:
        return table[part.name].cast(part.type)
    if part.type == pa.bool_():
        usual = pa.scalar(part.name == "available")
        return pa.chunked_array([pa.repeat(usual, table.num_rows)])
    return pa.chunked_array([pa.nulls(table.num_rows, part.type)])


# --- committing -------------------------------------------------------------------------------

_MICRO = "coalesce(TRY_CAST(round({} * 1000000) AS HUGEINT)::VARCHAR, '')"
# Integers only: the text of a float may change between versions of a database.
_CONTENT = " || chr(31) || ".join(
    [
        "visitor",
        "coalesce(session_id, '')",
        "item_id",
        "event_type",
        "timestamp_us::VARCHAR",
        *(_MICRO.format(name) for name in ("value", "price", "quantity")),
        "coalesce(position::VARCHAR, '')",
    ]
)


class _Commit:
    """The last step of an import: from staged rows to one database transaction."""

    def __init__(
        self,
        workspace: Workspace,
        origin: _Source,
        staging: Path,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.workspace = workspace
        self.origin = origin
        self.staging = staging
        self.clock = clock

    def items(self, tables: Iterable[pa.Table], tally: ImportReport) -> ImportReport:
        """Upsert the items, counting which are new."""
        names = ITEM_SCHEMA.names
        rows = (
            dict(zip(names, values, strict=True))
            for table in tables
            for batch in table.select(names).to_batches()
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        count = sa.select(sa.func.count()).select_from(ITEMS)
        with writing(self.workspace.engine) as connection:
            seen: set[str] = set()
            before = connection.execute(count).scalar_one()
            upsert_rows(connection, _noted(rows, seen))
            added = connection.execute(count).scalar_one() - before
            report = msgspec.structs.replace(
                tally, items_added=added, items_updated=len(seen) - added
            )
            return self._record(connection, report)

    def events(
        self, rows: pa.Table | list[Path], tally: ImportReport, *, progress: Progress
    ) -> ImportReport:
        """Write one segment a bucket and register them all at once."""
        segments: list[Segment] = []
        with closing(duckdb.connect()) as connection:
            connection.execute(f"SET temp_directory = {sql_text(str(self.staging / 'spill'))}")
            staged = self._load(connection, rows)
            if staged:
                self._find_fresh(connection)
                segments = self._write(connection, progress)
        added = sum(int(part["events"]) for part in segments)
        report = msgspec.structs.replace(tally, events_added=added, duplicates=staged - added)
        place_segments(self.workspace, self.staging, segments)
        with self.workspace.engine.begin() as database:
            report = self._record(database, report)
            if segments:
                database.execute(sa.insert(SEGMENTS), segments)
        return report

    def _load(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table | list[Path]) -> int:
        """Fill the table `staged` with the rows, their place, visitor, bucket and id; how many.

        A row without an id is named by its content.
        """
        names = ", ".join(EVENT_SCHEMA.names)
        if isinstance(rows, list):
            if not rows:
                return 0
            source = f"SELECT {names}, place FROM {parquet_sql(rows)}"
        else:
            connection.register("given", rows)
            source = f"SELECT {names}, row_number() OVER () AS place FROM given"
        connection.execute(
            "CREATE TEMP TABLE staged AS "
            f"WITH named AS (SELECT *, {VISITOR_SQL} AS visitor FROM ({source})) "
            f"SELECT * REPLACE (coalesce(event_id, md5({_CONTENT})) AS event_id), "
            f"event_id IS NULL AS by_content, {BUCKET_SQL} AS bucket FROM named"
        )
        nobody = _one(connection, "SELECT count(*) FROM staged WHERE visitor IS NULL")
        if nobody:
            raise DataError(
                f"{nobody} events name nobody; each needs a user_id, an anonymous_id or a "
                "session_id."
            )
        return _one(connection, "SELECT count(*) FROM staged")

    def _find_fresh(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Fill the table `fresh`: one row an event that neither a segment nor the log holds.

        Rows of equal content without ids are numbered: two equal lines of a basket stay two, and
        the same file again adds nothing.
        """
        live = self.workspace.live_log()
        known = (EVENT_SCHEMA.empty_table() if live is None else live).select(["event_id"])
        connection.register("log", known)
        queries = ["SELECT event_id FROM log WHERE event_id IS NOT NULL"]
        segments = self.workspace.segments()
        if segments:
            queries.append(f"SELECT event_id FROM {parquet_sql(segments)}")
        columns = ", ".join(VIEW_SCHEMA.names)
        connection.execute(
            "CREATE TEMP TABLE again AS SELECT place, nth FROM ("
            "SELECT place, row_number() OVER (PARTITION BY event_id ORDER BY place) AS nth "
            "FROM staged WHERE event_id IN "
            "(SELECT event_id FROM staged GROUP BY event_id HAVING count(*) > 1)) WHERE nth > 1"
        )
        connection.execute(
            "CREATE TEMP TABLE fresh AS WITH named AS ("
            "SELECT staged.* REPLACE (event_id || coalesce('-' || nth, '') AS event_id) "
            "FROM staged LEFT JOIN again USING (place) WHERE nth IS NULL OR by_content) "
            f"SELECT {columns} FROM named ANTI JOIN ({' UNION ALL '.join(queries)}) "
            "USING (event_id) ORDER BY bucket, visitor, timestamp_us, event_id"
        )

    def _write(self, connection: duckdb.DuckDBPyConnection, progress: Progress) -> list[Segment]:
        """Write each bucket's new events into the staging folder, sorted."""
        return write_segments(
            connection,
            "fresh",
            staging=self.staging,
            import_id=self.origin.import_id,
            told=lambda done, total: progress(done, total, "writing events"),
        )

    def _record(self, connection: sa.Connection, report: ImportReport) -> ImportReport:
        """Register the import in the caller's transaction, with its rejects beside it."""
        rejects = self._rejects() if report.rejects else ()
        connection.execute(
            sa.insert(IMPORTS).values(
                import_id=self.origin.import_id,
                kind=self.origin.kind,
                source=self.origin.name,
                size_bytes=self.origin.size,
                sha256=self.origin.sha256,
                rows_read=report.rows,
                rows_added=report.events_added + report.items_added,
                rows_updated=report.items_updated,
                duplicates=report.duplicates,
                rejects=report.rejects,
                finished_us=round(self.clock() * 1_000_000),
            )
        )
        return msgspec.structs.replace(report, reject_files=rejects)

    def _rejects(self) -> tuple[str, ...]:
        """Join the chunks' rejects into one file of the workspace."""
        folder = self.workspace.root / "rejects"
        folder.mkdir(exist_ok=True)
        target = folder / f"{self.origin.import_id}.jsonl"
        part = target.with_suffix(".tmp")
        with part.open("wb") as stream:
            for path in sorted(self.staging.glob("chunk-*.jsonl")):
                stream.write(path.read_bytes())
        part.replace(target)
        return (str(target),)


def _noted(rows: Iterable[dict[str, object]], seen: set[str]) -> Iterator[dict[str, object]]:
    for row in rows:
        seen.add(str(row["item_id"]))
        yield row


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    # Fetching everything also closes the result, which DuckDB asks for before the next query.
    return int(connection.execute(query).fetchall()[0][0])
