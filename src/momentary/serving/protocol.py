"""Connections that send too much head, or too slowly, are closed before they cost anything.

uvicorn's protocol reads heads of any length and waits for a request for ever; what the application
limits, it sees only afterwards.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 65_536
"""Of a request line and its headers."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's, for clients that mean harm.

    Attributes:
        request_s: From the first byte of a request, or from the start of the connection, to the
            last byte of the request's body.
    """

    request_s: ClassVar[float] = 30.0

    _head_bytes = 0
    _in_head = True
    _begun_s: float | None = None
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch it."""
        super().connection_made(transport)
        self._begun_s = self.loop.time()
        self._watch = self.loop.call_later(self.request_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching it."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is too long by now."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self._refuse("431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.begin_watch()

    def begin_watch(self) -> None:
        """Count the bytes of a head and the time of a request from here on."""
        self._head_bytes, self._in_head = 0, True
        self._begun_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is complete."""
        self._begun_s = None
        super().on_message_complete()

    def _look(self) -> None:
        """Close a connection whose request is late; look again when the next one could be."""
        waited_s = 0.0 if self._begun_s is None else self.loop.time() - self._begun_s
        if waited_s >= self.request_s and not self.transport.is_closing():
            self._watch = None
            self._refuse("408 Request Timeout")
            return
        self._watch = self.loop.call_later(self.request_s - waited_s, self._look)

    def _refuse(self, status: str) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()


def guarded(request_s: float) -> type[GuardedProtocol]:
    """The protocol with a limit of its own."""
    return type("GuardedProtocol", (GuardedProtocol,), {"request_s": request_s})
