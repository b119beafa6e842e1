"""What needs an admin's key: models, people who want to be forgotten, the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from momentary.data.erasure import Person, erase, erase_from_log, person_of
from momentary.data.events import Erased
from momentary.data.workspace import Workspace
from momentary.errors import MomentaryError
from momentary.models.artifact import ModelStore
from momentary.serving.audit import AuditLog
from momentary.serving.engine import Engine
from momentary.serving.http import read_body
from momentary.serving.measures import CONTENT_TYPE, labelled
from momentary.serving.models import AliasIn, Models
from momentary.serving.problems import Problem, undecodable
from momentary.serving.queries import HEADERS, answer, caller_of, path_id
from momentary.settings import ServeSettings

if TYPE_CHECKING:
    from momentary.serving.team import Handler, Member

_METRICS_S = 2.0
_ALIAS = msgspec.json.Decoder(AliasIn)


class Administration:
    """The routes of whoever runs the service.

    Args:
        engine: At work.
        workspace: Whose people and models.
        audit: Where actions are written down.
        settings: Limits, and how soon models must be trained anew after an erasure.
        now_us: The time now, in microseconds since 1970.
        models: The saved models.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        *,
        audit: AuditLog,
        settings: ServeSettings,
        now_us: Callable[[], int],
        models: Models,
    ) -> None:
        self._engine = engine
        self._workspace = workspace
        self._audit = audit
        self._settings = settings
        self._now_us = now_us
        self._store = ModelStore(workspace.models)
        self._models = models
        self._erasing = asyncio.Lock()
        self._member: Member | None = None

    def routes(self) -> list[Route]:
        """What an admin may ask."""
        return [
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{alias}", self.assign, methods=["PUT"]),
            Route("/v1/users/{user_id:path}", self.erase, methods=["DELETE"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    def join(self, member: Member) -> None:
        """Tell the other workers of a service what changes."""
        self._member = member

    def handlers(self) -> dict[str, Handler]:
        """How the other workers' changes are followed."""
        return {"model": self._follow_model, "forget": self._let_go, "metrics": self._counters}

    async def models(self, request: Request) -> Response:
        """List the saved models."""
        caller_of(request).require("admin")
        return answer(self._models.listed())

    async def assign(self, request: Request) -> Response:
        """Let an alias mean another model; `prod` answers from the next tick on."""
        caller = caller_of(request)
        caller.require("admin")
        body = await read_body(
            request.scope, request.receive, limit_bytes=self._settings.max_body_bytes
        )
        try:
            wanted = _ALIAS.decode(body).version
        except (ValueError, RecursionError) as error:
            raise undecodable(error) from None
        alias = request.path_params["alias"]
        found = await self._models.assign(alias, wanted)
        if self._member is not None:
            await self._member.tell("model", alias.encode())
        self._audit.record(caller, f"assign_{alias}", wanted, now_us=self._now_us())
        return answer(found)

    async def erase(self, request: Request) -> Response:
        """Delete everything that a user did; the answer is the receipt."""
        caller = caller_of(request)
        caller.require("admin")
        user_id = path_id(request, "user_id")
        async with self._erasing:
            try:
                person = await asyncio.to_thread(person_of, self._workspace, user_id)
                loop = asyncio.get_running_loop()

                def erase_log(of: Person) -> Erased:
                    # The log belongs to the event loop, and the rest takes longer than a tick may.
                    forgetting = self._engine.forget(partial(erase_from_log, person=of))
                    return asyncio.run_coroutine_threadsafe(forgetting, loop).result()

                receipt = await asyncio.to_thread(
                    erase,
                    self._workspace,
                    person,
                    erase_log=erase_log,
                    now_us=self._now_us(),
                    retrain_days=self._settings.retrain_days,
                    models=self._store.versions(),
                )
                if self._member is not None:
                    await self._member.tell("forget")
            except (MomentaryError, OSError) as error:
                detail = f"The erasure is not complete and goes on at the next start: {error}"
                raise Problem(503, detail, headers=((b"retry-after", b"10"),)) from None
        # The receipt stands for the person, whose id must be nowhere.
        self._audit.record(caller, "erase", receipt.receipt_id, now_us=self._now_us())
        return answer(receipt)

    async def metrics(self, request: Request) -> Response:
        """The counters, for Prometheus: of every worker."""
        caller_of(request).require("read")
        found = self._engine.measure()
        if self._member is not None:
            others = await self._member.tell("metrics", patience_s=_METRICS_S)
            found = labelled({self._member.index: found, **others})
        return Response(found, media_type=None, headers={**HEADERS, "content-type": CONTENT_TYPE})

    async def _follow_model(self, what: bytes) -> bytes:
        await self._models.follow(what.decode())
        return b""

    async def _let_go(self, _what: bytes) -> bytes:
        self._engine.let_go()
        return b""

    async def _counters(self, _what: bytes) -> bytes:
        return self._engine.measure()
