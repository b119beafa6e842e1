"""Lists that need no visit: popular, trending, bought together, and what somebody types."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from momentary.data.baskets import Companion, bought_together
from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.errors import DataError
from momentary.recommend.finding import fused_hits
from momentary.recommend.search import TextIndex
from momentary.recommend.trends import BEFORE_DAYS, DAY_US, RECENT_DAYS, popular, trending
from momentary.serving.content import LiveContent
from momentary.serving.engine import Engine
from momentary.serving.problems import Problem, unfollowed
from momentary.serving.queries import answer, caller_of, likeness_of, path_id
from momentary.serving.ranking import Wish
from momentary.serving.ruled import CANDIDATES, ruled
from momentary.serving.schemas import Likeness, ListOut
from momentary.serving.wishes import Wishes, without_chance
from momentary.types import FloatArray, Item, Recommendation, Sessions

_FRESH_S = 10.0
_KEPT_ANSWERS = 1_000
_LONGEST_QUERY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trend:
    """What is wanted, and how often it was.

    Attributes:
        made_s: When events were counted, by a clock that never goes back.
        counts: Events by item in the last `days`.
        before: Events by item in the days before those, where they count.
        items: What `scores` are of.
        learned: Whether nothing happened, so that what the model learned from says.
    """

    made_s: float
    counts: Mapping[str, int]
    before: Mapping[str, int]
    days: int
    items: Vocabulary
    scores: FloatArray
    learned: bool = False

    def reasons(self, item_id: str) -> tuple[str, ...]:
        if self.learned:
            return ("popular in what the model learned from",)
        count = self.counts.get(item_id, 0)
        times = "once" if count == 1 else f"{count:,} times"
        when = "day" if self.days == 1 else f"{self.days} days"
        return (f"wanted {times} in the last {when}",)


class Discovery:
    """The routes of lists that need no visit.

    Args:
        engine: Knows the model, the catalogue's facts and the time.
        workspace: Whose events and items count.
        wishes: Makes the rules of a list from its query string.
        clock_s: Seconds that never go back.
        content: Knows what texts mean, where a sentence encoder has seen the catalogue.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        *,
        wishes: Wishes,
        clock_s: Callable[[], float],
        content: LiveContent,
    ) -> None:
        self._content = content
        self._engine = engine
        self._wishes = wishes
        self._workspace = workspace
        self._clock_s = clock_s
        self._trends: dict[str, _Trend] = {}
        self._companions: OrderedDict[str, tuple[float, list[Companion]]] = OrderedDict()
        self._index: TextIndex | None = None
        self._indexing = asyncio.Lock()
        self._meanwhile: dict[str, Item | None] | None = None
        """What changed since the index that is being made began to read."""

    def routes(self) -> list[Route]:
        """What a program may ask."""
        return [
            Route("/v1/popular", self.popular, methods=["GET"]),
            Route("/v1/trending", self.trending, methods=["GET"]),
            Route("/v1/items/{item_id:path}/together", self.together, methods=["GET"]),
            Route("/v1/search", self.search, methods=["GET"]),
        ]

    def changed(self, item_id: str, item: Item | None) -> None:
        """Let the next search know an item as the catalogue does now; None if it is gone."""
        if self._meanwhile is not None:
            self._meanwhile[item_id] = item
        if self._index is not None:
            _know(self._index, item_id, item)

    def changed_much(self) -> None:
        """Let the next search read the catalogue anew."""
        self.close()
        self._index = self._meanwhile = None

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()

    async def popular(self, request: Request) -> Response:
        """What most visitors wanted in the last week."""
        return await self._trend(request, "popular")

    async def trending(self, request: Request) -> Response:
        """What is wanted more in the last day than the week before would lead to expect."""
        return await self._trend(request, "trending")

    async def together(self, request: Request) -> Response:
        """What is bought with one item."""
        caller_of(request).require("read")
        item_id, wish = path_id(request, "item_id"), self._wishes.of_query(request)
        now_s = self._clock_s()
        made_s, companions = self._companions.get(item_id, (float("-inf"), []))
        if now_s - made_s > _FRESH_S:
            companions = await asyncio.to_thread(
                bought_together, self._workspace, item_id, limit=CANDIDATES
            )
            self._companions[item_id] = (now_s, companions)
            while len(self._companions) > _KEPT_ANSWERS:
                self._companions.popitem(last=False)
        found = [
            Recommendation(
                item_id=each.item_id,
                score=each.lift,
                rank=rank,
                reasons=(f"bought together in {each.baskets:,} baskets",),
            )
            for rank, each in enumerate(companions, start=1)
        ]
        return await self._arranged(found, wish, explain=True)

    async def search(self, request: Request) -> Response:
        """What fits the words that somebody types; items that no model knows are found, too."""
        caller_of(request).require("read")
        wish = self._wishes.of_query(request, more=("q", "likeness"))
        likeness = likeness_of(request)
        text = request.query_params.get("q", "")
        if not text.strip() or len(text) > _LONGEST_QUERY:
            detail = f"q has {len(text)} characters; search for 1 to {_LONGEST_QUERY}."
            raise Problem(422, detail, field="q")
        index = await self._indexed()
        words = index.search(text, limit=CANDIDATES)
        found, how = await self._found(text, words, k=CANDIDATES, likeness=likeness)
        return await self._arranged(found, wish, explain=wish.explain, likeness=how)

    async def _arranged(
        self,
        found: list[Recommendation],
        wish: Wish,
        *,
        explain: bool,
        likeness: Literal["learned", "plain"] | None = None,
    ) -> Response:
        """What the rules let through of a list, as the catalogue knows its items now."""
        ids = [each.item_id for each in found]
        table = await asyncio.to_thread(self._workspace.catalog.table, ids)
        try:
            listed = ruled(found, table, k=wish.k, rules=without_chance(wish.rules))
        except DataError as error:
            raise unfollowed(error) from None
        names = dict(zip(ids, table.names, strict=True))
        if not explain:
            listed = [msgspec.structs.replace(each, reasons=()) for each in listed]
        items = [
            # The model's table may still name an item that the catalogue does not.
            msgspec.structs.replace(each, name=names[each.item_id] or each.name)
            for each in self._engine.named(listed)
        ]
        version = self._engine.model_version
        return answer(ListOut(model_version=version, items=items, likeness=likeness))

    async def _found(
        self, text: str, words: list[tuple[str, float]], *, k: int, likeness: Likeness
    ) -> tuple[list[Recommendation], Literal["learned", "plain"] | None]:
        """Hits by words, and by meaning where that is at work, and how that was compared."""
        how = self._content.likeness(likeness, ["text"])
        meaning: list[str] = []
        if self._content.on:
            meaning = await self._content.by_meaning(text, k=k, plain=how == "plain")
        if meaning:
            return fused_hits(meaning, words, k=k), how
        if likeness == "learned":
            detail = "No sentence encoder is at work, so texts are found by their words alone."
            raise Problem(422, detail, field="likeness")
        found = [
            Recommendation(item_id=item_id, score=score, rank=rank, reasons=("holds the words",))
            for rank, (item_id, score) in enumerate(words, start=1)
        ]
        return found, None

    async def _indexed(self) -> TextIndex:
        """The index of the catalogue as it is now, whatever changes while it is being made."""
        async with self._indexing:
            while self._index is None:
                meanwhile: dict[str, Item | None] = {}
                self._meanwhile = meanwhile
                try:
                    made = await asyncio.to_thread(TextIndex, self._workspace.catalog.items())
                finally:
                    still, self._meanwhile = self._meanwhile is meanwhile, None
                if not still:
                    made.close()  # so much changed that it was made in vain
                    continue
                for item_id, item in meanwhile.items():
                    _know(made, item_id, item)
                self._index = made
            return self._index

    async def _trend(self, request: Request, name: str) -> Response:
        caller_of(request).require("read")
        wish = self._wishes.of_query(request)
        trend = await self._current(name)
        # From here to the list nothing is waited for, so that one model makes all of it.
        recommender = self._engine.recommender
        scores = trend.scores
        rules = without_chance(wish.rules)
        k = min(wish.k, int(np.count_nonzero(scores)))
        if k == 0:
            return self._list([])
        # A boost lifts what is wanted; it does not make wanted what is not.
        wanted = np.where(scores > 0, scores, np.float32(-np.inf))[None]
        nobody = Sessions.from_lists([[]])
        try:
            (listed,) = recommender.rank_scores(wanted, nobody, k=k, rules=rules, explain=False)
        except DataError as error:
            raise unfollowed(error) from None
        kept = [each for each in listed if each.score > float("-inf")]
        return self._list(
            [
                msgspec.structs.replace(
                    each, rank=rank, reasons=trend.reasons(each.item_id) if wish.explain else ()
                )
                for rank, each in enumerate(kept, start=1)
            ]
        )

    async def _current(self, name: str) -> _Trend:
        """What is wanted, over the items of the model that is at work on return."""
        now_s = self._clock_s()
        trend = self._trends.get(name)
        if trend is None or now_s - trend.made_s > _FRESH_S:
            counts, before = await self._counted(name)
            days = BEFORE_DAYS if name == "popular" else RECENT_DAYS
            trend = self._scored(name, counts, before, made_s=now_s, days=days)
        elif trend.items is not self._engine.recommender.items:
            # Another model came to work, or new items did; what happened is counted already.
            trend = self._scored(
                name, trend.counts, trend.before, made_s=trend.made_s, days=trend.days
            )
        self._trends[name] = trend
        return trend

    async def _counted(self, name: str) -> tuple[dict[str, int], dict[str, int]]:
        """Events by item that make a trend, and those of the days before."""
        count, now_us = self._engine.counts, self._engine.now_us()
        if name == "popular":
            return await asyncio.to_thread(count, now_us - BEFORE_DAYS * DAY_US, now_us), {}
        start_us = now_us - RECENT_DAYS * DAY_US
        recent = await asyncio.to_thread(count, start_us, now_us)
        return recent, await asyncio.to_thread(count, start_us - BEFORE_DAYS * DAY_US, start_us)

    def _scored(
        self,
        name: str,
        counts: Mapping[str, int],
        before: Mapping[str, int],
        *,
        made_s: float,
        days: int,
    ) -> _Trend:
        """A trend over the items of the model at work."""
        items = self._engine.recommender.items
        if name == "popular":
            scores = popular(counts, items=items)
        else:
            scores = trending(counts, before, items=items)
        learned = name == "popular" and not scores.any()
        return _Trend(
            made_s=made_s,
            counts=counts,
            before=before,
            days=days,
            items=items,
            scores=self._engine.popularity if learned else scores,
            learned=learned,
        )

    def _list(self, found: list[Recommendation]) -> Response:
        return answer(
            ListOut(model_version=self._engine.model_version, items=self._engine.named(found))
        )


def _know(index: TextIndex, item_id: str, item: Item | None) -> None:
    """Let an index know an item; None if it is gone."""
    if item is None:
        index.remove(item_id)
    else:
        index.put(item)
