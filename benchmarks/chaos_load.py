"""Clients that keep a ledger of what was acknowledged, and rows that say yes or no."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import duckdb
import numpy as np

from benchmarks.report import Row
from benchmarks.shop import click
from momentary.data.workspace import Workspace

ITEMS = 37_000
CLIENTS = 4


@dataclass(slots=True)
class Ledger:
    """What the clients sent and what was acknowledged, by event id; nothing of the service's."""

    prefix: str = "click"
    age_s: int = 0
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 0

    def number(self) -> int:
        """A number that no other event has."""
        with self._lock:
            self._next += 1
            return self._next

    def note(self, event_id: str, status: int, *, took_s: float) -> None:
        """Write down what became of an event."""
        with self._lock:
            self.statuses[status] += 1
            self.slowest_s = max(self.slowest_s, took_s)
            if status == 200:
                self.acknowledged.add(event_id)

    def rows(self, name: str, workspace: Workspace) -> list[Row]:
        """Hold the ledger against everything that the workspace knows, live and compacted."""
        with closing(duckdb.connect()) as connection:
            workspace.events_view(connection)
            query = "SELECT event_id FROM events WHERE starts_with(event_id, ?)"
            ids = connection.execute(query, [f"{self.prefix}-"]).fetchall()
        found = Counter(event_id for (event_id,) in ids)
        return [
            Row(what=f"{name}: acknowledged events", value=len(self.acknowledged)),
            lower(f"{name}: acknowledged events lost", len(self.acknowledged - set(found)), 0),
            lower(f"{name}: events doubled", sum(n - 1 for n in found.values()), 0),
            lower(f"{name}: events that nobody sent", len(set(found) - self.sent), 0),
        ]


def send_until(stop: threading.Event, port: int, ledger: Ledger, *, seed: int) -> None:
    """Send clicks, alone and inside questions, until told to stop or the service is gone.

    Every tenth event is sent twice, and one whose answer was no 200 once more.
    """
    rng = np.random.default_rng(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        while not stop.is_set():
            number = ledger.number()
            event = {
                **click(number, item=int(rng.integers(ITEMS)), session=int(rng.integers(500))),
                "event_id": f"{ledger.prefix}-{number}",
            }
            event["timestamp"] = int(time.time()) - ledger.age_s
            inside = bool(rng.random() < 0.5)
            path, body = ("/v1/recommend", {"event": event}) if inside else ("/v1/events", event)
            ledger.sent.add(event["event_id"])
            for turn in range(2):
                start_s = time.perf_counter()
                try:
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", path, body=json.dumps(body), headers=headers)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):
                    return
                took_s = time.perf_counter() - start_s
                ledger.note(event["event_id"], answer.status, took_s=took_s)
                if turn == 0 and answer.status == 200 and number % 10:
                    break


@contextlib.contextmanager
def load(port: int, ledger: Ledger, *, seed: int) -> Iterator[None]:
    """Several clients send while the block runs."""
    stop = threading.Event()
    clients = [
        threading.Thread(
            target=send_until, args=(stop, port, ledger), kwargs={"seed": 100 * seed + each}
        )
        for each in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join()


def lower(what: str, value: float, target: float, *, unit: str = "") -> Row:
    """A figure that may not exceed its target."""
    return Row(what=what, value=value, target=target, unit=unit, better="lower")


def yes(what: str, holds: object) -> Row:
    """Something that must hold."""
    return Row(what=f"{what} (1: yes)", value=float(bool(holds)), target=1)


def other(statuses: Counter[int]) -> int:
    """Answers that are neither 200 nor 503."""
    return statuses.total() - statuses[200] - statuses[503]
