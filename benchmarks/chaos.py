"""What is left when things break: kill -9 under load, a full disk, a clock that goes back, damage.

The shop and its visitors are simulated. Clients write down every event whose answer they got,
outside of the service; at the end this ledger is held against the log.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.report import Row, finish
from benchmarks.shop import Service, build, click
from momentary.data.events import EventLog
from momentary.data.workspace import Workspace

ITEMS = 37_000
CLIENTS = 4


class Ledger:
    """What the clients sent and what was acknowledged, by event id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()

    def number(self) -> int:
        """A number that no other event has."""
        with self._lock:
            self._next += 1
            return self._next


def send_until(stop: threading.Event, port: int, ledger: Ledger, *, seed: int) -> None:
    """Send clicks, alone and inside questions, until told to stop or the service is gone."""
    rng = np.random.default_rng(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        while not stop.is_set():
            event = click(
                ledger.number(), item=int(rng.integers(ITEMS)), session=int(rng.integers(500))
            )
            inside = bool(rng.random() < 0.5)
            path, body = ("/v1/recommend", {"event": event}) if inside else ("/v1/events", event)
            ledger.sent.add(event["event_id"])
            try:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", path, body=json.dumps(body), headers=headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 200:
                ledger.acknowledged.add(event["event_id"])


def killed_under_load(home: Path, times: int) -> list[Row]:
    """Kill the service while clients send, again and again."""
    ledger, ready, rng = Ledger(), [], np.random.default_rng(0)
    for turn in range(times):
        service = Service(home)
        ready.append(service.ready_s)
        stop = threading.Event()
        clients = [
            threading.Thread(
                target=send_until, args=(stop, service.port, ledger), kwargs={"seed": turn * 9 + n}
            )
            for n in range(CLIENTS)
        ]
        for each in clients:
            each.start()
        time.sleep(float(rng.uniform(0.05, 0.8)))
        service.kill()
        stop.set()
        for each in clients:
            each.join()
        print(f"kill {turn + 1}/{times}: {len(ledger.acknowledged):,} acknowledged", flush=True)
    with closing(EventLog(home / "events.sqlite")) as log:
        found = Counter(event.event_id for event in log.read())
    lost = len(ledger.acknowledged - set(found))
    doubled = sum(count - 1 for count in found.values())
    strange = len(set(found) - ledger.sent)
    name = f"{times} x kill -9, {ITEMS:,} items:"
    return [
        Row(what=f"{name} acknowledged events", value=len(ledger.acknowledged)),
        _lower(f"{name} acknowledged events lost", lost, 0),
        _lower(f"{name} events doubled", doubled, 0),
        _lower(f"{name} events that nobody sent", strange, 0),
        _lower(f"{name} ready again, median", float(np.median(ready)), 2, unit="s"),
    ]


def full_disk(home: Path) -> list[Row]:
    """The log may not grow: writes are refused, reading goes on, nothing is half-written."""
    size = max(path.stat().st_size for path in home.glob("events.sqlite*"))
    limit = size + 200_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    statuses: Counter[int] = Counter()
    acknowledged = set()
    with Service(home, before=limited) as service:
        for number in range(400):
            event = {
                **click(number, item=number % ITEMS, session=number),
                "event_id": f"f-{number}",
            }
            event["properties"] = {"note": "x" * 4_000}
            status, _ = service.ask("POST", "/v1/events", event)
            statuses[status] += 1
            if status == 200:
                acknowledged.add(event["event_id"])
        ready, _ = service.ask("GET", "/health/ready")
        asked, _ = service.ask("GET", "/v1/items/item-1/similar")
    with closing(EventLog(home / "events.sqlite")) as log:
        found = {event.event_id for event in log.read() if event.event_id.startswith("f-")}
    with Service(home) as service:
        after, _ = service.ask(
            "POST", "/v1/events", {**click(1, item=1, session=1), "event_id": "g"}
        )
    return [
        Row(what="full disk: requests refused with 503", value=statuses[503], target=1),
        _lower(
            "full disk: answers other than 200 and 503",
            statuses.total() - statuses[200] - statuses[503],
            0,
        ),
        _lower(
            "full disk: acknowledged events lost, or refused ones kept",
            len(found ^ acknowledged),
            0,
        ),
        _yes(
            "full disk: readiness says 503, similar items are answered",
            ready == 503 and asked == 200,
        ),
        _yes("full disk: writes again when there is room", after == 200),
    ]


def clock_going_back(home: Path) -> list[Row]:
    """A client whose clock goes back an hour: the visit goes on in order of arrival."""
    with Service(home) as service:
        ids = [7, 11, 13]
        for place, item in enumerate(ids):
            event = {**click(place, item=item, session=-1), "event_id": f"back-{place}"}
            event["timestamp"] = 1_770_000_000 - 3_600 * place
            status, _ = service.ask("POST", "/v1/recommend", {"event": event, "k": 20})
        again, kept = service.ask("GET", "/v1/sessions/visit--1/recommend?k=20")
    with Service(home) as service:
        _, read = service.ask("GET", "/v1/sessions/visit--1/recommend?k=20")
    same = [each["item_id"] for each in kept["items"]] == [
        each["item_id"] for each in read["items"]
    ]
    return [
        _yes(
            "clock going back: answered, and the same after a restart",
            status == again == 200 and same,
        )
    ]


def damaged(home: Path, versions: list[str]) -> list[Row]:
    """A model file and a page of the log that are not what was written."""
    weights = home / "models" / versions[-1] / "main.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0xFF
    weights.write_bytes(content)
    with Service(home) as service:
        _, answer = service.ask("POST", "/v1/recommend", {"k": 3})
        said = service.stop()
    before = answer["model_version"] == versions[-2] and "was changed or damaged" in said
    log = home / "events.sqlite"
    content = bytearray(log.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8 * 4096] = bytes(8 * 4096)
    log.write_bytes(content)
    statuses = Counter()
    with Service(home) as service:
        for session in range(200):
            status, _ = service.ask("GET", f"/v1/sessions/visit-{session}/recommend")
            statuses[status] += 1
        live, _ = service.ask("GET", "/health/live")
    return [
        _yes("damaged model: the one before it answers, and the log says so", before),
        _lower(
            "damaged page of the log: answers other than 200 and 503",
            statuses.total() - statuses[200] - statuses[503],
            0,
        ),
        _yes("damaged page of the log: the process lives", live == 200),
    ]


def _lower(what: str, value: float, target: float, *, unit: str = "") -> Row:
    return Row(what=what, value=value, target=target, unit=unit, better="lower")


def _other(statuses: Counter[int]) -> int:
    return statuses.total() - statuses[200] - statuses[503]


def _yes(what: str, holds: object) -> Row:
    return Row(what=f"{what} (1: yes)", value=float(bool(holds)), target=1)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        versions = build(home, items=ITEMS, versions=2)
        with Workspace.open(home) as workspace:
            print(f"a simulated shop of {workspace.catalog.count():,} items", flush=True)
        rows += killed_under_load(home, options.kills)
        rows += clock_going_back(home)
        rows += full_disk(home)
        rows += damaged(home, versions)
    finish("chaos", rows, data={}, seeds=[0], whole=options.kills >= 50)


if __name__ == "__main__":
    main()
