"""One ASGI application for many tenants: the key chooses, and nothing that a client says does.

Every tenant has an `Application` of its own, with its own log, catalogue, models, visits, limits,
counters, caches and audit log. This one looks at the key and hands the request on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from momentary.serving import docs, openapi, tracker
from momentary.serving.access import preflight_headers
from momentary.serving.app import EXCEPTION_HANDLERS, Application, needs_key
from momentary.serving.http import encoded_path, header, send_empty, send_problem
from momentary.serving.problems import Problem
from momentary.serving.queries import HEADERS, answer
from momentary.serving.schemas import Live
from momentary.settings import ServeSettings, read_key


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Some tenant can be served; nothing is told of any of them."""

    status: str = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A tenant's application and settings."""

    app: Application
    settings: ServeSettings


class Dispatcher:
    """Hands each request to the tenant whose key it carries.

    Args:
        tenants: All of them; their keys are different.
    """

    def __init__(self, tenants: Sequence[Served]) -> None:
        self._tenants = list(tenants)
        # Found by the digest of what was sent, so the time taken tells nothing of the keys.
        self._by_key: Mapping[str, Served] = {
            read_key(entry)[1]: each for each in tenants for entry in each.settings.api_keys
        }
        self._document = msgspec.json.encode(openapi.document())
        self._front = Starlette(
            routes=[
                Route("/", self._root, methods=["GET"]),
                Route("/docs", self._docs, methods=["GET"]),
                Route("/openapi.json", self._openapi, methods=["GET"]),
                Route("/tracker.js", self._tracker, methods=["GET"]),
                Route("/health/live", self._live, methods=["GET"]),
                Route("/health/ready", self._ready, methods=["GET"]),
            ],
            exception_handlers=EXCEPTION_HANDLERS,
        )
        self._front.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of the server."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def close(self) -> None:
        """Close every tenant's application."""
        for each in self._tenants:
            each.app.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = encoded_path(scope)
        if not needs_key(path):
            await self._front({**scope, "path": path, "root_path": ""}, receive, send)
            return
        try:
            # A browser asks first without a key, so whose page it is shows with the real request.
            allowed = preflight_headers(scope)
            if allowed is not None:
                await send_empty(send, headers=allowed)
                return
            tenant = self._tenant(scope)
        except Problem as problem:
            await send_problem(send, problem)
            return
        await tenant.app(scope, receive, send)

    def _tenant(self, scope: Scope) -> Served:
        """Whose key a request carries.

        Raises:
            Problem: 401 without a known key, 403 for a page that the tenant does not name.
        """
        key = header(scope, b"x-api-key")
        found = self._by_key.get(hashlib.sha256(key or b"").hexdigest())
        if key is None or found is None:
            detail = "The header X-API-Key is missing or holds no key of this server."
            raise Problem(401, detail, headers=((b"www-authenticate", b"ApiKey"),))
        origin = (header(scope, b"origin") or b"").decode("latin-1")
        own = origin.partition("://")[2] == (header(scope, b"host") or b"").decode("latin-1")
        if origin and not own and origin not in found.settings.cors_origins:
            raise Problem(403, "This site is not among serve.cors_origins; add it there.")
        return found

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                for each in self._tenants:
                    each.app.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _root(self, _request: Request) -> Response:
        return RedirectResponse("/docs", headers=HEADERS)

    async def _docs(self, _request: Request) -> Response:
        return Response(docs.PAGE, media_type="text/html", headers=docs.HEADERS)

    async def _openapi(self, _request: Request) -> Response:
        return Response(self._document, media_type="application/json", headers=HEADERS)

    async def _tracker(self, _request: Request) -> Response:
        return Response(tracker.SCRIPT, media_type="text/javascript", headers=tracker.HEADERS)

    async def _live(self, _request: Request) -> Response:
        return answer(Live())

    async def _ready(self, _request: Request) -> Response:
        if not any(each.app.engine.writable() for each in self._tenants):
            raise Problem(503, "No event log takes writes; the server's log says why.")
        return answer(Status())
