"""What the caller says about files, put before what is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from momentary.data.detection import detect
from momentary.data.layouts import TRACKERS, Layout
from momentary.data.synonyms import EVENT_NAMES, ITEM_NAMES
from momentary.errors import DataError, SettingsError
from momentary.types import EVENT_TYPES


def choose(
    paths: Iterable[Path],
    *,
    columns: Mapping[str, str] | None = None,
    event_type: str | None = None,
    order_as_time: bool = False,
    day_first: bool | None = None,
) -> dict[Path, Layout]:
    """Detect how to read files, with the same corrections for all of them.

    Each correction goes to the files that it fits, and is refused if it fits none.

    Args:
        paths: The files.
        columns: Our field -> a column, for the files that have the column; the unit of a time
            is guessed anew.
        event_type: The type of all events of files that name none; a file with a column of types
            keeps its own.
        order_as_time: Take the order of the rows in files whose times are missing or unreadable;
            a file with a clock keeps it.
        day_first: What 1/2/2010 means in files that write so, True the 1st of February; a file
            with a number above 12 tells it itself.

    Raises:
        DataError: If a file cannot be read, or no file has use for a correction.
        SettingsError: If a field or an event type does not exist.
    """
    told = dict(columns or {})
    _refuse_unknown(told, event_type)
    guessed = {path: detect(path) for path in paths}
    layouts = {path: _told(path, layout, told) for path, layout in guessed.items()}
    for field, column in told.items():
        _refuse_unused_column(field, column, layouts)
    if day_first is not None:
        layouts = _with_day_first(layouts, day_first=day_first)
    if event_type is not None:
        layouts = _with_type(layouts, event_type)
    return _with_order(layouts) if order_as_time else layouts


def _refuse_unknown(told: Mapping[str, str], event_type: str | None) -> None:
    known = tuple(dict.fromkeys([*EVENT_NAMES, *ITEM_NAMES]))
    for field, column in told.items():
        if field not in known:
            raise SettingsError(
                f"no field is called {field!r} (given as {field}={column}); the fields are "
                f"{', '.join(known)}."
            )
    if event_type is not None and event_type not in EVENT_TYPES:
        raise SettingsError(
            f"event type is {event_type!r}; it must be one of {', '.join(EVENT_TYPES)}."
        )


def _told(path: Path, layout: Layout, told: Mapping[str, str]) -> Layout:
    """The layout guessed again around what is known; a tracker's places are always the same."""
    if layout.name in TRACKERS:
        return layout
    own = {field: column for field, column in told.items() if column in layout.names}
    return detect(path, columns=own) if own else layout


def _refuse_unused_column(field: str, column: str, layouts: Mapping[Path, Layout]) -> None:
    if any(layout.columns.get(field) == column for layout in layouts.values()):
        return
    holders = [f"{p.name} ({part.kind})" for p, part in layouts.items() if column in part.names]
    if holders:
        raise DataError(
            f"{', '.join(holders)} has a column {column!r} but no use for the field {field!r}; "
            "leave it out, or name another field."
        )
    seen = "; ".join(
        f"{path.name} has {', '.join(layout.names[:40])}" for path, layout in layouts.items()
    )
    raise DataError(f"no file has a column {column!r} (given as {field}={column}): {seen}.")


def _with_day_first(layouts: Mapping[Path, Layout], *, day_first: bool) -> dict[Path, Layout]:
    dated = {path: layout for path, layout in layouts.items() if layout.time_unit == "dmy"}
    if not dated:
        raise DataError(
            "no file has dates such as 1/2/2010, whose day and month could be mistaken; leave "
            "--day-first and --month-first out."
        )
    if all(layout.day_first == (not day_first) for layout in dated.values()):
        wrong, right = ("day", "month") if day_first else ("month", "day")
        names = ", ".join(path.name for path in dated)
        raise DataError(
            f"the dates of {names} begin with the {right}, for their second number goes above 12; "
            f"leave --{wrong}-first out."
        )
    return {
        path: replace(layout, day_first=day_first)
        if path in dated and layout.day_first is None
        else layout
        for path, layout in layouts.items()
    }


def _with_type(layouts: Mapping[Path, Layout], event_type: str) -> dict[Path, Layout]:
    if all(not _names_no_type(layout) for layout in layouts.values()):
        own = [
            f"{path.name} (column {layout.columns['event_type']!r})"
            for path, layout in layouts.items()
            if "event_type" in layout.columns
        ]
        why = f"{', '.join(own)} names its own" if own else "no file holds events"
        raise DataError(f"event type {event_type!r} has no use: {why}; leave it out.")
    return {
        path: replace(layout, default_type=event_type) if _names_no_type(layout) else layout
        for path, layout in layouts.items()
    }


def _names_no_type(layout: Layout) -> bool:
    return layout.kind == "events" and "event_type" not in layout.columns


def _with_order(layouts: Mapping[Path, Layout]) -> dict[Path, Layout]:
    without = {
        path
        for path, layout in layouts.items()
        if layout.kind == "events" and layout.missing_time()
    }
    if not without:
        clocks = [
            f"{path.name} (column {layout.columns['timestamp']!r})"
            for path, layout in layouts.items()
            if layout.kind == "events"
        ]
        why = f"{', '.join(clocks)} has times" if clocks else "no file holds events"
        raise DataError(f"the order of the rows is not needed: {why}; leave --order-as-time out.")
    return {
        path: replace(layout, order_as_time=True) if path in without else layout
        for path, layout in layouts.items()
    }
