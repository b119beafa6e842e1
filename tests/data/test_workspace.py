"""The workspace: opens fast, migrates once, and shows every event once."""

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.catalog import METADATA
from momentary.data.importer import import_table
from momentary.data.workspace import BUCKET_SQL, HEAD, VIEW_SCHEMA, Workspace, bucket_of
from momentary.errors import SettingsError
from momentary.types import Event

ODD = "a'b [1] *c? %d ü"


def log_rows(workspace, rows):
    events = [
        Event(
            event_id=event_id,
            anonymous_id=anonymous_id,
            item_id=item_id,
            event_type="view_item",
            timestamp_us=timestamp_us,
            position=3,
        )
        for event_id, anonymous_id, item_id, timestamp_us in rows
    ]
    with closing(workspace.open_log()) as log:
        log.append(events)


def view(workspace, query):
    with closing(duckdb.connect()) as connection:
        workspace.events_view(connection)
        return connection.execute(query).fetchall()


def table(*event_ids):
    return pa.table(
        {
            "event_id": list(event_ids),
            "user_id": ["u"] * len(event_ids),
            "item_id": ["i"] * len(event_ids),
            "event_type": ["view_item"] * len(event_ids),
            "timestamp_us": list(range(len(event_ids))),
        }
    )


def test_no_workspace_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="momentary import"):
        Workspace.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_open_creates_once_and_then_needs_no_alembic(tmp_path):
    Workspace.open(tmp_path / ODD, create=True).close()
    code = (
        "import sys; from pathlib import Path; from momentary.data.workspace import Workspace; "
        "w = Workspace.open(Path(sys.argv[1])); print(w.catalog.count(), 'alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / ODD)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "False"]


def test_head_is_the_newest_migration_and_the_tables_are_those_of_the_code(tmp_path):
    config = Config()
    config.set_main_option("script_location", "momentary.data:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
    with Workspace.open(tmp_path, create=True) as workspace:
        inspector = sa.inspect(workspace.engine)
        for name, known in METADATA.tables.items():
            found = {
                c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)
            }
            dialect = workspace.engine.dialect
            assert found == {
                c.name: (c.type.compile(dialect=dialect), c.nullable) for c in known.columns
            }
        with workspace.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_a_newer_workspace_is_refused(tmp_path):
    Workspace.open(tmp_path, create=True).close()
    with closing(sqlite3.connect(tmp_path / "workspace.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer momentary"):
        Workspace.open(tmp_path)


def test_many_processes_may_create_it_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from momentary.data.workspace import Workspace; "
        "print(Workspace.open(Path(sys.argv[1]), create=True).catalog.count())"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "home")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate() for process in running] == [("0\n", "")] * 3


@settings(max_examples=30, deadline=None)
@given(visitor=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_buckets_are_the_same_in_python_and_sql(visitor):
    expected = int(hashlib.md5(visitor.encode()).hexdigest()[:8], 16) % 16
    found = duckdb.execute(f"SELECT {BUCKET_SQL} FROM (SELECT ? AS visitor)", [visitor]).fetchall()
    assert found == [(expected,)]
    assert bucket_of(visitor) == expected


def test_the_view_of_nothing_has_its_columns(tmp_path):
    with Workspace.open(tmp_path / ODD, create=True) as workspace:
        found = view(workspace, "SELECT column_name, column_type FROM (DESCRIBE events)")
    assert [name for name, _ in found] == VIEW_SCHEMA.names
    assert dict(found)["timestamp_us"] == "BIGINT"
    assert dict(found)["bucket"] == "INTEGER"


def test_the_view_joins_segments_and_the_live_log_without_doubles(tmp_path):
    with Workspace.open(tmp_path / ODD, create=True) as workspace:
        import_table(workspace, table("e1", "e2"), kind="events", source="test")
        log_rows(workspace, [("e2", "x", "i", 7), ("e3", "x", "j", 8)])
        found = view(
            workspace, "SELECT event_id, visitor, item_id, position, bucket FROM events ORDER BY 1"
        )
        assert [path.is_file() for path in workspace.segments()] == [True]
        assert workspace.segments(bucket_of("u:u")) == workspace.segments()
    assert found == [
        ("e1", "u:u", "i", None, bucket_of("u:u")),
        ("e2", "u:u", "i", None, bucket_of("u:u")),
        ("e3", "a:x", "j", 3, bucket_of("a:x")),
    ]


def test_a_log_without_its_table_is_an_empty_log(tmp_path):
    with Workspace.open(tmp_path, create=True) as workspace:
        sqlite3.connect(workspace.log_path).close()
        workspace.log_path.touch()
        assert view(workspace, "SELECT count(*) FROM events") == [(0,)]
