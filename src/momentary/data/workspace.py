"""One folder that holds a shop's data: catalogue, imported events, the live log and models."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import sqlalchemy as sa

from momentary.data.catalog import METADATA, Catalog
from momentary.data.databases import Database
from momentary.data.embedded import EmbeddedDatabase
from momentary.data.events import EventLog
from momentary.data.item_vectors import ItemVectors
from momentary.data.model_aliases import ModelAliases
from momentary.data.rule_sets import RuleSets
from momentary.errors import SettingsError, StorageError
from momentary.settings import StorageSettings

if TYPE_CHECKING:
    import duckdb

HEAD = "0005"
"""The newest migration; a workspace that says so opens without alembic."""

BUCKETS = 16

KINDS = ("events", "exposures")
"""What a segment may hold; also the folder that it lies in."""

LOCK_WAIT_S = 600.0
"""How long an import or an erasure waits for another to end."""

IMPORTS = sa.Table(
    "imports",
    METADATA,
    sa.Column("import_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("rows_read", sa.BigInteger, nullable=False),
    sa.Column("rows_added", sa.BigInteger, nullable=False),
    sa.Column("rows_updated", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("rejects", sa.BigInteger, nullable=False),
    sa.Column("finished_us", sa.BigInteger, nullable=False),
)
"""One row for every import that was committed."""

SEGMENTS = sa.Table(
    "segments",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Integer, nullable=False),
    sa.Column("import_id", sa.Text, sa.ForeignKey("imports.import_id"), nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("first_us", sa.BigInteger, nullable=False),
    sa.Column("last_us", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, server_default="events"),
    sa.Index("segments_by_bucket", "bucket"),
)
"""Committed Parquet files, relative to the workspace; a file not listed here does not exist."""

VIEW_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("visitor", pa.string()),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("session_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp_us", pa.int64()),
        ("value", pa.float64()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("quantity", pa.float64()),
        ("recommendation_id", pa.string()),
        ("position", pa.int64()),
        ("properties", pa.string()),
        ("bucket", pa.int32()),
    ]
)
"""The columns of the view `events` and of every segment."""

LOG_SCHEMA = pa.schema([part for part in VIEW_SCHEMA if part.name not in ("visitor", "bucket")])
"""The columns of the live log's events."""

EXPOSURE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("recommendation_id", "user_id", "anonymous_id")),
        *((name, pa.string()) for name in ("session_id", "items", "model_version", "variant")),
        ("propensity", pa.float64()),
        ("timestamp_us", pa.int64()),
        ("propensities", pa.string()),
    ]
)
"""The columns of the view `exposures`; `items` and `propensities` are JSON."""

_COLUMNS = ", ".join(VIEW_SCHEMA.names)
_LIVE = "momentary_live_events"
_LIVE_EXPOSURES = "momentary_live_exposures"

VISITOR_SQL = "coalesce('u:' || user_id, 'a:' || anonymous_id, 's:' || session_id)"
"""Who acted, as text that tells known users, browsers and bare visits apart."""

BUCKET_SQL = "(strpos('0123456789abcdef', substr(md5(visitor), 8, 1)) - 1)::INTEGER"
"""`bucket_of` in SQL: modulo 16, eight hex digits are their last one."""


def bucket_of(visitor: str) -> int:
    """The bucket, 0..15, that holds all events of one visitor.

    >>> bucket_of("u:1") == int(hashlib.md5(b"u:1").hexdigest()[:8], 16) % 16
    True
    """
    digest = hashlib.md5(visitor.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % BUCKETS


class Workspace:
    """The data of one shop in one folder.

    Attributes:
        root: The folder.
        database: What holds the catalogue, the imports and the live event log.
        engine: Of the catalogue and the imports.
        catalog: The items.
        rule_sets: Rules that have a name.
        item_vectors: Of items that came while a service was open.
        model_aliases: Which saved model answers.
        models: Folder of trained models.
        log_path: The live event log where it is embedded, a file that need not exist yet.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self.database = database
        self.engine = database.engine()
        self.catalog = Catalog(self.engine)
        self.rule_sets = RuleSets(self.engine)
        self.item_vectors = ItemVectors(self.engine)
        self.model_aliases = ModelAliases(self.engine)
        self.models = root / "models"
        self.log_path = root / "events.sqlite"

    @classmethod
    def open(
        cls, home: Path, *, create: bool = False, storage: StorageSettings | None = None
    ) -> Workspace:
        """Open the workspace in `home`, bringing its database up to date.

        Args:
            home: The folder.
            create: Make the folder and the database when they are not there.
            storage: Where the database is; None for SQLite files in the folder.

        Raises:
            SettingsError: If there is no workspace and `create` is False, or a newer momentary
                wrote it.
            StorageError: The database does not answer.
        """
        root = home.expanduser().absolute()
        database = database_of(root, storage or StorageSettings())
        if not create and not database.exists():
            raise SettingsError(
                f"there is no workspace in {root}; `momentary import FILE` makes one, or name "
                "another folder with --home or MOMENTARY_HOME."
            )
        (root / "models").mkdir(parents=True, exist_ok=True)
        workspace = cls(root, database)
        try:
            if not database.exists() or _version(workspace.engine) != HEAD:
                with workspace.exclusive("workspace", wait_s=60):
                    _migrate(workspace.engine, database)
        except sa.exc.DBAPIError as error:
            raise StorageError(
                f"{database.name} cannot be opened ({error.orig}); see that it can be written."
            ) from error
        return workspace

    def open_log(self) -> EventLog:
        """The live event log, made if it is missing; the caller closes it."""
        return EventLog(self.database.open_log())

    @contextmanager
    def exclusive(self, name: str, *, wait_s: float) -> Iterator[None]:
        """Keep every other process from doing the same at once, on this machine and on others.

        Raises:
            SettingsError: If another process holds it for longer than `wait_s` seconds.
        """
        lock = self.root / f"{name}.lock"
        with exclusive(lock, wait_s=wait_s), self.database.locked(name, wait_s=wait_s):
            yield

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def segments(self, bucket: int | None = None, *, kind: str = "events") -> list[Path]:
        """Committed Parquet files of one bucket, or of all, in a steady order."""
        query = sa.select(SEGMENTS.c.path).where(SEGMENTS.c.kind == kind)
        query = query.order_by(SEGMENTS.c.bucket, SEGMENTS.c.path)
        if bucket is not None:
            query = query.where(SEGMENTS.c.bucket == bucket)
        with self.engine.connect() as connection:
            return [self.root / path for path in connection.execute(query).scalars()]

    def events_view(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the view `events` (see `VIEW_SCHEMA`) in a DuckDB connection.

        It holds the committed segments and the rows that the live log had when this was called,
        each event once.
        """
        paths = self.segments()
        connection.register(_LIVE, self._live(connection, paths))
        parts = [f"SELECT {_COLUMNS} FROM {_LIVE}"]
        if paths:
            parts.append(f"SELECT {_COLUMNS} FROM {parquet_sql(paths)}")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS {' UNION ALL '.join(parts)}")

    def exposures_view(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the view `exposures` (see `EXPOSURE_SCHEMA`) in a DuckDB connection.

        It holds the answers that compaction moved and those that the live log had when this was
        called, each once.
        """
        paths = self.segments(kind="exposures")
        names = ", ".join(EXPOSURE_SCHEMA.names)
        connection.register(_LIVE_EXPOSURES, self._live_exposures())
        query = f"SELECT {names} FROM {_LIVE_EXPOSURES}"
        if paths:
            moved = f"SELECT {names} FROM {parquet_sql(paths)}"
            query = f"{moved} UNION ALL {query} ANTI JOIN ({moved}) USING (recommendation_id)"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW exposures AS {query}")

    def _live_exposures(self) -> pa.Table:
        if not self.database.has_log():
            return EXPOSURE_SCHEMA.empty_table()
        with closing(self.database.open_log()) as log:
            names = ", ".join(EXPOSURE_SCHEMA.names)
            rows = log.stream(f"SELECT {names} FROM exposures ORDER BY seq")
            return table_of(rows, EXPOSURE_SCHEMA)

    def _live(self, connection: duckdb.DuckDBPyConnection, paths: list[Path]) -> pa.Table:
        """The live log's rows that no segment holds, with visitor and bucket."""
        log = self.live_log()
        if log is None:
            return VIEW_SCHEMA.empty_table()
        named = f"SELECT *, {VISITOR_SQL} AS visitor FROM log"
        known = ""
        if paths:
            known = f"WHERE event_id NOT IN (SELECT event_id FROM {parquet_sql(paths)} "
            known += "WHERE event_id IN (SELECT event_id FROM log))"
        query = f"WITH named AS ({named}) SELECT {_COLUMNS} FROM "
        query += f"(SELECT *, {BUCKET_SQL} AS bucket FROM named) {known}"
        with connection.cursor() as cursor:
            cursor.register("log", log)
            return cursor.query(query).to_arrow_table().cast(VIEW_SCHEMA)

    def live_log(self) -> pa.Table | None:
        """The live log as a table without visitor and bucket; None where there is no log."""
        if not self.database.has_log():
            return None
        names = ", ".join(LOG_SCHEMA.names)
        with closing(self.database.open_log()) as log:
            return table_of(log.stream(f"SELECT {names} FROM events ORDER BY seq"), LOG_SCHEMA)


def table_of(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows as columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(values, part.type) for values, part in zip(columns, schema, strict=True)],
        schema=schema,
    )


def sql_text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def parquet_sql(paths: list[Path]) -> str:
    """A table expression for DuckDB that reads exactly these files, whatever their names."""
    # DuckDB reads *, ? and [ as patterns; in brackets they mean themselves.
    plain = (sql_text(re.sub(r"([\[*?])", r"[\1]", str(path))) for path in paths)
    return f"read_parquet([{', '.join(plain)}], hive_partitioning = false)"


@contextmanager
def exclusive(lock: Path, *, wait_s: float) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process dies.

    Raises:
        SettingsError: If another process holds it for longer than `wait_s` seconds.
    """
    with closing(sqlite3.connect(lock, timeout=wait_s, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise SettingsError(
                f"another process is busy with {lock.parent} (waited {wait_s:g} s: {error}); "
                "try again when it has finished."
            ) from error
        yield
        connection.execute("ROLLBACK")


def database_of(root: Path, storage: StorageSettings) -> Database:
    """What holds the catalogue and the log of the workspace in `root`, whether it exists or not.

    Raises:
        SettingsError: The driver is missing.
    """
    if storage.database_url is None:
        return EmbeddedDatabase(root)
    # Only a workspace in PostgreSQL pays for its driver.
    try:
        from momentary.data.postgresql import PostgresDatabase
    except ImportError as error:
        raise SettingsError(
            f"storage.database_url needs a driver that is missing ({error}); "
            "run: pip install 'momentary[server]'"
        ) from error
    return PostgresDatabase(storage.database_url, schema=storage.schema)


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        try:
            query = sa.text("SELECT version_num FROM alembic_version")
            return str(connection.execute(query).scalar_one())
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.NoResultFound):
            return None


def _migrate(engine: sa.Engine, database: Database) -> None:
    """Run the missing migrations in one transaction; the caller holds the workspace's lock."""
    version = _version(engine)
    if version == HEAD:
        return
    # Only a workspace that is not current pays for alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "momentary.data:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise SettingsError(
            f"{database.name} has version {version}, this momentary knows up to {HEAD}; "
            "install the newer momentary that wrote it."
        )
    with engine.connect() as connection:
        database.begin_migration(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
