"""Read other systems' files as our events and items, and say why a row cannot be read.

The layouts: plain CSV, TSV, JSONL and Parquet, the GA4 export, Segment's `track`, AWS Personalize,
Gorse, RecTools and session-rec. `detection.detect` tells which one a file is, `synonyms` knows
their names for columns and events, `csv_rows`, `json_rows`, `parquet_rows` and `trackers` cut files
into raw rows; here the rows are checked and become a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from momentary.data.columns import any_text, as_mask, id_text, numbers
from momentary.data.csv_rows import read_csv
from momentary.data.json_rows import read_jsonl
from momentary.data.layouts import Layout
from momentary.data.parquet_rows import read_parquet
from momentary.data.rows import MAX_FIELD_BYTES, Cursor, RawRows, Reject, shown
from momentary.data.synonyms import key, known_type
from momentary.data.timestamps import FIRST_US, LAST_US, in_words, micros
from momentary.errors import DataError
from momentary.types import BoolArray, IntArray

CHUNK_ROWS = 100_000

EVENT_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("session_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp_us", pa.int64()),
        ("value", pa.float64()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("quantity", pa.float64()),
        ("recommendation_id", pa.string()),
        ("position", pa.int64()),
        ("properties", pa.string()),
    ]
)
"""Events as columns; `properties` is JSON text; a null `event_id` is filled by the importer."""

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("group_id", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("image", pa.string()),
        ("audio", pa.string()),
        ("video", pa.string()),
        ("brand", pa.string()),
        ("category", pa.string()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("available", pa.bool_()),
        ("hidden", pa.bool_()),
        ("properties", pa.string()),
    ]
)
"""Items as columns; `properties` is JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file, checked.

    Attributes:
        table: The good rows, in `EVENT_SCHEMA` or `ITEM_SCHEMA`.
        lines: Line of the file of each row of `table`. Shape (rows,).
        rows: Rows read, good or not.
        skipped: Rows without any item (a page view, a screen), which are no mistake.
        end: Where the next chunk begins.
    """

    table: pa.Table
    lines: IntArray
    rejects: list[Reject]
    rows: int
    skipped: int
    end: Cursor


class _Reader(Protocol):
    def __call__(
        self,
        path: Path,
        layout: Layout,
        start: Cursor | None,
        *,
        columns: Sequence[str],
        chunk_rows: int,
    ) -> Iterator[RawRows]: ...


_READERS: dict[str, _Reader] = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}


def read(path: Path, layout: Layout, *, start: Cursor | None = None) -> Iterator[Chunk]:
    """Read a file in chunks of about `CHUNK_ROWS` rows.

    Args:
        path: The file.
        layout: What `detection.detect` guessed, corrected if need be.
        start: `Chunk.end` of the last chunk that is already safe; None begins at the top.

    Raises:
        DataError: If the layout lacks a required column, or the file is damaged.
    """
    lacking = layout.missing()
    if lacking:
        raise DataError(
            f"{path} cannot be imported as {layout.kind}: {'; '.join(lacking)}. "
            f"Its columns are {', '.join(layout.names[:40]) or 'none'}; say which is what, as in "
            "--column item_id=NAME."
        )
    wanted = tuple(dict.fromkeys(layout.columns.values()))
    raw = read_raw(path, layout, columns=wanted, start=start)
    return (check(rows, layout) for rows in raw)


def read_raw(
    path: Path,
    layout: Layout,
    *,
    columns: Sequence[str],
    start: Cursor | None = None,
    chunk_rows: int | None = None,
) -> Iterator[RawRows]:
    """Read columns of a file as they are.

    Args:
        path: The file.
        layout: How it is written.
        columns: Which of the file's columns; of a tracker's file, values of `Layout.columns`.
        start: `RawRows.end` of the last rows that are already safe; None begins at the top.
        chunk_rows: About how many rows come at once; None is `CHUNK_ROWS`.

    Raises:
        DataError: If the file is damaged.
    """
    reader = _READERS[layout.file_type]
    return reader(path, layout, start, columns=columns, chunk_rows=chunk_rows or CHUNK_ROWS)


class _Verdict:
    """Collects why rows are refused; the first reason counts."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, dtype=np.bool_)
        self.reasons: dict[int, tuple[str, str]] = {}

    def reject(self, mask: BoolArray, code: str, explain: Callable[[int], str]) -> None:
        if not mask.any():
            return
        for row in np.flatnonzero(mask & ~self.bad).tolist():
            self.reasons[row] = (code, explain(row))
        self.bad |= mask


def check(raw: RawRows, layout: Layout) -> Chunk:
    """Convert raw rows to our columns and set those aside that cannot be read.

    Args:
        raw: Rows with at least the columns of the layout.
        layout: A layout that lacks nothing.
    """
    verdict = _Verdict(len(raw.lines))
    fields = {role: raw.columns[column] for role, column in layout.columns.items()}
    if layout.kind == "events":
        columns = _events(fields, raw, layout=layout, verdict=verdict)
    else:
        columns = _items(fields, verdict)
    if raw.extras is not None:
        columns["properties"] = pc.coalesce(raw.extras, columns["properties"])
    schema = EVENT_SCHEMA if layout.kind == "events" else ITEM_SCHEMA
    table = pa.table(columns, schema=schema)
    bad = sorted(verdict.reasons)
    found = [
        Reject(
            line=int(raw.lines[row]),
            code=verdict.reasons[row][0],
            reason=verdict.reasons[row][1],
            raw_excerpt=excerpt,
        )
        for row, excerpt in zip(bad, raw.excerpts(bad) if bad else [], strict=True)
    ]
    good = ~verdict.bad
    return Chunk(
        table=table.filter(pa.array(good)) if bad else table,
        lines=raw.lines[good],
        rejects=sorted(raw.rejects + found, key=lambda reject: reject.line),
        rows=len(raw.lines) + len(raw.rejects) + raw.skipped,
        skipped=raw.skipped,
        end=raw.end,
    )


_Fields = dict[str, pa.Array]


def _events(fields: _Fields, raw: RawRows, *, layout: Layout, verdict: _Verdict) -> _Fields:
    columns = _texts(fields, EVENT_SCHEMA, verdict)
    _need(columns["item_id"], "missing_item", reason="the row has no item id", verdict=verdict)
    visitor = pc.coalesce(columns["user_id"], columns["anonymous_id"], columns["session_id"])
    reason = "the row has no user, visitor or session id"
    _need(visitor, "missing_visitor", reason=reason, verdict=verdict)
    columns["event_type"] = _types(columns["event_type"], layout, verdict)
    if layout.order_as_time:
        times = raw.lines * 1_000_000
    else:
        times = _times(fields["timestamp"], layout, verdict)
    columns["timestamp_us"] = pa.array(times)
    for name in ("value", "price", "quantity", "position"):
        columns[name] = _numbers(fields, name, verdict)
    columns["position"] = pc.cast(columns["position"], pa.int64(), safe=False)
    return columns


def _items(fields: _Fields, verdict: _Verdict) -> _Fields:
    columns = _texts(fields, ITEM_SCHEMA, verdict)
    _need(columns["item_id"], "missing_item", reason="the row has no item id", verdict=verdict)
    columns["price"] = _numbers(fields, "price", verdict)
    columns["available"] = _flags(fields.get("available"), "available", verdict)
    columns["hidden"] = _flags(fields.get("hidden"), "hidden", verdict)
    return columns


def _texts(fields: _Fields, schema: pa.Schema, verdict: _Verdict) -> _Fields:
    """The schema's string columns: empty is null, long fields and NUL are refused."""
    columns = {}
    for name in [part.name for part in schema if part.type == pa.string()]:
        if name not in fields:
            columns[name] = pa.nulls(len(verdict.bad), pa.string())
            continue
        text = id_text(fields[name])
        _refuse_odd_text(text, name, verdict)
        columns[name] = text
    return columns


def _refuse_odd_text(text: pa.Array, name: str, verdict: _Verdict) -> None:
    lengths = pc.binary_length(text)
    longest = pc.max(lengths).as_py()
    if longest is not None and longest > MAX_FIELD_BYTES:
        verdict.reject(
            as_mask(pc.greater(lengths, MAX_FIELD_BYTES)),
            "long_field",
            lambda row: f"{name} has {lengths[row]} bytes; {MAX_FIELD_BYTES} are allowed",
        )
    verdict.reject(
        as_mask(pc.match_substring(text, "\0")), "nul_byte", lambda _: f"{name} holds a NUL byte"
    )


def _need(column: pa.Array, code: str, *, reason: str, verdict: _Verdict) -> None:
    if column.null_count:
        verdict.reject(as_mask(pc.is_null(column)), code, lambda _: reason)


def _types(names: pa.Array, layout: Layout, verdict: _Verdict) -> pa.Array:
    """GA4's names for the file's; an empty one takes the default."""
    if layout.default_type is not None:
        names = pc.fill_null(names, layout.default_type)  # type: ignore[assignment,unused-ignore]
    encoded = names.dictionary_encode()
    own = {key(name): value for name, value in layout.event_types.items()}
    mapped = [own.get(key(name)) or known_type(name) for name in encoded.dictionary.to_pylist()]
    types = pc.take(pa.array(mapped, pa.string()), encoded.indices)
    verdict.reject(
        as_mask(pc.is_null(types)),
        "unknown_type",
        lambda row: (
            f"event type {shown(str(names[row].as_py()))!r} is unknown"
            if names[row].is_valid
            else "the row has no event type"
        ),
    )
    return types


def _numbers(fields: _Fields, name: str, verdict: _Verdict) -> pa.Array:
    if name not in fields:
        return pa.nulls(len(verdict.bad), pa.float64())
    found, bad = numbers(fields[name])
    if bad.any():
        text = any_text(fields[name])
        verdict.reject(
            bad, "bad_number", lambda row: f"{name} is {shown(str(text[row]))!r}, not a number"
        )
    if name == "position":
        # A place on a list is a whole number; anything beyond 2^31 is none.
        far = as_mask(pc.greater(pc.abs(found), 2**31))
        verdict.reject(far, "bad_number", lambda row: f"position {found[row]} is too large")
        return pc.if_else(pa.array(far), None, found)
    return found


_TRUE = frozenset({"true", "1", "yes", "y", "t", "instock", "available", "1.0"})
_FALSE = frozenset({"false", "0", "no", "n", "f", "outofstock", "unavailable", "soldout", "0.0"})


def _flags(column: pa.Array | None, name: str, verdict: _Verdict) -> pa.Array:
    """Booleans; empty means the usual: available, not hidden."""
    usual = name == "available"
    if column is None:
        return pa.array(np.full(len(verdict.bad), usual))
    words = any_text(column).to_pylist()
    flags: list[bool | None] = []
    for word in words:
        plain = re.sub(r"[\s_\-]|https?://schema\.org/", "", (word or "").lower())
        known = plain in _TRUE or (plain == "" and usual)
        flags.append(True if known else False if plain in _FALSE or plain == "" else None)
    found = pa.array(flags, pa.bool_())
    verdict.reject(
        as_mask(pc.is_null(found)),
        "bad_flag",
        lambda row: f"{name} is {shown(str(words[row]))!r}; true or false is needed",
    )
    return found


def _times(column: pa.Array, layout: Layout, verdict: _Verdict) -> IntArray:
    """Microseconds since 1970 in UTC; unreadable and impossible times are refused."""
    unit = layout.time_unit or "iso"
    times, bad = micros(column, unit, day_first=layout.day_first)
    wanted = in_words(unit, day_first=layout.day_first)

    def text(row: int) -> str:
        return shown(str(any_text(column.slice(row, 1))[0].as_py() or ""))

    verdict.reject(
        bad, "bad_time", lambda row: f"time {text(row)!r} is not readable among {wanted}"
    )
    outside = ~bad & ((times < FIRST_US) | (times >= LAST_US))
    verdict.reject(outside, "time_range", lambda row: f"time {text(row)!r} is outside 1971..2100")
    return times
