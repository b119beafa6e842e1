"""What each route does: the two hot ones on bare bytes, the others for Starlette."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from momentary.data.events import Exposure
from momentary.data.workspace import Workspace
from momentary.errors import DataError
from momentary.models.artifact import ModelStore
from momentary.recommend.assortment import Assortment
from momentary.serving import docs, openapi, tracker
from momentary.serving.access import ANYONE, Caller
from momentary.serving.administration import Administration
from momentary.serving.audit import AuditLog
from momentary.serving.content import LiveContent
from momentary.serving.content_routes import ContentRoutes, upload_limit_bytes
from momentary.serving.discovery import Discovery
from momentary.serving.engine import Engine, Question
from momentary.serving.following import Following
from momentary.serving.http import decoded, read_body
from momentary.serving.models import Models
from momentary.serving.problems import Problem, unfollowed
from momentary.serving.queries import HEADERS, answer, caller_of, likeness_of, view_of
from momentary.serving.rule_file import import_rules
from momentary.serving.rule_routes import RuleRoutes
from momentary.serving.rulebook import RuleBook
from momentary.serving.schemas import (
    EventIn,
    ListOut,
    Live,
    Ready,
    RecommendIn,
    read_events,
    read_feedback,
    read_item,
    read_recommend,
    read_tracked,
    to_event,
)
from momentary.serving.state import ID_COLUMNS
from momentary.serving.wishes import Wishes, without_chance
from momentary.settings import ServeSettings
from momentary.types import Event, Item

if TYPE_CHECKING:
    from momentary.serving.team import Handler, Member

HotRoute = Callable[[bytes, Caller], Awaitable[bytes]]
"""The body of a request, and who sent it, to the body of its answer."""

Reader = Callable[[bytes, Caller], tuple[Sequence[Event], Question | None]]
"""The body of a request, and who sent it, to what the engine is to record and to answer."""

_ENCODE = msgspec.json.Encoder().encode


class Routes:
    """The routes of one server.

    Args:
        engine: Records events and answers questions.
        workspace: Where the items, the events and the models are.
        settings: Limits of a request.
        assortment: What the model and the encoders know.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        *,
        settings: ServeSettings,
        assortment: Assortment | None = None,
    ) -> None:
        self._engine = engine
        self._catalog = workspace.catalog
        self._settings = settings
        self._audit = AuditLog(workspace.root / "audit.jsonl")
        for name in import_rules(workspace):
            self._audit.record(ANYONE, "import_rules", name, now_us=engine.now_us())
        book = RuleBook(settings, workspace.rule_sets)
        self._wishes = Wishes(engine, book)
        self._rules = RuleRoutes(
            engine, book, audit=self._audit, limit_bytes=settings.max_body_bytes
        )
        self._content = LiveContent(engine, workspace, assortment, settings=settings)
        self._content_routes = ContentRoutes(
            engine, self._content, wishes=self._wishes, catalog=workspace.catalog, settings=settings
        )
        self._discovery = Discovery(
            engine, workspace, wishes=self._wishes, clock_s=time.monotonic, content=self._content
        )
        self._writing = asyncio.Lock()
        self._models = Models(
            ModelStore(workspace.models),
            engine,
            workspace=workspace,
            writing=self._writing,
            index=settings.index,
            adopt=self._content.adopt,
        )
        self._administration = Administration(
            engine,
            workspace,
            audit=self._audit,
            settings=settings,
            now_us=engine.now_us,
            models=self._models,
        )
        self._document = _ENCODE(openapi.document())
        self._following = Following(
            engine,
            workspace,
            discovery=self._discovery,
            content=self._content,
            models=self._models,
            writing=self._writing,
        )
        self._member: Member | None = None

    def hot(self) -> dict[str, HotRoute]:
        """The routes that are worth a path of their own; all of them take POST."""
        return {
            "/v1/events": self.events,
            "/v1/events/ga4": partial(self.tracked, tracker="ga4"),
            "/v1/events/segment": partial(self.tracked, tracker="segment"),
            "/v1/feedback": self.feedback,
            "/v1/recommend": self.recommend,
        }

    def direct(self) -> dict[str, Reader]:
        """Those of them whose answers are what the engine says, so that they need no task."""
        return {"/v1/events": self._told, "/v1/recommend": self._asked}

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
            *self._discovery.routes(),
            *self._content_routes.routes(),
            *self._administration.routes(),
            *self._rules.routes(),
            Route("/tracker.js", self.tracker, methods=["GET"]),
            Route(item + "/similar", self.similar, methods=["GET"]),
            Route(item, self.item, methods=["GET", "PUT", "DELETE"]),
        ]

    def start(self) -> None:
        """Begin what goes on beside the requests."""
        self._content.start()
        self._rules.start()
        self._following.start()

    def join(self, member: Member) -> None:
        """Tell the other workers of a service what changes."""
        self._member = member
        self._content.placed = self._tell_content
        self._administration.join(member)
        self._rules.join(member)

    def handlers(self) -> dict[str, Handler]:
        """How the other workers' changes are followed."""
        return {
            "item": self._follow_item,
            "content": self._follow_content,
            **self._administration.handlers(),
            **self._rules.handlers(),
        }

    def close(self) -> None:
        """Let go of what the routes hold."""
        self._content.close()
        self._rules.close()
        self._following.close()
        self._discovery.close()

    async def events(self, body: bytes, caller: Caller) -> bytes:
        """Record one event or many."""
        events, _ = self._told(body, caller)
        return _ENCODE(await self._engine.record(events))

    async def tracked(self, body: bytes, caller: Caller, *, tracker: str) -> bytes:
        """Record events as another tracker writes them."""
        caller.require("write")
        now_us, most = self._engine.now_us(), self._settings.max_events
        events = read_tracked(body, tracker, now_us=now_us, most=most)
        return _ENCODE(await self._engine.record(events))

    async def feedback(self, body: bytes, caller: Caller) -> bytes:
        """Record what came of an answer; whom it was for and where the item stood are known."""
        caller.require("write")
        wire = read_feedback(body)
        shown = self._engine.exposure(wire.recommendation_id)
        if shown is None or wire.item_id not in shown.items:
            detail = (
                f"Answer {wire.recommendation_id!r} with item {wire.item_id!r} is not known; send "
                "both as one answer gave them, while the live log holds it."
            )
            raise Problem(404, detail, field="recommendation_id")
        now_us = self._engine.now_us()
        given = msgspec.structs.asdict(wire)
        given["timestamp"] = now_us / 1e6 if wire.timestamp is None else wire.timestamp
        given |= {**_ids(shown), "position": shown.items.index(wire.item_id)}
        event = msgspec.convert(given, EventIn)
        return _ENCODE(await self._engine.record([to_event(event, now_us=now_us)]))

    async def recommend(self, body: bytes, caller: Caller) -> bytes:
        """Record an event, if one is given, and continue the visit."""
        events, question = self._asked(body, caller)
        return _ENCODE(await self._engine.answer(question, events=events))

    async def session_recommend(self, request: Request) -> Response:
        """Continue one session."""
        caller_of(request).require("read")
        session_id = decoded(request.path_params["session_id"], field="session_id")
        question = Question(ids={"session_id": session_id}, wish=self._wishes.of_query(request))
        return answer(await self._engine.answer(question))

    async def similar(self, request: Request) -> Response:
        """List items that are like one item."""
        caller_of(request).require("read")
        item_id = decoded(request.path_params["item_id"], field="item_id")
        wish = self._wishes.of_query(request, more=("likeness", "by"))
        likeness, by = likeness_of(request), view_of(request)
        if not self._engine.listed(item_id) and not self._content.has(item_id):
            raise _no_item(item_id, "it was deleted, or the model does not know it (yet)")
        rules = without_chance(wish.rules)
        if self._content.has(item_id):
            return await self._content_routes.similar(
                item_id, k=wish.k, rules=rules, likeness=likeness, by=by
            )
        if likeness == "learned" or by is not None:
            detail = f"Item {item_id!r} has no content: visits alone say what is like it."
            raise Problem(422, detail, field="likeness" if by is None else "by")
        try:
            found = self._engine.recommender.similar(item_id, k=wish.k, rules=rules)
        except DataError as error:
            raise unfollowed(error) from None
        items = self._engine.named(found)
        return answer(ListOut(model_version=self._engine.model_version, items=items))

    async def item(self, request: Request) -> Response:
        """Show, add, replace or remove one item."""
        caller = caller_of(request)
        caller.require("read" if request.method in ("GET", "HEAD") else "admin")
        item_id = _item_id(request)
        if request.method == "PUT":
            return await self._put_item(request, item_id)
        if request.method == "DELETE":
            return await self._delete_item(request, item_id)
        item = self._catalog.get(item_id)
        if item is None:
            raise _no_item(item_id, "PUT it first")
        return answer(item)

    async def live(self, _request: Request) -> Response:
        """Say that the process answers."""
        return answer(Live())

    async def ready(self, _request: Request) -> Response:
        """Say whether requests can be answered."""
        if not self._engine.writable():
            raise Problem(503, "The event log refuses writes; the server's log says why.")
        recommender = self._engine.recommender
        found = Ready(
            model_version=self._engine.model_version,
            items=len(recommender.items),
            search=recommender.search,
            notes=(*self._content.notes(), *self._models.notes),
        )
        return answer(found)

    async def openapi(self, _request: Request) -> Response:
        """Describe every route."""
        return Response(self._document, media_type="application/json", headers=HEADERS)

    async def docs(self, _request: Request) -> Response:
        """Show the description as a page."""
        return Response(docs.PAGE, media_type="text/html", headers=docs.HEADERS)

    async def tracker(self, _request: Request) -> Response:
        """The script that a shop's pages load to send impressions and clicks."""
        return Response(tracker.SCRIPT, media_type="text/javascript", headers=tracker.HEADERS)

    async def root(self, _request: Request) -> Response:
        """Lead a browser to the documentation."""
        return RedirectResponse("/docs", headers=HEADERS)

    async def _put_item(self, request: Request, item_id: str) -> Response:
        limit_bytes = self._settings.max_body_bytes
        if self._content.on:
            limit_bytes = upload_limit_bytes(self._settings)
        body = await read_body(request.scope, request.receive, limit_bytes=limit_bytes)
        item, uploads = read_item(body, item_id=item_id)
        looked = {
            modality: await self._content.see(modality, sent, field=f"{modality}_data")
            for modality, sent in uploads.items()
        }
        with self._content.room() as place:
            async with self._changing(item_id):
                status = 200 if self._catalog.get(item_id) is not None else 201
                await asyncio.to_thread(self._catalog.upsert, [item])
            await self._changed(item_id, item)
            self._note(request, "put_item", item_id)
            await self._content.put(item, looked, place=place)
        return answer(item, status=status)

    async def _delete_item(self, request: Request, item_id: str) -> Response:
        async with self._changing(item_id):
            if self._catalog.get(item_id) is None and not self._engine.listed(item_id):
                raise _no_item(item_id, "there is nothing to delete")
            await asyncio.to_thread(self._catalog.delete, item_id)
        await self._changed(item_id, None)
        await self._content.delete(item_id)
        self._note(request, "delete_item", item_id)
        return Response(status_code=204, headers=HEADERS)

    async def _changed(self, item_id: str, item: Item | None) -> None:
        """Let the search and the other workers know."""
        self._discovery.changed(item_id, item)
        if self._member is not None:
            await self._member.tell("item", item_id.encode())

    async def _follow_item(self, what: bytes) -> bytes:
        item_id = what.decode()
        async with self._writing:
            row = await asyncio.to_thread(self._catalog.table, [item_id])
            self._engine.refresh(row)
        item = await asyncio.to_thread(self._catalog.get, item_id)
        self._discovery.changed(item_id, item)
        if item is None:
            await self._content.forget(item_id)
        return b""

    async def _follow_content(self, what: bytes) -> bytes:
        item = self._catalog.get(what.decode())
        if item is not None:
            await self._content.follow(item)
        return b""

    async def _tell_content(self, item_id: str) -> None:
        if self._member is not None:
            await self._member.tell("content", item_id.encode())

    def _note(self, request: Request, action: str, target: str) -> None:
        self._audit.record(caller_of(request), action, target, now_us=self._engine.now_us())

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

    def _told(self, body: bytes, caller: Caller) -> tuple[list[Event], None]:
        """The events of a body, from somebody who may write."""
        caller.require("write")
        now_us, most = self._engine.now_us(), self._settings.max_events
        return read_events(body, now_us=now_us, most=most), None

    def _asked(self, body: bytes, caller: Caller) -> tuple[list[Event], Question]:
        """The event and the question of a body, from somebody who may send them."""
        caller.require("read")
        wire = read_recommend(body)
        if wire.event is not None:
            caller.require("write")
        ids = _ids(wire)
        events = [] if wire.event is None else [self._event(wire, ids)]
        for event in events:
            ids = ids or _ids(event)
        return events, Question(ids=ids, wish=self._wishes.of_body(wire, body), basket=wire.items)

    def _event(self, wire: RecommendIn, ids: dict[str, str]) -> Event:
        event = wire.event
        if event is None:
            raise ValueError("the request holds no event.")
        # Whoever asks has done it, unless the event says who did.
        whose = event if _ids(event) else msgspec.structs.replace(event, **ids)
        return to_event(whose, now_us=self._engine.now_us(), place="event.")


def _ids(source: Event | EventIn | RecommendIn | Exposure) -> dict[str, str]:
    found: dict[str, str] = {}
    for column in ID_COLUMNS:
        value = getattr(source, column)
        if value is not None:
            found[column] = value
    return found


def _item_id(request: Request) -> str:
    encoded: str = request.path_params["item_id"]
    parts = ("/similar", "/together", "/content")
    if request.method not in ("GET", "HEAD") and encoded.endswith(parts):
        detail = f"{', '.join(parts)} can only be read; write a slash inside an id as %2F."
        raise Problem(405, detail, headers=((b"allow", b"GET"),))
    return decoded(encoded, field="item_id")


def _no_item(item_id: str, remedy: str) -> Problem:
    return Problem(404, f"There is no item {item_id!r}: {remedy}.", field="item_id")
