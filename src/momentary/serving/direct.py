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
from typing import ClassVar, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from momentary.serving.http import Headers, status_line
from momentary.serving.protocol import GuardedProtocol, guarded

_LOGGER = logging.getLogger(__name__)
_LARGEST_BYTES = 65_536
_LONGEST_HEAD = 2_048
_MOST_HEADS = 256
_HEAD_END = b"\r\n\r\n"
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
    "on_response_complete": (1, ("pipeline", "server_state", "timeout_keep_alive_task")),
    "timeout_keep_alive_handler": (1, ("transport",)),
    "data_received": (2, ("parser", "_unset_keepalive_if_required")),
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


class Head(NamedTuple):
    """What the parser said of the head of a plain request.

    Attributes:
        length: Bytes of the body.
    """

    answering: Answering
    headers: list[tuple[bytes, bytes]]
    length: int


class DirectProtocol(GuardedProtocol):
    """uvicorn's protocol with a shorter way for the busiest routes.

    A client that asks again sends the same head, so what the parser said of the latest heads is
    kept by their bytes, and a request that comes in one piece is not parsed twice. Heads with a
    cookie, which may name a person, are not kept.

    Attributes:
        direct: The routes, by the path as it is sent; all of them take POST.
        heads: The heads that are kept.
    """

    direct: ClassVar[Mapping[bytes, Answering]] = {}
    heads: ClassVar[dict[bytes, Head]] = {}

    _answering: Answering | None = None
    _parts: list[bytes]
    _dated: ClassVar[tuple[object, bytes]] = (None, b"")
    _between = True
    """Whether the parser has read all of a request, and nothing of the next."""
    _whole: bytes | None = None
    _rested_s = 0.0

    def data_received(self, data: bytes) -> None:
        """Read on; a body that does not come at once is waited for by ASGI."""
        if self._between and self._is_known(data):
            return
        self._whole = data if self._between else None
        super().data_received(data)
        self._whole = None
        if self._answering is not None:
            self._answering = None
            if not self.transport.is_closing():
                self._replay(self._parts)

    def on_message_begin(self) -> None:
        """A request begins; whose it is shows when its head is complete."""
        self.begin_watch()
        self._between = False
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
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        keep_alive = self.parser.should_keep_alive()
        head = Head(answering, self.headers, len(body))
        if keep_alive and self._whole is not None:
            self._know(self._whole, head)
        self._between = True
        self._ask(head, body, Reply(self, keep_alive=keep_alive))

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
        if self.pipeline or self.flow.read_paused or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._rested_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        """ASGI has answered, or a pipelined request waits for it."""
        self._rested_s = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has rested for too long.

        Arming this anew costs more than looking, so a request does not disarm it.
        """
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return
        left_s = self._rested_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._look_again(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _look_again(self, after_s: float) -> None:
        handler = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(after_s, handler)

    def _is_known(self, data: bytes) -> bool:
        """Answer a whole request whose head is known; whether it was one."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        head = self.heads.get(data[:end])
        if head is None or len(data) != end + head.length or not self._is_free():
            return False
        self._in_head = False
        self._ask(head, data[end:], Reply(self, keep_alive=True))
        return True

    def _know(self, data: bytes, head: Head) -> None:
        """Keep the head of a request that came in one piece, with nothing behind it."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if len(data) != end + head.length or end > _LONGEST_HEAD:
            return
        if any(name == b"cookie" for name, _ in head.headers):
            return
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[data[:end]] = head

    def _ask(self, head: Head, body: bytes, reply: Reply) -> None:
        self._begun_s = None
        self.cycle = reply  # type: ignore[assignment]
        head.answering(head.headers, body, reply)

    def _is_free(self) -> bool:
        """Whether no request waits for its answer, nor an answer for its reader."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _is_plain(self) -> bool:
        """Whether a request to a busy route needs nothing that only ASGI gives."""
        parser, fields = self.parser, dict(self.headers)
        length = fields.get(b"content-length", b"")
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and self._is_free()
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
    own = {"request_s": request_s, "direct": routes, "heads": {}}
    return type("DirectProtocol", (DirectProtocol,), own)
