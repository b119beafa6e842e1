"""The few parts of HTTP that every route shares, on bare ASGI: body, answer, path, query."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

from momentary.serving.problems import Problem

Headers = tuple[tuple[bytes, bytes], ...]

SECURITY_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Sent with every answer that a program reads."""

MOST_ON_THE_WAY = 64_000_000
"""Bytes of bodies that a process holds before they are whole; one that comes at once is not one."""

JSON_HEADERS: Headers = ((b"content-type", b"application/json"), *SECURITY_HEADERS)
"""Of an answer in JSON, but for its length."""


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """The whole body of a request, refused as soon as it is known to exceed `limit_bytes`.

    Raises:
        Problem: 413 if it does; 429 while the bodies that are on their way fill `MOST_ON_THE_WAY`.
    """
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > limit_bytes:
        raise too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise too_large(limit_bytes)
    if message.get("more_body", False):
        return await _read_rest(body, receive, limit_bytes=limit_bytes)
    return body


async def send_json(send: Send, body: bytes, *, headers: Headers = ()) -> None:
    """Answer with JSON that is encoded already."""
    sent = [*JSON_HEADERS, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": sent})
    await send({"type": "http.response.body", "body": body})


async def send_empty(send: Send, *, headers: Headers) -> None:
    """Answer that there is nothing to say."""
    await send({"type": "http.response.start", "status": 204, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})


async def send_problem(send: Send, problem: Problem, *, headers: Headers = ()) -> None:
    """Answer with a refusal."""
    body = problem.body()
    length = (b"content-length", str(len(body)).encode())
    sent = [*problem_headers(problem), length, *headers]
    await send({"type": "http.response.start", "status": problem.status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


def problem_headers(problem: Problem) -> Headers:
    """Of a refusal, but for its length."""
    kind = (b"content-type", b"application/problem+json")
    return (kind, *SECURITY_HEADERS, *problem.headers)


@cache
def status_line(status: int) -> bytes:
    """The first line of an answer.

    >>> status_line(404).decode().split()
    ['HTTP/1.1', '404', 'Not', 'Found']
    """
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header called `name`, which is in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def encoded_path(scope: Scope) -> str:
    """The path as it was sent: a slash inside an id is still `%2F`, so ids keep their ends."""
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    return path if raw is None else raw.partition(b"?")[0].decode("latin-1")


def decoded(part: str, *, field: str) -> str:
    """One id from an encoded path."""
    try:
        text = unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        detail = f"{field} is not percent-encoded UTF-8; encode the id as UTF-8 first."
        raise Problem(400, detail, field=field) from None
    if not 1 <= len(text) <= 512:
        detail = f"{field} has {len(text)} characters; an id has 1 to 512."
        raise Problem(422, detail, field=field)
    if "\0" in text:
        raise Problem(422, f"{field} holds the character U+0000; leave it out.", field=field)
    return text


class _OnTheWay:
    """Bytes of the bodies of this process that have begun and are not whole."""

    def __init__(self) -> None:
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Hold more.

        Raises:
            Problem: 429 if that is too much; nothing is held.
        """
        if self.held_bytes + size > MOST_ON_THE_WAY:
            detail = "Too many large bodies are on their way; send this one again in a moment."
            headers = ((b"retry-after", b"1"), (b"connection", b"close"))
            raise Problem(429, detail, headers=headers)
        self.held_bytes += size


ON_THE_WAY = _OnTheWay()
"""One for the process, because its memory is what many slow senders would fill."""


async def _read_rest(start: bytes, receive: Receive, *, limit_bytes: int) -> bytes:
    ON_THE_WAY.take(len(start))
    parts = [start]
    size = len(start)
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                detail = "The connection closed before the body was complete; send again."
                raise Problem(400, detail)
            part = message.get("body", b"")
            if size + len(part) > limit_bytes:
                raise too_large(limit_bytes)
            ON_THE_WAY.take(len(part))
            parts.append(part)
            size += len(part)
            if not message.get("more_body", False):
                return b"".join(parts)
    finally:
        ON_THE_WAY.held_bytes -= size


def too_large(limit_bytes: int) -> Problem:
    """The refusal of a body that exceeds `limit_bytes`."""
    detail = (
        f"The body is larger than {limit_bytes} bytes; send less at once, or raise "
        "serve.max_body_bytes (serve.max_media_bytes for pictures and sounds)."
    )
    return Problem(413, detail, headers=((b"connection", b"close"),))
