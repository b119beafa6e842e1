"""The ASGI application: hot routes on bare ASGI, the others in Starlette beside them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Message, Receive, Scope, Send

from momentary.data.workspace import Workspace
from momentary.errors import StorageError
from momentary.recommend.assortment import Assortment
from momentary.recommend.pipeline import Recommender
from momentary.serving.access import ANYONE, Access, Caller
from momentary.serving.direct import Answering, Reply
from momentary.serving.engine import Engine, Outcome
from momentary.serving.http import (
    JSON_HEADERS,
    SECURITY_HEADERS,
    Headers,
    encoded_path,
    header,
    problem_headers,
    read_body,
    send_empty,
    send_json,
    send_problem,
    too_large,
)
from momentary.serving.problems import Problem
from momentary.serving.routes import Reader, Routes
from momentary.serving.tracing import Http, Tracing, tracing_of
from momentary.settings import ServeSettings

if TYPE_CHECKING:
    from momentary.serving.team import Member

_LOGGER = logging.getLogger(__name__)
_ENCODE = msgspec.json.Encoder().encode
_WRITES = ("POST", "PUT", "PATCH")
_PLAIN = ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/tracker.js", "/")
_NAMED = frozenset(
    {"events", "feedback", "items", "models", "playlists", "popular", "recommend", "search"}
    | {"sessions"}
    | {"rules", "scenarios", "trending", "users"}
)
_NAMED_ENDS = frozenset(
    {"content", "picture", "sound", "similar", "together", "recommend", "ga4", "segment"}
)


def clock_us() -> int:
    """The time now, in microseconds since 1970."""
    return time.time_ns() // 1000


def create_app(  # noqa: PLR0913 - each says something else
    workspace: Workspace,
    recommender: Recommender,
    *,
    model_version: str,
    settings: ServeSettings | None = None,
    fallback: Recommender | None = None,
    assortment: Assortment | None = None,
    clock_us: Callable[[], int] = clock_us,
) -> Application:
    """Make a server's application; it opens the event log of the workspace.

    Args:
        workspace: Where the catalogue, the events and the models are.
        recommender: The model that answers.
        model_version: Names the model in answers and exposures.
        settings: Limits and keys.
        fallback: Answers when the model fails; over the same items.
        assortment: What the recommender was made from, so that items can be placed and compared
            by their content.
        clock_us: The time now, in microseconds since 1970.

    Raises:
        DataError: The event log cannot be opened.
        SettingsError: The fallback's items are not the model's, or stored rules cannot be read.
    """
    limits = ServeSettings() if settings is None else settings
    with contextlib.ExitStack() as undo:
        log = workspace.open_log()
        undo.callback(log.close)
        engine = Engine(
            recommender,
            log,
            model_version=model_version,
            fallback=fallback,
            settings=limits,
            clock_us=clock_us,
        )
        routes = Routes(engine, workspace, settings=limits, assortment=assortment)
        undo.pop_all()
    app = Application(engine, routes, settings=limits)
    tracing = tracing_of(limits)
    if tracing is not None:
        app.trace(tracing)
    return app


class Application:
    """One ASGI 3 application; `create_app` makes it.

    Attributes:
        engine: Gives access to a running server, such as to put another model to work.
    """

    def __init__(self, engine: Engine, routes: Routes, *, settings: ServeSettings) -> None:
        self.engine = engine
        self._tracing: Tracing | None = None
        self._http: Http = self._measured
        self._routes = routes
        self._settings = settings
        self._access = Access(settings)
        self._member: Member | None = None
        self._hot = routes.hot()
        self._hot_names = {path: _route_name(path) for path in self._hot}
        self._cold = Starlette(
            routes=routes.cold(),
            exception_handlers=EXCEPTION_HANDLERS,
        )
        self._cold.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of the server."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def trace(self, tracing: Tracing) -> None:
        """Make spans of the requests and the stages from now on; `close` closes `tracing`."""
        self._tracing = tracing
        self._http = tracing.around(self._measured, route=_route_of)
        self.engine.measures.stage = tracing.stages(self.engine.measures.stage)

    def start(self) -> None:
        """Begin what goes on beside the requests, in the running event loop."""
        self._routes.start()

    def close(self) -> None:
        """Settle what waits and close the event log."""
        self.engine.close()
        self._routes.close()
        if self._tracing is not None:
            self._tracing.close()

    def join(self, member: Member) -> None:
        """Be one of several processes of a service; called before the first request."""
        self.engine.share(member.turn)
        self._access = Access(self._settings, allowances=member.team.allowances)
        self._routes.join(member)
        self._member = member

    def direct(self) -> dict[bytes, Answering]:
        """The routes that `DirectProtocol` may answer; none where spans are made of requests."""
        if self._tracing is not None:
            return {}
        return {
            path.encode(): partial(self._answer_direct, path=path, read=read)
            for path, read in self._routes.direct().items()
        }

    def _answer_direct(
        self,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        reply: Reply,
        *,
        path: str,
        read: Reader,
    ) -> None:
        """What `_measured` and `_serve` do for a hot route, without a task."""
        scope = {"method": "POST", "headers": headers}
        counted = partial(self.engine.measures.answered, self._hot_names[path])
        waiting = _Waiting(reply, counted, path=path, cors=self._access.cors(scope))
        try:
            caller = self._admitted(scope, path)
            if len(body) > self._settings.max_body_bytes:
                raise too_large(self._settings.max_body_bytes)
            events, question = read(body, caller)
            self.engine.submit(events, question, waiting)
        except Exception as error:  # noqa: BLE001 - the log and the client are told
            waiting.set_exception(error)

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and count the answer under the name of its route: paths are without number."""
        status = 500
        start_s = time.perf_counter()
        path = encoded_path(scope)
        try:
            status = await self._serve(scope, receive, send, path=path)
        finally:
            route = self._hot_names.get(path) or _route_name(path)
            self.engine.measures.answered(route, status, seconds=time.perf_counter() - start_s)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, *, path: str) -> int:
        """Answer; the status of the answer."""
        cors = self._access.cors(scope)
        try:
            allowed = self._access.preflight(scope)
            if allowed is not None:
                await send_empty(send, headers=allowed)
                return 204
            caller = self._admitted(scope, path)
            hot = self._hot.get(path)
            if hot is not None:
                if scope["method"] != "POST":
                    raise _not_allowed("POST")
                limit_bytes = self._settings.max_body_bytes
                body = await read_body(scope, receive, limit_bytes=limit_bytes)
                await send_json(send, await hot(body, caller), headers=cors)
                return 200
        except Exception as error:  # noqa: BLE001 - the log and the client are told
            problem = _problem_of(error, path)
            await send_problem(send, problem, headers=cors)
            return problem.status
        return await self._answer_cold(scope, receive, send, caller=caller, path=path, cors=cors)

    async def _answer_cold(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        caller: Caller,
        path: str,
        cors: Headers,
    ) -> int:
        status = 500

        async def sends(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *cors]}
            await send(message)

        inner = {**scope, "path": path, "root_path": "", "caller": caller}
        await self._cold(inner, receive, sends)
        return status

    def _admitted(self, scope: Scope, path: str) -> Caller:
        """Who asks, if they may: keys guard everything that holds or tells data."""
        if not needs_key(path):
            return ANYONE
        caller = self._access.caller(scope)
        if scope["method"] in _WRITES:
            # Browsers send other types across sites without asking; JSON they ask about first.
            kind = header(scope, b"content-type") or b""
            if kind.partition(b";")[0].strip().lower() != b"application/json":
                raise Problem(415, "Send the header Content-Type: application/json.")
        return caller

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self._member is not None:
                    self._member.listen(self._routes.handlers())
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._member is not None:
                    self._member.leave()
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


class _Waiting:
    """Tells a client what became of its request, as soon as the engine knows."""

    __slots__ = ("_begun_s", "_cors", "_counted", "_path", "_reply")

    def __init__(
        self, reply: Reply, counted: Callable[..., None], *, path: str, cors: Headers
    ) -> None:
        self._reply = reply
        self._counted = counted
        self._path = path
        self._cors = cors
        self._begun_s = time.perf_counter()

    def done(self) -> bool:
        """Whether the client has gone, or been answered."""
        return self._reply.disconnected or self._reply.response_complete

    def set_result(self, result: Outcome, /) -> None:
        """Answer."""
        told, answer = result
        self._send(200, JSON_HEADERS, _ENCODE(told if answer is None else answer))

    def set_exception(self, exception: BaseException, /) -> None:
        """Refuse."""
        problem = _problem_of(exception, self._path)
        self._send(problem.status, problem_headers(problem), problem.body())

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        self._reply.send(status, headers + self._cors, body)
        seconds = time.perf_counter() - self._begun_s
        self._counted(status, seconds=seconds)


def needs_key(path: str) -> bool:
    """Whether a path holds or tells data, so that a key is asked for."""
    return path.startswith("/v1/") or path == "/metrics"


async def _on_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return _problem_response(error)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "")
        problem = _not_allowed(", ".join(sorted(allow.split(", "))))
    elif error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {request.scope['path'][:200]}; /docs lists what there is."
        problem = Problem(404, detail)
    else:
        problem = Problem(error.status_code, f"{error.detail}.")
    return _problem_response(problem)


async def _on_error(_request: Request, _error: Exception) -> Response:
    return _problem_response(_failed())


async def _on_storage(request: Request, error: Exception) -> Response:
    _LOGGER.warning("%s failed: %s", request.scope["path"][:200], error)
    return _problem_response(_not_stored())


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {
    Problem: _on_problem,
    HTTPException: _on_http,
    StorageError: _on_storage,
    500: _on_error,
}
"""How the routes in Starlette answer what is raised."""


def _route_of(scope: Scope) -> str:
    return _route_name(encoded_path(scope))


def _route_name(path: str) -> str:
    """One of a few names, whatever stands in the path."""
    first, _, rest = path.removeprefix("/v1/").partition("/")
    if path.startswith("/v1/") and first in _NAMED:
        last = rest.rpartition("/")[2]
        return f"{first}/{last}" if last in _NAMED_ENDS else first
    return path if path in _PLAIN else "other"


def _problem_of(error: BaseException, path: str) -> Problem:
    """How whatever was raised is told to a client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StorageError):
        _LOGGER.warning("%s failed: %s", path, error)
        return _not_stored()
    _LOGGER.error("%s failed", path, exc_info=error)
    return _failed()


def _not_stored() -> Problem:
    detail = "The database gives or takes nothing now; nothing was recorded. Try again later."
    return Problem(503, detail, headers=((b"retry-after", b"1"),))


def _failed() -> Problem:
    return Problem(500, "The server failed; its log says why.")


def _problem_response(problem: Problem) -> Response:
    headers = (*SECURITY_HEADERS, *problem.headers)
    return Response(
        problem.body(),
        status_code=problem.status,
        media_type="application/problem+json",
        headers={name.decode(): value.decode() for name, value in headers},
    )


def _not_allowed(allow: str) -> Problem:
    detail = f"This path does not take that method; use {allow}."
    return Problem(405, detail, headers=((b"allow", allow.encode()),))
