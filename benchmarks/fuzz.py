"""Bad requests by the hundred thousand: nothing fails, nothing is written, nothing leaks.

The service runs inside this process, over a small shop that is made anew for every round. Its
requests come from Schemathesis over the OpenAPI document, from Hypothesis over bodies, from a list
of what has broken other servers, and from mutation of all of these. Every answer is looked at, and
what was written meanwhile is seen from outside, through connections of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.fuzz_document import Promises, by_document
from benchmarks.fuzz_hostile import by_hand
from benchmarks.fuzz_requests import by_strategy, drawn, mutated
from benchmarks.fuzz_target import Sent, Target, Verdict, make_shop, rounds
from momentary.serving import openapi
from momentary.settings import ServeSettings

_ROUND = 4_000
_KEPT = 40
SEED = 20_261


@dataclass(slots=True)
class Tally:
    """What was sent, answered and found."""

    origins: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[Sent, Verdict]] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def requests(self) -> int:
        """All that was sent."""
        return sum(self.origins.values())

    def count(self, sent: Sent, verdict: Verdict) -> None:
        """Note one answer."""
        self.origins[sent.origin] += 1
        self.statuses[verdict.status] += 1
        if verdict.fault:
            self.faults[verdict.fault] += 1
            same = sum(each.fault == verdict.fault for _, each in self.kept)
            if same < _KEPT:
                self.kept.append((sent, verdict))


def settings() -> ServeSettings:
    """Of the service that is asked."""
    return ServeSettings(max_events=200)


def send_all(sent: Iterable[Sent], tally: Tally, *, shop: Path, scratch: Path) -> None:
    """Send requests one after another to a service over a fresh copy of the shop."""

    async def run(target: Target) -> None:
        promises = Promises(openapi.document())
        for each in sent:
            tally.count(each, await target.judge(each, broken=promises.broken))

    start = time.process_time()
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        Target(shop, Path(folder) / "home", settings=settings()) as target,
    ):
        asyncio.run(run(target))
    tally.cpu_s += time.process_time() - start
    print(f"{tally.requests:,} requests, faults: {dict(tally.faults)}", file=sys.stderr, flush=True)


def run(scratch: Path, *, total: int, each: int, bodies: int, seed: int) -> Tally:
    """Send `total` requests.

    Args:
        scratch: Folder for the shops; one in memory is fastest.
        total: Requests at least.
        each: Schemathesis' requests of every operation, of those allowed and of those not.
        bodies: Hypothesis' requests.
        seed: Of everything.
    """
    tally = Tally()
    shop = scratch / "shop"
    make_shop(shop)
    with Target(shop, scratch / "document", settings=settings()) as target:
        corpus = [*by_hand(), *by_document(target.app, each, number=seed)]
    corpus += drawn(by_strategy(), bodies, number=seed)
    rng = random.Random(seed)
    rng.shuffle(corpus)
    for size in rounds(len(corpus), of=_ROUND):
        start = tally.requests
        send_all(corpus[start : start + size], tally, shop=shop, scratch=scratch)
    seeds = [sent for sent in corpus if len(sent.body) < 5_000 and len(sent.headers) < 50]
    for size in rounds(max(0, total - len(corpus)), of=_ROUND):
        send_all(mutated(seeds, size, rng=rng), tally, shop=shop, scratch=scratch)
    return tally


def rows(tally: Tally) -> list[report.Row]:
    """The figures that are reported."""
    refused = sum(count for status, count in tally.statuses.items() if status >= 400)
    found = [
        report.Row(what="requests", value=tally.requests, target=100_000),
        report.Row(what="refused (4xx, 503)", value=refused),
    ]
    for what, fault in (
        ("5xx answers and exceptions", "crash"),
        ("refused requests that wrote something", "wrote"),
        ("answers that tell internals", "leak"),
        ("refusals that are no problem details, answers without nosniff", "shape"),
        ("answers that break the word of the OpenAPI document", "word"),
        ("answers whose count is not what was written", "miscounted"),
    ):
        row = report.Row(what=what, value=tally.faults[fault], target=0, better="lower")
        found.append(row)
    found += [
        report.Row(what=f"requests by {origin}", value=count)
        for origin, count in sorted(tally.origins.items())
    ]
    found.append(
        report.Row(
            what="time of the service and its watcher",
            value=1e6 * tally.cpu_s / tally.requests,
            unit="us CPU/request",
        )
    )
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=150)
    parser.add_argument("--bodies", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--found", type=Path, help="Where faults are written, one JSON a line.")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        tally = run(
            Path(scratch),
            total=chosen.requests,
            each=chosen.each,
            bodies=chosen.bodies,
            seed=chosen.seed,
        )
    if chosen.found is not None:
        lines = [
            json.dumps(
                {
                    "fault": verdict.fault,
                    "status": verdict.status,
                    "detail": verdict.detail,
                    "sent": repr(sent)[:3_000],
                }
            )
            for sent, verdict in tally.kept
        ]
        chosen.found.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(dict(sorted(tally.statuses.items())))
    report.finish(
        "fuzz",
        rows(tally),
        data={"shop": "simulated, 30 items, item_knn"},
        seeds=[chosen.seed],
        whole=chosen.requests >= 100_000,
    )


if __name__ == "__main__":
    main()
