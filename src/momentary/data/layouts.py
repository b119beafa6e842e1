"""A layout says how one file is to be read: its type, its columns, its times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from momentary.data.synonyms import EVENT_NAMES, ITEM_NAMES
from momentary.data.timestamps import TIME_UNITS
from momentary.errors import DataError
from momentary.types import EVENT_TYPES

FILE_TYPES = ("csv", "jsonl", "parquet")
TRACKERS = ("ga4", "segment")
"""Layouts whose records hold several items each, at places that are always the same."""

LAYOUTS = ("plain", *TRACKERS, "personalize", "gorse", "rectools", "session-rec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read one file; `detection.detect` guesses it, `dataclasses.replace` corrects it.

    Attributes:
        file_type: One of `FILE_TYPES`.
        name: One of `LAYOUTS`.
        kind: "events" or "items".
        names: Every column of the file.
        columns: Our field (`timestamp` for the time) -> the file's column.
        properties: Columns kept as properties. Detected item layouts keep all that are left over.
        encoding: "utf-8", "utf-8-sig" (with a byte order mark) or "latin-1".
        header: False when the first line is data; the columns are then column_1, column_2, ...
        time_unit: One of `timestamps.TIME_UNITS`; None when the times were not understood.
        day_first: What 1/2/2010 means, for the unit "dmy"; None when the file does not tell.
        default_type: The event type of every row when the file names none.
        order_as_time: Row r happens r seconds after 1970: order without a clock.
        event_types: Further event names of the file -> one of `momentary.types.EVENT_TYPES`.
    """

    file_type: str
    name: str = "plain"
    kind: str = "events"
    names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    compressed: bool = False
    header: bool = True
    time_unit: str | None = None
    day_first: bool | None = None
    default_type: str | None = None
    order_as_time: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("file_type", self.file_type, FILE_TYPES)
        _one_of("name", self.name, LAYOUTS)
        _one_of("kind", self.kind, ("events", "items"))
        if self.time_unit is not None:
            _one_of("time_unit", self.time_unit, TIME_UNITS)
        for event_type in (self.default_type or "view_item", *self.event_types.values()):
            _one_of("event type", event_type, EVENT_TYPES)
        roles = EVENT_NAMES if self.kind == "events" else ITEM_NAMES
        for role, column in self.columns.items():
            _one_of(f"field of {self.kind}", role, tuple(roles))
            if self.names and self.name not in TRACKERS:
                _one_of("column", column, self.names)

    def missing(self) -> tuple[str, ...]:
        """What stops the file from being imported, in plain sentences; empty when nothing does."""
        found = []
        if "item_id" not in self.columns:
            found.append("no column names the item")
        if self.kind == "items":
            return tuple(found)
        if not {"user_id", "anonymous_id", "session_id"} & set(self.columns):
            found.append("no column names a user, a visitor or a session")
        if "event_type" not in self.columns and self.default_type is None:
            found.append("no column names the event type and there is no default type")
        if not self.order_as_time:
            found.extend(self.missing_time())
        return tuple(found)

    def missing_time(self) -> list[str]:
        """What stops the times from being read, whether or not they are wanted."""
        if "timestamp" not in self.columns:
            return ["no column holds the time (order_as_time imports the order of the rows alone)"]
        column = self.columns["timestamp"]
        if self.time_unit is None:
            return [
                f"the times in column {column!r} are neither dates (2026-01-31T12:00:00Z, "
                "2026/01/31, 31-Jan-2026, 31/1/2026 12:00) nor seconds, milliseconds, "
                "microseconds or nanoseconds"
            ]
        if self.time_unit == "dmy" and self.day_first is None:
            return [
                f"the dates in column {column!r} may begin with the day or with the month; say "
                "which (day_first; --day-first or --month-first)"
            ]
        return []


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{what} is {value!r}; it must be one of {', '.join(known)}.")
