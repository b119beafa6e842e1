"""Compaction: nothing is lost or doubled, whenever it is killed; both places are one log."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import duckdb
import msgspec
import pytest

from momentary.data.compaction import DAY_US, Compacted, compact
from momentary.data.erasure import erase, person_of
from momentary.data.events import Exposure
from momentary.data.importer import import_table
from momentary.data.log_tables import EVENTS, EXPOSURES
from momentary.data.sessions import workspace_sessions
from momentary.data.workspace import (
    EXPOSURE_SCHEMA,
    LOG_SCHEMA,
    VIEW_SCHEMA,
    Workspace,
    bucket_of,
)
from momentary.errors import SettingsError
from momentary.settings import StorageSettings
from momentary.types import Event

NOW_US = 1_700_000_000_000_000
OLD_US = NOW_US - 20 * DAY_US
COUNT = 300


def _event(n, timestamp_us=None, **ids):
    return Event(
        event_id=f"e{n}",
        item_id=f"i{n % 7}",
        event_type="view_item",
        timestamp_us=OLD_US + n if timestamp_us is None else timestamp_us,
        properties={"n": n},
        **(ids or {"user_id": f"u{n % 11}"}),
    )


def _exposure(n, timestamp_us=None, **ids):
    return Exposure(
        recommendation_id=f"r{n}",
        items=("i1", "i2"),
        model_version="v1",
        variant="model",
        propensity=0.5,
        propensities=(0.5, 1.0) if n % 2 else None,
        timestamp_us=OLD_US + n if timestamp_us is None else timestamp_us,
        **ids,
    )


@pytest.fixture
def workspace(tmp_path, storage):
    with Workspace.open(tmp_path / "home", create=True, storage=storage) as opened:
        yield opened


@pytest.fixture
def log(workspace):
    with closing(workspace.open_log()) as opened:
        yield opened


def _fill(log):
    events = [_event(n) for n in range(COUNT)]
    events += [_event(n, NOW_US - DAY_US) for n in range(COUNT, COUNT + 5)]
    shown = [_exposure(n, user_id="u1") for n in range(40)] + [_exposure(40)]
    log.append(events, exposures=[*shown, _exposure(41, NOW_US)])


def _seen(workspace):
    with closing(duckdb.connect()) as connection:
        workspace.events_view(connection)
        workspace.exposures_view(connection)
        events = connection.execute(
            "SELECT event_id, visitor, bucket, properties FROM events ORDER BY event_id"
        ).fetchall()
        shown = connection.execute(
            "SELECT recommendation_id, user_id, items, propensities FROM exposures "
            "ORDER BY recommendation_id"
        ).fetchall()
    return events, shown


def test_old_rows_move_and_every_reader_sees_what_it_saw(workspace, log):
    _fill(log)
    before, sessions = _seen(workspace), workspace_sessions(workspace)

    done = compact(workspace, now_us=NOW_US)

    assert (done.events, done.exposures, done.forgotten_ids) == (COUNT, 41, 0)
    assert log.count() == 5
    assert [each.recommendation_id for each in log.exposures()] == ["r41"]
    assert _seen(workspace) == before
    after = workspace_sessions(workspace)
    assert after.items.ids == sessions.items.ids
    assert after.sessions.items.tolist() == sessions.sessions.items.tolist()
    assert compact(workspace, now_us=NOW_US) == Compacted()
    assert not (workspace.root / "staging" / "compaction").exists()


def test_segments_lie_in_their_visitors_bucket_as_those_of_an_import(workspace, log):
    _fill(log)
    compact(workspace, now_us=NOW_US)
    for path in workspace.segments():
        found = duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning=false)")
        assert found.columns == VIEW_SCHEMA.names
        for _, visitor, *_, bucket in found.fetchall():
            assert bucket_of(visitor) == bucket == int(path.parent.name.removeprefix("b="))
    assert len(workspace.segments(kind="exposures")) == 2  # u1's bucket, and that of strangers


def test_an_event_that_moved_still_counts_once_until_its_window_ends(workspace, log):
    _fill(log)
    compact(workspace, now_us=NOW_US, idempotency_days=30)

    assert log.known(["e0", "e300", "new"]) == {"e0", "e300"}
    assert log.append([_event(0), _event(999, NOW_US), _event(1)]) == [False, True, False]
    assert log.count() == 6
    later_us = NOW_US + 31 * DAY_US
    assert compact(workspace, now_us=later_us, idempotency_days=30).forgotten_ids == COUNT
    assert log.known(["e0"]) == set()
    # Even then whoever reads the events sees it once, and the next compaction adds nothing.
    assert log.append([_event(0), _event(998, later_us)]) == [True, True]
    before = _seen(workspace)
    done = compact(workspace, now_us=later_us)
    assert (done.events, done.segments) == (2, 1)  # e0, which a segment holds, and e999
    assert _seen(workspace) == before


def test_an_import_knows_what_compaction_moved(workspace, log):
    log.append([_event(n) for n in range(20)])
    compact(workspace, now_us=NOW_US)
    table = duckdb.sql(
        "SELECT 'e' || n AS event_id, 'u' AS user_id, 'i' AS item_id, 'view_item' AS event_type, "
        "n AS timestamp_us FROM range(25) each(n)"
    ).to_arrow_table()
    report = import_table(workspace, table, kind="events", source="again")
    assert (report.events_added, report.duplicates) == (5, 20)


def test_erasure_reaches_what_moved(workspace, log):
    secret = "person-4711"
    _fill(log)
    log.append(
        [
            msgspec.structs.replace(
                _event(n, user_id=secret, session_id="own"), event_id=f"e{secret}-{n}"
            )
            for n in range(9)
        ],
        exposures=[_exposure(500, session_id="own"), _exposure(501, user_id=secret)],
    )
    compact(workspace, now_us=NOW_US)
    assert log.known([f"e{secret}-0"])
    before = len(_seen(workspace)[0])

    receipt = erase(workspace, person_of(workspace, secret), now_us=NOW_US)

    assert (receipt.events, receipt.exposures) == (9, 2)
    assert len(_seen(workspace)[0]) == before - 9
    assert not log.known([f"e{secret}-0"])
    for path in workspace.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_erasure_keeps_the_moved_answers_of_others(workspace, log):
    # Answers to strangers share a segment with nobody, those of one bucket share theirs.
    names = [f"person-{n}" for n in range(200)]
    same = [name for name in names if bucket_of(f"u:{name}") == bucket_of("u:person-0")][:3]
    log.append(
        [_event(n, user_id=name) for n, name in enumerate(same)],
        exposures=[_exposure(n, user_id=name) for n, name in enumerate(same)],
    )
    log.append([_event(100)], exposures=[_exposure(100, NOW_US)])
    compact(workspace, now_us=NOW_US)
    assert len(workspace.segments(kind="exposures")) == 1

    receipt = erase(workspace, person_of(workspace, same[0]), now_us=NOW_US)

    assert (receipt.events, receipt.exposures, receipt.segments) == (1, 1, 2)
    with closing(duckdb.connect()) as connection:
        workspace.exposures_view(connection)
        query = "SELECT recommendation_id FROM exposures ORDER BY recommendation_id"
        assert connection.execute(query).fetchall() == [("r1",), ("r100",), ("r2",)]
    assert not (workspace.root / "erasure.pending").exists()


def test_only_one_compacts_at_a_time(workspace, log):
    _fill(log)
    held = workspace.exclusive("import", wait_s=1)
    with held, pytest.raises(SettingsError, match="another process is busy"):
        compact(workspace, now_us=NOW_US, wait_s=0)
    assert compact(workspace, now_us=NOW_US, wait_s=0).events == COUNT


def test_events_that_come_meanwhile_are_kept(workspace, log):
    _fill(log)
    stop, written = threading.Event(), []

    def write():
        with closing(workspace.open_log()) as own:
            n = 10_000
            while not stop.is_set():
                own.append([_event(n, OLD_US if n % 2 else NOW_US)])
                written.append(f"e{n}")
                n += 1
                time.sleep(0.002)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            compact(workspace, now_us=NOW_US)
    finally:
        stop.set()
        thread.join()
    ids = [row[0] for row in _seen(workspace)[0]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {f"e{n}" for n in range(COUNT + 5)} | set(written)
    assert written


_KILLED = """
import json, os, signal, sys
from pathlib import Path
from momentary.data import compaction, segments
from momentary.data.events import EventLog
from momentary.data.workspace import Workspace
from momentary.settings import StorageSettings

place, after = sys.argv[3], int(sys.argv[4])
calls = 0
def dying(function):
    def called(*args, **rest):
        global calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **rest)
    return called

owner, name = {
    "write": (compaction, "write_segments"),
    "move": (Path, "replace"),
    "list": (compaction, "_list"),
    "drop_events": (EventLog, "drop_events"),
    "drop_exposures": (EventLog, "drop_exposures"),
    "forget": (EventLog, "forget_moved"),
}[place]
compaction._DROPPED_AT_ONCE = 40
setattr(owner, name, dying(getattr(owner, name)))
storage = StorageSettings(**json.loads(sys.argv[2]))
with Workspace.open(Path(sys.argv[1]), storage=storage) as workspace:
    compaction.compact(workspace, now_us=1_700_000_000_000_000)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL.")
@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("write", 0),
        ("move", 0),
        ("move", 3),
        ("list", 0),
        ("drop_events", 0),
        ("drop_events", 3),
        ("list", 1),
        ("drop_exposures", 0),
        ("forget", 0),
    ],
)
def test_wherever_it_is_killed_nothing_is_lost_or_doubled(workspace, log, storage, place, after):
    _fill(log)
    before = _seen(workspace)
    told = json.dumps({"database_url": storage.database_url, "schema": storage.schema})
    command = [sys.executable, "-c", _KILLED, str(workspace.root), told, place, str(after)]
    killed = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL

    assert _seen(workspace) == before
    assert log.append([_event(0)]) == [False]
    compact(workspace, now_us=NOW_US)
    assert _seen(workspace) == before
    assert log.count() == 5
    assert log.append([_event(0)]) == [False]
    listed = {*workspace.segments(), *workspace.segments(kind="exposures")}
    assert {path for path in workspace.root.rglob("*.parquet")} == listed


def test_every_column_of_the_log_is_moved():
    events, shown = set(EVENTS.columns.keys()), set(EXPOSURES.columns.keys())
    assert {*LOG_SCHEMA.names, "seq"} == events
    assert {*EXPOSURE_SCHEMA.names, "seq"} == shown | {"propensities"}


def test_settings_refuse_a_window_that_trends_need():
    with pytest.raises(SettingsError, match=r"keep_days is 3; it must be from 8"):
        StorageSettings(keep_days=3)
