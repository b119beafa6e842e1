"""Rules that have a name, in the catalogue's database; what they say is not looked at here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa

from momentary.data.catalog import BY_BYTES, METADATA, insert_into, writing
from momentary.errors import DataError, StorageError

RULE_SETS = sa.Table(
    "rule_sets",
    METADATA,
    sa.Column("name", BY_BYTES, primary_key=True),
    sa.Column("rules", sa.Text, nullable=False),
)
"""Each rule set as JSON text."""

RULE_BOOK = sa.Table(
    "rule_book",
    METADATA,
    sa.Column("book", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
"""One row, whose number is one higher after every change; no row before the first."""

_ONLY = 1


class FullError(DataError):
    """There are as many rule sets as there may be."""


class RuleSets:
    """Reads and writes the rule sets of one shop.

    Whoever writes takes the row of the revision first, so that writers, on one machine or several,
    take turns.

    Args:
        engine: Of a workspace.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def revision(self) -> int:
        """A number that is another after every change.

        Raises:
            StorageError: If the database does not answer.
        """
        with self._reading() as connection:
            return _revision(connection)

    def read(self) -> tuple[int, dict[str, str]]:
        """The revision, and every rule set as JSON text by name.

        They may be newer than the revision says, never older.

        Raises:
            StorageError: If the database does not answer.
        """
        query = sa.select(RULE_SETS.c.name, RULE_SETS.c.rules).order_by(RULE_SETS.c.name)
        with self._reading() as connection:
            revision = _revision(connection)
            return revision, {name: rules for name, rules in connection.execute(query)}

    def put(self, name: str, rules: str, *, most: int) -> bool:
        """Store a rule set; False if one of that name was there, which it replaces.

        Args:
            name: Of the rule set.
            rules: JSON text.
            most: So many there may be.

        Raises:
            FullError: There would be more than `most`; nothing is stored.
            DataError: The database takes nothing now.
        """
        with writing(self._engine) as connection:
            _turn_page(connection)
            known = sa.select(RULE_SETS.c.name).where(RULE_SETS.c.name == name)
            new = connection.execute(known).first() is None
            if new and _count(connection) >= most:
                raise FullError(f"there are {most} rule sets; delete one first.")
            insert = insert_into(RULE_SETS, connection.dialect).values(name=name, rules=rules)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["name"], set_={"rules": rules})
            )
        return new

    def delete(self, name: str) -> bool:
        """Forget a rule set; False if there was none.

        Raises:
            DataError: The database takes nothing now.
        """
        with writing(self._engine) as connection:
            known = sa.select(RULE_SETS.c.name).where(RULE_SETS.c.name == name)
            if connection.execute(known).first() is None:
                # A refused request writes nothing.
                return False
            _turn_page(connection)
            gone = connection.execute(sa.delete(RULE_SETS).where(RULE_SETS.c.name == name))
            return gone.rowcount == 1

    def add(self, rules: Mapping[str, str]) -> list[str]:
        """Store the rule sets whose names are new, all of them or none; those names.

        Raises:
            DataError: The database takes nothing now.
        """
        with writing(self._engine) as connection:
            _turn_page(connection)
            known = set(connection.execute(sa.select(RULE_SETS.c.name)).scalars())
            rows = [{"name": name, "rules": rules[name]} for name in sorted({*rules} - known)]
            if rows:
                connection.execute(sa.insert(RULE_SETS), rows)
        return [row["name"] for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            raise StorageError(
                f"the rules cannot be read ({said}); see to the catalogue's database."
            ) from error


def _revision(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(RULE_BOOK.c.revision)).scalar() or 0)


def _count(connection: sa.Connection) -> int:
    query = sa.select(sa.func.count()).select_from(RULE_SETS)
    return int(connection.execute(query).scalar_one())


def _turn_page(connection: sa.Connection) -> None:
    """Begin a change: nobody else changes anything until this transaction ends."""
    insert = insert_into(RULE_BOOK, connection.dialect).values(book=_ONLY, revision=1)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["book"], set_={"revision": RULE_BOOK.c.revision + 1}
        )
    )
