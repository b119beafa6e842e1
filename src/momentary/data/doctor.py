"""Look at any file, say what it is, what is wrong with it and what it can be used for."""

from __future__ import annotations

import shlex
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from momentary.data import formats
from momentary.data.formats import Chunk, Layout, Reject
from momentary.errors import DataError

_EXAMPLES = 3
_SHOWN = 60
_ENTRIES = 50


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column, judged by the first rows of the file.

    Attributes:
        role: Our field that it fills, "property" when it is kept as one, None when it is not read.
        type: integer, number, time, text or empty.
        null_share: 0..1.
        distinct: Different values among the rows looked at.
        example: The first value, cut short.
    """

    name: str
    role: str | None
    type: str
    null_share: float
    distinct: int
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


def examine(path: Path, *, max_rows: int | None = None) -> Report:
    """Look at a file, a folder or a zip archive; whatever it is, the answer is a report.

    Args:
        path: What to look at.
        max_rows: Stop reading after about so many rows; None reads all.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if zipfile.is_zipfile(path):
            return _archive(path)
        return _file(path, max_rows=max_rows)
    except (DataError, OSError, zipfile.BadZipFile) as error:
        return _unreadable(path, str(error))


def _unreadable(path: Path, message: str) -> Report:
    code = _file_code(message)
    found = Problem(
        code=code,
        what=_short(message, 300).rstrip("."),
        count=1,
        remedy="mend the file, or name another one",
        fatal=True,
    )
    size = path.stat().st_size if path.is_file() else 0
    return Report(path=str(path), file_type="unknown", size_bytes=size, problems=(found,))


def _file_code(message: str) -> str:
    known = {
        "empty": ("is empty",),
        "truncated": ("damaged", "whole Parquet", "readable gzip"),
        "binary": ("binary", "picture", "audio", "a PDF", "database", "UTF-16"),
        "absent": ("is not a file",),
    }
    found = (code for code, words in known.items() if any(word in message for word in words))
    return next(found, "unreadable")


def _short(text: str, length: int = _SHOWN) -> str:
    plain = " ".join(text[: 2 * length].split())
    return plain if len(plain) <= length else plain[: length - 1] + "…"


# --- folders and archives ---------------------------------------------------------------------

_KINDS = {
    "pictures": (".jpg", ".jpeg", ".png", ".webp", ".gif"),
    "sounds": (".ogg", ".mp3", ".wav", ".flac"),
    "MIDI": (".mid", ".midi"),
    "films": (".mp4", ".webm", ".mov"),
    "tables": (".csv", ".tsv", ".jsonl", ".parquet", ".gz"),
}


def _what(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return next((kind for kind, endings in _KINDS.items() if suffix in endings), "other files")


def _archive(path: Path) -> Report:
    with zipfile.ZipFile(path) as archive:
        entries = [
            Entry(name=_short(info.filename, 200), size=info.file_size, what=_what(info.filename))
            for info in archive.infolist()
            if not info.is_dir()
        ]
    return _container(path, "zip", entries)


def _folder(path: Path) -> Report:
    entries: list[Entry] = []
    for file in sorted(part for part in path.rglob("*") if part.is_file()):
        name = str(file.relative_to(path))
        what = _what(name)
        if what == "tables" and len(entries) < _ENTRIES:
            what = _table_in_words(file)
        entries.append(Entry(name=name, size=file.stat().st_size, what=what))
    return _container(path, "folder", entries)


def _table_in_words(file: Path) -> str:
    try:
        layout = formats.detect(file)
    except (DataError, OSError) as error:
        return f"unreadable: {_short(str(error))}"
    lacking = layout.missing()
    return f"{layout.kind} ({layout.name})" + (f", but {'; '.join(lacking)}" if lacking else "")


def _container(path: Path, file_type: str, entries: Sequence[Entry]) -> Report:
    kinds = Counter(_what(entry.name) for entry in entries)
    remarks = [f"{count:,} {kind}" for kind, count in sorted(kinds.items())]
    remarks.append("name a table inside to import it; pictures and sounds stay where they are")
    pictures, sounds = kinds["pictures"], kinds["sounds"] + kinds["MIDI"]
    scenarios = (
        _scenario("pictures", f"{pictures:,} pictures", "looks of items that nobody has clicked"),
        _scenario("sounds", f"{sounds:,} sounds", "the sound of items that nobody has played"),
    )
    return Report(
        path=str(path),
        file_type=file_type,
        size_bytes=sum(entry.size for entry in entries),
        remarks=tuple(remarks),
        scenarios=scenarios,
        contents=tuple(entries[:_ENTRIES]),
    )


def _scenario(name: str, found: str, use: str) -> Scenario:
    possible = not found.startswith("0 ")
    return Scenario(name=name, possible=possible, why=found, use=use if possible else "")


# --- files ------------------------------------------------------------------------------------


def _file(path: Path, *, max_rows: int | None) -> Report:
    layout = formats.detect(path)
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    text = layout.file_type != "parquet" and not layout.compressed
    base = Report(
        path=str(path),
        file_type=layout.file_type,
        size_bytes=path.stat().st_size,
        compressed=layout.compressed,
        encoding=None if layout.file_type == "parquet" else layout.encoding,
        bom=layout.encoding == "utf-8-sig",
        crlf=text and b"\r\n" in head,
        delimiter=layout.delimiter if layout.file_type == "csv" else None,
        layout=layout.name,
        kind=layout.kind,
        columns=_columns(path, layout),
        time_unit=layout.time_unit,
        default_type=layout.default_type if "event_type" not in layout.columns else None,
    )
    fatal = _missing(layout)
    readable = _readable(layout)
    if readable is None:
        return msgspec.structs.replace(
            base, problems=tuple(fatal), remarks=tuple(_remarks(base, layout))
        )
    with closing(_Examination(readable)) as examination:
        broken = examination.read(path, max_rows=max_rows)
        found = [*fatal, *broken, *examination.problems()]
        report = examination.report(base)
    remarks = [*_remarks(base, layout), *examination.remarks(report)]
    command = (
        None if any(p.fatal for p in found) and not _only_clock(found) else _command(path, found)
    )
    return msgspec.structs.replace(
        report, problems=tuple(found), remarks=tuple(remarks), command=command
    )


def _only_clock(problems: Iterable[Problem]) -> bool:
    return {problem.code for problem in problems if problem.fatal} <= {"no_time"}


def _command(path: Path, problems: Iterable[Problem]) -> str:
    flag = " --order-as-time" if any(p.code == "no_time" for p in problems) else ""
    return f"momentary import {shlex.quote(str(path))}{flag}"


def _readable(layout: Layout) -> Layout | None:
    """A layout that can be read for its figures; without a clock the order has to do."""
    if not layout.missing():
        return layout
    ordered = replace(layout, order_as_time=True)
    return None if ordered.missing() else ordered


_LACKS = {
    "names the item": ("no_item", "name the item column item_id"),
    "names a user": ("no_visitor", "name the column of the visitor user_id or session_id"),
    "names the event type": ("no_type", "add a column event_type"),
    "holds the time": (
        "no_time",
        "add a column timestamp; or import with --order-as-time, which keeps the order of the rows "
        "and nothing else: no time splits, no decay, no trends",
    ),
    "the times in column": ("bad_time", "write ISO dates or seconds since 1970"),
}


def _missing(layout: Layout) -> list[Problem]:
    problems = []
    for sentence in layout.missing():
        code, remedy = next(found for words, found in _LACKS.items() if words in sentence)
        problems.append(Problem(code=code, what=sentence, count=1, remedy=remedy, fatal=True))
    return problems


def _columns(path: Path, layout: Layout) -> tuple[Column, ...]:
    roles: dict[str, str] = {}
    for role, column in layout.columns.items():
        roles[column] = f"{roles[column]}, {role}" if column in roles else role
    kept = dict.fromkeys(layout.properties, "property")
    described = []
    for name, values in formats.sample(path, layout).items():
        known = [value for value in values if value is not None]
        described.append(
            Column(
                name=_short(name),
                role=roles.get(name, kept.get(name)),
                type=_type(known, is_time=name == layout.columns.get("timestamp")),
                null_share=1 - len(known) / len(values) if values else 1.0,
                distinct=len(set(known)),
                example=_short(known[0]) if known else "",
            )
        )
    return tuple(described)


def _type(values: Sequence[str], *, is_time: bool) -> str:
    if not values:
        return "empty"
    if is_time:
        return "time"
    try:
        numbers = [float(value) for value in values if len(value) < 40]
    except ValueError:
        return "text"
    if len(numbers) < len(values):
        return "text"
    return "integer" if all("." not in value and "e" not in value for value in values) else "number"


def _remarks(report: Report, layout: Layout) -> list[str]:
    remarks = []
    if report.bom:
        remarks.append("starts with a byte order mark, which is left out")
    if report.crlf:
        remarks.append("lines end as on Windows (CRLF), which is fine")
    if layout.encoding == "latin-1":
        remarks.append("is not UTF-8; read as latin-1")
    if not layout.header:
        remarks.append("the first line looks like data: the columns are called column_1, column_2")
    if report.default_type is not None and layout.kind == "events" and not layout.missing():
        remarks.append(f"names no event type; every row is taken as {report.default_type}")
    return remarks


class _Examination:
    """Figures of the good rows and the first examples of the bad ones, in one pass."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows = 0
        self.good = 0
        self.skipped = 0
        self.backwards = 0
        self.last_us: int | None = None
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Reject]] = {}
        self.database = duckdb.connect()

    def close(self) -> None:
        self.database.close()

    def read(self, path: Path, *, max_rows: int | None) -> list[Problem]:
        """Read the file; a problem if it breaks off."""
        try:
            for chunk in formats.read(path, self.layout):
                self._add(chunk)
                if max_rows is not None and self.rows >= max_rows:
                    break
        except DataError as error:
            message = str(error)
            return [
                Problem(
                    code=_file_code(message),
                    what=_short(message, 300).rstrip("."),
                    count=1,
                    remedy="get the file again, whole",
                    fatal=True,
                )
            ]
        return []

    def _add(self, chunk: Chunk) -> None:
        self.rows += chunk.rows
        self.skipped += chunk.skipped
        self.good += chunk.table.num_rows
        for reject in chunk.rejects:
            self.counts[reject.code] += 1
            kept = self.examples.setdefault(reject.code, [])
            if len(kept) < _EXAMPLES:
                kept.append(reject)
        if self.layout.kind == "events":
            self._count_backwards(chunk.table)
        self._keep(chunk.table)

    def _count_backwards(self, table: pa.Table) -> None:
        times = table["timestamp_us"].to_numpy()
        if not len(times):
            return
        before = [self.last_us] if self.last_us is not None else []
        self.backwards += int((np.diff(np.concatenate([before, times])) < 0).sum())
        self.last_us = int(times[-1])

    def _keep(self, table: pa.Table) -> None:
        """Keep what the figures need: hashes instead of texts."""
        self.database.register("chunk", table)
        columns = ", ".join(f'"{name}"' for name in table.schema.names)
        if self.layout.kind == "events":
            wanted = (
                "hash(item_id) AS item, hash(user_id) AS who, user_id IS NULL AND anonymous_id "
                "IS NULL AS nobody, hash(coalesce(user_id, anonymous_id)) AS visitor, "
                "session_id IS NULL AS loose, hash(session_id) AS visit, event_type, "
                "timestamp_us, position IS NOT NULL AS placed, value IS NOT NULL AS valued, "
                "price IS NOT NULL AS priced"
            )
        else:
            wanted = (
                "hash(item_id) AS item, name IS NOT NULL OR description IS NOT NULL AS told, "
                "image IS NOT NULL AS pictured, audio IS NOT NULL AS sounding, "
                "price IS NOT NULL AS priced"
            )
        query = f"SELECT {wanted}, hash({columns}) AS content FROM chunk"
        exists = (
            "INSERT INTO seen" if self.good > table.num_rows else "CREATE OR REPLACE TABLE seen AS"
        )
        self.database.execute(f"{exists} {query}").fetchall()
        self.database.unregister("chunk")

    def problems(self) -> list[Problem]:
        """What kept rows from being read, most frequent first."""
        found = [
            Problem(
                code=code,
                what=_REMEDIES[code][0],
                count=count,
                remedy=_REMEDIES[code][1],
                examples=tuple(
                    Example(
                        line=r.line, reason=_short(r.reason, 160), excerpt=_short(r.raw_excerpt)
                    )
                    for r in self.examples[code]
                ),
            )
            for code, count in self.counts.most_common()
        ]
        if not self.rows:
            what = "there is a header but no row"
            remedy = "export the file again, with its rows"
            found.append(Problem(code="header_only", what=what, count=1, remedy=remedy, fatal=True))
        elif not self.good and self.rows > self.skipped:
            what, remedy = "not one row can be read", "mend the problems above"
            found.append(
                Problem(code="no_good_row", what=what, count=self.rows, remedy=remedy, fatal=True)
            )
        return found

    def report(self, base: Report) -> Report:
        """The base with figures and scenarios."""
        counted = msgspec.structs.replace(base, rows=self.rows, good_rows=self.good)
        if not self.good:
            return counted
        if self.layout.kind == "items":
            return self._items_report(counted)
        return self._events_report(counted)

    def _one(self, query: str) -> tuple[int, ...]:
        row = self.database.execute(query).fetchall()[0]
        return tuple(int(value or 0) for value in row)

    def _items_report(self, base: Report) -> Report:
        items, repeated, told, pictured, sounding, priced = self._one(
            "SELECT count(DISTINCT item), count(*) - count(DISTINCT content), "
            "count_if(told), count_if(pictured), count_if(sounding), count_if(priced) FROM seen"
        )
        scenarios = (
            _scenario(
                "texts", f"{told:,} items have a name or a text", "recommend new items by text"
            ),
            _scenario(
                "pictures", f"{pictured:,} items name a picture", "recommend new items by looks"
            ),
            _scenario("sounds", f"{sounding:,} items name a sound", "recommend new items by sound"),
            _scenario("prices", f"{priced:,} items have a price", "price bands, filters and rules"),
            Scenario(
                name="sessions",
                possible=False,
                why="this is a catalogue; what visitors did belongs into a file of events",
                use="",
            ),
        )
        return msgspec.structs.replace(base, items=items, duplicates=repeated, scenarios=scenarios)

    def _events_report(self, base: Report) -> Report:
        items, users, sessions, repeated, first, last = self._one(
            "SELECT count(DISTINCT item), count(DISTINCT CASE WHEN NOT nobody THEN visitor END), "
            "count(DISTINCT CASE WHEN NOT loose THEN visit END), "
            "count(*) - count(DISTINCT content), min(timestamp_us), max(timestamp_us) FROM seen"
        )
        by = "visit" if sessions else "visitor"
        known = "NOT loose" if sessions else "NOT nobody"
        found = self.database.execute(
            f"SELECT median(n) FROM (SELECT count(*) AS n FROM seen WHERE {known} GROUP BY {by})"
        ).fetchall()
        types = self.database.execute(
            "SELECT event_type, count(*) FROM seen GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        clock = not self.layout.order_as_time
        return msgspec.structs.replace(
            base,
            items=items,
            users=users,
            sessions=sessions or None,
            median_session=float(found[0][0] or 0),
            duplicates=repeated,
            event_types=dict(types),
            first_time=_iso(first) if clock else None,
            last_time=_iso(last) if clock else None,
            scenarios=self._scenarios(sessions=sessions, types=dict(types)),
        )

    def _scenarios(self, *, sessions: int, types: dict[str, int]) -> tuple[Scenario, ...]:
        shown, rated, priced = self._one(
            "SELECT count_if(event_type = 'view_item_list' AND placed), "
            "count_if(event_type = 'rate' AND valued), count_if(priced) FROM seen"
        )
        bought = types.get("purchase", 0)
        return (
            self._visits(sessions),
            self._returning(),
            _scenario("purchases", f"{bought:,} purchases", "what is bought next, bought together"),
            _scenario("ratings", f"{rated:,} ratings with a value", "factorisation of ratings"),
            _scenario("prices", f"{priced:,} events with a price", "price bands and revenue"),
            _scenario(
                "exposures",
                f"{shown:,} impressions with their position",
                "position bias, off-policy estimates, bandits",
            ),
            Scenario(
                name="texts and pictures",
                possible=False,
                why="these belong into a file of items; import one beside the events",
                use="",
            ),
        )

    def _visits(self, sessions: int) -> Scenario:
        by, known = ("visit", "NOT loose") if sessions else ("visitor", "NOT nobody")
        (several,) = self._one(
            f"SELECT count(*) FROM (SELECT 1 FROM seen WHERE {known} GROUP BY {by} "
            "HAVING count(*) > 1)"
        )
        what = "visits" if sessions else "visitors"
        cut = "" if sessions else "; visits are cut from their times, at half an hour of silence"
        if not sessions and self.layout.order_as_time:
            return Scenario(
                name="sessions",
                possible=False,
                why="there are neither session ids nor times to cut visits from",
                use="",
            )
        return _scenario(
            "sessions",
            f"{several:,} {what} with two events or more{cut if several else ''}",
            "next item of this visit: GRU4Rec, session kNN, item kNN",
        )

    def _returning(self) -> Scenario:
        day = 86_400_000_000
        (back,) = self._one(
            "SELECT count(*) FROM (SELECT 1 FROM seen WHERE NOT nobody GROUP BY visitor "
            f"HAVING count(DISTINCT CASE WHEN loose THEN timestamp_us // {day} ELSE visit END) > 1)"
        )
        return _scenario(
            "returning visitors",
            f"{back:,} visitors come back",
            "taste across visits: factorisation, personal answers",
        )

    def remarks(self, report: Report) -> list[str]:
        """Worth knowing about the rows."""
        remarks = []
        if self.backwards:
            remarks.append(
                f"times go backwards {self.backwards:,} times; they are sorted on import"
            )
        if report.duplicates:
            remarks.append(
                f"{report.duplicates:,} rows repeat an earlier row; without event ids each counts"
            )
        if self.skipped:
            remarks.append(f"{self.skipped:,} rows have no item (page views and the like)")
        return remarks


def _iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


# --- for the terminal -------------------------------------------------------------------------


def render(report: Report) -> RenderableType:
    """The report for `rich.print`."""
    parts: list[RenderableType] = [_title(report)]
    if report.columns:
        parts.append(_columns_table(report.columns))
    if report.contents:
        parts.append(_contents_table(report))
    parts.extend(_problem_text(problem) for problem in report.problems)
    parts.extend(Text(f"· {remark}", style="dim") for remark in report.remarks)
    if report.scenarios:
        parts.append(_scenario_table(report.scenarios))
    if report.command:
        parts.append(Text.assemble("Next: ", (report.command, "bold cyan")))
    elif report.problems:
        parts.append(Text("Mend the file first, then ask again.", style="bold"))
    return Group(*parts)


def _title(report: Report) -> Text:
    facts = [report.file_type, *_words(report)]
    if report.rows is not None:
        facts.append(f"{report.rows:,} rows")
    for count, noun in (
        (report.items, "items"),
        (report.users, "visitors"),
        (report.sessions, "sessions"),
    ):
        if count:
            facts.append(f"{count:,} {noun}")
    if report.median_session:
        facts.append(f"median session {report.median_session:g} events")
    if report.first_time:
        facts.append(f"{report.first_time} to {report.last_time} ({report.time_unit})")
    return Text.assemble((report.path, "bold"), "\n", " · ".join(facts))


def _words(report: Report) -> list[str]:
    words = [f"{report.size_bytes:,} bytes"]
    if report.compressed:
        words.append("gzip")
    if report.encoding:
        words.append(report.encoding)
    if report.delimiter:
        words.append(f"delimiter {report.delimiter!r}")
    if report.kind:
        words.append(f"{report.kind} ({report.layout})")
    return words


def _columns_table(columns: Sequence[Column]) -> Table:
    table = Table("column", "read as", "type", "empty", "distinct", "example", box=None)
    for column in columns:
        table.add_row(
            Text(column.name),
            Text(column.role or "-", style="green" if column.role else "dim"),
            column.type,
            f"{column.null_share:.0%}",
            f"{column.distinct:,}",
            Text(column.example, style="dim"),
        )
    return table


def _contents_table(report: Report) -> Table:
    table = Table("file", "bytes", "what", box=None)
    for entry in report.contents[:12]:
        table.add_row(Text(entry.name), f"{entry.size:,}", Text(entry.what))
    return table


def _problem_text(problem: Problem) -> Text:
    text = Text.assemble(
        ("✗ " if problem.fatal else "! ", "red" if problem.fatal else "yellow"),
        (f"{problem.count:,} x " if problem.count > 1 else "", "bold"),
        f"{problem.what}. ",
        (f"Remedy: {problem.remedy}.", "italic"),
    )
    for example in problem.examples:
        text.append(f"\n    line {example.line}: {example.reason}: {example.excerpt}", style="dim")
    return text


def _scenario_table(scenarios: Sequence[Scenario]) -> Table:
    table = Table("what this data can do", "", "why", "with momentary", box=None)
    for scenario in scenarios:
        mark = Text("yes", style="green") if scenario.possible else Text("no", style="red")
        table.add_row(scenario.name, mark, scenario.why, scenario.use)
    return table
