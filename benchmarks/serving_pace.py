"""A small client that keeps a fixed rate, whatever the service does: the open loop of visitors."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.shop import click


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """What a fixed rate measured, from when each request was due to its whole answer."""

    p50_ms: float
    p99_ms: float
    failed: int
    sent_late_ms: float


def fixed_rate(port: int, *, items: int, per_s: int, seconds: float) -> Paced:
    """Requests at fixed moments, however late the answers are: the open loop of real visitors."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rate = {"items": items, "per_s": per_s, "seconds": seconds}
        return pool.apply(_paced, (port,), rate)


def _paced(port: int, **rate: float) -> Paced:
    return asyncio.run(_pace(port, **rate))


class _Asker(asyncio.Protocol):
    """One connection that asks again and again.

    Args:
        free: Where it stands when it has been answered.
        answered: Told when each request was due, and whether the answer was a list.
    """

    def __init__(self, free: deque[_Asker], *, answered: Callable[[float, bool], object]) -> None:
        self._free = free
        self._answered = answered
        self._due_s = 0.0
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._free.append(self)

    def ask(self, request: bytes, *, due_s: float) -> None:
        """Send a request that was due at a moment."""
        self._due_s, self._got = due_s, b""
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if found and len(body) >= int(length[1] if length else 0):
            self._free.append(self)
            self._answered(self._due_s, head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc


class _Pace:
    """Sends each request when it is due, or as soon afterwards as a connection is free."""

    def __init__(self) -> None:
        self.free: deque[_Asker] = deque()
        self.late_ms: list[float] = []
        self.failed = 0
        self._waiting: deque[tuple[bytes, float]] = deque()

    def send(self, request: bytes, *, due_s: float) -> None:
        if self.free:
            self.free.popleft().ask(request, due_s=due_s)
        else:
            self._waiting.append((request, due_s))

    def answered(self, due_s: float, good: bool) -> None:  # noqa: FBT001 - said once per request
        self.late_ms.append(1e3 * (time.perf_counter() - due_s))
        self.failed += not good
        if self._waiting:
            request, next_s = self._waiting.popleft()
            self.free.pop().ask(request, due_s=next_s)


async def _pace(port: int, *, items: float, per_s: float, seconds: float) -> Paced:
    rng = np.random.default_rng(1)
    count = int(per_s * seconds)
    chosen = zip(
        rng.integers(int(items), size=count), rng.integers(20_000, size=count), strict=True
    )
    requests = [_posted(number, *map(int, each)) for number, each in enumerate(chosen)]
    pace, loop = _Pace(), asyncio.get_running_loop()
    for _ in range(64):
        await loop.create_connection(
            lambda: _Asker(pace.free, answered=pace.answered), "127.0.0.1", port
        )
    start_s, sent_late_ms = time.perf_counter(), []
    for number, request in enumerate(requests):
        due_s = start_s + number / per_s
        # Answers are read now and then even where everything is late.
        early_s = due_s - time.perf_counter()
        if early_s > 0 or number % 16 == 0:
            await asyncio.sleep(max(0.0, early_s))
        sent_late_ms.append(1e3 * (time.perf_counter() - due_s))
        pace.send(request, due_s=due_s)
    end_s = time.perf_counter() + 30
    while len(pace.late_ms) < count and time.perf_counter() < end_s:
        await asyncio.sleep(0.01)
    # The first second warms connections and caches.
    steady = pace.late_ms[int(per_s * min(1.0, seconds / 2)) :]
    return Paced(
        p50_ms=float(np.percentile(steady, 50)),
        p99_ms=float(np.percentile(steady, 99)),
        failed=pace.failed + count - len(pace.late_ms),
        sent_late_ms=float(np.percentile(sent_late_ms, 99)),
    )


def _posted(number: int, item: int, session: int) -> bytes:
    event = click(number + 10**8, item=item, session=session)
    body = json.dumps({"session_id": event["session_id"], "k": 20, "event": event}).encode()
    return (
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
