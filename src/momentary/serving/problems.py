"""Refusals as RFC 9457 problem details: what is wrong, where, and the remedy."""

from __future__ import annotations

import http
import re

import msgspec

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<place>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")
_REMEDIES = {
    "event_type": "Use one of the event types that /docs lists.",
    "timestamp": "Give an ISO 8601 time, or seconds or milliseconds since 1970.",
    "k": "Ask for 1 to 100 items.",
    "rules": "See Rules in /openapi.json.",
}
_OTHERWISE = "See the schema in /openapi.json."


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal, as `application/problem+json` (RFC 9457).

    Attributes:
        status: The HTTP status again.
        detail: What is wrong and how to mend it.
        field: Where in the request, such as `[3].event_type`.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    field: str | None = None


class Problem(Exception):
    """A request that is refused; `detail` says how to mend it.

    Args:
        status: The HTTP status, 400 or above.
        detail: What is wrong and the remedy, in whole sentences.
        field: Where in the request the fault is.
        headers: Headers that the answer needs, such as `allow`.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers

    def body(self) -> bytes:
        """The problem as JSON."""
        details = ProblemDetails(
            title=http.HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            field=self.field,
        )
        return msgspec.json.encode(details)


def undecodable(error: ValueError | RecursionError) -> Problem:
    """The problem with a body that could not be read: 400 if it is no JSON, otherwise 422.

    >>> undecodable(msgspec.ValidationError("Expected `int` - at `$.k`")).field
    'k'
    """
    if isinstance(error, RecursionError):
        return Problem(400, "The body is nested too deeply; flatten it.")
    if not isinstance(error, msgspec.ValidationError):
        return Problem(400, f"The body is not JSON in UTF-8 ({_short(error)}); check its syntax.")
    match = _PLACE.match(str(error))
    what, place = (match["what"], match["place"] or "") if match else (str(error), "")
    named = _NAMED.search(what)
    field = (place + (f".{named[1]}" if named else "")).lstrip(".") or None
    last = (field or "").rpartition(".")[2]
    detail = f"{field or 'The body'}: {what.rstrip('.')}. {_REMEDIES.get(last, _OTHERWISE)}"
    return Problem(422, detail, field=field)


def _short(error: ValueError) -> str:
    return str(error)[:200].rstrip(".")
