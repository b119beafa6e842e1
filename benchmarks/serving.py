"""The service under load: throughput, latency, CPU beside bare scoring, memory, start, hot swap.

The shop is simulated. Every request records a click durably and asks for 20 items. `wrk` (Debian's
package) drives the closed loops; a small client of ours, in a process of its own, keeps a fixed
rate. All of it shares this machine's cores with the service, as the floors it stands beside did.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Row, finish
from benchmarks.serving_large import TARGETS_MS, large
from benchmarks.serving_pace import fixed_rate
from benchmarks.shop import UNITS, Service, build, click
from momentary.data.events import EventLog
from momentary.learn.graph import is_there
from momentary.learn.threads import one_blas_thread
from momentary.models.artifact import ModelStore
from momentary.models.protocol import Incremental
from momentary.recommend.index import index_of
from momentary.recommend.pipeline import top

FLOOR = "bare scoring, measured in this run"
_MOST = 32
_PER_S = 2_000
_BASKETS = 50
_CONNECTIONS = (8, 12, 16, 24)
"""Asked with, besides `_MOST`: with fewer, a tick is shorter and gains less."""

_WRK = """
local number = 0
local thread = 0
function setup(t) t:set("thread", thread); thread = thread + 1 end
function init() math.randomseed(7 + thread) end
function request()
  number = number + 1
  local item, visit = math.random(0, ITEMS - 1), math.random(0, 20000)
  local body = string.format('{"session_id": "visit-%d", "k": 20, "event": {"event_id": '
    .. '"PREFIX-%d-%d", "item_id": "item-%d", "event_type": "view_item", "timestamp": %d}}',
    visit, thread, number, item, 1770000000 + number)
  if ALONE then body = string.format('{"session_id": "visit-%d", "k": 20}', visit) end
  return wrk.format("POST", "/v1/recommend", {["Content-Type"] = "application/json"}, body)
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a closed loop measured; times in milliseconds."""

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_us: float


def closed_loop(
    service: Service,
    *,
    items: int,
    connections: int,
    seconds: int,
    name: str,
    with_event: bool = True,
) -> Load:
    """`wrk` asks again as soon as it is answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        asks = _WRK.replace("ITEMS", str(items)).replace("PREFIX", name)
        script.write(asks.replace("ALONE", "false" if with_event else "true"))
        script.flush()
        before = service.cpu_s()
        said = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "--latency",
                "-s",
                script.name,
                f"http://127.0.0.1:{service.port}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        cpu_s = service.cpu_s() - before
    requests = int(_found(r"(\d+) requests in", said))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said
    )
    return Load(
        requests=requests,
        per_s=float(_found(r"Requests/sec:\s+([\d.]+)", said)),
        p50_ms=_ms(_found(r"(?m)^\s+50%\s+(\S+)", said)),
        p99_ms=_ms(_found(r"(?m)^\s+99%\s+(\S+)", said)),
        failed=int(failed[1] if failed else 0) + sum(map(int, errors.groups() if errors else ())),
        cpu_us=1e6 * cpu_s / max(requests, 1),
    )


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    if match is None:
        raise RuntimeError(f"wrk said something unexpected:\n{said}")
    return match[1]


def _ms(text: str) -> float:
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[unit]


def bare_us(home: Path, *, batch: int, rounds: int = 60) -> tuple[float, float]:
    """CPU a visit of doing only the scoring, in batches: whole rows, and the service's search.

    A state is advanced by a click, then the catalogue is scored and the best 20 are found.
    """
    bundle = ModelStore(home / "models").load("prod")
    model, n_items = bundle.scorers["main"], len(bundle.items)
    if not isinstance(model, Incremental):
        raise TypeError("the simulated shop's model has no live states")
    index = index_of(model, n_items=n_items)
    if index is None:
        raise TypeError("the simulated shop's model has no vectors to search")
    allowed = np.ones(n_items, dtype=np.bool_)
    rng = np.random.default_rng(0)
    taken: tuple[list[float], list[float]] = ([], [])
    states = model.start(batch)
    with one_blas_thread():
        for number in range(2 * rounds):
            before = time.process_time()
            states = model.advance(states, rng.integers(0, n_items, size=batch))
            if number % 2:
                index.best(states, 20, allowed=allowed, excluded=None)
            else:
                top(model.score_states(states), 20)
            taken[number % 2].append(time.process_time() - before)
    rows, search = (1e6 * statistics.median(each) / batch for each in taken)
    return rows, search


def main_load(home: Path, *, items: int, seconds: int) -> list[Row]:
    """Throughput at 37k items, beside bare scoring; what was acknowledged is on the disk."""
    rows = []
    with Service(home) as service:
        closed_loop(service, items=items, connections=32, seconds=2, name="warm")
        alone = closed_loop(service, items=items, connections=1, seconds=seconds, name="alone")
        fewer = {
            count: closed_loop(
                service, items=items, connections=count, seconds=seconds, name=f"few{count}"
            )
            for count in _CONNECTIONS
        }
        asking = closed_loop(
            service,
            items=items,
            connections=_MOST,
            seconds=seconds,
            name="asking",
            with_event=False,
        )
        open_loop = fixed_rate(service.port, items=items, per_s=_PER_S, seconds=seconds)
        before = _batches(service)
        load = closed_loop(service, items=items, connections=_MOST, seconds=seconds, name="main")
        after = _batches(service)
        memory_mib = service.memory_mib()
    batch = max(1, round((after[0] - before[0]) / max(1, after[1] - before[1])))
    bare = [bare_us(home, batch=batch) for _ in range(3)]
    whole_us, search_us = (statistics.median(each) for each in zip(*bare, strict=True))
    name = f"{items:,} items, event + 20 items:"
    for count, found in {**fewer, _MOST: load}.items():
        at = f"{items:,} items, event + 20 items, {count} connections:"
        rows += [
            Row(what=f"{at} requests a second", value=found.per_s, unit="/s"),
            Row(what=f"{at} p50", value=found.p50_ms, unit="ms", better="lower"),
            Row(what=f"{at} p99", value=found.p99_ms, unit="ms", better="lower"),
            _lower(f"{at} failed", found.failed, 0),
        ]
    at = f"{items:,} items, event + 20 items, {_PER_S:,} requests/s, come what may:"
    rows += [
        Row(what=f"{at} p50", value=open_loop.p50_ms, unit="ms", better="lower"),
        _lower(f"{at} p99", open_loop.p99_ms, 15, unit="ms"),
        _lower(f"{at} failed", open_loop.failed, 0),
        Row(
            what=f"{at} of which the client sent late, p99",
            value=open_loop.sent_late_ms,
            unit="ms",
            better="lower",
        ),
        Row(
            what=f"{name} requests a second",
            value=load.per_s,
            unit="/s",
            target=2_000,
            peer="FastAPI + pydantic, recorded",
            peer_value=1_105,
        ),
        _lower(f"{name} p99", load.p99_ms, 15, unit="ms"),
        _lower(
            f"{name} least p99 at 2,000/s or more, of {[*fewer, _MOST]} connections",
            min(
                (each.p99_ms for each in (*fewer.values(), load) if each.per_s >= 2_000),
                default=load.p99_ms,
            ),
            15,
            unit="ms",
        ),
        Row(what=f"{name} p50", value=load.p50_ms, unit="ms", better="lower"),
        _lower(f"{name} failed", load.failed, 0),
        _on_disk(home, "main", load, name=name),
        Row(what=f"{name} requests a tick", value=batch),
        Row(
            what=f"{name} CPU a request",
            value=load.cpu_us,
            unit="us",
            better="lower",
            peer=FLOOR,
            peer_value=whole_us,
        ),
        _lower(f"{name} CPU a request over bare scoring", load.cpu_us / whole_us, 1.15),
        Row(
            what=f"{items:,} items, 20 items without an event: CPU a request over bare scoring",
            value=asking.cpu_us / whole_us,
            better="lower",
        ),
        Row(
            what=f"{name} CPU of the service's own search alone",
            value=search_us,
            unit="us",
            better="lower",
            peer=FLOOR,
            peer_value=whole_us,
        ),
        Row(
            what=f"{name} CPU a request over that search",
            value=load.cpu_us / search_us,
            better="lower",
        ),
        Row(what=f"{name} one connection, requests a second", value=alone.per_s, unit="/s"),
        Row(what=f"{name} gain of batching, CPU", value=alone.cpu_us / load.cpu_us),
        _lower(f"{name} memory", memory_mib, 400, unit="MiB"),
    ]
    return rows


def two_workers(home: Path, *, items: int, seconds: int) -> list[Row]:
    """The same load on two processes behind one port."""
    with Service(home, workers=2) as service:
        closed_loop(service, items=items, connections=32, seconds=2, name="warm2")
        load = closed_loop(service, items=items, connections=32, seconds=seconds, name="two")
        memory_mib = service.memory_mib()
    name = f"{items:,} items, two workers:"
    return [
        Row(what=f"{name} requests a second", value=load.per_s, unit="/s"),
        Row(what=f"{name} p99", value=load.p99_ms, unit="ms", better="lower"),
        Row(what=f"{name} p50", value=load.p50_ms, unit="ms", better="lower"),
        _lower(f"{name} failed", load.failed, 0),
        _on_disk(home, "two", load, name=name),
        Row(what=f"{name} CPU a request", value=load.cpu_us, unit="us", better="lower"),
        _lower(f"{name} memory of the larger", memory_mib, 400, unit="MiB"),
    ]


def _on_disk(home: Path, prefix: str, load: Load, *, name: str) -> Row:
    with closing(EventLog(home / "events.sqlite")) as log:
        recorded = sum(event.event_id.startswith(f"{prefix}-") for event in log.read())
    what = f"{name} answered, of which on the disk"
    return Row(what=what, value=recorded, target=load.requests)


def _batches(service: Service) -> tuple[float, float]:
    """Requests and ticks so far, from the counters."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    with closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return (
        float(_found(r"momentary_batch_requests_sum (\S+)", text)),
        float(_found(r"momentary_batch_requests_count (\S+)", text)),
    )


def starts(home: Path, *, items: int, runs: int = 3) -> list[Row]:
    """From the command to the first answer, again and again."""
    taken = []
    for _ in range(runs):
        begun = time.perf_counter()
        with Service(home) as service:
            service.ask("POST", "/v1/recommend", {"k": 20})
            taken.append(time.perf_counter() - begun)
    what = f"{items:,} items: start to first answer, median"
    return [_lower(what, statistics.median(taken), 2, unit="s")]


def clicks_count(home: Path, *, items: int, visits: int = 50) -> list[Row]:
    """Whether a click changes the answer to the request that brings it, and is in the next one.

    Each new visit asks without a click, with one, and again without: the second answer must differ
    from the first, and the third be the second.
    """
    changed = kept = 0
    rng = np.random.default_rng(5)
    with Service(home) as service:
        for number in range(visits):
            session = f"visit-{10**7 + number}"
            event = click(10**9 + number, item=int(rng.integers(items)), session=10**7 + number)
            bodies = ({}, {"event": event}, {})
            before, at_once, after = (
                service.ask("POST", "/v1/recommend", {"session_id": session, "k": 20, **body})
                for body in bodies
            )
            changed += at_once[1]["items"] != before[1]["items"]
            kept += at_once[1]["items"] == after[1]["items"]
    at = f"{items:,} items, {visits} clicks, each in a request for a list:"
    return [
        Row(what=f"{at} answers that knew theirs", value=changed, target=visits),
        Row(what=f"{at} that the next answer knew, too", value=kept, target=visits),
    ]


def swapped(home: Path, versions: list[str], *, items: int, swaps: int = 6) -> list[Row]:
    """Two models take turns while visitors ask."""
    statuses: Counter[int] = Counter()
    served: Counter[str] = Counter()
    lists: dict[tuple[int, str], set[str]] = {}
    stop = threading.Event()

    def ask(service: Service, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            # Few baskets, so that each is asked about often, of both models.
            item = int(rng.integers(min(items, _BASKETS)))
            body = {"items": [f"item-{item}"], "k": 5}
            status, answer = service.ask("POST", "/v1/recommend", body)
            statuses[status] += 1
            listed = " ".join(each["item_id"] for each in answer.get("items", ()))
            lists.setdefault((item, str(answer.get("model_version"))), set()).add(listed)
            served[f"{answer.get('model_version')} {answer.get('variant')}"] += 1

    with Service(home) as service:
        visitors = [threading.Thread(target=ask, args=(service, seed)) for seed in range(4)]
        for each in visitors:
            each.start()
        for turn in range(swaps):
            time.sleep(0.5)
            wanted = versions[turn % 2]
            status, _ = service.ask("PUT", "/v1/models/prod", {"version": wanted})
            if status != 200:
                raise RuntimeError(f"the swap was answered with {status}")
        stop.set()
        for each in visitors:
            each.join()
    failed = statuses.total() - statuses[200]
    fallback = sum(count for name, count in served.items() if not name.endswith(" model"))
    # One model lists the same for a basket whenever it is asked, and the two list otherwise.
    mixed = sum(len(each) - 1 for each in lists.values())
    both = [[lists.get((item, each), set()) for each in versions] for item in range(_BASKETS)]
    differ = sum(bool(one) and bool(other) and one.isdisjoint(other) for one, other in both)
    return [
        Row(what=f"{swaps} hot swaps under load: answers", value=statuses[200]),
        _lower("hot swaps under load: failed requests", failed, 0),
        _lower("hot swaps under load: answers of the fallback", fallback, 0),
        Row(what="hot swaps under load: models that answered", value=len(served), target=2),
        _lower("hot swaps under load: lists of one model that differ, or mix two", mixed, 0),
        Row(what="hot swaps under load: baskets that the two models list otherwise", value=differ),
    ]


def _lower(what: str, value: float, target: float, *, unit: str = "") -> Row:
    return Row(what=what, value=value, target=target, unit=unit, better="lower")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=37_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--large", type=int, nargs="*", default=list(TARGETS_MS))
    parser.add_argument(
        "--shops",
        type=Path,
        help="Keeps the large shops, whose graphs take minutes, for the next run.",
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed; on Debian: apt-get install wrk")
    if options.large and not is_there():
        sys.exit("faiss is missing; run: pip install 'momentary[graph]', or give --large nothing")
    rows: list[Row] = []

    def note(found: Iterable[Row]) -> None:
        """Say a figure as soon as it is known: the whole takes minutes."""
        for row in found:
            print(f"{row.what} {row.value:,.4g} {row.unit}", flush=True)
            rows.append(row)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home = scratch / "home"
        versions = build(home, items=options.items, versions=2)
        print(f"a simulated shop of {options.items:,} items, {UNITS} units", flush=True)
        note(starts(home, items=options.items))
        note(main_load(home, items=options.items, seconds=options.seconds))
        note(two_workers(home, items=options.items, seconds=options.seconds))
        note(clicks_count(home, items=options.items))
        note(swapped(home, versions, items=options.items))
        for items in options.large:
            print(f"a simulated shop of {items:,} items", flush=True)
            note(large(options.shops or scratch, items=items, seconds=options.seconds))
    whole = options.large == list(TARGETS_MS) and options.seconds >= 10
    finish("serving", rows, data={}, seeds=[0], whole=whole)


if __name__ == "__main__":
    main()
