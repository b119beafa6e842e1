"""The routes of rules that have a name, and of scenarios."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from momentary.errors import DataError
from momentary.recommend.rules import Rules
from momentary.recommend.scenarios import merged
from momentary.serving.audit import AuditLog
from momentary.serving.engine import Engine
from momentary.serving.http import read_body
from momentary.serving.problems import Problem, undecodable, unfollowed
from momentary.serving.queries import HEADERS, answer, caller_of, path_id
from momentary.serving.rulebook import (
    RuleBook,
    RuleSetOut,
    RuleSetsOut,
    ScenarioOut,
    ScenariosOut,
)

if TYPE_CHECKING:
    from momentary.serving.team import Handler, Member

_LOGGER = logging.getLogger(__name__)
_LOOK_S = 0.5
"""Two looks after what other machines stored, so that a change counts within a second."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_RULES = msgspec.json.Decoder(Rules)
_WRITTEN = msgspec.json.Decoder(dict[str, Any])
_EMPTY = {"unknown": "empty"}


class RuleRoutes:
    """Shows, stores and deletes rules.

    Args:
        engine: Knows the catalogue that rules are checked against, and the time.
        book: Where they are kept.
        audit: Where changes are written down.
        limit_bytes: Largest body.
    """

    def __init__(
        self, engine: Engine, book: RuleBook, *, audit: AuditLog, limit_bytes: int
    ) -> None:
        self._engine = engine
        self._book = book
        self._audit = audit
        self._limit_bytes = limit_bytes
        self._changing = asyncio.Lock()
        self._member: Member | None = None
        self._watching: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """What a program may ask."""
        return [
            Route("/v1/rules", self.rule_sets, methods=["GET"]),
            Route("/v1/rules/{name}", self.rule_set, methods=["GET", "PUT", "DELETE"]),
            Route("/v1/scenarios", self.scenarios, methods=["GET"]),
        ]

    def start(self) -> None:
        """Follow what other machines change, from now on."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Follow no more."""
        if self._watching is not None:
            self._watching.cancel()

    def join(self, member: Member) -> None:
        """Tell the other workers of a service what changes."""
        self._member = member

    def handlers(self) -> dict[str, Handler]:
        """How the other workers' changes are followed."""
        return {"rules": self._follow}

    async def rule_sets(self, request: Request) -> Response:
        """List the rule sets."""
        caller_of(request).require("read")
        found = [self._shown(name) for name in self._book.names()]
        return answer(RuleSetsOut(rule_sets=found))

    async def scenarios(self, request: Request) -> Response:
        """List the scenarios, as the settings changed them."""
        caller_of(request).require("read")
        found = [
            ScenarioOut(name=name, **msgspec.structs.asdict(scenario))
            for name, scenario in sorted(self._book.scenarios.items())
        ]
        return answer(ScenariosOut(scenarios=found))

    async def rule_set(self, request: Request) -> Response:
        """Show, store or delete one rule set."""
        reads = request.method in ("GET", "HEAD")
        caller_of(request).require("read" if reads else "admin")
        name = path_id(request, "name")
        if request.method == "PUT":
            return await self._put(request, name)
        if not reads:
            async with self._changing:
                there = await asyncio.to_thread(self._book.delete, name)
            if not there:
                raise _missing(name)
            await self._changed()
            self._note(request, "delete_rules", name)
            return Response(status_code=204, headers=HEADERS)
        if name not in self._book.names():
            raise _missing(name)
        return answer(self._shown(name))

    async def _put(self, request: Request, name: str) -> Response:
        if not _NAME.fullmatch(name):
            detail = f"{name[:50]!r} is no name of rules; use letters, digits, dots and dashes."
            raise Problem(422, detail, field="name")
        body = await read_body(request.scope, request.receive, limit_bytes=self._limit_bytes)
        try:
            rules = _RULES.decode(body)
            written = _WRITTEN.decode(body)
        except (ValueError, RecursionError) as error:
            raise undecodable(error) from None
        if rules.unknown == "refuse":
            try:
                self._engine.recommender.check(rules)
            except DataError as error:
                raise unfollowed(error, within="") from None
        async with self._changing:
            new = await asyncio.to_thread(self._book.put, name, written)
        await self._changed()
        self._note(request, "put_rules", name)
        return answer(self._shown(name), status=201 if new else 200)

    async def _changed(self) -> None:
        if self._member is not None:
            await self._member.tell("rules")

    async def _follow(self, _what: bytes) -> bytes:
        await asyncio.to_thread(self._book.look)
        return b""

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await asyncio.to_thread(self._book.look)
            except Exception:
                # Whatever it was, the next change must be followed.
                _LOGGER.exception("what other machines stored could not be followed")

    def _shown(self, name: str) -> RuleSetOut:
        written = self._book.rules(name)
        mask = self._engine.recommender.mask(merged([written, _EMPTY]))
        return RuleSetOut(
            name=name,
            source=self._book.names()[name],
            rules=dict(written),
            items=int(mask.sum()),
        )

    def _note(self, request: Request, action: str, target: str) -> None:
        self._audit.record(caller_of(request), action, target, now_us=self._engine.now_us())


def _missing(name: str) -> Problem:
    return Problem(404, f"There is no rule set {name[:50]!r}; PUT it first.", field="name")
