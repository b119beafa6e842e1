import contextlib
import sqlite3

import pytest

from momentary.data.events import EventLog, Exposure, new_id
from momentary.data.workspace import Workspace
from momentary.errors import DataError, StorageError
from momentary.types import Event


@pytest.fixture
def workspace(tmp_path, storage):
    with Workspace.open(tmp_path, create=True, storage=storage) as opened:
        yield opened


@pytest.fixture
def log(workspace):
    with contextlib.closing(workspace.open_log()) as opened:
        yield opened


@pytest.fixture
def files_of_the_log(request, workspace, storage):
    """Lists the files that hold the log's rows, after the database has written them."""

    def files():
        if storage.database_url is None:
            return list(workspace.root.glob("events.sqlite*"))
        server = request.getfixturevalue("postgres")
        # One path a line; the last checkpoint wrote what the tables hold.
        query = (
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE c.relnamespace = "
            "current_schema()::regnamespace AND c.relkind IN ('r', 'i', 't')"
        )
        with contextlib.closing(workspace.open_log()) as log:
            log._log._alive().execute("SET statement_timeout = 0")
            log._log._alive().execute("CHECKPOINT")
            return [server.folder / path for (path,) in log._log.fetch(query) if path]

    return files


def _event(event_id: str, timestamp_us: int = 0, **fields) -> Event:
    given = {"item_id": "tea/green", "event_type": "view_item", "session_id": "s", **fields}
    return Event(event_id=event_id, timestamp_us=timestamp_us, **given)


def _exposure(recommendation_id: str, timestamp_us: int = 0, **fields) -> Exposure:
    given = {"items": ("b", "a"), "model_version": "v1", "variant": "model", "propensity": 0.5}
    return Exposure(
        recommendation_id=recommendation_id, timestamp_us=timestamp_us, **{**given, **fields}
    )


def test_every_field_comes_back(log):
    full = _event(
        "e/1 ü\x7f",
        2**62,
        user_id="u",
        anonymous_id="a",
        value=-1.5,
        price=2.25,
        currency="EUR",
        quantity=3.0,
        recommendation_id="r",
        position=0,
        properties={"colour": ["red", None], "big": 10**30},
    )

    assert log.append([full]) == [True]
    assert list(log.read()) == [full]


def test_a_known_id_counts_once_and_keeps_its_first_content(log):
    assert log.append([_event("a"), _event("b"), _event("a", item_id="other")]) == [
        True,
        True,
        False,
    ]
    assert log.append([_event("b"), _event("c")]) == [False, True]
    assert log.count() == 3
    assert {event.item_id for event in log.read()} == {"tea/green"}
    assert log.known(["a", "c", "z", 'quote"d']) == {"a", "c"}


def test_a_transaction_writes_all_or_nothing(log):
    with pytest.raises((OverflowError, StorageError)):
        log.append([_event("a"), _event("b", 2**80)])
    with pytest.raises(StorageError):
        log.append([_event("c")], exposures=[_exposure("r"), _exposure("r")])

    assert log.count() == 0
    assert list(log.exposures()) == []
    assert log.append([_event("a")]) == [True]


def test_read_is_half_open_and_ordered_by_time_then_arrival(log):
    log.append([_event("c", 30), _event("a", 10), _event("b2", 20), _event("b1", 20)])

    assert [event.event_id for event in log.read()] == ["a", "b2", "b1", "c"]
    assert [event.event_id for event in log.read(start_us=20, end_us=30)] == ["b2", "b1"]
    assert [event.event_id for event in log.read(start_us=21)] == ["c"]
    assert [event.event_id for event in log.read(end_us=10)] == []


def test_a_slow_reader_sees_one_moment_of_the_log(log):
    log.append([_event(str(n), n) for n in range(500)])
    reader = log.read()
    first = next(reader)
    log.append([_event("late", 10**6)])

    assert [first, *reader][-1].event_id == "499"


def test_recent_and_history_are_the_last_in_order_of_arrival(log):
    log.append([_event("a", 30), _event("b", 20, session_id="t", user_id="u"), _event("c", 10)])
    log.append([_event("d", 5, event_type="view_item_list")])

    assert [event.event_id for event in log.recent(3)] == ["b", "c", "d"]
    assert [event.event_id for event in log.history("session_id", "s", limit=2)] == ["c", "d"]
    assert [event.event_id for event in log.history("user_id", "u", limit=2)] == ["b"]
    only = log.history("session_id", "s", limit=2, event_types=("view_item",))
    assert [event.event_id for event in only] == ["a", "c"]


def test_history_refuses_a_column_that_names_nobody(log):
    with pytest.raises(ValueError, match="'item_id' names nobody"):
        log.history("item_id", "x", limit=1)


def test_exposures_come_back_in_their_time_range(log):
    shown = [_exposure("r1", 10, user_id="u"), _exposure("r2", 20, items=())]
    log.append([], exposures=shown)

    assert list(log.exposures()) == shown
    assert list(log.exposures(start_us=11)) == shown[1:]


@pytest.mark.parametrize("column", ["user_id", "anonymous_id", "session_id"])
def test_erasure_leaves_no_byte_behind(workspace, files_of_the_log, column):
    secret = "very-secret-person-4711"
    with contextlib.closing(workspace.open_log()) as log:
        for start in range(0, 2000, 100):
            rows = [
                _event(
                    f"{secret if n % 3 == 0 else 'other'}-{n * 7919 % 2000:04d}",
                    n,
                    **{"session_id": "s", column: secret if n % 3 == 0 else "other"},
                )
                for n in range(start, start + 100)
            ]
            log.append(rows, exposures=[_exposure(f"r{start}", **{column: secret})])

        receipt = log.erase(**{f"{column}s": [secret]})

        assert (receipt.events, receipt.exposures) == (667, 20)
        assert log.count() == 1333
        assert list(log.exposures()) == []
        files = files_of_the_log()
        assert files
        assert all(secret.encode() not in file.read_bytes() for file in files)
        assert log.append([_event("after")]) == [True]


def test_erasure_needs_an_id(log):
    with pytest.raises(ValueError, match="give user_id"):
        log.erase()


def test_what_was_appended_is_there_when_opened_again(workspace):
    with contextlib.closing(workspace.open_log()) as log:
        log.append([_event("a")])
        log.close()
    with contextlib.closing(workspace.open_log()) as log:
        assert log.append([_event("a")]) == [False]


def test_commits_are_synced_to_the_disk(tmp_path):
    with contextlib.closing(EventLog(tmp_path / "events.sqlite")) as log:
        assert log._log.fetch("PRAGMA journal_mode") == [("wal",)]
        assert log._log.fetch("PRAGMA synchronous") == [(2,)]


def test_commits_are_synced_to_the_disk_of_the_server(tmp_path, postgres_storage):
    with (
        Workspace.open(tmp_path, create=True, storage=postgres_storage) as workspace,
        contextlib.closing(workspace.open_log()) as log,
    ):
        assert log._log.fetch("SHOW synchronous_commit") == [("on",)]
        assert log._log.fetch("SHOW fsync") == [("on",)]


def test_a_log_that_takes_writes_again_is_found_out_by_writing(log):
    log.check()
    log.check()
    assert log.count() == 0


def test_a_file_that_is_no_log_is_refused(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("not a database " * 100)
    with pytest.raises(DataError, match=r"notes\.txt cannot be opened"):
        EventLog(other)
    with pytest.raises(DataError, match="check that its folder exists"):
        EventLog(tmp_path / "missing" / "events.sqlite")


def test_a_log_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "events.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="version 99"):
        EventLog(path)


def test_a_log_of_an_earlier_version_learns_the_chance_of_each_place(tmp_path):
    path = tmp_path / "events.sqlite"
    log = EventLog(path)
    log.append([_event("e")], exposures=[_exposure("r")])
    log.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE exposures DROP COLUMN propensities")
        connection.execute("ALTER TABLE pulse DROP COLUMN ballast")
        connection.execute("DROP INDEX exposures_time")
        connection.execute("PRAGMA user_version = 2")
    log = EventLog(path)
    log.append([], exposures=[_exposure("s", 1, propensities=(0.25, 2 / 3))])
    assert [each.propensities for each in log.exposures()] == [None, (0.25, 2 / 3)]
    assert log.count() == 1
    log.check()
    log.close()


def test_new_ids_differ_and_ascend_with_time():
    ids = {new_id(5) for _ in range(1000)}
    assert len(ids) == 1000
    assert new_id(5) < new_id(6)
