"""Which saved model an alias means, for every process that serves the shop.

Each folder of models has its own file of aliases, which a service starts with; the catalogue's
database has what was promoted last, on whichever machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from momentary.data.catalog import (
    BY_BYTES,
    METADATA,
    next_revision,
    topic_revision,
    writing,
)
from momentary.errors import StorageError

TOPIC = "models"

MODEL_ALIASES = sa.Table(
    "model_aliases",
    METADATA,
    sa.Column("alias", BY_BYTES, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
)


class ModelAliases:
    """Reads and writes the aliases of one shop.

    Args:
        engine: Of a workspace.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self) -> tuple[int, dict[str, str]]:
        """The revision, and alias to version; 0 and nothing before the first promotion.

        They may be newer than the revision says, never older.

        Raises:
            StorageError: If the database does not answer.
        """
        try:
            with self._engine.connect() as connection:
                return topic_revision(connection, TOPIC), _read(connection)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            raise StorageError(
                f"the models' aliases cannot be read ({said}); see to the catalogue's database."
            ) from error

    def write(self, aliases: Mapping[str, str], *, known: int | None = None) -> int:
        """Let the aliases mean these versions and no others; the revision of that.

        Args:
            aliases: Alias to version.
            known: Nothing is written, and this is returned, if there is a later revision.

        Raises:
            DataError: The database takes nothing now.
        """
        try:
            with writing(self._engine) as connection:
                # Read first: the number of what another machine writes meanwhile is not known here.
                revision = topic_revision(connection, TOPIC)
                if _read(connection) == aliases:
                    return revision
                revision = next_revision(connection, TOPIC)
                if known is not None and revision > known + 1:
                    raise _OvertakenError
                connection.execute(sa.delete(MODEL_ALIASES))
                rows = [{"alias": alias, "version": aliases[alias]} for alias in sorted(aliases)]
                if rows:
                    connection.execute(sa.insert(MODEL_ALIASES), rows)
        except _OvertakenError:
            return known or 0
        return revision


class _OvertakenError(Exception):
    """Undoes a transaction: somebody else was faster."""


def _read(connection: sa.Connection) -> dict[str, str]:
    query = sa.select(MODEL_ALIASES.c.alias, MODEL_ALIASES.c.version)
    return {alias: version for alias, version in connection.execute(query)}
