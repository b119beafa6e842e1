"""Finding items by their words: names, brands, categories, descriptions.

The words stand in a full-text index of SQLite (FTS5) in memory: accents and case do not matter, the
last word may be unfinished, and hits are ordered by BM25 (Robertson & Zaragoza, 2009), a hit in a
name counting most.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from momentary.types import Item

_COLUMNS = ("name", "brand", "category", "description")
_WEIGHTS = (8.0, 4.0, 3.0, 1.0)
_WORD = re.compile(r"\w+", re.UNICODE)
_MOST_WORDS = 16


class TextIndex:
    """The words of a catalogue.

    Args:
        items: What can be found.

    >>> index = TextIndex([Item(item_id="1", name="Grüner Tee"), Item(item_id="2", name="Milch")])
    >>> index.search("gruner t", limit=5)
    [('1', 1.0)]
    """

    def __init__(self, items: Iterable[Item]) -> None:
        # Searches run in threads, one at a time.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            f"CREATE VIRTUAL TABLE words USING fts5({', '.join(_COLUMNS)}, item_id UNINDEXED, "
            "tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3')"
        )
        self._rows: dict[str, int] = {}
        with self._connection:
            for item in items:
                self._add(item)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, item: Item) -> None:
        """Add an item, or replace what was known of it."""
        with self._connection:
            self._remove(item.item_id)
            self._add(item)

    def remove(self, item_id: str) -> None:
        """Forget an item, whether it was known or not."""
        with self._connection:
            self._remove(item_id)

    def search(self, text: str, *, limit: int) -> list[tuple[str, float]]:
        """Items that hold every word, or else some of them; best first.

        Args:
            text: What somebody typed; nothing in it is an operator.
            limit: Most items.

        Returns:
            Item ids, and scores from 1 for the best downwards.
        """
        words = _WORD.findall(text)[:_MOST_WORDS]
        if not words:
            return []
        terms = [f'"{word}"' for word in words[:-1]] + [f'"{words[-1]}"*']
        found = self._match(" AND ".join(terms), limit)
        if len(found) < limit and len(terms) > 1:
            known = {item_id for item_id, _ in found}
            more = self._match(" OR ".join(terms), limit)
            found += [each for each in more if each[0] not in known]
        best = found[0][1] if found else 1.0
        return [(item_id, _share(value, best)) for item_id, value in found[:limit]]

    def close(self) -> None:
        """Let go of the index."""
        self._connection.close()

    def _match(self, query: str, limit: int) -> list[tuple[str, float]]:
        weights = ", ".join(map(str, _WEIGHTS))
        rows = self._connection.execute(
            f"SELECT item_id, -bm25(words, {weights}) AS fit FROM words WHERE words MATCH ? "
            "ORDER BY fit DESC, item_id LIMIT ?",
            (query, limit),
        )
        return [(item_id, float(fit)) for item_id, fit in rows.fetchall()]

    def _add(self, item: Item) -> None:
        values = [getattr(item, column) for column in _COLUMNS]
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        cursor = self._connection.execute(
            f"INSERT INTO words ({', '.join(_COLUMNS)}, item_id) VALUES ({marks})",
            (*values, item.item_id),
        )
        if cursor.lastrowid is not None:
            self._rows[item.item_id] = cursor.lastrowid

    def _remove(self, item_id: str) -> None:
        row = self._rows.pop(item_id, None)
        if row is not None:
            self._connection.execute("DELETE FROM words WHERE rowid = ?", (row,))


def _share(value: float, best: float) -> float:
    return round(value / best, 6) if best > 0 else 1.0
