"""What is left when things break: processes, disks, clocks, files, PostgreSQL and Redis.

The shop and its visitors are simulated. Clients write down every event whose answer they got,
outside of the service; at the end this ledger is held against the log.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.chaos_disks import full_disk, read_only_disk
from benchmarks.chaos_load import ITEMS, Ledger, load, lower, other, yes
from benchmarks.chaos_servers import compaction_killed, servers
from benchmarks.report import Row, finish
from benchmarks.shop import Service, build, click
from momentary.data.workspace import Workspace

_CLOCK = """
import time
from pathlib import Path
honest, back = time.time_ns, Path({back!r})
time.time_ns = lambda: honest() - 3_600_000_000_000 * back.exists()
"""


def killed_under_load(home: Path, times: int) -> list[Row]:
    """Kill the service while clients send, again and again."""
    ledger, ready, rng = Ledger(), [], np.random.default_rng(0)
    for turn in range(times):
        service = Service(home)
        ready.append(service.ready_s)
        with load(service.port, ledger, seed=turn):
            time.sleep(float(rng.uniform(0.05, 0.8)))
            service.kill()
        print(f"kill {turn + 1}/{times}: {len(ledger.acknowledged):,} acknowledged", flush=True)
    name = f"{times} x kill -9, {ITEMS:,} items"
    with Workspace.open(home) as workspace:
        return [
            *ledger.rows(name, workspace),
            lower(f"{name}: ready again, median", float(np.median(ready)), 2, unit="s"),
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
        yes(
            "clock going back: answered, and the same after a restart",
            status == again == 200 and same,
        )
    ]


def own_clock_going_back(home: Path) -> list[Row]:
    """The service's own clock goes back an hour: names stay unique, the visit goes on."""
    back, answers = home / "clock-goes-back", []
    with Service(home, program=_CLOCK.format(back=str(back))) as service:
        for place in range(40):
            if place == 20:
                back.touch()
            event = {**click(place, item=place, session=-2), "event_id": f"own-{place}"}
            answers.append(service.ask("POST", "/v1/recommend", {"event": event, "k": 20}))
        _, kept = service.ask("GET", "/v1/sessions/visit--2/recommend?k=20")
    back.unlink()
    with Service(home) as service:
        _, read = service.ask("GET", "/v1/sessions/visit--2/recommend?k=20")
    names = {answer["recommendation_id"] for _, answer in answers}
    with Workspace.open(home) as workspace, closing(workspace.open_log()) as log:
        times = [each.timestamp_us for each in log.exposures() if each.recommendation_id in names]
    items = [[each["item_id"] for each in answer["items"]] for answer in (kept, read)]
    name = "the service's clock going back"
    refused = sum(status != 200 for status, _ in answers)
    return [
        yes(f"{name}: it did", max(times) - min(times) > 3_500_000_000),
        lower(f"{name}: answers other than 200", refused, 0),
        yes(f"{name}: every answer has a name of its own", len(names) == len(times) == 40),
        yes(f"{name}: the visit is the same after a restart", items[0] == items[1]),
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
        yes("damaged model: the one before it answers, and the log says so", before),
        lower(
            "damaged page of the log: answers other than 200 and 503",
            other(statuses),
            0,
        ),
        yes("damaged page of the log: the process lives", live == 200),
    ]


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
        rows += own_clock_going_back(home)
        rows += compaction_killed(home)
        rows += full_disk(home)
        rows += read_only_disk(home)
        rows += damaged(home, versions)
    rows += servers()
    finish("chaos", rows, data={}, seeds=[0], whole=options.kills >= 50)


if __name__ == "__main__":
    main()
