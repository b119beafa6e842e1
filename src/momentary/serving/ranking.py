"""Questions to lists: one product for all that wait, popularity where the model fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from momentary.errors import DataError, SettingsError
from momentary.models.protocol import Incremental
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import DEFAULT_RULES, Rules
from momentary.recommend.scenarios import Scorer, alike
from momentary.serving.problems import Problem, unfollowed
from momentary.serving.state import Visit
from momentary.types import FloatArray, IntArray, ItemTable, Recommendation, Sessions

MODEL = "model"
FALLBACK = "fallback"
"""The arms that an answer can name."""

_LOGGER = logging.getLogger(__name__)
_SCORES_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one list has to be like: its length, its rules, reasons, and what scores it."""

    k: int
    rules: Rules = DEFAULT_RULES
    explain: bool = False
    scorer: Scorer = "model"

    def group(self) -> bytes:
        """Equal for wishes that one call of the recommender can fulfil."""
        if self.rules is DEFAULT_RULES and self.scorer == "model":
            return b"%d,%d" % (self.k, self.explain)
        wanted = (self.k, self.explain, self.scorer, self.rules)
        return msgspec.json.encode(wanted, order="deterministic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A list, the arm that made it, and the visit with the hidden state that is now known."""

    items: list[Recommendation]
    variant: str
    visit: Visit


class Ranking:
    """One model at work, and the one that steps in for it.

    Args:
        recommender: Answers.
        fallback: Answers instead when the model raises or its scores are no numbers.
        model_version: Names the model in answers and exposures.
        max_history: Latest clicks that a model reads which reads visits whole.

    Raises:
        SettingsError: The fallback's items are not the model's.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        fallback: Recommender | None,
        model_version: str,
        max_history: int,
    ) -> None:
        if fallback is not None and fallback.items != recommender.items:
            raise SettingsError(
                f"the fallback has {len(fallback.items)} items that differ from the model's "
                f"{len(recommender.items)}; fit it on the same vocabulary."
            )
        self.recommender = recommender
        self.model_version = model_version
        self._fallback = fallback
        self._max_history = max_history
        scorer = recommender.scorer
        self._incremental = scorer if isinstance(scorer, Incremental) else None
        self._rng = np.random.default_rng()

    def with_table(self, table: ItemTable) -> Ranking:
        """The same models over other facts of their items."""
        fallback = None if self._fallback is None else self._fallback.with_table(table)
        return Ranking(
            self.recommender.with_table(table),
            fallback=fallback,
            model_version=self.model_version,
            max_history=self._max_history,
        )

    def popularity(self) -> FloatArray:
        """What the fallback, or else the model, says of an empty visit. Shape (items,)."""
        scorer = (self._fallback or self.recommender).scorer
        scores: FloatArray = scorer.score(Sessions.from_lists([[]]))[0]
        return scores

    def answer(self, visits: Sequence[Visit], wishes: Sequence[Wish]) -> list[Ranked | Problem]:
        """One list, or the reason for refusing it, per visit."""
        # Larger products than this leave the processor's cache and gain nothing.
        step = max(1, _SCORES_AT_ONCE // max(1, len(self.recommender.items)))
        found: list[Ranked | Problem] = []
        for start in range(0, len(visits), step):
            part = slice(start, start + step)
            found.extend(self._answer_part(list(visits[part]), wishes[part]))
        return found

    def _answer_part(self, visits: list[Visit], wishes: Sequence[Wish]) -> list[Ranked | Problem]:
        scores: FloatArray | None = None
        try:
            scores, visits = self._score(visits)
        except Exception:
            _LOGGER.exception("model %s failed to score", self.model_version)
        found: dict[int, Ranked | Problem] = {}
        for rows in _groups(wishes):
            chosen = [visits[row] for row in rows]
            part = scores if scores is None or len(rows) == len(visits) else scores[rows]
            ranked = self._rank(part, chosen, wishes[rows[0]])
            found.update(zip(rows, ranked, strict=True))
        return [found[row] for row in range(len(visits))]

    def _score(self, visits: list[Visit]) -> tuple[FloatArray, list[Visit]]:
        if self._incremental is None:
            return self.recommender.scorer.score(_sessions(visits, self._max_history)), visits
        states = _advanced(self._incremental, visits)
        known = [
            replace(visit, hidden=state.copy(), pending=())
            for visit, state in zip(visits, states, strict=True)
        ]
        return self._incremental.score_states(states), known

    def _rank(
        self, scores: FloatArray | None, visits: list[Visit], wish: Wish
    ) -> Sequence[Ranked | Problem]:
        sessions = _sessions(visits)
        if scores is not None:
            try:
                lists = self.recommender.rank_scores(
                    self._rescored(scores, sessions, wish.scorer),
                    sessions,
                    k=wish.k,
                    rules=wish.rules,
                    explain=wish.explain,
                    rng=self._rng,
                )
                return _ranked(lists, visits, variant=MODEL)
            except DataError as error:
                return [_refusal(error) for _ in visits]
            except Exception:
                _LOGGER.exception("model %s failed to rank", self.model_version)
        return self._fall_back(sessions, visits, wish)

    def _rescored(self, scores: FloatArray, sessions: Sessions, scorer: Scorer) -> FloatArray:
        """The scores that a wish asks for, made from the model's where it has to do with them."""
        if scorer == "similar":
            reasons = self.recommender.reasons
            return alike(scores, sessions, None if reasons is None else reasons.related)
        if scorer == "popular":
            return np.broadcast_to(self.popularity(), scores.shape)
        return scores

    def _fall_back(
        self, sessions: Sessions, visits: list[Visit], wish: Wish
    ) -> Sequence[Ranked | Problem]:
        if self._fallback is not None:
            _LOGGER.warning("the fallback answers %d requests", len(visits))
            try:
                lists = self._fallback.recommend(
                    sessions,
                    k=wish.k,
                    rules=wish.rules,
                    explain=wish.explain,
                    rng=self._rng,
                )
                return _ranked(lists, visits, variant=FALLBACK)
            except DataError as error:
                return [_refusal(error) for _ in visits]
            except Exception:
                _LOGGER.exception("the fallback failed too")
        return [_unavailable() for _ in visits]


def _unavailable() -> Problem:
    detail = (
        "The model failed and nothing stands in for it; the server's log says why. Try again later."
    )
    return Problem(503, detail, headers=((b"retry-after", b"1"),))


def _refusal(error: DataError) -> Problem:
    return unfollowed(error)


def _ranked(
    lists: list[list[Recommendation]], visits: list[Visit], *, variant: str
) -> list[Ranked]:
    # JSON has no word for these, and no order is true of them.
    if not all(math.isfinite(each.score) for items in lists for each in items):
        raise ValueError("a score is not finite; look for an exploded training.")
    return [
        Ranked(items=items, variant=variant, visit=visit)
        for items, visit in zip(lists, visits, strict=True)
    ]


def _groups(wishes: Sequence[Wish]) -> Iterator[list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, wish in enumerate(wishes):
        rows.setdefault(wish.group(), []).append(row)
    yield from rows.values()


def _sessions(visits: Sequence[Visit], most: int | None = None) -> Sessions:
    last = slice(None) if most is None else slice(-most, None)
    return Sessions.from_lists(
        [visit.items[last] for visit in visits],
        times_us=[visit.times_us[last] for visit in visits],
    )


def _advanced(model: Incremental, visits: Sequence[Visit]) -> FloatArray:
    """Hidden states after the pending clicks; clicks at the same depth go in one batch."""
    states = model.start(len(visits)).copy()
    for row, visit in enumerate(visits):
        if visit.hidden is not None:
            states[row] = visit.hidden
    for depth in range(max((len(visit.pending) for visit in visits), default=0)):
        rows = [row for row, visit in enumerate(visits) if len(visit.pending) > depth]
        items: IntArray = np.array([visits[row].pending[depth] for row in rows], dtype=np.int64)
        states[rows] = model.advance(states[rows], items)
    return states
