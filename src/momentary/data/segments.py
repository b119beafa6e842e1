"""Parquet segments: written in the staging area, brought to their folders, then registered at once.

A file that the table `segments` does not list does not exist for any reader; what a crash left
unlisted is swept away by the next import, compaction or erasure.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from momentary.data.workspace import KINDS, Workspace, sql_text

if TYPE_CHECKING:
    import duckdb

ORDER = {
    "events": "visitor, timestamp_us, event_id",
    "exposures": "timestamp_us, recommendation_id",
}
"""How the rows of a segment lie, by what it holds."""

Segment = dict[str, str | int]
"""A row of the table `segments`."""


def write_segments(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    *,
    staging: Path,
    import_id: str,
    kind: str = "events",
    told: Callable[[int, int], object] = lambda done, of: None,  # noqa: ARG005
) -> list[Segment]:
    """Write the rows of each bucket into a file of the staging folder, sorted.

    Args:
        connection: Holds `table`, whose columns `bucket` and `timestamp_us` must be filled.
        table: What to write.
        staging: Where to; `place_segments` brings the files to their folders.
        import_id: Names the files; never used twice.
        kind: One of `workspace.KINDS`.
        told: Of the buckets written, and of how many there are.
    """
    found = connection.execute(
        f"SELECT bucket, count(*), min(timestamp_us), max(timestamp_us) FROM {table} "
        "GROUP BY bucket ORDER BY bucket"
    ).fetchall()
    segments: list[Segment] = []
    for bucket, events, first_us, last_us in found:
        path = staging / f"{kind}-b={bucket:02d}.parquet"
        connection.execute(
            f"COPY (SELECT * FROM {table} WHERE bucket = {bucket} ORDER BY {ORDER[kind]}) "
            f"TO {sql_text(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()
        segments.append(
            {
                "path": f"{kind}/b={bucket:02d}/import-{import_id}.parquet",
                "bucket": bucket,
                "import_id": import_id,
                "kind": kind,
                "events": events,
                "first_us": first_us,
                "last_us": last_us,
            }
        )
        told(len(segments), len(found))
    return segments


def place_segments(workspace: Workspace, staging: Path, segments: list[Segment]) -> None:
    """Bring the files to their folders and to disk; nobody reads them before they are listed."""
    for part in segments:
        target = workspace.root / str(part["path"])
        source = staging / f"{part['kind']}-{target.parent.name}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_file(source)
        source.replace(target)
        sync_folder(target.parent)
    for kind in {str(part["kind"]) for part in segments}:
        sync_folder(workspace.root / kind)
    if segments:
        sync_folder(workspace.root)


def sweep_segments(workspace: Workspace) -> None:
    """Delete the files that are not listed; the caller keeps everybody else from writing any."""
    listed = {path for kind in KINDS for path in workspace.segments(kind=kind)}
    for kind in KINDS:
        for path in sorted((workspace.root / kind).glob("b=*/*.parquet")):
            if path not in listed:
                path.unlink()
                sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make names durable, where the system lets a folder be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
