"""What every benchmark shares: where the data are, how results are printed and written."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure.

    Attributes:
        what: What was measured, on what.
        value: The figure.
        unit: Its unit; "" for a share.
        target: What it should reach, None where there is no target.
        better: "higher" or "lower".
        peer: Whose figure stands beside it, "" for nobody's.
        peer_value: That figure.
        spread: Largest less smallest value over the seeds, None for one run.
    """

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    better: str = "higher"
    peer: str = ""
    peer_value: float | None = None
    spread: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        if self.better == "higher":
            return self.value >= self.target
        return self.value <= self.target


def data_folder() -> Path:
    """The folder of the data sets: MOMENTARY_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("MOMENTARY_DATA") or ROOT.parent / "shared" / "data")


def sha256(file: Path) -> str:
    """Digest of a data file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def machine() -> str:
    """Processor, cores and memory of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"
    )


def finish(
    name: str,
    rows: Sequence[Row],
    *,
    data: Mapping[str, str],
    seeds: Iterable[int],
    whole: bool = True,
) -> None:
    """Print the rows as a table and write them to benchmarks/results/NAME.json.

    A run that is not `whole` is printed alone: a result file never mixes runs.
    """
    console = _show(name, rows)
    if not whole:
        console.print("A part of the benchmark was run: nothing is written.")
        return
    _write(console, name, {"name": name, **_run(rows, data, seeds)})


def finish_part(
    name: str,
    part: str,
    rows: Sequence[Row],
    *,
    data: Mapping[str, str],
    seeds: Iterable[int],
    whole: bool = True,
) -> None:
    """Print the rows of one part and write them beside the other parts' rows in NAME.json.

    Every row says its part, and `parts` of the file keeps the commit, date, machine, data and seeds
    of each part's own run; the file's own are the newest run's and the union of data and seeds. A
    run that is not `whole` is printed alone.
    """
    console = _show(f"{name} --only {part}", rows)
    if not whole:
        console.print("A small run: nothing is written.")
        return
    file = RESULTS / f"{name}.json"
    before = msgspec.json.decode(file.read_bytes()) if file.is_file() else {"parts": {}, "rows": []}
    _write(console, name, beside(name, part, _run(rows, data, seeds), before=before))


def beside(
    name: str, part: str, run: Mapping[str, Any], *, before: Mapping[str, Any]
) -> dict[str, object]:
    """What a result file says once one part was run again and the other parts stand as they did."""
    ours = {key: value for key, value in run.items() if key != "rows"}
    parts = dict(sorted({**before["parts"], part: ours}.items()))
    kept = [row for row in before["rows"] if row["part"] != part]
    rows = [*kept, *({"part": part, **row} for row in run["rows"])]
    newest = max(parts.values(), key=lambda each: each["date"])
    return {
        "name": name,
        **{key: newest[key] for key in ("commit", "date", "machine")},
        "data": {file: digest for each in parts.values() for file, digest in each["data"].items()},
        "seeds": sorted({seed for each in parts.values() for seed in each["seeds"]}),
        "parts": parts,
        "rows": sorted(rows, key=lambda row: str(row["part"])),
    }


def _show(title: str, rows: Sequence[Row]) -> Console:
    console = Console(width=140)
    table = Table(title=f"benchmarks.{title}", title_justify="left")
    for column in ("what", "value", "spread", "target", "", "peer", "peer's value"):
        table.add_column(column, justify="left" if column in ("what", "peer") else "right")
    for row in rows:
        table.add_row(
            row.what,
            _number(row.value, row.unit),
            "" if row.spread is None else _number(row.spread, ""),
            "" if row.target is None else f"{_sign(row)} {_number(row.target, row.unit)}",
            {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row.met],
            row.peer,
            "" if row.peer_value is None else _number(row.peer_value, row.unit),
        )
    console.print(table)
    return console


def _run(rows: Sequence[Row], data: Mapping[str, str], seeds: Iterable[int]) -> dict[str, object]:
    """What a result file says of one run."""
    return {
        "commit": commit_of_code(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "data": data,
        "seeds": list(seeds),
        "rows": [msgspec.to_builtins(row) for row in rows],
    }


def _write(console: Console, name: str, body: Mapping[str, object]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n")
    console.print(f"Written to {file.relative_to(ROOT)}")


def _number(value: float, unit: str) -> str:
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{shown} {unit}".strip()


def _sign(row: Row) -> str:
    return ">=" if row.better == "higher" else "<="


def commit_of_code() -> str:
    """The commit, "-dirty" where a file other than the results differs from it."""
    found = _git("describe", "--always", "--abbrev=12")
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return f"{found or 'unknown'}{'-dirty' if changed else ''}"


def _git(*command: str) -> str:
    found = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()
