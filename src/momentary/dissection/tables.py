"""Which file has which label and comes from which source, as a CSV says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from momentary.errors import DataError


class Labelled(NamedTuple):
    """One row.

    Attributes:
        file: Its name in the folder.
        label: Empty if it has none.
        source: Rows of one source are never on two sides.
    """

    file: str
    label: str
    source: str


def read_table(
    table: Path, *, label: str, source: str | None, file: str | None = None
) -> list[Labelled]:
    """The rows of a CSV with a header.

    Args:
        table: The CSV.
        label: Column of labels.
        source: Column that tells sources apart; else "source", if it is there, or every file is a
            source of its own.
        file: Column of the files' names; else the first.

    Raises:
        DataError: If there is no such table or column.
    """
    if not table.is_file():
        raise DataError(f"{table} is no file; name the CSV with the labels.")
    with table.open(newline="", encoding="utf-8-sig") as opened:
        try:
            rows = list(csv.DictReader(opened))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{table} is no CSV in UTF-8: {error}.") from error
    there = list(rows[0]) if rows else []
    for column in (label, source, file):
        if column is not None and column not in there:
            raise DataError(f"{table} has no column {column!r}; it has {', '.join(there)}.")
    names = file or there[0]
    apart = source or ("source" if "source" in there else names)
    return [Labelled(row[names] or "", row[label] or "", row[apart] or "") for row in rows]


def draw(
    rows: Sequence[Labelled], limit: int | None, *, rng: np.random.Generator
) -> list[Labelled]:
    """At most `limit` rows, drawn by chance; all of them, as they stand, if there are no more.

    >>> rows = [Labelled(f"{n}.jpg", "a", "b") for n in range(9)]
    >>> len(draw(rows, 4, rng=np.random.default_rng(0)))
    4
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[at] for at in rng.permutation(len(rows))[:limit]]
