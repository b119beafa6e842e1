"""What the doctor can say of a file: its columns, what is wrong, what it is good for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from momentary.data.layouts import Layout
from momentary.data.rows import Reject

_SHOWN = 60


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the rows that were read.

    Attributes:
        role: Our field that it fills, "property" when it is kept as one, None when it is not read.
        type: integer, number, time, text or empty, judged by the first values.
        null_share: 0..1.
        distinct: Different values, without the empty one.
        estimated: True when there are too many to be counted exactly.
        example: The first value, cut short.
    """

    name: str
    role: str | None
    type: str
    null_share: float
    distinct: int
    estimated: bool
    example: str


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """Where a problem shows."""

    line: int
    reason: str
    excerpt: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes:
        code: Short and stable, such as `ragged` or `bad_time`.
        fatal: True when the file cannot be imported before it is mended.
    """

    code: str
    what: str
    count: int
    remedy: str
    examples: tuple[Example, ...] = ()
    fatal: bool = False


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Something that recommenders do, and whether this file supports it."""

    name: str
    possible: bool
    why: str
    use: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a folder or archive."""

    name: str
    size: int
    what: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor found; `msgspec.to_builtins` makes it JSON.

    Attributes:
        file_type: csv, jsonl, parquet, folder, zip or unknown.
        path: As it was given.
        rows: Rows read, good or not; None when no row could be read.
        good_rows: Events or items that an import would bring.
        first_time: ISO 8601 in UTC.
        sessions: Visits, by the file's own session ids; None without them.
        median_session: Events of the middle session (without session ids: of the middle visitor).
        duplicates: Rows that say exactly what an earlier row says.
        remarks: Worth knowing, but not wrong.
        contents: Of a folder or an archive.
        command: The next thing to type; None when the file must be mended first.
    """

    path: str
    file_type: str
    size_bytes: int = 0
    compressed: bool = False
    encoding: str | None = None
    bom: bool = False
    crlf: bool = False
    delimiter: str | None = None
    layout: str | None = None
    kind: str | None = None
    rows: int | None = None
    good_rows: int | None = None
    columns: tuple[Column, ...] = ()
    time_unit: str | None = None
    first_time: str | None = None
    last_time: str | None = None
    items: int | None = None
    users: int | None = None
    sessions: int | None = None
    median_session: float | None = None
    duplicates: int | None = None
    event_types: dict[str, int] = {}
    default_type: str | None = None
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    contents: tuple[Entry, ...] = ()
    command: str | None = None


_REMEDIES = {
    "ragged": (
        "rows with more or fewer columns than the header",
        "quote fields that hold the delimiter, or export the file again",
    ),
    "quotes": ("rows whose quotes do not match", 'double a quote inside a field: "a ""b"" c"'),
    "long_field": ("fields longer than 1 MiB", "shorten them; ids and texts are never that long"),
    "invalid_utf8": ("rows that are not UTF-8", "save the file as UTF-8"),
    "nul_byte": ("rows with NUL bytes", "remove them: tr -d '\\000' < old > new"),
    "bad_json": ("lines that are not JSON objects", "write one JSON object a line"),
    "bad_time": ("times that cannot be read", "write ISO dates or seconds since 1970"),
    "time_range": ("times outside 1971..2100", "check the unit of the time column"),
    "bad_number": ("words where numbers belong", "write plain numbers with a decimal point"),
    "bad_flag": ("words where true or false belongs", "write true or false"),
    "missing_item": ("rows without an item id", "fill in the item, or leave the rows out"),
    "missing_visitor": ("rows that name nobody", "fill in a user, visitor or session id"),
    "unknown_type": (
        "event types we do not know",
        "rename them, or leave them out: these rows are not imported",
    ),
}


def short(text: str, length: int = _SHOWN) -> str:
    """One line of at most `length` characters."""
    plain = " ".join(text[: 2 * length].split())
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def scenario(name: str, found: str, use: str) -> Scenario:
    """A scenario that is possible unless nothing ("0 ...") was found for it."""
    possible = not found.startswith("0 ")
    return Scenario(name=name, possible=possible, why=found, use=use if possible else "")


def bad_rows(code: str, count: int, examples: Sequence[Reject]) -> Problem:
    """Rows that are set aside for one reason."""
    what, remedy = _REMEDIES[code]
    return Problem(
        code=code,
        what=what,
        count=count,
        remedy=remedy,
        examples=tuple(
            Example(line=r.line, reason=short(r.reason, 160), excerpt=short(r.raw_excerpt))
            for r in examples
        ),
    )


def broken(message: str, *, remedy: str) -> Problem:
    """A file that cannot be read, or not to its end."""
    known = {
        "empty": ("is empty",),
        "truncated": ("damaged", "whole Parquet", "readable gzip"),
        "binary": ("binary", "picture", "audio", "a PDF", "database", "UTF-16"),
        "absent": ("is not a file",),
    }
    codes = (code for code, words in known.items() if any(word in message for word in words))
    return Problem(
        code=next(codes, "unreadable"),
        what=short(message, 300).rstrip("."),
        count=1,
        remedy=remedy,
        fatal=True,
    )


_LACKS = {
    "names the item": ("no_item", "import with --column item_id=NAME, or name the column so"),
    "names a user": (
        "no_visitor",
        "import with --column user_id=NAME or --column session_id=NAME, or name the column so",
    ),
    "names the event type": (
        "no_type",
        "import with --event-type view_item, or add a column event_type",
    ),
    "holds the time": (
        "no_time",
        "import with --column timestamp=NAME; or with --order-as-time, which keeps the order of "
        "the rows and nothing else: no time splits, no decay, no trends",
    ),
    "may begin with the day": (
        "ambiguous_date",
        "import with --day-first if 1/2/2010 is the 1st of February, with --month-first if it is "
        "the 2nd of January",
    ),
    "the times in column": ("bad_time", "write ISO dates or seconds since 1970"),
}


def lacking(layout: Layout) -> list[Problem]:
    """What the layout misses, with remedies."""
    problems = []
    for sentence in layout.missing():
        code, remedy = next(found for words, found in _LACKS.items() if words in sentence)
        problems.append(Problem(code=code, what=sentence, count=1, remedy=remedy, fatal=True))
    return problems
