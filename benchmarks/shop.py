"""A simulated shop and its service, for the benchmarks of serving."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.settings import StorageSettings
from momentary.types import Item, Sessions

UNITS = 100


def build(
    home: Path,
    *,
    items: int,
    seed: int = 0,
    versions: int = 1,
    storage: StorageSettings | None = None,
) -> list[str]:
    """A workspace with a catalogue and trained models of simulated visits.

    The network has its full size; how well it was trained makes no difference to its speed.

    Returns:
        The versions, the last one promoted.
    """
    ids = tuple(f"item-{number}" for number in range(items))
    found = []
    with Workspace.open(home, create=True, storage=storage) as workspace:
        workspace.catalog.upsert(
            Item(item_id=each, name=f"Name of {each}", brand=f"brand-{number % 50}", price=9.5)
            for number, each in enumerate(ids)
        )
        store = ModelStore(workspace.models)
        for number in range(versions):
            rng = np.random.default_rng(seed + number)
            sessions = Sessions.from_lists(simulated_visits(items, rng=rng))
            scorers = {
                "main": make("gru4rec", {"epochs": 1, "units": [UNITS]}),
                "related": make("item_knn"),
                "fallback": make("popularity"),
            }
            for scorer in scorers.values():
                scorer.fit(sessions, n_items=items, rng=rng)
            bundle = Bundle(scorers=scorers, items=Vocabulary(ids), facts={"simulated": True})
            found.append(store.add(bundle, now=datetime(2026, 1, 1 + number, tzinfo=UTC)))
            store.promote(found[-1])
    return found


def simulated_visits(items: int, *, rng: np.random.Generator) -> list[list[int]]:
    """Visits to five items of one corner of the shop each; every item is in one at least.

    Some corners draw far more visitors than others, as in shops.
    """
    corners = np.arange(items - items % 5).reshape(-1, 5)
    busy = np.minimum(rng.zipf(1.3, size=4_000) - 1, len(corners) - 1)
    visits = rng.permuted(np.concatenate([corners, corners[busy]]), axis=1)
    rest = np.arange(items - items % 5, items)
    return [*rng.permutation(visits).tolist(), *([rest.tolist()] if len(rest) else [])]


class Service:
    """`momentary serve` in a process of its own.

    Args:
        home: The workspace.
        before: Runs in the new process before the service, such as to limit it.
        workers: Processes that answer.
        index: How the items are searched; see `serve.index`.
        program: Python that the new process runs before the service, such as to change its clock.
    """

    def __init__(
        self,
        home: Path,
        *,
        before: Callable[[], object] | None = None,
        workers: int = 1,
        index: str = "auto",
        program: str = "",
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        started = time.perf_counter()
        run = ["-c", f"{program}\nfrom momentary.cli import main\nmain()"] if program else None
        command = [sys.executable, *(run or ["-m", "momentary"]), "serve", "--port", str(self.port)]
        plain = {name: each for name, each in os.environ.items() if "MOMENTARY" not in name}
        # A pipe that nobody reads would stop the service once it is full.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the service has ended
        self.process = subprocess.Popen(
            [*command, "--home", str(home)],
            env={
                **plain,
                "MOMENTARY_SERVE_WORKERS": str(workers),
                "MOMENTARY_SERVE_INDEX": index,
            },
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            preexec_fn=before,
        )
        self.ready_s = self._wait(started)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """One request on a connection of its own: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            headers = {} if body is None else {"Content-Type": "application/json"}
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, body=sent, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")

    def cpu_s(self) -> float:
        """CPU seconds of the service so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pids(self) -> list[int]:
        """The process, and its workers where it has several."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def memory_mib(self) -> float:
        """The most memory that one process of the service held so far."""
        return max(self._kib(pid, "VmHWM") for pid in self.pids()) / 1024

    def _kib(self, pid: int, name: str) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1])

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""
        self.process.send_signal(signal.SIGKILL)
        self._end()

    def stop(self) -> str:
        """Ask it to end, and wait; what it said."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._end()

    def _end(self) -> str:
        self.process.wait(timeout=60)
        if self._said.closed:
            return ""
        with self._said:
            self._said.seek(0)
            return self._said.read().decode()

    def _wait(self, started: float) -> float:
        while True:
            try:
                status, _ = self.ask("GET", "/health/ready")
                if status == 200:
                    return time.perf_counter() - started
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the service ended: {self._end()}") from None
            if time.perf_counter() - started > 120:
                self.kill()
                raise RuntimeError("the service was not ready within two minutes")
            time.sleep(0.005)


def click(number: int, *, item: int, session: int) -> Mapping[str, Any]:
    """One simulated event."""
    return {
        "event_id": f"click-{number}",
        "session_id": f"visit-{session}",
        "item_id": f"item-{item}",
        "event_type": "view_item",
        "timestamp": 1_770_000_000 + number,
    }
