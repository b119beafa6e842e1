"""What each route does: the two hot ones on bare bytes, the others for Starlette."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from momentary.errors import DataError
from momentary.recommend.rules import DEFAULT_RULES
from momentary.serving import docs, openapi
from momentary.serving.engine import Engine, Question
from momentary.serving.http import SECURITY_HEADERS, decoded, read_body
from momentary.serving.problems import Problem
from momentary.serving.ranking import Wish
from momentary.serving.schemas import (
    Live,
    Ready,
    RecommendIn,
    SimilarOut,
    read_events,
    read_item,
    read_recommend,
    to_event,
)
from momentary.serving.state import ID_COLUMNS
from momentary.settings import ServeSettings
from momentary.types import Event, Item, ItemTable

HotRoute = Callable[[bytes], Awaitable[bytes]]
"""The body of a request to the body of its answer."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_HEADERS = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
_ENCODE = msgspec.json.Encoder().encode
_EXPLAIN = {"true": True, "1": True, "false": False, "0": False}


class Catalog(Protocol):
    """Where the items are kept."""

    def upsert(self, items: list[Item]) -> object:
        """Add items, or replace those that are there."""
        ...

    def get(self, item_id: str) -> Item | None:
        """One item, None if there is none."""
        ...

    def delete(self, item_id: str) -> object:
        """Remove one item, whether it is there or not; `table` knows it as deleted from then on."""
        ...

    def table(self, ids: list[str]) -> ItemTable:
        """The items as columns."""
        ...


class Routes:
    """The routes of one server.

    Args:
        engine: Records events and answers questions.
        catalog: Where the items are kept.
        settings: Limits of a request.
    """

    def __init__(self, engine: Engine, catalog: Catalog, *, settings: ServeSettings) -> None:
        self._engine = engine
        self._catalog = catalog
        self._settings = settings
        self._document = _ENCODE(openapi.document())
        self._writing = asyncio.Lock()

    def hot(self) -> dict[str, HotRoute]:
        """The routes that are worth a path of their own; all of them take POST."""
        return {"/v1/events": self.events, "/v1/recommend": self.recommend}

    def cold(self) -> list[Route]:
        """The other routes; they match the path before it is percent-decoded."""
        item = "/v1/items/{item_id:path}"
        return [
            Route("/", self.root, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/health/live", self.live, methods=["GET"]),
            Route("/health/ready", self.ready, methods=["GET"]),
            Route(
                "/v1/sessions/{session_id:path}/recommend", self.session_recommend, methods=["GET"]
            ),
            Route(item + "/similar", self.similar, methods=["GET"]),
            Route(item, self.item, methods=["GET", "PUT", "DELETE"]),
        ]

    async def events(self, body: bytes) -> bytes:
        """Record one event or many."""
        now_us, most = self._engine.now_us(), self._settings.max_events
        return _ENCODE(await self._engine.record(read_events(body, now_us=now_us, most=most)))

    async def recommend(self, body: bytes) -> bytes:
        """Record an event, if one is given, and continue the visit."""
        wire = read_recommend(body)
        ids = _ids(wire)
        events = [] if wire.event is None else [self._event(wire, ids)]
        for event in events:
            ids = ids or _ids(event)
        wish = Wish(k=wire.k, rules=wire.rules, explain=wire.explain)
        question = Question(ids=ids, wish=wish, basket=wire.items)
        return _ENCODE(await self._engine.answer(question, events=events))

    async def session_recommend(self, request: Request) -> Response:
        """Continue one session."""
        session_id = decoded(request.path_params["session_id"], field="session_id")
        question = Question(ids={"session_id": session_id}, wish=_wish(request))
        return _json(await self._engine.answer(question))

    async def similar(self, request: Request) -> Response:
        """List items that are like one item."""
        item_id = decoded(request.path_params["item_id"], field="item_id")
        wish = _wish(request)
        if not self._engine.listed(item_id):
            raise _no_item(item_id, "it was deleted, or the model does not know it (yet)")
        try:
            found = self._engine.recommender.similar(item_id, k=wish.k, rules=DEFAULT_RULES)
        except DataError as error:
            raise Problem(422, str(error), field="item_id") from None
        items = self._engine.named(found)
        return _json(SimilarOut(model_version=self._engine.model_version, items=items))

    async def item(self, request: Request) -> Response:
        """Show, add, replace or remove one item."""
        item_id = _item_id(request)
        if request.method == "PUT":
            return await self._put_item(request, item_id)
        if request.method == "DELETE":
            return await self._delete_item(item_id)
        item = self._catalog.get(item_id)
        if item is None:
            raise _no_item(item_id, "PUT it first")
        return _json(item)

    async def live(self, _request: Request) -> Response:
        """Say that the process answers."""
        return _json(Live())

    async def ready(self, _request: Request) -> Response:
        """Say whether requests can be answered."""
        if not self._engine.writable:
            raise Problem(503, "The event log refuses writes; the server's log says why.")
        items = len(self._engine.recommender.items)
        return _json(Ready(model_version=self._engine.model_version, items=items))

    async def openapi(self, _request: Request) -> Response:
        """Describe every route."""
        return Response(self._document, media_type="application/json", headers=_HEADERS)

    async def docs(self, _request: Request) -> Response:
        """Show the description as a page."""
        return Response(docs.PAGE, media_type="text/html", headers=docs.HEADERS)

    async def root(self, _request: Request) -> Response:
        """Lead a browser to the documentation."""
        return RedirectResponse("/docs", headers=_HEADERS)

    async def _put_item(self, request: Request, item_id: str) -> Response:
        body = await read_body(
            request.scope, request.receive, limit_bytes=self._settings.max_body_bytes
        )
        item = read_item(body, item_id=item_id)
        async with self._changing(item_id):
            status = 200 if self._catalog.get(item_id) is not None else 201
            await asyncio.to_thread(self._catalog.upsert, [item])
        return _json(item, status=status)

    async def _delete_item(self, item_id: str) -> Response:
        async with self._changing(item_id):
            if self._catalog.get(item_id) is None and not self._engine.listed(item_id):
                raise _no_item(item_id, "there is nothing to delete")
            await asyncio.to_thread(self._catalog.delete, item_id)
        return Response(status_code=204, headers=_HEADERS)

    @asynccontextmanager
    async def _changing(self, item_id: str) -> AsyncIterator[None]:
        """One change of the catalogue at a time; the next answer knows of it.

        Changes are written in a thread, because an import may hold the catalogue for seconds.
        """
        async with self._writing:
            try:
                yield
            except DataError as error:
                retry = ((b"retry-after", b"1"),)
                detail = f"Nothing was changed: {error}"
                raise Problem(503, detail, headers=retry) from None
            self._engine.refresh(self._catalog.table([item_id]))

    def _event(self, wire: RecommendIn, ids: dict[str, str]) -> Event:
        event = wire.event
        if event is None:
            raise ValueError("the request holds no event.")
        # Whoever asks has done it, unless the event says who did.
        whose = event if _ids(event) else msgspec.structs.replace(event, **ids)
        return to_event(whose, now_us=self._engine.now_us(), place="event.")


def _ids(source: object) -> dict[str, str]:
    found = ((column, getattr(source, column)) for column in ID_COLUMNS)
    return {column: value for column, value in found if value is not None}


def _item_id(request: Request) -> str:
    encoded: str = request.path_params["item_id"]
    if request.method not in ("GET", "HEAD") and encoded.endswith("/similar"):
        detail = "/similar can only be read; write a slash inside an id as %2F."
        raise Problem(405, detail, headers=((b"allow", b"GET"),))
    return decoded(encoded, field="item_id")


def _wish(request: Request) -> Wish:
    query = request.query_params
    for name in query:
        if name not in ("k", "explain"):
            raise Problem(422, f"{name[:50]!r} is no parameter; use k or explain.", field=name[:50])
    k = query.get("k", "20")
    if not _NUMBER.fullmatch(k) or not 1 <= int(k) <= 100:
        raise Problem(422, f"k is {k[:50]!r}; ask for 1 to 100 items.", field="k")
    explain = query.get("explain", "false")
    if explain not in _EXPLAIN:
        detail = f"explain is {explain[:50]!r}; use true or false."
        raise Problem(422, detail, field="explain")
    return Wish(k=int(k), explain=_EXPLAIN[explain])


def _json(value: object, *, status: int = 200) -> Response:
    return Response(
        _ENCODE(value), status_code=status, media_type="application/json", headers=_HEADERS
    )


def _no_item(item_id: str, remedy: str) -> Problem:
    return Problem(404, f"There is no item {item_id!r}: {remedy}.", field="item_id")
