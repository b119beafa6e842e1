"""Large catalogues at a fixed rate: the exact search, and a walk along the graph beside it.

Shops, models and queries are simulated, so how far a walk's lists are the exact ones is said of
this catalogue alone; `benchmarks.index_sizes` asks trained vectors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.report import Row
from benchmarks.serving_pace import fixed_rate
from benchmarks.shop import Service, build
from momentary.models.artifact import ModelStore, add_graph
from momentary.models.graphs import built

TARGETS_MS = {300_000: 25, 1_000_000: 40}
"""The catalogues, and the 99th percentile that is wanted of each."""

_PER_S = 500
_WAYS = {"exact": "", "graph": " along the graph,"}
_WORKERS = {1: "one worker", 2: "two workers"}
_LISTS, _K = 256, 20
"""Asked of both ways, to be compared."""


def large(folder: Path, *, items: int, seconds: float) -> Iterator[Row]:
    """500 requests a second over a large catalogue, by one worker and by two, both ways.

    Args:
        folder: Where the shop is, or is made.
        items: Of the catalogue.
        seconds: Of every load.
    """
    home = folder / f"shop-{items}"
    facts = home / "graph.json"
    if not facts.is_file():
        build(home, items=items)
        facts.write_text(json.dumps(_with_graph(home)))
    graph = json.loads(facts.read_text())
    at = f"{items:,} items, the graph:"
    yield Row(what=f"{at} to build, CPU", value=graph["cpu_s"], unit="s", better="lower")
    yield Row(what=f"{at} memory", value=graph["mib"], unit="MiB", better="lower")
    target_ms = next((most for size, most in TARGETS_MS.items() if items <= size), None)
    lists: dict[str, list[set[str]]] = {}
    for index, how in _WAYS.items():
        for workers, said in _WORKERS.items():
            _without_events(home)
            with Service(home, workers=workers, index=index) as service:
                if workers == 1:
                    lists[index] = _lists(service, items=items)
                name = f"{items:,} items,{how} {_PER_S} requests/s, {said}:"
                yield from _loaded(service, name, items=items, seconds=seconds, most_ms=target_ms)
    shared = [len(a & b) for a, b in zip(lists["exact"], lists["graph"], strict=True)]
    yield Row(
        what=f"{items:,} items, along the graph: recall@{_K} of {_LISTS} served lists",
        value=sum(shared) / sum(map(len, lists["exact"])),
        peer="the exact search",
        peer_value=1,
    )


def _with_graph(home: Path) -> dict[str, float]:
    """Build the graph as `momentary index` does; what that took and what it holds."""
    store = ModelStore(home / "models")
    bundle = store.load("prod")
    before_s = time.process_time()
    graph = built(bundle)
    taken_s = time.process_time() - before_s
    add_graph(store.root / bundle.version, graph)
    return {"cpu_s": taken_s, "mib": graph.size_bytes / 2**20}


def _without_events(home: Path) -> None:
    """Begin with an empty log: a shop that was kept has those of runs before."""
    for file in home.glob("events.sqlite*"):
        file.unlink()


def _loaded(
    service: Service, name: str, *, items: int, seconds: float, most_ms: float | None
) -> Iterator[Row]:
    before_s = service.cpu_s()
    paced = fixed_rate(service.port, items=items, per_s=_PER_S, seconds=seconds)
    cpu_us = 1e6 * (service.cpu_s() - before_s) / (_PER_S * seconds)
    yield _lower(f"{name} p50", paced.p50_ms, unit="ms")
    yield _lower(f"{name} p99", paced.p99_ms, most_ms, unit="ms")
    yield _lower(f"{name} failed", paced.failed, 0)
    yield _lower(f"{name} CPU a request", cpu_us, unit="us")
    yield _lower(f"{name} memory", service.memory_mib(), unit="MiB")


def _lists(service: Service, *, items: int) -> list[set[str]]:
    """What is recommended after three clicks, here and there."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(_LISTS):
        clicks = [f"item-{each}" for each in rng.integers(items, size=3)]
        status, answer = service.ask("POST", "/v1/recommend", {"items": clicks, "k": _K})
        if status != 200:
            raise RuntimeError(f"a question was answered with {status}: {answer}")
        found.append({each["item_id"] for each in answer["items"]})
    return found


def _lower(what: str, value: float, target: float | None = None, *, unit: str = "") -> Row:
    return Row(what=what, value=value, target=target, unit=unit, better="lower")
