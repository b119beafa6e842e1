"""The ASGI application: hot routes on bare ASGI, the others in Starlette beside them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from momentary.data.events import EventLog
from momentary.recommend.pipeline import Recommender
from momentary.serving.engine import Engine
from momentary.serving.http import (
    SECURITY_HEADERS,
    encoded_path,
    header,
    read_body,
    send_json,
    send_problem,
)
from momentary.serving.problems import Problem
from momentary.serving.routes import Catalog, Routes
from momentary.settings import ServeSettings

_LOGGER = logging.getLogger(__name__)
_WRITES = ("POST", "PUT", "PATCH")


class Home(Protocol):
    """The folder that a server works on, such as `data.workspace.Workspace`."""

    @property
    def catalog(self) -> Catalog:
        """Where the items are kept."""
        ...

    @property
    def log_path(self) -> Path:
        """The file of the event log."""
        ...


def clock_us() -> int:
    """The time now, in microseconds since 1970."""
    return time.time_ns() // 1000


def create_app(
    home: Home,
    recommender: Recommender,
    *,
    model_version: str,
    settings: ServeSettings | None = None,
    fallback: Recommender | None = None,
    clock_us: Callable[[], int] = clock_us,
) -> Application:
    """Make a server's application; it opens the event log of `home`.

    Args:
        home: Where the catalogue and the event log are.
        recommender: The model that answers.
        model_version: Names the model in answers and exposures.
        settings: Limits and keys.
        fallback: Answers when the model fails; over the same items.
        clock_us: The time now, in microseconds since 1970.

    Raises:
        DataError: The event log cannot be opened.
        SettingsError: The fallback's items are not the model's.
    """
    limits = ServeSettings() if settings is None else settings
    log = EventLog(home.log_path)
    engine = Engine(
        recommender,
        log,
        model_version=model_version,
        fallback=fallback,
        settings=limits,
        clock_us=clock_us,
    )
    return Application(engine, Routes(engine, home.catalog, settings=limits), settings=limits)


class Application:
    """One ASGI 3 application; `create_app` makes it.

    Attributes:
        engine: Gives access to a running server, such as to put another model to work.
    """

    def __init__(self, engine: Engine, routes: Routes, *, settings: ServeSettings) -> None:
        self.engine = engine
        self._settings = settings
        self._hot = routes.hot()
        self._cold = Starlette(
            routes=routes.cold(),
            exception_handlers={Problem: _on_problem, HTTPException: _on_http, 500: _on_error},
        )
        self._cold.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of the server."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def close(self) -> None:
        """Settle what waits and close the event log."""
        self.engine.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = encoded_path(scope)
        try:
            self._guard(scope, path)
            hot = self._hot.get(path)
            if hot is not None:
                if scope["method"] != "POST":
                    raise _not_allowed("POST")
                limit_bytes = self._settings.max_body_bytes
                body = await read_body(scope, receive, limit_bytes=limit_bytes)
                await send_json(send, await hot(body))
                return
        except Problem as problem:
            await send_problem(send, problem)
            return
        except Exception:
            _LOGGER.exception("%s failed", path)
            await send_problem(send, _failed())
            return
        await self._cold({**scope, "path": path, "root_path": ""}, receive, send)

    def _guard(self, scope: Scope, path: str) -> None:
        if not path.startswith("/v1/"):
            return
        if self._settings.api_keys:
            self._check_key(header(scope, b"x-api-key"))
        if scope["method"] in _WRITES:
            # Browsers send other types across sites without asking; JSON they ask about first.
            kind = header(scope, b"content-type") or b""
            if kind.partition(b";")[0].strip().lower() != b"application/json":
                raise Problem(415, "Send the header Content-Type: application/json.")

    def _check_key(self, key: bytes | None) -> None:
        digest = hashlib.sha256(key or b"").hexdigest()
        # Every key is compared, so that the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._settings.api_keys]
        if key is None or not any(matches):
            detail = "The header X-API-Key is missing or holds no key of this server."
            raise Problem(401, detail, headers=((b"www-authenticate", b"ApiKey"),))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


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
