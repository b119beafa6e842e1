"""Look at any file, say what it is, what is wrong with it and what it can be used for."""

from __future__ import annotations

import shlex
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from momentary.data import formats
from momentary.data.detection import detect
from momentary.data.diagnosis import (
    Column,
    Entry,
    Problem,
    Report,
    Scenario,
    broken,
    lacking,
    scenario,
    short,
)
from momentary.data.figures import Figures
from momentary.data.layouts import Layout
from momentary.data.profiles import Profiles
from momentary.data.timestamps import NUMERIC_UNITS, in_words
from momentary.errors import DataError

_ENTRIES = 50
_TOLD = {"no_item", "no_visitor", "no_type", "no_time", "ambiguous_date"}
"""Problems that the options of the import can solve."""

_PLACE = 70
_COMMAND = 74
"""What fits into a terminal of 80 columns."""


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
        found = broken(str(error), remedy="mend the file, or name another one")
        size = path.stat().st_size if path.is_file() else 0
        return Report(path=str(path), file_type="unknown", size_bytes=size, problems=(found,))


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
            Entry(name=short(info.filename, 200), size=info.file_size, what=_what(info.filename))
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
        layout = detect(file)
    except (DataError, OSError) as error:
        return f"unreadable: {short(str(error))}"
    lacking = layout.missing()
    return f"{layout.kind} ({layout.name})" + (f", but {'; '.join(lacking)}" if lacking else "")


def _container(path: Path, file_type: str, entries: Sequence[Entry]) -> Report:
    kinds = Counter(_what(entry.name) for entry in entries)
    remarks = [f"{count:,} {kind}" for kind, count in sorted(kinds.items())]
    remarks.append("name a table inside to import it; pictures and sounds stay where they are")
    pictures, sounds = kinds["pictures"], kinds["sounds"] + kinds["MIDI"]
    scenarios = (
        scenario("pictures", f"{pictures:,} pictures", "looks of items that nobody has clicked"),
        scenario("sounds", f"{sounds:,} sounds", "the sound of items that nobody has played"),
    )
    return Report(
        path=str(path),
        file_type=file_type,
        size_bytes=sum(entry.size for entry in entries),
        remarks=tuple(remarks),
        scenarios=scenarios,
        contents=tuple(entries[:_ENTRIES]),
    )


# --- files ------------------------------------------------------------------------------------


def _file(path: Path, *, max_rows: int | None) -> Report:
    layout = detect(path)
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
        time_unit=layout.time_unit,
        default_type=layout.default_type if "event_type" not in layout.columns else None,
    )
    fatal = lacking(layout)
    report, found, remarks = _examined(path, layout, base, max_rows=max_rows)
    problems = (*fatal, *found)
    importable = not any(problem.fatal for problem in problems) or _only_clock(problems)
    return msgspec.structs.replace(
        report,
        problems=problems,
        remarks=(*_remarks(base, layout), *remarks),
        command=_command(path, problems) if importable else None,
    )


def _examined(
    path: Path, layout: Layout, base: Report, *, max_rows: int | None
) -> tuple[Report, list[Problem], list[str]]:
    """The base with columns and, if the rows can be read, figures; problems and remarks."""
    readable = _readable(layout)
    problems: list[Problem] = []
    with closing(duckdb.connect()) as database:
        profiles = Profiles(layout, database)
        figures = Figures(readable or layout, database)
        rows = 0
        try:
            for raw in formats.read_raw(path, layout, columns=profiles.names):
                profiles.add(raw)
                if readable is not None:
                    figures.add(formats.check(raw, readable))
                rows += len(raw.lines) + len(raw.rejects) + raw.skipped
                if max_rows is not None and rows >= max_rows:
                    break
        except DataError as error:
            problems.append(broken(str(error), remedy="get the file again, whole"))
        report = msgspec.structs.replace(base, columns=profiles.columns())
        if readable is None:
            return report, problems, []
        report = figures.report(report)
        return report, [*problems, *figures.problems()], figures.remarks(report)


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
        parts.append(Text("Next: ").append(_typed(report.command), style="bold cyan"))
    elif report.problems:
        fatal = {problem.code for problem in report.problems if problem.fatal}
        told = "Say at import what the file does not tell, as above."
        parts.append(Text(told if fatal <= _TOLD else "Mend the file first, then ask again."))
    return Group(*parts)


def _typed(command: str) -> str:
    """A command as it can be copied: a long one goes on in a second line."""
    verb, rest = command[: len("momentary import")], command[len("momentary import ") :]
    return command if len(command) <= _COMMAND else f"{verb} \\\n  {rest}"


def _title(report: Report) -> Text:
    """The file's name, and lines of facts that fit a narrow terminal."""
    path = Path(report.path)
    name = (path.name or report.path, "bold")
    lines = [Text.assemble(name, "  ", (_place(path), "dim")) if _place(path) else Text(*name)]
    lines.extend(Text(" · ".join(facts)) for facts in (_form(report), _size(report)) if facts)
    if report.first_time:
        unit = in_words(report.time_unit) if report.time_unit in NUMERIC_UNITS else ""
        written = f" (written in {unit})" if unit else ""
        lines.append(Text(f"{report.first_time} to {report.last_time}{written}"))
    return Text("\n").join(lines)


def _place(path: Path) -> str:
    """The folder, as short as it can be told: from here, from home, or by its last parts."""
    folder = path.parent
    if str(folder) == ".":
        return ""
    for near, sign in ((Path.cwd(), "."), (Path.home(), "~")):
        if folder.is_relative_to(near):
            folder = Path(sign) / folder.relative_to(near)
            break
    parts = folder.parts
    while len(parts) > 1 and len(str(Path("…", *parts))) > _PLACE - len(path.name):
        parts = parts[1:]
    return f"in {folder if len(parts) == len(folder.parts) else Path('…', *parts)}"


def _form(report: Report) -> list[str]:
    facts = [report.file_type, _bytes(report.size_bytes)]
    if report.compressed:
        facts.append("gzip")
    if report.encoding:
        facts.append(report.encoding)
    if report.delimiter:
        facts.append(f"delimiter {report.delimiter!r}")
    if report.kind:
        facts.append(f"{report.kind} ({report.layout})")
    return facts


def _size(report: Report) -> list[str]:
    counts = (
        (report.rows, "rows"),
        (report.items, "items"),
        (report.users, "visitors"),
        (report.sessions, "sessions"),
    )
    facts = [f"{count:,} {noun}" for count, noun in counts if count]
    if report.median_session:
        facts[-1] += f" (median {report.median_session:g})"
    return facts


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _columns_table(columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("column", "read as", "type"):
        table.add_column(title, overflow="fold")
    table.add_column("empty", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    table.add_column("example", no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_row(
            Text(column.name),
            Text(column.role or "-", style="green" if column.role else "dim"),
            column.type,
            _share(column.null_share),
            f"{'~' if column.estimated else ''}{column.distinct:,}",
            Text(column.example, style="dim"),
        )
    return table


def _share(share: float) -> str:
    """Percent; a few are not none, and nearly all are not all."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _contents_table(report: Report) -> Table:
    table = Table("file", "size", "what", box=None, pad_edge=False)
    for entry in report.contents[:12]:
        table.add_row(Text(entry.name), _bytes(entry.size), Text(entry.what))
    return table


def _problem_text(problem: Problem) -> RenderableType:
    text = Text.assemble(
        ("✗ " if problem.fatal else "! ", "red" if problem.fatal else "yellow"),
        (f"{problem.count:,} x " if problem.count > 1 else "", "bold"),
        f"{problem.what}. ",
        (f"Remedy: {problem.remedy}.", "italic"),
    )
    examples = (
        Text(
            f"    line {example.line}: {example.reason}: {example.excerpt}",
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )
        for example in problem.examples
    )
    return Group(text, *examples)


def _scenario_table(scenarios: Sequence[Scenario]) -> Table:
    table = Table("good for", "", "because", "with momentary", box=None, pad_edge=False)
    for each in scenarios:
        mark = Text("yes", style="green") if each.possible else Text("no", style="red")
        table.add_row(each.name, mark, each.why, each.use)
    return table
