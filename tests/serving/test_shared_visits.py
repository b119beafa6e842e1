"""Visits in Redis: two processes agree, and the log is right whatever Redis does."""

import signal
from contextlib import ExitStack, closing

import pytest
import redis

from momentary.data.vocabulary import Vocabulary
from momentary.errors import SettingsError
from momentary.serving import shared_visits
from momentary.serving.state import LiveSessions
from momentary.serving.visits import open_visits
from momentary.settings import ServeSettings
from momentary.types import Event
from tests.serving.world import ITEMS, ask, event, opened

KEY = ("session_id", "s")
OTHER = ("session_id", "t")


class Log:
    """A log in memory that counts how often it is read."""

    def __init__(self):
        self.events, self.reads = [], 0

    def history(self, key, limit):
        self.reads += 1
        column, value = key
        return [each for each in self.events if getattr(each, column) == value][-limit:]


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def workers(redis_server, log, monkeypatch):
    """Makes processes that share visits and a log, patient unless a test says otherwise."""
    redis_server.say("FLUSHALL")
    with ExitStack() as stack:

        def worker(version="v1", items=ITEMS, identity="shop", timeout_s=10.0):
            # A machine that is busy with other things must not make Redis look dead.
            monkeypatch.setattr(shared_visits, "_TIMEOUT_S", timeout_s)
            made = open_visits(
                ServeSettings(state_url=redis_server.url),
                items=Vocabulary(items),
                version=version,
                history=log.history,
                identity=identity,
            )
            stack.callback(made.close)
            return made

        yield worker


def _click(item, session_id="s", n=[0], **ids):  # noqa: B006 - numbers the clicks
    n[0] += 1
    return Event(
        event_id=f"e{n[0]}",
        item_id=item,
        event_type="view_item",
        timestamp_us=n[0],
        session_id=session_id,
        **ids,
    )


def _tick(worker, log, *events, keys=(KEY,)):
    """What one tick of an engine does; the items of the first key's visit."""
    worker.load(keys)
    worker.record(events)
    worker.announce(events)
    log.events += events
    worker.publish()
    items = worker.get(keys[0]).items if keys else ()
    worker.trim()
    return items


def test_without_an_address_visits_are_in_memory(log):
    made = open_visits(
        ServeSettings(), items=Vocabulary(ITEMS), version="v", history=log.history, identity="i"
    )
    assert isinstance(made, LiveSessions)
    with pytest.raises(SettingsError, match="redis://HOST"):
        ServeSettings(state_url="http://127.0.0.1")


def test_two_processes_continue_one_visit_without_reading_the_log(workers, log):
    one, two = workers(), workers()
    assert _tick(one, log, _click("i1")) == (ITEMS.index("i1"),)
    assert log.reads == 1
    assert _tick(two, log, _click("i2")) == (ITEMS.index("i1"), ITEMS.index("i2"))
    assert _tick(one, log) == (ITEMS.index("i1"), ITEMS.index("i2"))
    assert log.reads == 1


def test_a_click_that_nobody_asked_about_counts_in_the_others_next_answer(workers, log):
    one, two = workers(), workers()
    _tick(one, log, _click("i1"))
    _tick(two, log, _click("i2"), keys=())
    assert _tick(one, log) == (ITEMS.index("i1"), ITEMS.index("i2"))


def test_of_two_changes_at_once_neither_is_believed(workers, log):
    one, two = workers(), workers()
    _tick(one, log, _click("i1"))
    for worker in (one, two):
        worker.load([KEY])
    for worker, item in ((one, "i2"), (two, "i3")):
        click = _click(item)
        worker.record([click])
        worker.announce([click])
        log.events.append(click)
    one.publish()
    two.publish()
    for worker in (one, two):
        worker.trim()
    assert _tick(one, log) == tuple(ITEMS.index(each) for each in ("i1", "i2", "i3"))


def test_what_was_read_before_anothers_commit_is_not_stored_after_it(workers, log):
    one, two = workers(), workers()
    two.load([KEY])  # reads an empty log
    _tick(one, log, _click("i1"), keys=())
    two.publish()
    two.trim()
    assert _tick(one, log) == (ITEMS.index("i1"),)


def test_a_process_that_died_after_its_commit_leaves_nothing_wrong(workers, log):
    one, two = workers(), workers()
    _tick(one, log, _click("i1"))
    one.load([KEY])
    click = _click("i2")
    one.record([click])
    one.announce([click])
    log.events.append(click)  # and then it is killed
    assert _tick(two, log) == (ITEMS.index("i1"), ITEMS.index("i2"))


def test_another_model_reads_visits_anew(workers, log):
    _tick(workers(), log, _click("i1"))
    other = workers(version="v2", items=tuple(reversed(ITEMS)))
    assert _tick(other, log) == (len(ITEMS) - 1 - ITEMS.index("i1"),)
    one = workers()
    one.switch(Vocabulary(tuple(reversed(ITEMS))), version="v2")
    reads = log.reads
    assert _tick(one, log) == (len(ITEMS) - 1 - ITEMS.index("i1"),)
    assert log.reads == reads


def test_shops_that_share_a_redis_share_no_visit(workers, log):
    _tick(workers(), log, _click("i1"))
    log.events.clear()
    assert _tick(workers(identity="other"), log) == ()


def test_erasing_leaves_no_visit_and_none_comes_back(workers, log, redis_server):
    one, two = workers(), workers()
    _tick(one, log, _click("i1"))
    two.load([KEY])
    log.events.clear()
    one.clear(Vocabulary(ITEMS), version="v1")
    assert redis_server.say("KEYS", "*").count(b"momentary:") == 1  # the epoch
    two.publish()
    two.trim()
    assert _tick(one, log) == ()


def test_many_visits_are_erased_in_few_journeys(workers, log, redis_server, monkeypatch):
    one = workers()
    for number in range(30):
        session = f"s{number}"
        event = _click("i1", session)
        _tick(one, log, event, keys=[("session_id", session)])
    journeys, unlink = [], redis.Redis.unlink

    def counted(client, *names):
        journeys.append(len(names))
        return unlink(client, *names)

    monkeypatch.setattr(redis.Redis, "unlink", counted)
    one.clear(Vocabulary(ITEMS), version="v1")
    assert sum(journeys) == 30
    assert len(journeys) == 1
    assert redis_server.say("KEYS", "*").count(b"momentary:") == 1  # the epoch


def test_the_ids_are_not_in_redis(workers, log, redis_server):
    _tick(workers(), log, _click("i1", "a-secret-visit"), keys=[("session_id", "a-secret-visit")])
    names = redis_server.say("KEYS", "*")
    assert b"momentary:shop:" in names
    assert b"secret" not in names


def test_while_redis_is_silent_the_log_answers_and_what_changed_is_revoked_later(
    workers, log, redis_server, caplog
):
    one, two = workers(timeout_s=0.05), workers()
    now_s = [0.0]
    one._clock_s = lambda: now_s[0]
    _tick(one, log, _click("i1"))
    now_s[0] += 2  # should the machine have been busy for longer than the timeout
    caplog.clear()
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        for items in (("i1", "i2"), ("i1", "i2", "i3")):
            assert _tick(one, log, _click(items[-1])) == tuple(ITEMS.index(each) for each in items)
        # One timeout, then no more asking: not one a command, nor one a tick.
        assert caplog.text.count("Redis does not answer") == 1
        now_s[0] += 1.1
        _tick(one, log)
        assert caplog.text.count("Redis does not answer") == 2
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    while one._owed:
        now_s[0] += 2
        _tick(one, log, keys=(OTHER,))  # pays what is owed
    assert _tick(two, log) == tuple(ITEMS.index(each) for each in ("i1", "i2", "i3"))


def test_a_redis_that_is_gone_and_comes_back_empty_changes_no_answer(workers, log, redis_server):
    one = workers()
    before = _tick(one, log, _click("i1"))
    redis_server.stop()
    try:
        assert _tick(one, log) == before
    finally:
        redis_server.start()
    assert _tick(one, log, _click("i2")) == (*before, ITEMS.index("i2"))


def test_two_services_give_one_visitor_the_same_answer(tmp_path, redis_server):
    redis_server.say("FLUSHALL")
    limits = {"state_url": redis_server.url}
    with opened(tmp_path, **limits) as one, opened(tmp_path, **limits) as two:
        for place, item in enumerate(("i1", "i2", "tea/green")):
            app, other = (one, two) if place % 2 else (two, one)
            told = ask(app, "POST", "/v1/recommend", json={"event": event("s", item)}).json()
            same = ask(other, "GET", "/v1/sessions/s/recommend?k=20").json()
            assert same["items"] == told["items"]
        ask(one, "DELETE", "/v1/users/nobody")
        with closing(one.engine._log) as log:
            assert log.count() == 3
