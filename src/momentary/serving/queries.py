"""What a query string asks for, and answers for Starlette's routes."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from momentary.serving.access import Caller
from momentary.serving.http import SECURITY_HEADERS, decoded
from momentary.serving.problems import Problem
from momentary.serving.ranking import Wish
from momentary.serving.schemas import Likeness, View

HEADERS = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
_NUMBER = re.compile(r"[0-9]{1,9}")
_ENCODE = msgspec.json.Encoder().encode
_EXPLAIN = {"true": True, "1": True, "false": False, "0": False}


def caller_of(request: Request) -> Caller:
    """Who asks, as the application found out."""
    caller: Caller = request.scope["caller"]
    return caller


def path_id(request: Request, field: str) -> str:
    """One id from the path, decoded."""
    return decoded(request.path_params[field], field=field)


def wish_of(request: Request, *, more: tuple[str, ...] = ()) -> Wish:
    """The `k` and `explain` of a query string.

    Args:
        request: Whose.
        more: Other parameters that may stand there.

    Raises:
        Problem: 422 for a parameter that is unknown or has a value that cannot work.
    """
    query = request.query_params
    known = ("k", "explain", *more)
    for name in query:
        if name not in known:
            detail = f"{name[:50]!r} is no parameter; use {' or '.join(known)}."
            raise Problem(422, detail, field=name[:50])
    k = query.get("k", "20")
    if not _NUMBER.fullmatch(k) or not 1 <= int(k) <= 100:
        raise Problem(422, f"k is {k[:50]!r}; ask for 1 to 100 items.", field="k")
    explain = query.get("explain", "false")
    if explain not in _EXPLAIN:
        detail = f"explain is {explain[:50]!r}; use true or false."
        raise Problem(422, detail, field="explain")
    return Wish(k=int(k), explain=_EXPLAIN[explain])


def likeness_of(request: Request) -> Likeness:
    """How contents are to be compared.

    Raises:
        Problem: 422 for anything else.
    """
    wanted = request.query_params.get("likeness", "auto")
    for known in get_args(Likeness):
        if wanted == known:
            return known  # type: ignore[no-any-return]
    detail = f"likeness is {wanted[:50]!r}; use {', '.join(get_args(Likeness))}."
    raise Problem(422, detail, field="likeness")


def view_of(request: Request) -> View | None:
    """The view by which alone contents are to be compared, if one is.

    Raises:
        Problem: 422 for anything else.
    """
    wanted = request.query_params.get("by")
    for known in get_args(View):
        if wanted == known:
            return known  # type: ignore[no-any-return]
    if wanted is None:
        return None
    detail = f"by is {wanted[:50]!r}; use {', '.join(get_args(View))}."
    raise Problem(422, detail, field="by")


def answer(value: object, *, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(
        _ENCODE(value), status_code=status, media_type="application/json", headers=HEADERS
    )
