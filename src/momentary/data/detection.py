"""What is this file? Its type, its layout, its columns and its times, guessed by a look at it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from momentary.data import csv_rows, json_rows, text_files
from momentary.data.columns import any_text, is_number
from momentary.data.formats import read_raw
from momentary.data.layouts import Layout
from momentary.data.parquet_rows import open_parquet
from momentary.data.synonyms import EVENT_NAMES, ITEM_NAMES, is_known_column, key
from momentary.data.timestamps import number_orders, unit_of
from momentary.data.trackers import tracker_layout, tracker_of
from momentary.errors import DataError

_SAMPLE_ROWS = 1000
_MAX_SETTLE_ROWS = 2_000_000
"""So far a column of dates such as 1/2/2010 is searched for a number above 12."""

_DESCRIBES = ("name", "description", "image", "audio", "video", "brand", "category")
_SHARED_ROLES = {"item_id": ("image", "audio")}

_KNOWN_HEADERS = {
    "personalize": frozenset({"USER_ID", "ITEM_ID", "TIMESTAMP"}),
    "gorse": frozenset({"FeedbackType", "UserId", "ItemId"}),
    "rectools": frozenset({"user_id", "item_id", "weight", "datetime"}),
    "session-rec": frozenset({"SessionId", "ItemId", "Time"}),
}


def detect(path: Path, *, columns: Mapping[str, str] | None = None) -> Layout:
    """Guess how to read a file.

    Args:
        path: The file.
        columns: What is known already: our field -> the file's column. It goes before the guess;
            a field that events or items do not have is passed over in such a file.

    Returns:
        A layout; `Layout.missing` tells what it still lacks.

    Raises:
        DataError: If the file does not exist, is empty, binary, damaged or of no known type.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; name a CSV, TSV, JSONL or Parquet file.")
    with path.open("rb") as stream:
        magic = stream.read(4)
    told = dict(columns or {})
    if magic == b"PAR1":
        layout = _detect_parquet(path, told)
    else:
        layout = _detect_text(path, told, compressed=magic[:2] == b"\x1f\x8b")
    return _settled(path, layout)


def _detect_text(path: Path, told: Mapping[str, str], *, compressed: bool) -> Layout:
    head = text_files.head(path, compressed=compressed)
    text_files.refuse_binary(path, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"[":
        raise DataError(f"{path} is a JSON array; write one object a line (jq -c '.[]').")
    encoding = text_files.encoding_of(head)
    if start == b"{":
        base = Layout(file_type="jsonl", encoding=encoding, compressed=compressed)
        return _detect_jsonl(path, base, told)
    base = Layout(
        file_type="csv",
        encoding=encoding,
        compressed=compressed,
        delimiter=csv_rows.delimiter_of(head[:65536].decode("utf-8-sig", "replace")),
    )
    return _detect_csv(path, base, told)


def _detect_csv(path: Path, base: Layout, told: Mapping[str, str]) -> Layout:
    names, _ = csv_rows.header(path, base)
    looks_like_data = any(is_number(name) for name in names)
    if looks_like_data and not any(is_known_column(name) for name in names):
        base = replace(base, header=False)
        names, _ = csv_rows.header(path, base)
    return _guess(base, _sample(path, base, names), told=told)


def _detect_jsonl(path: Path, base: Layout, told: Mapping[str, str]) -> Layout:
    values = json_rows.first_values(path, base, rows=_SAMPLE_ROWS)
    if not values:
        raise DataError(
            f"{path} begins like JSON but no line is a JSON object; see its first line."
        )
    tracker = tracker_of(values)
    if tracker is not None:
        return tracker_layout(base, tracker, names=tuple(values))
    texts = {
        name: [json_rows.scalar_text(value) for value in column] for name, column in values.items()
    }
    return _guess(base, texts, told=told)


def _detect_parquet(path: Path, told: Mapping[str, str]) -> Layout:
    with open_parquet(path) as file:
        schema = file.schema_arrow
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice or not schema.names:
        what = f"has several columns {', '.join(twice)}" if twice else "has no columns"
        raise DataError(f"{path} {what}; write it again with one name a column.")
    base = Layout(file_type="parquet")
    if {"event_name", "event_timestamp", "items"} <= set(schema.names):
        return tracker_layout(base, "ga4", names=tuple(schema.names))
    native = frozenset(
        part.name
        for part in schema
        if pa.types.is_timestamp(part.type) or pa.types.is_date(part.type)
    )
    return _guess(base, _sample(path, base, schema.names), told=told, native=native)


def _sample(path: Path, layout: Layout, names: Sequence[str]) -> dict[str, list[str | None]]:
    """The first rows of a file as text by column."""
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for raw in read_raw(path, layout, columns=names, chunk_rows=_SAMPLE_ROWS):
        room = _SAMPLE_ROWS - len(columns[names[0]])
        for name, values in columns.items():
            texts = any_text(raw.columns[name][:room]).to_pylist()
            values.extend(text or None for text in texts)
        full = len(columns[names[0]]) >= _SAMPLE_ROWS
        if full or raw.end.offset > 16 * text_files.SAMPLE_BYTES:
            break
    return columns


def _settled(path: Path, layout: Layout) -> Layout:
    """The layout with `day_first`, read on until a number above 12 tells what 1/2/2010 means."""
    if layout.time_unit != "dmy" or layout.kind != "events":
        return layout
    column = layout.columns["timestamp"]
    for raw in read_raw(path, layout, columns=[column]):
        orders = number_orders(raw.columns[column])
        if orders:
            return replace(layout, day_first=orders.pop() if len(orders) == 1 else None)
        if raw.end.lines > _MAX_SETTLE_ROWS:
            break
    return layout


def _guess(
    base: Layout,
    columns: Mapping[str, Sequence[str | None]],
    *,
    told: Mapping[str, str],
    native: frozenset[str] = frozenset(),
) -> Layout:
    names = tuple(columns)
    units = {name: unit_of(columns[name], native=name in native) for name in names}
    events = _roles(names, EVENT_NAMES, units=units, told=told)
    items = _roles(names, ITEM_NAMES, units={}, told=told)
    if _is_catalogue(events, items):
        kept = tuple(name for name in names if name not in items.values())
        return replace(base, kind="items", names=names, columns=items, properties=kept)
    time = events.get("timestamp")
    if time is None and "position" not in told:
        # Without a clock a position is the order inside the session, not a place on a list.
        events.pop("position", None)
    return replace(
        base,
        name=_known_layout(names),
        names=names,
        columns=events,
        time_unit=units[time] if time else None,
        default_type=None if "event_type" in events else _usual_type(events),
    )


def _known_layout(names: Sequence[str]) -> str:
    found = (name for name, needed in _KNOWN_HEADERS.items() if needed <= set(names))
    return next(found, "plain")


def _roles(
    names: Sequence[str],
    aliases: Mapping[str, Sequence[str]],
    *,
    units: Mapping[str, str | None],
    told: Mapping[str, str],
) -> dict[str, str]:
    """Our field -> column: the best-known name wins; among times, the first that is readable."""
    by_key = {key(name): name for name in reversed(names)}
    roles = {role: column for role, column in told.items() if role in aliases}
    for role, known in aliases.items():
        if role in roles:
            continue
        candidates = [by_key[alias] for alias in known if alias in by_key]
        free = [c for c in candidates if not _taken(c, role, roles)]
        if role == "timestamp":
            free = sorted(free, key=lambda name: units.get(name) is None)
        if role == "session_id" and {"user_id", "anonymous_id"} & set(roles):
            # A transaction number beside a visitor marks purchases, not visits.
            free = [c for c in free if key(c) != "transactionid"]
        if free:
            roles[role] = free[0]
    return roles


def _taken(column: str, role: str, roles: Mapping[str, str]) -> bool:
    return any(
        used == column and role not in _SHARED_ROLES.get(other, ()) for other, used in roles.items()
    )


def _is_catalogue(events: Mapping[str, str], items: Mapping[str, str]) -> bool:
    if "item_id" not in items or not set(_DESCRIBES) & set(items):
        return False
    who = {"user_id", "anonymous_id", "session_id"} & set(events)
    return not ("item_id" in events and (who or "timestamp" in events))


def _usual_type(columns: Mapping[str, str]) -> str:
    """What a row means when nothing says so: a rating, a line of a basket, or a view."""
    if key(columns.get("value", "")) in ("rating", "stars", "overall", "score"):
        return "rate"
    basket = re.search(
        "invoice|basket|order|receipt|transaction", key(columns.get("session_id", ""))
    )
    return "purchase" if basket and "quantity" in columns else "view_item"
