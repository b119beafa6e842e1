"""PostgreSQL that crashes and comes back, Redis that does not answer, compaction that is killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.chaos_load import ITEMS, Ledger, load, lower, other, yes
from benchmarks.report import Row
from benchmarks.servers import MissingServerError, PostgresServer, RedisServer
from benchmarks.shop import Service, build, click
from momentary.data.workspace import Workspace
from momentary.settings import StorageSettings

_KILLS = 10
_PAUSE_MS = 2_000
_DAY_S = 86_400


def servers() -> list[Row]:
    """A shop in PostgreSQL and Redis, under load, while both fail."""
    try:
        with (
            PostgresServer() as postgres,
            RedisServer() as redis,
            tempfile.TemporaryDirectory() as folder,
        ):
            home = Path(folder)
            storage = StorageSettings(database_url=postgres.url(), schema="shop")
            (home / "momentary.toml").write_text(
                f'[storage]\ndatabase_url = "{postgres.url()}"\nschema = "shop"\n'
                f'[serve]\nstate_url = "{redis.url}"\n'
            )
            build(home, items=ITEMS, storage=storage)
            with Workspace.open(home, storage=storage) as workspace:
                return [
                    *_killed(home, workspace),
                    *_restarted(home, workspace, postgres),
                    *_slow(home, workspace, redis),
                ]
    except MissingServerError as missing:
        print(f"{missing}: the servers are left out.", flush=True)
        return []


def _killed(home: Path, workspace: Workspace) -> list[Row]:
    """The service is killed; what it acknowledged is in PostgreSQL."""
    ledger, ready, rng = Ledger(prefix="pg"), [], np.random.default_rng(1)
    for turn in range(_KILLS):
        service = Service(home)
        ready.append(service.ready_s)
        with load(service.port, ledger, seed=turn):
            time.sleep(float(rng.uniform(0.1, 0.6)))
            service.kill()
    name = f"{_KILLS} x kill -9 over PostgreSQL and Redis"
    return [
        *ledger.rows(name, workspace),
        lower(f"{name}: ready again, median", float(np.median(ready)), 2, unit="s"),
    ]


def _restarted(home: Path, workspace: Workspace, postgres: PostgresServer) -> list[Row]:
    """PostgreSQL crashes in the middle, is away for a while, and recovers."""
    ledger = Ledger(prefix="restart")
    with Service(home) as service:
        with load(service.port, ledger, seed=77):
            time.sleep(1)
            for _ in range(2):
                postgres.stop("immediate")
                time.sleep(1)
                down, _ = service.ask("GET", "/health/ready")
                live, _ = service.ask("GET", "/health/live")
                postgres.start()
                time.sleep(2)
        up, _ = service.ask("GET", "/health/ready")
    name = "PostgreSQL restarted"
    return [
        *ledger.rows(name, workspace),
        Row(what=f"{name}: requests refused with 503", value=ledger.statuses[503], target=1),
        lower(f"{name}: answers other than 200 and 503", other(ledger.statuses), 0),
        lower(f"{name}: slowest answer", ledger.slowest_s, 10, unit="s"),
        yes(
            f"{name}: lives, is not ready while it is away, and is ready by itself afterwards",
            (live, down, up) == (200, 503, 200),
        ),
    ]


def _slow(home: Path, workspace: Workspace, redis: RedisServer) -> list[Row]:
    """Redis answers nothing for two seconds, then is gone, then comes back empty."""
    ledger, wrong = Ledger(prefix="slow"), 0
    with Service(home) as one, Service(home) as two, load(one.port, ledger, seed=5):
        redis.say("CLIENT", "PAUSE", str(_PAUSE_MS), "ALL")
        # Alone, because an answer of one that cannot be told to the other is not yet known there.
        time.sleep(_PAUSE_MS / 1000 + 1.5)
        wrong += _disagree(one, two, turn=0)
        redis.stop()
        wrong += _disagree(one, two, turn=1)
        redis.start()
        time.sleep(1.5)
        wrong += _disagree(one, two, turn=2)
    name = "Redis paused, gone, and back empty"
    return [
        *ledger.rows(name, workspace),
        lower(f"{name}: answers other than 200", ledger.statuses.total() - ledger.statuses[200], 0),
        lower(f"{name}: slowest answer", ledger.slowest_s, 5, unit="s"),
        lower(f"{name}: visits that two services answered differently", wrong, 0),
    ]


def _disagree(one: Service, two: Service, *, turn: int) -> int:
    """Visits that continue over two services in turns and get different answers from them."""
    wrong = 0
    for visit in range(20):
        session = 10_000 + 100 * turn + visit
        for step, service in enumerate((one, two, one)):
            number = 10 * session + step
            event = {
                **click(number, item=number % ITEMS, session=session),
                "event_id": f"turn-{number}",
            }
            _, told = service.ask("POST", "/v1/recommend", {"event": event})
        _, same = two.ask("GET", f"/v1/sessions/visit-{session}/recommend?k=20")
        wrong += [e["item_id"] for e in told["items"]] != [e["item_id"] for e in same["items"]]
    return wrong


def compaction_killed(home: Path) -> list[Row]:
    """`momentary compact` is killed again and again while a service writes old events."""
    ledger, rng = Ledger(prefix="old", age_s=30 * _DAY_S), np.random.default_rng(3)
    command = [sys.executable, "-m", "momentary", "compact", "--home", str(home)]
    with Service(home) as service, load(service.port, ledger, seed=3):
        for _ in range(_KILLS):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(float(rng.uniform(0.7, 2.0)))
            process.kill()
            process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Workspace.open(home) as workspace:
        name = f"compaction killed {_KILLS} times under load"
        segments = len(workspace.segments())
        others = ledger.statuses.total() - ledger.statuses[200]
        return [
            *ledger.rows(name, workspace),
            lower(f"{name}: answers other than 200", others, 0),
            Row(what=f"{name}: segments written", value=segments, target=1),
        ]
