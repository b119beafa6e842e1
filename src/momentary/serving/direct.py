"""The two busiest routes straight from the parser to the engine, without ASGI between them.

ASGI asks for a scope, a task and four messages for each request, which cost more than all else that
the service's own Python does for one. A plain request to a busy route, whose body comes with its
head, is read here, handed to the engine, and answered by one write when it is settled. Whatever is
out of the ordinary (another route, a pipelined request, a body in pieces, a client that does
not read) takes the way through ASGI, where the same checks stand. Both answer alike.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from momentary.serving.http import Headers, status_line
from momentary.serving.protocol import GuardedProtocol, guarded

_LOGGER = logging.getLogger(__name__)
_LARGEST_BYTES = 65_536
_SPECIAL = frozenset((b"expect", b"transfer-encoding", b"upgrade"))
_CLOSE = (b"connection", b"close")
_OF_BASE = {
    "on_message_begin": (1, ("scope",)),
    "on_url": (2, ("url",)),
    "on_header": (3, ("headers",)),
    "on_headers_complete": (
        1,
        ("cycle", "response_complete", "pipeline", "flow", "limit_concurrency", "default_headers"),
    ),
    "on_body": (2, ("cycle",)),
    "on_message_complete": (1, ("cycle",)),
    "on_response_complete": (1, ("pipeline", "server_state")),
    "connection_lost": (2, ("cycle", "disconnected", "message_event")),
    "shutdown": (1, ("cycle", "response_complete", "keep_alive")),
}
"""Methods of uvicorn's protocol that are relied upon: parameters, and names that each speaks of."""


class Answering(Protocol):
    """Answers one request, now or later, by one call of `Reply.send`."""

    def __call__(self, headers: list[tuple[bytes, bytes]], body: bytes, reply: Reply) -> None:
        """Answer; it must not raise."""


class Reply:
    """The answer to one request; to uvicorn, the request that is being answered.

    Attributes:
        keep_alive: Whether the connection goes on afterwards.
        response_complete: Whether the answer has been given.
        disconnected: Whether the client has gone.
    """

    __slots__ = ("_protocol", "disconnected", "keep_alive", "response_complete")

    def __init__(self, protocol: DirectProtocol, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False

    @property
    def message_event(self) -> Reply:
        """Where uvicorn says that the client has gone, which `disconnected` says as well."""
        return self

    def set(self) -> None:
        """Nobody waits for more of the body."""

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, unless the client has gone."""
        self.response_complete = True
        if self.disconnected:
            return
        try:
            self._protocol.respond(self, status=status, headers=headers, body=body)
        except Exception:
            # Others of the same tick wait for their answers, too.
            _LOGGER.exception("an answer could not be sent")
            self._protocol.transport.close()


class DirectProtocol(GuardedProtocol):
    """uvicorn's protocol with a shorter way for the busiest routes.

    Attributes:
        direct: The routes, by the path as it is sent; all of them take POST.
    """

    direct: ClassVar[Mapping[bytes, Answering]] = {}

    _answering: Answering | None = None
    _parts: list[bytes]
    _dated: ClassVar[tuple[object, bytes]] = (None, b"")

    def data_received(self, data: bytes) -> None:
        """Read on; a body that does not come at once is waited for by ASGI."""
        super().data_received(data)
        if self._answering is not None:
            self._answering = None
            if not self.transport.is_closing():
                self._replay(self._parts)

    def on_message_begin(self) -> None:
        """A request begins; whose it is shows when its head is complete."""
        self.begin_watch()
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Take the shorter way if everything is as usual."""
        answering = self.direct.get(self.url)
        if answering is None or not self._is_plain():
            self._replay([])
            return
        self._in_head = False
        self._answering, self._parts = answering, []

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._answering is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer, or let ASGI."""
        answering = self._answering
        if answering is None:
            super().on_message_complete()
            return
        self._answering = None
        self._begun_s = None
        reply = Reply(self, keep_alive=self.parser.should_keep_alive())
        self.cycle = reply  # type: ignore[assignment]
        parts = self._parts
        answering(self.headers, parts[0] if len(parts) == 1 else b"".join(parts), reply)

    def respond(self, reply: Reply, *, status: int, headers: Headers, body: bytes) -> None:
        """Write an answer; the next request of the connection may come."""
        if _CLOSE in headers:
            reply.keep_alive = False
        elif not reply.keep_alive:
            headers += (_CLOSE,)
        length = b"content-length: %d\r\n\r\n" % len(body)
        parts = (status_line(status), self._defaults(), _lines(headers), length, body)
        self.transport.write(b"".join(parts))
        if not reply.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _is_plain(self) -> bool:
        """Whether a request to a busy route needs nothing that only ASGI gives."""
        parser, fields = self.parser, dict(self.headers)
        length = fields.get(b"content-length", b"")
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and len(fields) == len(self.headers)
            and length.isdigit()
            and int(length[:20]) <= _LARGEST_BYTES
            and _SPECIAL.isdisjoint(fields)
            and self.limit_concurrency is None
        )

    def _replay(self, parts: list[bytes]) -> None:
        """Let uvicorn hear what was kept from it."""
        url, headers, begun_s = self.url, self.headers, self._begun_s
        super().on_message_begin()
        self._begun_s = begun_s
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        for part in parts:
            super().on_body(part)

    def _defaults(self) -> bytes:
        """The headers that uvicorn sends with every answer, such as the date."""
        headers = self.server_state.default_headers
        known, lines = DirectProtocol._dated
        if headers is not known:
            lines = _lines(tuple(headers))
            DirectProtocol._dated = headers, lines
        return lines


@lru_cache(maxsize=64)
def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % each for each in headers])


def fits(base: type = HttpToolsProtocol) -> bool:
    """Whether uvicorn's protocol is built as `DirectProtocol` knows it."""
    for name, (parameters, spoken) in _OF_BASE.items():
        method = getattr(base, name, None)
        if method is None or len(inspect.signature(method).parameters) != parameters:
            return False
        if not set(spoken) <= set(method.__code__.co_names):
            return False
    return True


def protocol_for(
    request_s: float, routes: Mapping[bytes, Answering], *, fits: Callable[[], bool] = fits
) -> type[GuardedProtocol]:
    """The protocol of a server.

    Args:
        request_s: From the first byte of a request to the last.
        routes: By path; they must answer as the application does.
        fits: Whether uvicorn is as it is known; if not, everything goes through ASGI.
    """
    if not routes:
        return guarded(request_s)
    if not fits():
        _LOGGER.warning("this uvicorn is built otherwise; every request goes through ASGI")
        return guarded(request_s)
    return type("DirectProtocol", (DirectProtocol,), {"request_s": request_s, "direct": routes})
