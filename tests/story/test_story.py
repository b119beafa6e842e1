"""One shop, from its files to answers that survive a crash, over the public parts alone."""

import contextlib
import http.client
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

TRAILS = (("tea/green", "honey", "cup ü"), ("bread", "butter", "jam"), ("soap", "brush", "towel"))
ITEMS = [item for trail in TRAILS for item in trail]
BEGIN_S = 1_767_225_600


@pytest.fixture
def shop(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Shop(tmp_path, stack)


class Shop:
    """A folder, the command line in it, and the service of its workspace."""

    def __init__(self, folder, stack):
        self.folder = folder
        self._stack = stack
        self._environ = {**os.environ, "MOMENTARY_HOME": str(folder / "home")}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def write(self):
        """Visits that walk along one of three trails, and the items of the trails."""
        rng = random.Random(0)
        rows = ["visitor,product,time"]
        for visit in range(240):
            trail = TRAILS[visit % 3]
            start = rng.randrange(2)
            rows += [
                f"v{visit},{item},{BEGIN_S + 3600 * visit + 60 * step}"
                for step, item in enumerate(trail[start:] + trail[:start])
            ]
        (self.folder / "clicks.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        items = [
            {"item_id": item, "name": item.upper(), "price": at + 0.5, "category": f"c{at // 3}"}
            for at, item in enumerate(ITEMS)
        ]
        lines = "\n".join(json.dumps(item) for item in items)
        (self.folder / "products.jsonl").write_text(lines + "\n", encoding="utf-8")

    def run(self, *words):
        """What a command prints with --json."""
        done = subprocess.run(
            [sys.executable, "-m", "momentary", *words, "--json"],
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def serve(self):
        """Start the service and wait until it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "momentary", "serve", "--port", str(self.port)],
            cwd=self.folder,
            env=self._environ,
            stdout=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait, timeout=10)
        self._stack.callback(process.kill)
        end = time.monotonic() + 60
        while True:
            try:
                self.call("GET", "/health/ready")
            except OSError:
                assert process.poll() is None, "the service ended before it was ready"
                assert time.monotonic() < end, "the service did not get ready"
                time.sleep(0.02)
            else:
                return process

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            headers = {} if body is None else {"Content-Type": "application/json"}
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, body=sent, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status in (200, 201), content
            return json.loads(content)

    def click(self, item, event_id):
        event = {"event_id": event_id, "item_id": item, "event_type": "view_item"}
        event["timestamp"] = BEGIN_S + 10**6 + int(event_id)
        return self.call("POST", "/v1/recommend", {"session_id": "s/1", "k": 9, "event": event})

    def ask(self):
        return self.call("POST", "/v1/recommend", {"session_id": "s/1", "k": 9})

    def logged(self):
        with contextlib.closing(sqlite3.connect(self.folder / "home" / "events.sqlite")) as log:
            rows = log.execute("SELECT event_id, session_id, item_id FROM events ORDER BY seq")
            return rows.fetchall()


def _check_offline_is_online(shop, basket):
    online = shop.call("POST", "/v1/recommend", {"items": basket, "k": 5, "explain": True})["items"]
    offline = shop.run("recommend", *basket, "-k", "5")
    scores = [each.pop("score") for each in offline]
    assert [each.pop("score") for each in online] == pytest.approx(scores, rel=1e-5)
    for each in online:
        del each["name"]
        each.setdefault("propensity", 1.0)  # the service leaves certain places out
    assert online == offline
    assert len(online) == 5


def _ids(answer):
    return [each["item_id"] for each in answer["items"]]


def test_from_files_to_answers_that_survive_a_crash(shop):
    shop.write()
    seen = shop.run("doctor", "clicks.csv", "products.jsonl")
    assert [each["kind"] for each in seen] == ["events", "items"]

    imported = shop.run("import", "clicks.csv", "products.jsonl")
    assert (imported["events_added"], imported["items_added"]) == (720, 9)

    trained = shop.run("train", "-m", "gru4rec", "--set", "units=[16]", "--set", "epochs=2")
    assert (trained["items"], trained["promoted"]) == (9, True)

    service = shop.serve()
    first = shop.click("bread", "1")
    assert first["model_version"] == trained["version"]
    assert set(_ids(first)) == set(ITEMS)
    second = shop.click("soap", "2")
    assert _ids(second) != _ids(first)
    assert _ids(shop.click("soap", "2")) == _ids(second), "sending it twice counts once"

    _check_offline_is_online(shop, ["tea/green", "honey"])

    best = _ids(second)[0]
    shop.call("PUT", f"/v1/items/{best.replace('/', '%2F')}", {"available": False})
    before = shop.ask()
    assert _ids(before) == [item for item in _ids(second) if item != best]

    service.kill()
    service.wait(timeout=10)
    shop.serve()
    assert shop.ask()["items"] == before["items"]
    assert shop.logged() == [("1", "s/1", "bread"), ("2", "s/1", "soap")]
