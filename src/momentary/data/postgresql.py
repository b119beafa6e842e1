"""PostgreSQL: the catalogue, the imports and the live event log in one schema of a server."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import psycopg.conninfo
import psycopg.sql
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from momentary.data.databases import Result, Row
from momentary.data.log_tables import VERSION, upgrade
from momentary.errors import DataError, SettingsError, StorageError

_AGAIN_S = 1.0
"""A server that did not answer is left alone for so long; requests are refused meanwhile."""

_PATIENCE = {"connect_timeout": "2", "tcp_user_timeout": "5000", "keepalives_idle": "5"}
_STATEMENT_MS = 10_000
_POLL_S = 0.2
_ROWS_AT_ONCE = 10_000
_DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_Connect = Callable[[], "psycopg.Connection[Row]"]


class PostgresLog:
    """The event log in tables of a schema.

    A connection that broke is made anew with the next call; what was not acknowledged was rolled
    back, and a transaction that surely did not happen is tried once more.

    Args:
        connect: Makes a connection in autocommit mode.
        name: What messages call the database.

    Raises:
        DataError: A newer momentary wrote the tables.
        StorageError: The server does not answer.
    """

    def __init__(self, connect: _Connect, *, name: str) -> None:
        self._connect = connect
        self._name = name
        self._connection: psycopg.Connection[Row] | None = None
        self._again_s = 0.0
        self.transact(lambda transaction: _migrate(transaction, name))

    def transact(self, work: Callable[[_Transaction], Result]) -> Result:
        """Run `work` in one transaction, which is on the server's disk on return."""
        done = False
        try:
            with self._failing(), self._alive().transaction():
                result = work(_Transaction(self._alive()))
                done = True
            return result
        except _Gone:
            if done:
                # The commit may have happened or not; whoever sends again is counted once.
                raise
        with self._failing(), self._alive().transaction():
            return work(_Transaction(self._alive()))

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        try:
            with self._failing():
                return _Transaction(self._alive()).fetch(query, values)
        except _Gone:
            with self._failing():
                return _Transaction(self._alive()).fetch(query, values)

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of one moment: a connection of its own, however long the caller takes."""
        try:
            with (
                contextlib.closing(self._connect()) as connection,
                connection.transaction(),
                connection.cursor("stream") as cursor,
            ):
                cursor.itersize = _ROWS_AT_ONCE
                yield from cursor.execute(_placed(query), values)
        except psycopg.Error as error:
            raise _storage_error(self._name, error) from error

    def among(self, column: str) -> str:
        """A condition: `column` is in the list that one `?` stands for."""
        return f"{column} = ANY(?)"

    def members(self, values: Sequence[str]) -> list[str]:
        """A list as the value for `among`."""
        return list(values)

    def rewrite(self) -> None:
        """Write the tables anew; statistics of their columns, too, hold values of rows."""
        with self._failing():
            connection = self._alive()
            connection.execute("SET statement_timeout = 0")
            connection.execute("VACUUM (FULL, ANALYZE) events, exposures, moved")
            connection.execute(f"SET statement_timeout = {_STATEMENT_MS}")

    def close(self) -> None:
        """Let go of the connection; closing twice is harmless."""
        if self._connection is not None:
            self._connection.close()

    def _alive(self) -> psycopg.Connection[Row]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if time.monotonic() < self._again_s:
            raise StorageError(f"{self._name} did not answer a moment ago; try again later.")
        try:
            self._connection = self._connect()
            self._connection.execute(f"SET statement_timeout = {_STATEMENT_MS}")
        except psycopg.Error:
            self._again_s = time.monotonic() + _AGAIN_S
            raise
        return self._connection

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Errors in our words; `_Gone` where the same may work on a new connection or try."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            lost = self._connection is not None
            if self._connection is not None and not _given_up(error):
                self._connection.close()
                self._connection = None
            kind = _Gone if lost else StorageError
            raise kind(str(_storage_error(self._name, error))) from error
        except psycopg.Error as error:
            raise _storage_error(self._name, error) from error


class _Gone(StorageError):
    """The connection or the transaction was lost, not the server."""


class _Transaction:
    """Statements on one connection."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it changed."""
        return self._connection.execute(_placed(statement), values).rowcount

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        return self._connection.execute(_placed(query), values).fetchall()

    def add(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        """Run an INSERT for every row, all in one journey; for each, whether it was added."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_placed(statement) + b" RETURNING 1", rows, returning=True)
            return [len(results.fetchall()) == 1 for results in cursor.results()]


class PostgresDatabase:
    """One schema of a PostgreSQL server.

    Args:
        url: Such as "postgresql+psycopg://shop@db.example/shop"; libpq's PGPASSWORD and
            PGPASSFILE count where it has no password.
        schema: Where the tables are; made if it is missing.
    """

    def __init__(self, url: str, *, schema: str) -> None:
        self._url = sa.make_url(url)
        self._schema = schema
        own = f"-c synchronous_commit=on {self._url.query.get('options', '')}"
        patience = {key: each for key, each in _PATIENCE.items() if key not in self._url.query}
        self._arguments = {**patience, "options": f"{own} -c search_path={schema}"}

    @property
    def name(self) -> str:
        """The address without a password, and the schema."""
        return f"{self._url.render_as_string(hide_password=True)} (schema {self._schema})"

    def exists(self) -> bool:
        """Whether a workspace was made here."""
        return self._has("alembic_version")

    def engine(self) -> sa.Engine:
        """A new engine for the catalogue and the imports."""
        url = self._url.set(drivername="postgresql+psycopg").difference_update_query(["options"])
        return sa.create_engine(
            url, pool_pre_ping=True, pool_size=2, connect_args=dict(self._arguments)
        )

    def begin_migration(self, connection: sa.Connection) -> None:
        """Make the schema if it is missing; the caller's transaction holds everything else."""
        known = sa.text("SELECT to_regnamespace(:schema) IS NOT NULL")
        if not connection.execute(known, {"schema": self._schema}).scalar_one():
            connection.execute(sa.schema.CreateSchema(self._schema))

    def open_log(self) -> PostgresLog:
        """A connection to the event log, which is made if it is missing."""
        return PostgresLog(self._connect, name=self.name)

    def has_log(self) -> bool:
        """Whether there is an event log."""
        return self._has("events")

    @contextlib.contextmanager
    def locked(self, name: str, *, wait_s: float) -> Iterator[None]:
        """Hold an advisory lock of the server, which lets go of it when the process dies."""
        digest = hashlib.blake2b(f"{self._schema}.{name}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, signed=True)
        end_s = time.monotonic() + wait_s
        with self._asking() as connection:
            while not _one(connection, "SELECT pg_try_advisory_lock(%s)", [key]):
                if time.monotonic() >= end_s:
                    raise SettingsError(
                        f"another process is busy with {self.name} (waited {wait_s:g} s for the "
                        f"lock {name!r}); try again when it has finished."
                    )
                time.sleep(_POLL_S)
            yield

    def drop(self) -> None:
        """Delete the schema and everything in it."""
        with self._asking() as connection:
            connection.execute(
                psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(
                    psycopg.sql.Identifier(self._schema)
                )
            )

    def _has(self, table: str) -> bool:
        with self._asking() as connection:
            query = "SELECT to_regclass(%s) IS NOT NULL"
            return bool(_one(connection, query, [f"{self._schema}.{table}"]))

    def _connect(self) -> psycopg.Connection[Row]:
        url = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        conninfo = psycopg.conninfo.make_conninfo(url, **self._arguments)
        return psycopg.connect(conninfo, autocommit=True)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection for a moment."""
        try:
            with contextlib.closing(self._connect()) as connection:
                yield connection
        except psycopg.Error as error:
            raise _storage_error(self.name, error) from error


def _one(connection: psycopg.Connection[Row], query: str, values: list[Any]) -> object:
    ((found,),) = connection.execute(query.encode(), values).fetchall()
    return found


def _placed(statement: str) -> bytes:
    """The statement with psycopg's placeholders; ours hold no question mark that is none."""
    return statement.replace("?", "%s").encode()


def _given_up(error: psycopg.Error) -> bool:
    """Whether the server rolled a transaction back for the sake of another; the link is whole."""
    given_up = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
    return isinstance(error, given_up)


def _storage_error(name: str, error: psycopg.Error) -> StorageError:
    said = " ".join(str(error).split())
    return StorageError(f"{name} gives or takes nothing ({said}); see to the server.")


def _migrate(transaction: _Transaction, name: str) -> None:
    execute = transaction.execute
    # Several processes may open the log at once; the lock ends with the transaction.
    execute("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.log', 0))")
    execute("CREATE TABLE IF NOT EXISTS log_version (version INTEGER NOT NULL)")
    found = transaction.fetch("SELECT version FROM log_version")
    version = found[0][0] if found else 0
    if version == VERSION:
        return
    if version > VERSION:
        raise DataError(
            f"the event log in {name} has version {version}, and this momentary knows versions up "
            f"to {VERSION}; upgrade momentary."
        )
    upgrade(version, execute, _DIALECT)
    execute("DELETE FROM log_version")
    execute("INSERT INTO log_version (version) VALUES (?)", (VERSION,))
