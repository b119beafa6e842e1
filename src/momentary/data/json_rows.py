"""Rows of JSONL files: one object a line, plain or of a tracker (GA4, Segment)."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from momentary.data import text_files
from momentary.data.layouts import Layout
from momentary.data.rows import EXCERPT, Cursor, RawRows, Reject, json_extras, shown
from momentary.data.trackers import EXPANDERS, Record
from momentary.errors import DataError


def read_jsonl(
    path: Path,
    layout: Layout,
    start: Cursor | None,
    *,
    columns: Sequence[str],
    chunk_rows: int,
) -> Iterator[RawRows]:
    """Read a file of one JSON object a line.

    Args:
        path: The file.
        layout: How it is written.
        start: The `end` of the last rows that are safe; None begins at the top.
        columns: Which columns are wanted.
        chunk_rows: About how many lines come at once.

    Raises:
        DataError: If the file is damaged.
    """
    cursor = start or Cursor()
    size = text_files.block_bytes(path, compressed=layout.compressed, rows=chunk_rows)
    with text_files.open_bytes(path, compressed=layout.compressed) as stream:
        stream.seek(cursor.offset)
        for block in text_files.blocks(path, stream, size):
            lines = _lines(block, layout)
            end = Cursor(offset=stream.tell(), lines=cursor.lines + len(lines))
            yield json_rows(lines, layout, columns=columns, start=cursor, end=end)
            cursor = end


def json_rows(
    lines: list[bytes], layout: Layout, *, columns: Sequence[str], start: Cursor, end: Cursor
) -> RawRows:
    """Objects as rows; a tracker's object may be several rows, or none.

    Args:
        lines: One JSON object each.
        layout: Of which tracker they are, and what is kept as properties.
        columns: Which columns are wanted.
        start: Where the lines begin.
        end: Where they end.
    """
    records: list[Record] = []
    sources: list[int] = []
    rejects: list[Reject] = []
    skipped = 0
    expand = _expander(layout)
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            found = expand(_object(line))
        except (msgspec.DecodeError, UnicodeDecodeError, DataError) as error:
            rejects.append(_reject(start.lines + index + 1, line, error))
            continue
        records.extend(found)
        sources.extend([index] * len(found))
        skipped += not found
    at = np.asarray(sources, dtype=np.int64)
    return RawRows(
        columns={
            name: pa.array([scalar_text(record.get(name)) for record in records], pa.string())
            for name in columns
        },
        extras=json_extras(
            {name: [record.get(name) for record in records] for name in layout.properties}
        ),
        lines=at + start.lines + 1,
        excerpts=lambda rows: [_shown(lines[at[row]]) for row in rows],
        rejects=rejects,
        skipped=skipped,
        end=end,
    )


def _expander(layout: Layout) -> Callable[[Record], list[Record]]:
    expand = EXPANDERS.get(layout.name)
    if expand is None:
        return lambda source: [source]
    places = layout.columns

    def records(source: Record) -> list[Record]:
        return [
            {place: record.get(role) for role, place in places.items()} for record in expand(source)
        ]

    return records


def first_values(path: Path, layout: Layout, *, rows: int) -> dict[str, list[Any]]:
    """The values of the first objects by their names, for a look at the file.

    Raises:
        DataError: If the file is damaged.
    """
    found: list[Record] = []
    with text_files.open_bytes(path, compressed=layout.compressed) as stream:
        for block in text_files.blocks(path, stream, text_files.SAMPLE_BYTES):
            for line in _lines(block, layout)[:rows]:
                try:
                    found.append(_object(line))
                except (msgspec.DecodeError, UnicodeDecodeError, DataError):
                    continue
            if len(found) >= rows or stream.tell() > 16 * text_files.SAMPLE_BYTES:
                break
    names = dict.fromkeys(chain.from_iterable(found))
    return {name: [row.get(name) for row in found[:rows]] for name in names}


def _lines(block: bytes, layout: Layout) -> list[bytes]:
    text = block.removeprefix(codecs.BOM_UTF8)
    if layout.encoding == "latin-1":
        text = text.decode("latin-1").encode()
    lines = text.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _object(line: bytes) -> Record:
    value = msgspec.json.decode(line)
    if not isinstance(value, dict):
        raise DataError(f"it is a {type(value).__name__}")
    return value


def _reject(line: int, text: bytes, error: Exception) -> Reject:
    return Reject(
        line=line,
        code="bad_json",
        reason=f"the line is not a JSON object we can read ({error})",
        raw_excerpt=_shown(text),
    )


def _shown(line: bytes) -> str:
    return shown(line[: 4 * EXCERPT].decode("utf-8", "backslashreplace"))


def scalar_text(value: object) -> str | None:
    """Text of a JSON value: whole floats as integers, lists of scalars joined by `|`.

    >>> scalar_text(17850.0), scalar_text(["a", "b"])
    ('17850', 'a|b')
    """
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value):
        return "|".join(scalar_text(part) or "" for part in value)
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return repr(value) if isinstance(value, float) else str(value)
