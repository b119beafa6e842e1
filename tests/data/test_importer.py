"""Imports: all or nothing, twice is once, and a killed one goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from momentary.data import formats, importer
from momentary.data.detection import detect
from momentary.data.importer import import_files, import_table
from momentary.data.workspace import IMPORTS, Workspace
from momentary.errors import DataError
from momentary.types import Event

SECOND = 1_500_000_000


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / "my shop's", create=True) as opened:
        yield opened


def events(workspace, columns="*"):
    with closing(duckdb.connect()) as connection:
        workspace.events_view(connection)
        query = f"SELECT {columns} FROM events ORDER BY event_id"
        return connection.execute(query).fetchall()


def write(path, rows, header=("user_id", "item_id", "timestamp", "event_type")):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def some(count, start=0):
    return [(f"u{i % 97}", f"i{i % 31}", SECOND + i, "view") for i in range(start, start + count)]


def test_import_adds_events_sorted_into_buckets(workspace, tmp_path):
    report = import_files(workspace, [write(tmp_path / "f.csv", some(1000))], clock=lambda: 12.5)
    assert (report.rows, report.events_added, report.duplicates, report.rejects) == (
        1000,
        1000,
        0,
        0,
    )
    assert len(events(workspace)) == 1000
    for path in workspace.segments():
        with closing(duckdb.connect()) as connection:
            rows = connection.execute(
                "SELECT visitor, timestamp_us, event_id, bucket FROM read_parquet(?)", [str(path)]
            ).fetchall()
        assert rows == sorted(rows)
        assert {f"b={row[3]:02d}" for row in rows} == {path.parent.name}
    with workspace.engine.connect() as connection:
        (record,) = connection.execute(sa.select(IMPORTS)).mappings()
    assert (record["rows_added"], record["finished_us"]) == (1000, 12_500_000)
    assert record["size_bytes"] == (tmp_path / "f.csv").stat().st_size
    assert not list((workspace.root / "staging").iterdir())


def test_importing_twice_adds_nothing(workspace, tmp_path):
    path = write(tmp_path / "f.csv", some(500))
    import_files(workspace, [path])
    before = events(workspace)
    again = import_files(workspace, [path])
    assert (again.events_added, again.duplicates) == (0, 500)
    longer = write(tmp_path / "g.csv", some(600))
    assert import_files(workspace, [longer]).events_added == 100
    assert set(before) < set(events(workspace))


def test_two_equal_lines_of_a_basket_stay_two(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK_ROWS", 2)
    path = write(tmp_path / "f.csv", [*some(3), *some(3), *some(1)])
    assert import_files(workspace, [path]).events_added == 7
    assert import_files(workspace, [path]).events_added == 0
    assert len({row[0] for row in events(workspace, "event_id")}) == 7


def test_given_event_ids_count_once_and_the_live_log_counts(workspace, tmp_path):
    live = Event(
        event_id="e2",
        user_id="u",
        item_id="i",
        event_type="view_item",
        timestamp_us=SECOND * 10**6,
    )
    with closing(workspace.open_log()) as log:
        log.append([live])
    rows = [(name, "u", "i", SECOND, "view") for name in ("e1", "e1", "e2", "e3")]
    header = ("event_id", "user_id", "item_id", "timestamp", "event_type")
    report = import_files(workspace, [write(tmp_path / "f.csv", rows, header)])
    assert (report.events_added, report.duplicates) == (2, 2)
    assert [row[0] for row in events(workspace, "event_id")] == ["e1", "e2", "e3"]


def test_rejects_are_listed_with_line_and_reason(workspace, tmp_path):
    path = write(
        tmp_path / "f.csv", [*some(2), ("u", "i", SECOND, "dance"), ("u", "", SECOND, "view")]
    )
    report = import_files(workspace, [path])
    assert (report.events_added, report.rejects) == (2, 2)
    (listed,) = report.reject_files
    found = [json.loads(line) for line in Path(listed).read_text("utf-8").splitlines()]
    assert [(row["line"], row["code"]) for row in found] == [
        (4, "unknown_type"),
        (5, "missing_item"),
    ]
    assert "dance" in found[0]["reason"]
    assert "dance" in found[0]["raw"]


def test_items_are_upserted(workspace, tmp_path):
    header = ("id", "title", "price", "colour")
    path = write(tmp_path / "a.csv", [("1", "One", 1, "red"), ("2", "Two", 2, "")], header)
    report = import_files(workspace, [path])
    assert (report.items_added, report.items_updated) == (2, 0)
    write(path, [("2", "Zwei", 2, ""), ("3", "Three", 3, ""), ("3", "Drei", 3, "")], header)
    report = import_files(workspace, [path])
    assert (report.items_added, report.items_updated) == (1, 1)
    assert workspace.catalog.get("1").properties == {"colour": "red"}
    assert [item.name for item in workspace.catalog.items()] == ["One", "Zwei", "Drei"]


def test_a_file_is_imported_whole_or_not_at_all(workspace, tmp_path, monkeypatch):
    path = write(tmp_path / "f.csv", some(50))

    def fails(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(importer._Commit, "_record", fails)
        with pytest.raises(OSError, match="full"):
            import_files(workspace, [path])
    assert events(workspace) == []
    assert list((workspace.root / "events").glob("*/*.parquet"))
    other = write(tmp_path / "g.csv", some(5))
    assert import_files(workspace, [other]).events_added == 5
    assert sorted((workspace.root / "events").glob("*/*.parquet")) == sorted(workspace.segments())


def test_no_file_is_imported_when_one_cannot_be_read(workspace, tmp_path):
    good = write(tmp_path / "f.csv", some(5))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="empty"):
        import_files(workspace, [good, tmp_path / "empty.csv"])
    assert events(workspace) == []


def test_progress_reaches_its_end(workspace, tmp_path):
    told = []
    path = write(tmp_path / "f.csv", some(5))
    import_files(
        workspace, [path], progress=lambda done, total, note: told.append((done, total, note))
    )
    size = path.stat().st_size
    assert told[0] == (size, size, "reading f.csv")
    assert told[-1][0] == told[-1][1]


CHILD = """
import os, sys, time
from pathlib import Path
from momentary.data import formats, importer, segments
from momentary.data.importer import import_files
from momentary.data.workspace import Workspace
formats.CHUNK_ROWS = 2000
importer._sync = lambda descriptor: (os.fsync(descriptor), time.sleep(0.02))
segments.sync_file = lambda path: time.sleep(0.02)
import_files(Workspace.open(Path(sys.argv[1]), create=True), [Path(sys.argv[2])])
"""


def killed_when(home, path, condition):
    """Start an import in another process and kill it once `condition` holds."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(home), str(path)])
    deadline = time.monotonic() + 30
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait()


@pytest.mark.parametrize("moment", ["early", "late", "merging"])
def test_a_killed_import_goes_on_where_it_was(tmp_path, monkeypatch, moment):
    monkeypatch.setattr(formats, "CHUNK_ROWS", 2000)
    path = write(tmp_path / "f.csv", [*some(30_000), *some(40)])
    with Workspace.open(tmp_path / "calm", create=True) as calm:
        import_files(calm, [path])
        expected = events(calm)
    home = tmp_path / "killed"
    pattern = {"early": ("chunk-*.parquet", 2), "late": ("chunk-*.parquet", 8)}
    names, count = pattern.get(moment, ("events-b=*.parquet", 1))
    status = killed_when(
        home, path, lambda: len(list((home / "staging").glob(f"*/{names}"))) >= count
    )
    assert status == -signal.SIGKILL
    with Workspace.open(home) as workspace:
        journal = list((workspace.root / "staging").glob("*/journal.jsonl"))
        staged = journal[0].read_bytes().count(b"\n")
        assert events(workspace) == []
        parsed = []
        honest = formats.read

        def watched(*args, **options):
            for chunk in honest(*args, **options):
                parsed.append(chunk.rows)
                yield chunk

        monkeypatch.setattr(formats, "read", watched)
        report = import_files(workspace, [path])
        assert staged >= 1
        assert sum(parsed) < report.rows == 30_040
        assert events(workspace) == expected
        assert not list((workspace.root / "staging").iterdir())


def test_a_torn_journal_line_is_parsed_again(workspace, tmp_path):
    path = write(tmp_path / "f.csv", some(100))
    layout = detect(path)
    staging = workspace.root / "staging" / importer._plan(path, layout).key
    staging.mkdir(parents=True)
    (staging / "journal.jsonl").write_bytes(b'{"chunk":"chunk-0000')
    assert import_files(workspace, [path]).events_added == 100


def test_tables_in_memory_go_the_same_way(workspace):
    table = pa.table(
        {
            "session_id": ["s", "s", "t"],
            "item_id": ["a", "a", "b"],
            "event_type": ["purchase"] * 3,
            "timestamp_us": [5, 5, 6],
            "quantity": pa.array([1, 1, 2], pa.int32()),
        }
    )
    report = import_table(workspace, table, kind="events", source="demo")
    assert (report.rows, report.events_added) == (3, 3)
    again = import_table(workspace, table, kind="events", source="demo")
    assert (again.events_added, again.duplicates) == (0, 3)
    found = events(workspace, "visitor, quantity, event_id")
    assert sorted(row[:2] for row in found) == [("s:s", 1.0), ("s:s", 1.0), ("s:t", 2.0)]
    items = pa.table({"item_id": ["a"], "name": ["A"]})
    assert import_table(workspace, items, kind="items", source="demo").items_added == 1
    assert workspace.catalog.get("a").available


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": ["x"]}, "no column extra"),
        ({"item_id": pa.array([None], pa.string())}, "item_id is empty in 1 rows"),
        ({"user_id": pa.array([None], pa.string())}, "name nobody"),
    ],
)
def test_tables_in_memory_are_checked(workspace, change, words):
    good = {"user_id": ["u"], "item_id": ["a"], "event_type": ["share"], "timestamp_us": [1]}
    with pytest.raises(DataError, match=words):
        import_table(workspace, pa.table(good | change), kind="events", source="t")
    with pytest.raises(DataError, match="kind is 'users'"):
        import_table(workspace, pa.table(good), kind="users", source="t")
