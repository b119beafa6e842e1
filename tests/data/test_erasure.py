import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import duckdb
import pyarrow as pa
import pytest

from momentary.data import erasure
from momentary.data.erasure import Person, erase, finish_pending, person_of
from momentary.data.events import Exposure
from momentary.data.importer import import_files, import_table
from momentary.data.workspace import Workspace
from momentary.types import Event

SECRET = "Zoë-7f3c/secret"
BROWSER = "browser-of-Zoe-91"
NOW_US = 1_700_000_000_000_000


def _events(rows):
    names = ("event_id", "user_id", "anonymous_id", "session_id", "item_id", "timestamp_us")
    columns = list(zip(*rows, strict=True))
    table = pa.table([pa.array(column) for column in columns], names=names)
    return table.append_column("event_type", pa.array(["view_item"] * len(rows)))


def _filled(root, storage):
    workspace = Workspace.open(root, create=True, storage=storage)
    rows = [
        ("e1", SECRET, BROWSER, "visit-1", "tea", 1),
        ("e2", None, BROWSER, "visit-0", "milk", 2),
        ("e3", "other", "shared", "visit-2", "tea", 3),
        ("e4", SECRET, "shared", None, "rice", 4),
        ("e5", None, "shared", "visit-3", "rice", 5),
        *((f"o{n}", f"user-{n}", None, None, "tea", 10 + n) for n in range(40)),
    ]
    import_table(workspace, _events(rows), kind="events", source="shop")
    with closing(workspace.open_log()) as log:
        log.append(
            [
                Event(
                    event_id="live-1",
                    item_id="tea",
                    event_type="view_item",
                    timestamp_us=50,
                    user_id=SECRET,
                ),
                Event(
                    event_id="live-2",
                    item_id="tea",
                    event_type="view_item",
                    timestamp_us=51,
                    user_id="other",
                ),
            ],
            exposures=[
                Exposure(
                    recommendation_id="r1",
                    items=("tea",),
                    model_version="v1",
                    variant="model",
                    propensity=1.0,
                    timestamp_us=50,
                    anonymous_id=BROWSER,
                )
            ],
        )
    return workspace


def _left(workspace):
    with closing(duckdb.connect()) as connection:
        workspace.events_view(connection)
        query = "SELECT event_id FROM events ORDER BY event_id"
        return {event_id for (event_id,) in connection.execute(query).fetchall()}


def _bytes_of(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _holds(root, text):
    return [path for path, content in _bytes_of(root).items() if text.encode() in content]


def test_a_person_is_known_by_ids_that_are_nobody_elses(tmp_path, storage):
    with _filled(tmp_path, storage) as workspace:
        person = person_of(workspace, SECRET)
        stranger = person_of(workspace, "nobody")

    assert person == Person(user_ids=(SECRET,), anonymous_ids=(BROWSER,), session_ids=("visit-1",))
    assert stranger == Person(user_ids=("nobody",))


def test_no_byte_of_the_ids_is_left_and_the_others_keep_everything(tmp_path, storage):
    bad = tmp_path / "bad.csv"
    home = tmp_path / "home"
    workspace = _filled(home, storage)
    bad.write_text(
        f"user_id,item_id,event_type,timestamp\n{SECRET},tea,view_item,not a time\n"
        "user-3,tea,view_item,not a time either\n"
        + "".join(f"user-{n},tea,view_item,17000000{n}\n" for n in range(10, 60)),
        encoding="utf-8",
    )
    with workspace:
        report = import_files(workspace, [bad])
        assert report.rejects == 2
        before = _left(workspace)
        assert _holds(home, SECRET)

        receipt = erase(
            workspace, person_of(workspace, SECRET), now_us=NOW_US, models=("gru4rec-1",)
        )

        assert before - _left(workspace) == {"e1", "e2", "e4", "live-1"}
    assert (receipt.events, receipt.exposures, receipt.rejects) == (4, 1, 1)
    assert receipt.segments >= 1
    assert receipt.retrain_by_us == NOW_US + 30 * 86_400_000_000
    assert receipt.models == ("gru4rec-1",)
    for text in (SECRET, BROWSER, "visit-1"):
        assert _holds(home, text) == []
    assert _holds(home, "user-3")


def test_erasing_a_stranger_changes_nothing(tmp_path, storage):
    with _filled(tmp_path, storage) as workspace:
        before = _left(workspace)
        receipt = erase(workspace, person_of(workspace, "nobody"), now_us=NOW_US)
        assert _left(workspace) == before
    assert (receipt.events, receipt.exposures, receipt.segments, receipt.rejects) == (0, 0, 0, 0)


def test_nobody_cannot_be_erased(tmp_path, storage):
    with (
        _filled(tmp_path, storage) as workspace,
        pytest.raises(ValueError, match="nobody is named"),
    ):
        erase(workspace, Person(), now_us=NOW_US)


def _told(storage):
    return json.dumps({"database_url": storage.database_url, "schema": storage.schema})


_CUT_OFF = """
import json, os, signal, sys
from pathlib import Path
from momentary.data import erasure
from momentary.data.workspace import Workspace
from momentary.settings import StorageSettings

unlink = Path.unlink
def dies(path, *args, **rest):
    if path.suffix == ".parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    unlink(path, *args, **rest)

Path.unlink = dies
storage = StorageSettings(**json.loads(sys.argv[3]))
with Workspace.open(Path(sys.argv[1]), storage=storage) as workspace:
    erasure.erase(workspace, erasure.person_of(workspace, sys.argv[2]), now_us=1)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL.")
def test_an_erasure_that_was_killed_is_finished(tmp_path, storage):
    with _filled(tmp_path, storage) as workspace:
        killed = subprocess.run(
            [sys.executable, "-c", _CUT_OFF, str(tmp_path), SECRET, _told(storage)], check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert _holds(tmp_path, SECRET)

        assert finish_pending(workspace, now_us=NOW_US)

        assert not finish_pending(workspace, now_us=NOW_US)
        assert {"e1", "e2", "e4", "live-1"} & _left(workspace) == set()
        assert {"e3", "e5", "o0", "live-2"} <= _left(workspace)
    for text in (SECRET, BROWSER):
        assert _holds(tmp_path, text) == []


def test_an_id_is_found_however_json_writes_it():
    spellings = erasure._spellings('ë"x')
    assert {'ë"x', '\\u00eb\\"x', 'ë\\"x', 'ë\\\\\\"x'} <= spellings
