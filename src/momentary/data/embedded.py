"""SQLite files in the workspace's own folder: the default, with nothing to install."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from momentary.data.databases import Result, Row
from momentary.data.log_tables import VERSION, upgrade
from momentary.errors import DataError, StorageError

_BUSY_S = 30.0
_CACHE_KIB = 16_000


class SqliteLog:
    """The event log in a file of its own (WAL, synchronous=FULL).

    Args:
        path: The file; made if it is missing.

    Raises:
        DataError: The file is no event log, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = _connected(path)
        except sqlite3.Error as error:
            raise DataError(
                f"{path} cannot be opened as an event log ({error}); "
                "check that its folder exists and can be written."
            ) from error

    def transact(self, work: Callable[[SqliteLog], Result]) -> Result:
        """Run `work` in one transaction, which is on the disk on return."""
        connection = self._connection
        with _failing(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self)
                connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement of a transaction; how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def add(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        """Run an INSERT for every row; for each, whether it was added."""
        connection = self._connection
        connection.execute("SAVEPOINT adding")
        if connection.executemany(statement, rows).rowcount == len(rows):
            added = [True] * len(rows)
        else:
            # Some were there already, which is rare: only row by row does it say which.
            connection.execute("ROLLBACK TO adding")
            added = [connection.execute(statement, row).rowcount == 1 for row in rows]
        connection.execute("RELEASE adding")
        return added

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of one moment: a connection of its own, however long the caller takes."""
        with (
            _failing(self.path),
            contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as connection,
        ):
            connection.execute("PRAGMA query_only = ON")
            yield from connection.execute(query, values)

    def among(self, column: str) -> str:
        """A condition: `column` is in the list that one `?` stands for."""
        return f"{column} IN (SELECT value FROM json_each(?))"

    def members(self, values: Sequence[str]) -> str:
        """A list as the value for `among`."""
        return msgspec.json.encode(list(values)).decode()

    def rewrite(self) -> None:
        """Write the file anew: pages keep stale copies of rows that once moved."""
        with _failing(self.path):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it; closing twice is harmless."""
        self._connection.close()


class EmbeddedDatabase:
    """`workspace.sqlite` and `events.sqlite` in one folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / "workspace.sqlite"
        self.log_path = root / "events.sqlite"

    @property
    def name(self) -> str:
        """The file of the catalogue."""
        return str(self._file)

    def exists(self) -> bool:
        """Whether a workspace was made here."""
        return self._file.is_file()

    def engine(self) -> sa.Engine:
        """A new engine for the catalogue and the imports."""
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self._file)),
            poolclass=NullPool,
            connect_args={"timeout": _BUSY_S},
        )
        sa.event.listen(engine, "connect", _prepare)
        return engine

    def begin_migration(self, connection: sa.Connection) -> None:
        """Begin the transaction that makes the tables or brings them up to date."""
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.commit()
        # Python's sqlite3 opens transactions for INSERT only; the tables belong into one, too.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def open_log(self) -> SqliteLog:
        """A connection to the event log, which is made if it is missing."""
        return SqliteLog(self.log_path)

    def has_log(self) -> bool:
        """Whether there is an event log."""
        return self.log_path.is_file()

    def drop(self) -> None:
        """Everything lies in the workspace's folder."""

    def locked(self, name: str, *, wait_s: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """The files are this machine's alone, and the workspace's lock files guard them."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: sqlite3.Error) -> StorageError:
    detail = f"the event log {path} gives or takes nothing ({error}); see to its disk."
    return StorageError(detail)


def _connected(path: Path) -> sqlite3.Connection:
    # The server calls sqlite3 straight from its event loop: a thread or an async wrapper costs
    # more than the group commit itself, and requests of one tick wait for that commit anyway.
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise DataError(
                f"{path} has version {version}, and this momentary knows versions up to "
                f"{VERSION}; upgrade momentary."
            )
        upgrade(version, connection.execute, sqlite.dialect())
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
