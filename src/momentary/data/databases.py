"""What holds a shop's catalogue and its live event log: one Protocol, two kinds.

The statements are the same SQL for both; they write `?` for a value. What differs between the two
(how a list is passed, how bytes are overwritten, how a lock is held) stands behind these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

Row = tuple[Any, ...]
Result = TypeVar("Result")


class Transaction(Protocol):
    """Writes that become visible and durable together."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it changed."""

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""

    def add(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        """Run an INSERT for every row; for each, whether it was added."""


class LogConnection(Protocol):
    """A connection to the tables of one event log; every method raises StorageError on failure."""

    def transact(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction, which is on the disk on return, or undo all of it.

        `work` may run a second time when the database gave its first transaction up.
        """

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of one moment, however slowly they are read; from any thread."""

    def among(self, column: str) -> str:
        """A condition: `column` is in the list that one `?` stands for."""

    def members(self, values: Sequence[str]) -> Any:  # noqa: ANN401 - the driver knows the type
        """A list as the value for `among`."""

    def rewrite(self) -> None:
        """Write the tables anew, so that nothing that was deleted can be read from their files."""

    def close(self) -> None:
        """Let go; closing twice is harmless."""


class Database(Protocol):
    """Where the catalogue, the imports and the live event log of one workspace are."""

    @property
    def name(self) -> str:
        """What a message calls it; without a password."""

    def exists(self) -> bool:
        """Whether a workspace was made here."""

    def engine(self) -> sa.Engine:
        """A new engine for the catalogue and the imports."""

    def begin_migration(self, connection: sa.Connection) -> None:
        """Begin the transaction that makes the tables or brings them up to date."""

    def open_log(self) -> LogConnection:
        """A connection to the event log, which is made if it is missing."""

    def has_log(self) -> bool:
        """Whether there is an event log."""

    def drop(self) -> None:
        """Delete what lies outside of the workspace's folder."""

    def locked(self, name: str, *, wait_s: float) -> AbstractContextManager[None]:
        """Keep other machines from doing the same at once.

        Raises:
            SettingsError: If another holds the lock for longer than `wait_s` seconds.
        """
