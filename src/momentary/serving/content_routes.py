"""The routes of what items look, read and sound like."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from momentary.data.catalog import Catalog
from momentary.errors import DataError
from momentary.recommend.playlist import PlaylistConfig
from momentary.recommend.rules import DEFAULT_RULES, Rules
from momentary.recommend.walks import Walk
from momentary.serving.content import LiveContent
from momentary.serving.engine import Engine
from momentary.serving.http import read_body
from momentary.serving.looking import Seen
from momentary.serving.problems import Problem, undecodable, unfollowed
from momentary.serving.queries import answer, caller_of, path_id
from momentary.serving.ruled import CANDIDATES, ruled
from momentary.serving.schemas import (
    ItemOut,
    Likeness,
    ListOut,
    PictureIn,
    PlaylistIn,
    PlaylistOut,
    SoundIn,
    View,
)
from momentary.serving.wishes import Wishes, without_chance
from momentary.settings import ServeSettings
from momentary.types import Recommendation

Wire = TypeVar("Wire")

_PICTURE = msgspec.json.Decoder(PictureIn)
_SOUND = msgspec.json.Decoder(SoundIn)
_PLAYLIST = msgspec.json.Decoder(PlaylistIn)
_SLACK_BYTES = 10_000


def upload_limit_bytes(settings: ServeSettings) -> int:
    """Largest body that may hold a picture or a sound: base64 takes four bytes for three."""
    return max(settings.max_body_bytes, settings.max_media_bytes * 4 // 3 + _SLACK_BYTES)


class ContentRoutes:
    """Search by a picture or a sound, playlists, and what was seen of an item.

    Args:
        engine: Knows the model at work.
        content: Does the work.
        wishes: Reads what is asked for.
        catalog: Names the items.
        settings: Limits of a request.
    """

    def __init__(
        self,
        engine: Engine,
        content: LiveContent,
        *,
        wishes: Wishes,
        catalog: Catalog,
        settings: ServeSettings,
    ) -> None:
        self._engine = engine
        self._content = content
        self._wishes = wishes
        self._catalog = catalog
        self._settings = settings

    def routes(self) -> list[Route]:
        """What a program may ask."""
        return [
            Route("/v1/search/picture", self.by_picture, methods=["POST"]),
            Route("/v1/search/sound", self.by_sound, methods=["POST"]),
            Route("/v1/playlists", self.playlist, methods=["POST"]),
            Route("/v1/items/{item_id:path}/content", self.of_item, methods=["GET"]),
        ]

    async def by_picture(self, request: Request) -> Response:
        """What looks like a picture that is sent."""
        wire, body = await self._read(request, _PICTURE, uploads=True)
        rules = self._wishes.rules_of(wire.rules, wire.rule_sets, body)
        seen = await self._content.see("image", wire.picture, field="picture")
        return await self._alike(seen, wire, rules=rules, field="picture")

    async def by_sound(self, request: Request) -> Response:
        """What sounds like a clip that is sent."""
        wire, body = await self._read(request, _SOUND, uploads=True)
        rules = self._wishes.rules_of(wire.rules, wire.rule_sets, body)
        seen = await self._content.see("audio", wire.sound, field="sound")
        return await self._alike(seen, wire, rules=rules, field="sound")

    async def playlist(self, request: Request) -> Response:
        """An ordered list from one item, or from one to another."""
        wire, body = await self._read(request, _PLAYLIST)
        rules = wire.rules
        if wire.rule_sets:
            rules = self._wishes.rules_of(wire.rules, wire.rule_sets, body)
        rules = without_chance(rules)
        for field, item_id in (("start", wire.start), ("end", wire.end)):
            if self._content.on and item_id is not None and not self._content.has(item_id):
                detail = f"Item {item_id!r} has no content here: encode it, or PUT it."
                raise Problem(422, detail, field=field)
        try:
            made = await self._content.walk(_walk(wire, rules))
        except DataError as error:
            raise unfollowed(error, within="") from None
        return answer(
            PlaylistOut(
                model_version=self._engine.model_version,
                items=self._named(made.items),
                smoothness=round(made.smoothness, 6),
                spread=round(made.spread, 6),
            )
        )

    async def of_item(self, request: Request) -> Response:
        """What was seen of an item, and what could not be used."""
        caller_of(request).require("read")
        item_id = path_id(request, "item_id")
        if self._catalog.get(item_id) is None:
            raise Problem(404, f"There is no item {item_id!r}: PUT it first.", field="item_id")
        return answer(self._content.of_item(item_id))

    async def similar(
        self, item_id: str, *, k: int, rules: Rules, likeness: Likeness, by: View | None
    ) -> Response:
        """Items like one, with what makes them so."""
        parts = self._content.parts_of(item_id)
        if by is None:
            how = self._content.likeness(likeness, parts)
        elif likeness == "learned":
            raise Problem(422, "One view alone leaves out what was learned.", field="likeness")
        elif by not in parts:
            detail = f"Item {item_id!r} has no {by}; it has {', '.join(parts)}."
            raise Problem(422, detail, field="by")
        else:
            how = "plain"
        plain = how == "plain"
        try:
            found = await self._content.similar(item_id, k=k, rules=rules, plain=plain, by=by)
        except DataError as error:
            raise unfollowed(error) from None
        items = self._named(found)
        version = self._engine.model_version
        return answer(ListOut(model_version=version, items=items, likeness=how))

    async def _alike(
        self, seen: Seen, wire: PictureIn | SoundIn, *, rules: Rules, field: str
    ) -> Response:
        k, how = wire.k, self._content.likeness(wire.likeness, seen.vectors)
        # So many are found before the rules choose among them.
        many = k if rules == DEFAULT_RULES else CANDIDATES
        found = await self._content.like_this(seen, k=many, field=field, plain=how == "plain")
        table = await asyncio.to_thread(self._catalog.table, [each.item_id for each in found])
        try:
            shown = ruled(found, table, k=k, rules=without_chance(rules))
        except DataError as error:
            raise unfollowed(error) from None
        items = self._named(shown)
        version = self._engine.model_version
        return answer(ListOut(model_version=version, items=items, likeness=how))

    async def _read(
        self, request: Request, decoder: msgspec.json.Decoder[Wire], *, uploads: bool = False
    ) -> tuple[Wire, bytes]:
        """What a body says, and the body: it tells what was left out from what is usual."""
        caller_of(request).require("read")
        limit_bytes = self._settings.max_body_bytes
        if uploads and self._content.on:
            limit_bytes = upload_limit_bytes(self._settings)
        body = await read_body(request.scope, request.receive, limit_bytes=limit_bytes)
        try:
            return decoder.decode(body), body
        except (ValueError, RecursionError) as error:
            raise undecodable(error) from None

    def _named(self, found: Sequence[Recommendation]) -> list[ItemOut]:
        names = self._catalog.table([each.item_id for each in found]).names
        return [
            ItemOut(
                item_id=each.item_id,
                score=each.score,
                rank=each.rank,
                reasons=each.reasons,
                name=name,
            )
            for each, name in zip(found, names, strict=True)
        ]


def _walk(wire: PlaylistIn, rules: Rules) -> Walk:
    return Walk(
        start=wire.start,
        end=wire.end,
        apart=wire.apart,
        curve=None if wire.curve is None else (wire.curve.of, wire.curve.shape),
        rules=rules,
        config=PlaylistConfig(length=wire.length, smoothness=wire.smoothness, spread=wire.spread),
    )
