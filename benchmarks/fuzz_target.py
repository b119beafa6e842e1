"""A service inside this process that is watched while it is asked: what it answers and writes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import msgspec
import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.serving.app import create_app
from momentary.serving.models import at_work, last_good
from momentary.settings import ServeSettings
from momentary.types import Item, Sessions

IDS = ("tea/green", "milk 1 l", "a?b#c", "x%2Fy", "..", "brötchen", *(f"i{n}" for n in range(24)))
INTERNALS = re.compile(
    rb"Traceback \(most recent|File \"/|\.py\b|sqlite3?\.|sqlalchemy|msgspec\.|starlette|numpy"
    rb"|<class '|<function| object at 0x|/site-packages/|Errno|/dev/shm|/tmp/"
)
"""What no answer may tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request as it goes over the wire.

    Attributes:
        path: Percent-encoded.
        chunks: The body in pieces.
        whole: False closes the connection before the body is complete.
        origin: What made it.
        operation: Of the OpenAPI document that it is for, such as "POST /v1/events"; "" for none.
    """

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    chunks: tuple[bytes, ...] = (b"",)
    whole: bool = True
    origin: str = ""
    operation: str = ""

    @property
    def body(self) -> bytes:
        """All pieces."""
        return b"".join(self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was wrong with an answer; "" for nothing.

    Attributes:
        status: Of the answer, 0 if there was none.
        fault: One of `crash`, `wrote`, `leak`, `shape`, `miscounted`, `word`.
    """

    status: int
    fault: str = ""
    detail: str = ""


def make_shop(home: Path) -> None:
    """A small shop with awkward ids and a trained model."""
    with Workspace.open(home, create=True) as workspace:
        workspace.catalog.upsert(
            Item(
                item_id=each,
                name=f"Name {number}",
                brand="AB"[number % 2],
                category="xyz"[number % 3],
                price=float(number),
                properties={"fragile": number % 4 == 0, "size": number, "list": [1]},
            )
            for number, each in enumerate(IDS)
        )
        rng = np.random.default_rng(5)
        visits = Sessions.from_lists([rng.integers(0, len(IDS), 4).tolist() for _ in range(200)])
        scorers = {
            "main": make("item_knn"),
            "related": make("item_knn"),
            "fallback": make("popularity"),
        }
        for scorer in scorers.values():
            scorer.fit(visits, n_items=len(IDS), rng=rng)
        store = ModelStore(workspace.models)
        bundle = Bundle(scorers=scorers, items=Vocabulary(IDS), facts={"simulated": True})
        store.promote(store.add(bundle, now=datetime(2026, 1, 1, tzinfo=UTC)))


class Target:
    """A service over a copy of a shop; what it writes is seen from outside.

    Args:
        shop: Made by `make_shop`.
        home: Where the copy goes.
        settings: Of the service.
    """

    def __init__(self, shop: Path, home: Path, *, settings: ServeSettings) -> None:
        shutil.copytree(shop, home)
        self._home = home
        self._workspace = Workspace.open(home)
        bundle = last_good(ModelStore(self._workspace.models))
        table = self._workspace.catalog.table(bundle.items.ids)
        recommender, fallback = at_work(bundle, table)
        self.app = create_app(
            self._workspace,
            recommender,
            model_version=bundle.version,
            settings=settings,
            fallback=fallback,
        )
        self._log = sqlite3.connect(f"file:{home / 'events.sqlite'}?mode=ro", uri=True)
        self._catalog = sqlite3.connect(f"file:{home / 'workspace.sqlite'}?mode=ro", uri=True)
        self._taken: set[bytes] = set()
        """Words of internals that callers named things by, which they may be told again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.app.close()
        self._log.close()
        self._catalog.close()
        self._workspace.close()
        shutil.rmtree(self._home)

    async def judge(
        self, sent: Sent, *, broken: Callable[[Sent, Answered], str] = lambda _sent, _answer: ""
    ) -> Verdict:
        """Send one request and look at the answer, and at what was written meanwhile.

        Args:
            sent: The request.
            broken: Says how an answer breaks the OpenAPI document's word, "" if it does not.
        """
        before, rows = self._written(), self._rows()
        try:
            answer = await exchange(self.app, sent)
        except Exception as error:  # noqa: BLE001 - whatever comes out is a fault
            return Verdict(status=0, fault="crash", detail=repr(error)[:300])
        status, told = answer.status, answer.body[:300].decode("latin-1")
        if status >= 500 and status != 503:
            return Verdict(status=status, fault="crash", detail=told)
        if status >= 400 and self._written() != before:
            return Verdict(status=status, fault="wrote", detail=told)
        given = b"%s?%s %s" % (unquote(sent.path).encode(), sent.query, sent.body)
        if status < 400:
            self._taken.update(INTERNALS.findall(given))
        known = {*INTERNALS.findall(given), *self._taken}
        fault, detail = _fault(sent, answer, known=known, added=self._rows() - rows)
        word = "" if fault else broken(sent, answer)
        if word:
            fault, detail = "word", word
        return Verdict(status=status, fault=fault, detail=detail)

    def _written(self) -> tuple[Any, ...]:
        """Differs as soon as anything was written."""
        versions = [
            each.execute("PRAGMA data_version").fetchone()[0] for each in (self._log, self._catalog)
        ]
        audited = 0
        with contextlib.suppress(OSError):
            audited = (self._home / "audit.jsonl").stat().st_mtime_ns
        return (*versions, audited, self._rows())

    def _rows(self) -> int:
        (rows,) = self._log.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return int(rows)


def _fault(sent: Sent, answer: Answered, *, known: set[bytes], added: int) -> tuple[str, str]:
    """What is wrong with an answer, and the words that show it.

    Args:
        sent: The request.
        answer: To it.
        known: Words of internals that callers said.
        added: Events that were written.
    """
    kind = answer.headers.get(b"content-type", b"")
    if answer.headers.get(b"x-content-type-options") != b"nosniff":
        return "shape", "no x-content-type-options"
    if not kind.startswith((b"text/html", b"text/javascript", b"text/plain")):
        leaked = [word for word in INTERNALS.findall(answer.body) if word not in known]
        if leaked and sent.path != "/openapi.json":
            return "leak", leaked[0].decode("latin-1")
    if answer.status >= 400 and sent.method != "HEAD" and not _is_problem(answer, kind):
        return "shape", answer.body[:300].decode("latin-1")
    if answer.status == 200 and sent.path.startswith("/v1/events") and sent.method == "POST":
        told = msgspec.json.decode(answer.body)
        if told.get("accepted") != added:
            return "miscounted", f"{told} and {added}"
    return "", ""


def _is_problem(answer: Answered, kind: bytes) -> bool:
    if kind != b"application/problem+json":
        return False
    problem = msgspec.json.decode(answer.body)
    return problem.get("status") == answer.status and bool(problem.get("detail"))


async def exchange(app: Any, sent: Sent) -> Answered:  # noqa: ANN401
    """Ask an ASGI application as a server does."""
    waiting = list(sent.chunks)
    length = str(len(sent.body)).encode()
    headers = list(sent.headers)
    if sent.body and not any(
        name in (b"content-length", b"transfer-encoding") for name, _ in headers
    ):
        headers.append((b"content-length", length))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": unquote(sent.path),
        "raw_path": sent.path.encode("latin-1", "replace"),
        "query_string": sent.query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    status, answered, parts = 0, {}, []

    async def receive() -> dict[str, Any]:
        if waiting:
            chunk = waiting.pop(0)
            more = bool(waiting) or not sent.whole
            return {"type": "http.request", "body": chunk, "more_body": more}
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update(message["headers"])
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return Answered(status=status, headers=answered, body=b"".join(parts))


def rounds(total: int, *, of: int) -> Iterator[int]:
    """The sizes of the rounds that make up a total."""
    for start in range(0, total, of):
        yield min(of, total - start)
