"""Several processes behind one port are one service: real ones, and kill -9 of one of them."""

import asyncio
import contextlib
import http.client
import itertools
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from momentary.serving.access import Access
from momentary.serving.measures import Measures, labelled
from momentary.serving.problems import Problem
from momentary.serving.team import Team
from momentary.serving.workers import Workers
from momentary.settings import ServeSettings
from tests.serving.world import (
    ITEMS,
    ServerProcess,
    ask,
    event,
    opened,
    said,
    worker_connections,
)

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux' /proc")


class Service(ServerProcess):
    """Two workers, and a connection to each of them."""

    def __init__(self, root, **limits):
        super().__init__(root, workers=2, **limits)

    def workers(self):
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connections(self):
        """One connection to each worker, by who counts a request of it."""
        return worker_connections(self.port, 2)

    def kill(self):
        for pid in self.workers() if self.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().kill()


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def started(**limits):
            service = Service(tmp_path, **limits)
            stack.callback(service.kill)
            return service

        yield started


def _list(connection, **body):
    status, answer = said(connection, "POST", "/v1/recommend", {"k": 13, **body})
    assert status == 200
    return [(each["item_id"], each["score"]) for each in answer["items"]]


def test_a_visitor_gets_the_same_from_every_worker_and_each_knows_every_click(tmp_path, start):
    service = start()
    one, two = service.connections()
    lists = []
    for number in range(12):
        here, there = (one, two) if number % 3 else (two, one)
        click = event("s", f"i{number % 7}", user_id="u", anonymous_id=f"a{number // 6}")
        after = _list(here, session_id="s", event=click)
        assert _list(there, session_id="s") == _list(here, session_id="s") == after
        assert _list(there, user_id="u") == _list(here, user_id="u")
        lists.append(after)
    last = [_list(one, **ids) for ids in ({"session_id": "s"}, {"user_id": "u"})]
    one.close()
    two.close()
    assert service.stop() == 0
    assert all(before != after for before, after in itertools.pairwise(lists))
    with opened(tmp_path) as app:
        for found, ids in zip(last, ({"session_id": "s"}, {"user_id": "u"}), strict=True):
            answer = ask(app, "POST", "/v1/recommend", json={"k": 13, **ids}).json()
            assert [(each["item_id"], each["score"]) for each in answer["items"]] == found


def test_what_one_worker_changes_every_worker_knows_at_once(start):
    service = start()
    one, two = service.connections()
    for here, there in ((one, two), (two, one)):
        for available in (False, True):
            item = {"name": "Tea", "available": available}
            assert said(here, "PUT", "/v1/items/tea%2Fgreen", item)[0] in (200, 201)
            for each in (here, there):
                assert ("tea/green" in dict(_list(each))) is available
                found = said(each, "GET", "/v1/search?q=tea&in_stock=false")[1]["items"]
                assert [item["name"] for item in found] == ["Tea"]
        rules = {"allow": {"brand": ["red"]}} if here is one else {"allow": {"brand": ["blue"]}}
        assert said(here, "PUT", "/v1/rules/colour", rules)[0] in (200, 201)
        lists = [_list(each, rule_sets=["colour"]) for each in (one, two)]
        assert lists[0] == lists[1]
        assert dict(lists[0]).keys() < set(ITEMS)
    one.close()
    two.close()
    assert service.stop() == 0


def test_a_person_that_one_worker_forgets_is_forgotten_by_all(tmp_path, start):
    service = start()
    one, two = service.connections()
    stranger = _list(one, user_id="nobody")
    for each in (one, two):
        clicked = _list(each, user_id="u", event=event(None, "i1", user_id="u"))
    assert clicked != stranger
    status, receipt = said(one, "DELETE", "/v1/users/u")
    assert (status, receipt["events"]) == (200, 2)
    assert _list(two, user_id="u") == _list(one, user_id="u") == stranger
    one.close()
    two.close()
    assert service.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)


def _send_until(stop, service, sender, ledger, failures):
    number = 0
    while not stop.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        with contextlib.closing(connection):
            try:
                while not stop.is_set():
                    number += 1
                    name = f"{sender}-{number}"
                    click = event(f"s{sender}", f"i{number % 7}", event_id=name)
                    path, body = "/v1/recommend", {"event": click}
                    if number % 2:
                        path, body = "/v1/events", click
                    status, _ = said(connection, "POST", path, body)
                    assert status == 200
                    ledger.append(name)
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(error)


@contextlib.contextmanager
def _load(service, senders=4):
    stop, ledger, failures = threading.Event(), [], []
    threads = [
        threading.Thread(target=_send_until, args=(stop, service, sender, ledger, failures))
        for sender in range(senders)
    ]
    for each in threads:
        each.start()
    try:
        yield ledger, failures
    finally:
        stop.set()
        for each in threads:
            each.join()


def test_killing_a_worker_loses_no_acknowledged_event_and_another_takes_its_place(tmp_path, start):
    service = start()
    with _load(service) as (ledger, failures):
        for turn in range(3):
            enough = len(ledger) + 60
            while len(ledger) < enough:
                time.sleep(0.02)
            before = service.workers()
            os.kill(before[turn % 2], signal.SIGKILL)
            end = time.monotonic() + 30
            while len(service.workers()) < 2 or service.workers() == before:
                assert time.monotonic() < end
                time.sleep(0.02)
    # Only what the killed ones were about to answer was lost, and only to its sender.
    assert len(failures) <= 3 * 4
    one, two = service.connections()
    assert [_list(one, session_id=f"s{n}") for n in range(4)] == [
        _list(two, session_id=f"s{n}") for n in range(4)
    ]
    one.close()
    two.close()
    assert service.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        stored = [name for (name,) in connection.execute("SELECT event_id FROM events")]
    assert set(ledger) <= set(stored)
    assert len(stored) == len(set(stored))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_that_is_told_to_stop_answers_what_it_was_asked(tmp_path, start, workers):
    service = start() if workers == 2 else ServerProcess(tmp_path)
    with _load(service) as (ledger, failures):
        while len(ledger) < 100:
            time.sleep(0.02)
        service.process.terminate()
        status = service.process.wait(timeout=30)
        time.sleep(0.1)
    assert status == (0 if workers == 2 else -signal.SIGTERM)
    # Connections are closed between answers or refused; none is cut in the middle of one.
    cut = [each for each in failures if isinstance(each, http.client.IncompleteRead | ValueError)]
    assert not [each for each in cut if not isinstance(each, http.client.RemoteDisconnected)]
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        stored = {name for (name,) in connection.execute("SELECT event_id FROM events")}
    assert set(ledger) <= stored
    assert len(stored) == len(ledger)


def test_workers_end_with_the_process_that_started_them(start):
    service = start()
    workers = service.workers()
    service.process.kill()
    service.process.wait(timeout=10)
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_workers_that_cannot_start_end_the_service(capfd):
    def work(index, starts, lifeline):
        raise RuntimeError(f"worker {index} has no {starts} {lifeline > 0}")

    with pytest.raises(Exception, match="within 2 s of their start"):
        Workers(2, work, grace_s=1).run()
    assert "RuntimeError: worker 1 has no" in capfd.readouterr().err


def test_a_key_may_ask_no_more_often_of_several_workers_than_of_one(tmp_path):
    settings = ServeSettings(rate_limit=5)
    now_s = 0.0
    scope = {"type": "http", "method": "GET", "headers": []}
    with Team(2, turn=tmp_path / "turn", keys=0) as team:
        both = [
            Access(settings, clock_s=lambda: now_s, allowances=team.allowances) for _ in range(2)
        ]
        for number in range(10):
            both[number % 2].caller(scope)
        for each in both:
            with pytest.raises(Problem, match="More than 5 requests"):
                each.caller(scope)
        now_s = 0.25
        both[0].caller(scope)
        with pytest.raises(Problem):
            both[1].caller(scope)


def test_news_reaches_every_worker_and_a_silent_one_is_named(tmp_path, caplog):
    async def run():
        with Team(3, turn=tmp_path / "turn", keys=0) as team:
            one, two, three = (team.member(index) for index in range(3))
            heard = []

            async def follow(what):
                heard.append(what)
                return what.upper()

            for each in (one, two, three):
                each.listen({"item": follow})
            answers = await one.tell("item", b"tea")
            three.leave()
            late = await two.tell("item", b"milk", patience_s=1.0)
            for each in (one, two):
                each.leave()
            return answers, late, heard

    answers, late, heard = asyncio.run(run())
    assert answers == {1: b"TEA", 2: b"TEA"}
    assert late == {0: b"MILK"}
    assert heard == [b"tea", b"tea", b"milk"]
    assert "workers [2] did not follow 'item'" in caplog.text


def test_the_counters_of_workers_stand_side_by_side():
    both = [Measures() for _ in range(2)]
    for number, each in enumerate(both):
        for _ in range(number + 1):
            each.answered("recommend", 200, seconds=0.01)
    text = labelled({number: each.text() for number, each in enumerate(both)}).decode()
    for worker, count in ((0, 1.0), (1, 2.0)):
        labels = f'{{route="recommend",status="200",worker="{worker}"}}'
        assert f"momentary_requests_total{labels} {count}" in text
    assert text.count("# TYPE momentary_request_seconds histogram") == 1
