"""Refusals as RFC 9457 problem details: what is wrong, where, and the remedy."""

from __future__ import annotations

import http
import re

import msgspec

from momentary.errors import DataError
from momentary.recommend.expressions import ExpressionError

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<place>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")
_REMEDIES = {
    "event_type": "Use one of the event types that /docs lists.",
    "timestamp": "Give an ISO 8601 time, or seconds or milliseconds since 1970.",
    "k": "Ask for 1 to 100 items.",
    "shape": "Use rise, fall, arch or valley.",
    "likeness": "Use auto, learned or plain.",
    "rules": "See Rules in /openapi.json.",
}
_OTHERWISE = "See the schema in /openapi.json."


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal, as `application/problem+json` (RFC 9457).

    Attributes:
        status: The HTTP status again.
        detail: What is wrong and how to mend it.
        field: Where in the request, such as `[3].event_type`.
        line: In a condition of rules, the line of the fault, from 1.
        column: In that line, from 1.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    field: str | None = None
    line: int | None = None
    column: int | None = None


class Problem(Exception):
    """A request that is refused; `detail` says how to mend it.

    Args:
        status: The HTTP status, 400 or above.
        detail: What is wrong and the remedy, in whole sentences.
        field: Where in the request the fault is.
        headers: Headers that the answer needs, such as `allow`.
        place: Line and column in a condition, from 1.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        place: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers
        self.place = place

    def body(self) -> bytes:
        """The problem as JSON."""
        details = ProblemDetails(
            title=http.HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            field=self.field,
            line=None if self.place is None else self.place[0],
            column=None if self.place is None else self.place[1],
        )
        return msgspec.json.encode(details)


def undecodable(error: ValueError | RecursionError | msgspec.MsgspecError) -> Problem:
    """The problem with a body that could not be read: 400 if it is no JSON, otherwise 422.

    >>> undecodable(msgspec.ValidationError("Expected `int` - at `$.k`")).field
    'k'
    """
    if isinstance(error, RecursionError):
        return Problem(400, "The body is nested too deeply; flatten it.")
    if not isinstance(error, msgspec.ValidationError):
        return Problem(400, f"The body is not JSON in UTF-8 ({_short(error)}); check its syntax.")
    if isinstance(error.__cause__, ExpressionError):
        place = str(error).rpartition("`$.")[2].rstrip("`") if "`$." in str(error) else ""
        return unfollowed(error.__cause__, within=place)
    match = _PLACE.match(str(error))
    what, place = (match["what"], match["place"] or "") if match else (str(error), "")
    named = _NAMED.search(what)
    field = (place + (f".{named[1]}" if named else "")).lstrip(".") or None
    last = (field or "").rpartition(".")[2]
    detail = f"{field or 'The body'}: {what.rstrip('.')}. {_REMEDIES.get(last, _OTHERWISE)}"
    return Problem(422, detail, field=field)


def unfollowed(error: DataError, *, within: str = "rules") -> Problem:
    """The problem with rules that cannot be followed: 422, with the place in the condition.

    Args:
        error: What is wrong.
        within: Where in the request the rules stand, "" if they are all of it.
    """
    if not isinstance(error, ExpressionError):
        return Problem(422, str(error), field=within or None)
    field = ".".join(part for part in (within, error.where) if part)
    return Problem(422, str(error), field=field, place=(error.line, error.column))


def _short(error: Exception) -> str:
    return str(error)[:200].rstrip(".")
