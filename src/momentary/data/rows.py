"""Rows as a file holds them, before they are checked: columns, cursors and rejects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from momentary.types import IntArray

MAX_FIELD_BYTES = 1 << 20
EXCERPT = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where reading can go on: byte (Parquet: row) `offset`, with `lines` lines behind it."""

    offset: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One row that cannot be read.

    Attributes:
        line: Line of the file from 1; in Parquet the row from 1.
        code: Kind of trouble, such as `ragged` or `bad_time`.
        reason: A sentence with the value.
        raw_excerpt: The row's first characters.
    """

    line: int
    code: str
    reason: str
    raw_excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """Some rows of a file.

    Attributes:
        columns: The file's columns that were asked for. Shape (rows,) each.
        lines: Line of the file of each row. Shape (rows,).
        excerpts: The first characters of the rows with these numbers.
        end: Where the next rows begin.
        extras: JSON text of each row's properties; None when none were asked for.
        rejects: Lines that are no rows at all.
        skipped: Lines without any item (a page view, a screen), which are no mistake.
    """

    columns: Mapping[str, pa.Array]
    lines: IntArray
    excerpts: Callable[[list[int]], list[str]]
    end: Cursor
    extras: pa.Array | None = None
    rejects: list[Reject] = field(default_factory=list)
    skipped: int = 0


def shown(text: str) -> str:
    """A text cut short and safe to print."""
    clean = text[:EXCERPT].encode("utf-8", "backslashreplace").decode()
    return clean.rstrip("\r\n").replace("\0", "\\0")


def json_extras(columns: Mapping[str, Sequence[Any]]) -> pa.Array | None:
    """JSON text of each row, without its empty fields; None without columns."""
    if not columns:
        return None
    encode = msgspec.json.encode
    texts = []
    for values in zip(*columns.values(), strict=True):
        kept = {
            name: value
            for name, value in zip(columns, values, strict=True)
            if value is not None and value != ""
        }
        texts.append(encode(kept).decode() if kept else None)
    return pa.array(texts, pa.string())
