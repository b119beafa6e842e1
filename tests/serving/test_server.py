import contextlib
import http.client
import itertools
import sqlite3
import threading
import time

import pytest

from tests.serving.world import ServerProcess, ask, event, opened


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def started():
            server = ServerProcess(tmp_path)
            stack.callback(server.kill)
            return server

        yield started


def _send_until_it_dies(server, sender, acknowledged):
    """Post numbered events; every fifth is sent twice, and the ledger is kept by the client."""
    for n in itertools.count():
        name = f"{server.port}-{sender}-{n}"
        click = event(f"s{sender}", f"i{n % 7}", event_id=name)
        try:
            for _ in range(2 if n % 5 == 0 else 1):
                if n % 2:
                    status, _ = server.request("POST", "/v1/events", click)
                else:
                    status, _ = server.request("POST", "/v1/recommend", {"event": click})
                assert status == 200
                acknowledged.append(name)
        except (OSError, ValueError, http.client.HTTPException):
            return


def test_no_acknowledged_event_is_lost_or_doubled_when_the_server_is_killed(tmp_path, start):
    ledger = []
    for least in (10, 20, 30, 40):
        server = start()
        senders = [
            threading.Thread(target=_send_until_it_dies, args=(server, sender, ledger))
            for sender in range(3)
        ]
        for sender in senders:
            sender.start()
        time.sleep(0.3)
        end_s = time.monotonic() + 30
        while len(ledger) < least and time.monotonic() < end_s:
            time.sleep(0.01)  # the machine is busy with other things
        server.kill()
        for sender in senders:
            sender.join()

    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        (check,) = connection.execute("PRAGMA integrity_check").fetchone()
        stored = [name for (name,) in connection.execute("SELECT event_id FROM events")]
    assert check == "ok"
    assert len(ledger) > 30
    assert set(ledger) <= set(stored)
    assert len(stored) == len(set(stored))


def test_a_killed_server_gives_the_same_answers_when_it_is_back(tmp_path, start):
    server = start()
    clicks = [event(f"s{n % 5}", f"i{n * 3 % 7}", user_id=f"u/{n % 2}") for n in range(40)]
    assert server.request("POST", "/v1/events", clicks) == (200, {"accepted": 40, "duplicates": 0})
    questions = [{"session_id": f"s{n}"} for n in range(6)] + [{"user_id": "u/1"}]

    def lists(ask_server):
        return [ask_server("POST", "/v1/recommend", each)[1]["items"] for each in questions]

    before = lists(server.request)
    for n in range(5):
        body = {"session_id": f"s{n}", "event": event(f"s{n}", "tea/green")}
        server.request("POST", "/v1/recommend", body)
    clicked = lists(server.request)
    server.kill()
    server = start()

    assert clicked != before
    assert lists(server.request) == clicked
    server.stop()
    with opened(tmp_path) as app:
        assert (
            lists(lambda method, path, body: (0, ask(app, method, path, json=body).json()))
            == clicked
        )


def test_a_stopped_server_closes_its_log(tmp_path, start):
    server = start()
    server.request("POST", "/v1/events", event("s", "i1", event_id="e"))
    again = server.request("POST", "/v1/events", event("s", "i1", event_id="e"))
    item = server.request("PUT", "/v1/items/tea%2Fgreen", {"name": "Tea"})
    shown = server.request("GET", "/v1/items/tea%2Fgreen")
    unreadable = server.request("GET", "/v1/items/%FF")
    server.stop()

    assert again == (200, {"accepted": 0, "duplicates": 1})
    assert item == (201, {"item_id": "tea/green", "name": "Tea"})
    assert shown == (200, {"item_id": "tea/green", "name": "Tea"})
    assert unreadable[0] == 400
    assert [file.name for file in tmp_path.glob("events*")] == ["events.sqlite"]
