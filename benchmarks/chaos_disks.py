"""Disks that are full or may not be written. A small file system of one's own needs root."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.chaos_load import ITEMS, lower, other, yes
from benchmarks.report import Row
from benchmarks.shop import Service, click
from momentary.data.workspace import Workspace

_SPARE_BYTES = 3_000_000


def full_disk(home: Path) -> list[Row]:
    """No room for the log: writes are refused, reading goes on, nothing is half-written."""

    def limited() -> None:
        size = max(path.stat().st_size for path in home.glob("events.sqlite*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200_000, size + 200_000))

    rows = _without_room("log may not grow", home, before=limited)
    if not _may_mount():
        print("A small file system needs root and mount: the full disk is left out.", flush=True)
        return rows
    with _small_disk(home) as small:
        return rows + _without_room("full disk", small)


def _without_room(
    name: str, home: Path, *, before: Callable[[], object] | None = None
) -> list[Row]:
    """Write until nothing is taken any more, and look at what is left."""
    statuses: Counter[int] = Counter()
    acknowledged, prefix = set(), f"full-{name[:3]}"
    with Service(home, before=before) as service:
        for number in range(1_000):
            event = {
                **click(number, item=number % ITEMS, session=number),
                "event_id": f"{prefix}-{number}",
                "properties": {"note": "x" * 15_000},
            }
            status, _ = service.ask("POST", "/v1/events", event)
            statuses[status] += 1
            if status == 200:
                acknowledged.add(event["event_id"])
        ready, _ = service.ask("GET", "/health/ready")
        asked, _ = service.ask("GET", "/v1/items/item-1/similar")
        room = home / "ballast"
        room.unlink(missing_ok=True)
        if before is None:
            again, _ = service.ask("GET", "/health/ready")
    found = _ids(home, prefix)
    with Service(home) as service:
        event = {**click(1, item=1, session=1), "event_id": f"after-{name}"}
        after, _ = service.ask("POST", "/v1/events", event)
    rows = [
        Row(what=f"{name}: requests refused with 503", value=statuses[503], target=1),
        lower(f"{name}: answers other than 200 and 503", other(statuses), 0),
        lower(
            f"{name}: acknowledged events lost, or refused ones kept", len(found ^ acknowledged), 0
        ),
        yes(
            f"{name}: readiness says 503, similar items are answered", ready == 503 and asked == 200
        ),
        yes(f"{name}: a service that is started again with room writes", after == 200),
    ]
    if before is None:
        rows.append(yes(f"{name}: ready by itself once there is room", again == 200))
    return rows


def read_only_disk(home: Path) -> list[Row]:
    """Nothing can be written: the service says so in one line and does not start."""
    if not _may_mount():
        print("A read-only mount needs root: the read-only disk is left out.", flush=True)
        return []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "--bind", str(home), folder], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
            done = subprocess.run(
                [sys.executable, "-m", "momentary", "serve", "--home", folder, "--port", "8397"],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        finally:
            subprocess.run(["umount", folder], check=True)
    said = done.stderr.strip()
    with Service(home) as service:
        after, _ = service.ask("GET", "/health/ready")
    return [
        yes(
            "read-only disk: does not start, and one line says why",
            done.returncode == 2 and said.startswith("Error:") and "\n" not in said,
        ),
        yes("read-only disk: starts once it can be written", after == 200),
    ]


@contextlib.contextmanager
def _small_disk(home: Path) -> Iterator[Path]:
    """A copy of the home on a file system with little room, part of it taken by a file."""
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        options = f"size={size + size // 10 + 2 * _SPARE_BYTES}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            copy = Path(folder) / "home"
            shutil.copytree(home, copy)
            (copy / "ballast").write_bytes(bytes(_SPARE_BYTES))
            yield copy
        finally:
            subprocess.run(["umount", folder], check=True)


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def _ids(home: Path, prefix: str) -> set[str]:
    with Workspace.open(home) as workspace, contextlib.closing(workspace.open_log()) as log:
        return {e.event_id for e in log.read() if e.event_id.startswith(f"{prefix}-")}
