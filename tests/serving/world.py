"""A small shop for the server's tests; `python -m tests.serving.world HOME SETTINGS` serves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.recommend.pipeline import Recommender
from momentary.serving.app import Application, create_app
from momentary.serving.server import serve, serve_workers
from momentary.settings import ServeSettings, StorageSettings
from momentary.types import FloatArray, IntArray, ItemTable, Sessions

ROOT = Path(__file__).parents[2]
ITEMS = ("tea/green", "milk 1 l", "brötchen", "a?b#c", "x%2Fy", "..", *(f"i{n}" for n in range(7)))
NOW_US = 1_700_000_000_000_000


class EchoScorer:
    """Scores by a fixed matrix from a decaying memory of the clicks; it reads visits whole."""

    kind: ClassVar[str] = "echo"

    def __init__(self, n_items: int = len(ITEMS)) -> None:
        self._weights = np.random.default_rng(7).normal(size=(n_items, n_items)).astype(np.float32)
        self.batches: list[int] = []

    def score(self, sessions: Sessions) -> FloatArray:
        states = np.zeros((len(sessions), len(self._weights)), dtype=np.float32)
        for row in range(len(sessions)):
            for item in sessions.session(row):
                states[row] *= np.float32(0.5)
                states[row, item] += 1
        self.batches.append(len(sessions))
        return states @ self._weights


class LiveEchoScorer(EchoScorer):
    """The same, click by click."""

    def start(self, count: int) -> FloatArray:
        return np.zeros((count, len(self._weights)), dtype=np.float32)

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        after = states * np.float32(0.5)
        after[np.arange(len(items)), items] += 1
        return after

    def score_states(self, states: FloatArray) -> FloatArray:
        self.batches.append(len(states))
        return states @ self._weights


class BrokenScorer(EchoScorer):
    def score(self, sessions: Sessions) -> FloatArray:
        raise RuntimeError(f"the model cannot read {len(sessions)} sessions")


class NanScorer(EchoScorer):
    def score(self, sessions: Sessions) -> FloatArray:
        return np.full((len(sessions), len(self._weights)), np.nan, dtype=np.float32)


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Workspace.open(Path(folder), create=True).close()
        return (Path(folder) / "workspace.sqlite").read_bytes()


STORAGE = StorageSettings()
STATE_URL: str | None = None
"""Where a test keeps the catalogue, the log and the visits; `over_both` changes it."""


def make_home(root: Path) -> Workspace:
    """A workspace without its migrations being run every time, which takes longest."""
    if STORAGE.database_url is not None:
        return Workspace.open(root, storage=STORAGE)
    database = root / "workspace.sqlite"
    if not database.exists():
        database.write_bytes(_empty_database())
    return Workspace.open(root)


def make_recommender(scorer: Any = None, ids: tuple[str, ...] = ITEMS) -> Recommender:
    items = Vocabulary(ids)
    names = np.array([f"Name of {each}" for each in ids[:-1]] + [None], dtype=object)
    brands = np.array(["red", "blue"] * len(ids), dtype=object)[: len(ids)]
    table = ItemTable(
        item_ids=items.array(),
        names=names,
        price=np.arange(len(ids), dtype=np.float64),
        available=np.ones(len(ids), dtype=np.bool_),
        attributes={"brand": brands},
    )
    return Recommender(scorer or LiveEchoScorer(len(ids)), items=items, table=table)


@contextlib.contextmanager
def opened(
    root: Path,
    scorer: Any = None,
    *,
    fallback: Recommender | None = None,
    clock_us: Any = lambda: NOW_US,
    **limits: Any,
) -> Iterator[Application]:
    with make_home(root) as home:
        app = create_app(
            home,
            make_recommender(scorer),
            model_version="v1",
            settings=ServeSettings(**{"state_url": STATE_URL, **limits}),
            fallback=fallback,
            clock_us=clock_us,
        )
        try:
            yield app
        finally:
            app.close()


def ask(app: Application, method: str, path: str, **request: Any) -> httpx.Response:
    (answer,) = ask_together(app, [(method, path, request)])
    return answer


def ask_together(
    app: Application, requests: list[tuple[str, str, dict[str, Any]]]
) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            calls = [client.request(method, path, **rest) for method, path, rest in requests]
            return await asyncio.gather(*calls)

    return asyncio.run(run())


def event(session_id: str | None, item_id: str, **fields: Any) -> dict[str, Any]:
    first = {"session_id": session_id} if session_id is not None else {}
    basic = {"item_id": item_id, "event_type": "view_item", "timestamp": NOW_US / 1e6}
    return {**first, **basic, **fields}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class ServerProcess:
    """A real server in a process of its own on a free port of this machine."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.port = free_port()
        arguments = [str(root), json.dumps({"port": self.port, **limits})]
        self._command = [sys.executable, "-m", "tests.serving.world", *arguments]
        self.start_again()

    def start_again(self) -> None:
        """Start it, on the same port as before."""
        self.process = subprocess.Popen(self._command, cwd=ROOT)
        self._wait()

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body=sent, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                self.request("GET", "/health/ready")
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.kill()
                    raise
                time.sleep(0.02)
            else:
                return


def said(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    """Status and answer of one request on an open connection."""
    sent = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, body=sent, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None


def worker_connections(port: int, count: int) -> list[http.client.HTTPConnection]:
    """One connection to each worker of a service, in their order, by who counts a request of it."""
    found: dict[str, http.client.HTTPConnection] = {}
    end = time.monotonic() + 30
    while len(found) < count and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        before = _documents_sent(connection)
        said(connection, "GET", "/openapi.json")
        after = _documents_sent(connection)
        (worker,) = [each for each in after if after[each] != before.get(each, 0)]
        if worker in found:
            connection.close()
        else:
            found[worker] = connection
    assert len(found) == count
    return [found[worker] for worker in sorted(found)]


def _documents_sent(connection: http.client.HTTPConnection) -> dict[str, float]:
    """How often each worker sent the OpenAPI document."""
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return {
        line.partition('worker="')[2][0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith('momentary_requests_total{route="/openapi.json"')
    }


def main() -> None:
    root, limits = Path(sys.argv[1]), json.loads(sys.argv[2])
    limits = {
        name: tuple(each) if isinstance(each, list) else each for name, each in limits.items()
    }
    settings = ServeSettings(**limits)
    home = Workspace.open(root, create=True)

    def make(*, again: bool = False) -> Application:
        del again
        return create_app(home, make_recommender(), model_version="v1", settings=settings)

    if settings.workers == 1:
        serve(make(), settings)
    else:
        serve_workers(make, settings, turn=root / "serve.turn")


if __name__ == "__main__":
    main()
