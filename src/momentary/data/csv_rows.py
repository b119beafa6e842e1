"""Rows of CSV and TSV files: easy blocks through Arrow, the others row by row.

One broken row costs one row: after a quote that does not match, reading goes on with the next line.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from momentary.data import text_files
from momentary.data.layouts import Layout
from momentary.data.rows import MAX_FIELD_BYTES, Cursor, RawRows, Reject, json_extras, shown
from momentary.errors import DataError
from momentary.types import IntArray


@dataclass(slots=True)
class _Parsed:
    """Lines cut into rows; `carry` is the first line of a row that the next block may finish."""

    rows: list[list[str]]
    starts: list[int]
    bad: list[tuple[int, str, str]]
    carry: int | None = None


@dataclass(slots=True, kw_only=True)
class _Block:
    """Part of a file, cut into columns; `starts` are lines of the block, from 0."""

    columns: Mapping[str, Sequence[str] | pa.Array]
    starts: IntArray
    bad: list[tuple[int, str, str]]
    lines: Callable[[], list[str]]
    end: Cursor


def read_csv(
    path: Path,
    layout: Layout,
    start: Cursor | None,
    *,
    columns: Sequence[str],
    chunk_rows: int,
) -> Iterator[RawRows]:
    """Read a CSV or TSV file.

    Args:
        path: The file.
        layout: How it is written.
        start: The `end` of the last rows that are safe; None begins behind the header.
        columns: Which columns are wanted.
        chunk_rows: About how many rows come at once.

    Raises:
        DataError: If the file is damaged.
    """
    cursor = start or header(path, layout)[1]
    size = text_files.block_bytes(path, compressed=layout.compressed, rows=chunk_rows)
    for block in _blocks(path, layout, start=cursor, size=size):
        yield _raw(block, columns, layout.properties, behind=cursor.lines)
        cursor = block.end


def _raw(
    block: _Block, columns: Sequence[str], properties: Sequence[str], *, behind: int
) -> RawRows:
    def excerpts(rows: list[int]) -> list[str]:
        lines = block.lines()
        return [shown(lines[block.starts[row]]) for row in rows]

    lines = block.lines() if block.bad else []
    return RawRows(
        columns={name: pa.array(block.columns[name], pa.string()) for name in columns},
        extras=json_extras({name: _listed(block.columns[name]) for name in properties}),
        lines=block.starts + behind + 1,
        excerpts=excerpts,
        rejects=[
            Reject(line=behind + 1 + line, code=code, reason=reason, raw_excerpt=shown(lines[line]))
            for line, code, reason in block.bad
        ],
        end=block.end,
    )


def _listed(column: Sequence[str] | pa.Array) -> Sequence[str]:
    return column.to_pylist() if isinstance(column, pa.Array) else column


def header(path: Path, layout: Layout) -> tuple[list[str], Cursor]:
    """The column names and where the data begins.

    Raises:
        DataError: If the first line cannot be split.
    """
    with text_files.open_bytes(path, compressed=layout.compressed) as stream:
        block = next(text_files.blocks(path, stream, 1 << 16), b"")
    marked = layout.encoding == "utf-8-sig"
    skip = len(codecs.BOM_UTF8) if marked else 0
    lines = _lines(block[skip:], layout)
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    reader = csv.reader(_from(lines, first), delimiter=layout.delimiter)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{path} has no readable header ({error}).") from error
    used = first + reader.line_num if layout.header else first
    size = sum(len(_encoded(line, layout)) for line in lines[:used])
    if not layout.header:
        names = [f"column_{i + 1}" for i in range(len(names))]
    return _unique(names), Cursor(offset=skip + size, lines=used)


def _unique(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for position, name in enumerate(names, start=1):
        plain = name.strip() or f"column_{position}"
        seen[plain] = seen.get(plain, 0) + 1
        result.append(plain if seen[plain] == 1 else f"{plain}.{seen[plain]}")
    return result


def delimiter_of(text: str) -> str:
    """The separator that cuts the first lines into the most, equally many, columns."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]

    def columns(delimiter: str) -> tuple[bool, int]:
        csv.field_size_limit(MAX_FIELD_BYTES)
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return False, 0
        if not widths or widths[0] == 1:
            return False, 0
        return widths.count(widths[0]) * 2 > len(widths), widths[0]

    best = max((",", "\t", ";", "|"), key=columns)
    return best if columns(best)[1] > 1 else ","


def _lines(data: bytes, layout: Layout) -> list[str]:
    text = data.decode(text_files.codec(layout.encoding), errors="surrogateescape")
    return list(io.StringIO(text, newline="\n"))


def _encoded(line: str, layout: Layout) -> bytes:
    return line.encode(text_files.codec(layout.encoding), errors="surrogateescape")


def _blocks(path: Path, layout: Layout, *, start: Cursor, size: int) -> Iterator[_Block]:
    """Blocks of whole rows, easy ones through Arrow, the others row by row."""
    names = header(path, layout)[0]
    # csv's own limit is global and smaller than the fields that we accept.
    csv.field_size_limit(MAX_FIELD_BYTES)
    with text_files.open_bytes(path, compressed=layout.compressed) as stream:
        stream.seek(start.offset)
        carried, behind = b"", start.lines
        blocks = text_files.blocks(path, stream, size)
        while True:
            fresh = next(blocks, b"")
            data = carried + fresh
            if not data:
                return
            table = _easy_table(data, names, layout)
            if table is not None:
                carried, behind = b"", behind + table.num_rows
                end = Cursor(offset=stream.tell(), lines=behind)
                yield _easy_block(table, data, end)
                continue
            lines = _lines(data, layout)
            parsed = _parse(lines, len(names), delimiter=layout.delimiter, last=not fresh)
            used = len(lines) if parsed.carry is None else parsed.carry
            carried = _encoded("".join(lines[used:]), layout)
            behind += used
            end = Cursor(offset=stream.tell() - len(carried), lines=behind)
            yield _hard_block(_without_dirt(parsed, lines[:used]), lines, names, end=end)


def _easy_table(data: bytes, names: list[str], layout: Layout) -> pa.Table | None:
    """The block through Arrow's parser; None where quotes or odd lines need a closer look."""
    if b'"' in data or b"\0" in data or layout.encoding == "latin-1" or len(names) == 1:
        return None
    if data.startswith((b"\n", b"\r")) or b"\n\n" in data or b"\n\r" in data:
        return None
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=names, block_size=len(data) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter, quote_char=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                include_columns=names,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    longest = (pc.max(pc.binary_length(column)).as_py() or 0 for column in table.columns)
    return table if max(longest) <= MAX_FIELD_BYTES else None


def _easy_block(table: pa.Table, data: bytes, end: Cursor) -> _Block:
    return _Block(
        columns={name: _one_chunk(table[name]) for name in table.column_names},
        starts=np.arange(table.num_rows, dtype=np.int64),
        bad=[],
        lines=lambda: data.decode().split("\n"),
        end=end,
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _hard_block(parsed: _Parsed, lines: list[str], names: list[str], *, end: Cursor) -> _Block:
    columns = list(zip(*parsed.rows, strict=True)) or [()] * len(names)
    return _Block(
        columns=dict(zip(names, columns, strict=True)),
        starts=np.asarray(parsed.starts, dtype=np.int64),
        bad=parsed.bad,
        lines=lambda: lines,
        end=end,
    )


def _from(lines: Sequence[str], start: int) -> Iterator[str]:
    for index in range(start, len(lines)):
        yield lines[index]


def _parse(lines: Sequence[str], width: int, *, delimiter: str, last: bool) -> _Parsed:
    """Split lines into rows of `width` fields; after a broken row go on with the next line."""
    parsed = _Parsed([], [], [])
    start = 0
    while start < len(lines):
        reader = csv.reader(_from(lines, start), delimiter=delimiter, strict=True)
        begun = start
        try:
            for row in reader:
                if len(row) == width:
                    parsed.rows.append(row)
                    parsed.starts.append(begun)
                elif row:
                    if start + reader.line_num - begun > 1:
                        raise csv.Error("a quote is not closed")
                    parsed.bad.append((begun, "ragged", _ragged(len(row), width)))
                begun = start + reader.line_num
            return parsed
        except csv.Error as error:
            if not last and start + reader.line_num >= len(lines):
                parsed.carry = begun
                return parsed
            parsed.bad.append((begun, *_trouble(str(error), lines[begun])))
            start = begun + 1
    return parsed


def _ragged(found: int, width: int) -> str:
    return f"the row has {found} columns, the header has {width}"


def _trouble(message: str, line: str) -> tuple[str, str]:
    # An open quote may run on into the limit, over lines that are short.
    if "limit" in message and len(line) > MAX_FIELD_BYTES:
        return "long_field", f"a field is longer than {MAX_FIELD_BYTES} characters"
    return "quotes", f"the quotes do not match ({message})"


def _without_dirt(parsed: _Parsed, lines: list[str]) -> _Parsed:
    """Refuse rows with NUL bytes or bytes that are no UTF-8."""
    text = "".join(lines)
    try:
        text.encode()
        if "\0" not in text:
            return parsed
    except UnicodeEncodeError:
        pass
    clean = _Parsed([], [], parsed.bad, parsed.carry)
    for row, begun in zip(parsed.rows, parsed.starts, strict=True):
        trouble = _dirt("".join(row))
        if trouble is None:
            clean.rows.append(row)
            clean.starts.append(begun)
        else:
            clean.bad.append((begun, *trouble))
    return clean


def _dirt(text: str) -> tuple[str, str] | None:
    if "\0" in text:
        return "nul_byte", "the row holds a NUL byte"
    if re.search("[\udc80-\udcff]", text):
        return "invalid_utf8", "the row holds bytes that are not UTF-8"
    return None
