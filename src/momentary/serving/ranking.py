"""Questions to lists: one product for all that wait, popularity where the model fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import msgspec
import numpy as np
from msgspec.structs import replace

from momentary.errors import DataError, SettingsError
from momentary.models.protocol import Incremental, Remembering
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import DEFAULT_RULES, Rules
from momentary.recommend.scenarios import Scorer, alike
from momentary.serving.problems import Problem, unfollowed
from momentary.serving.returning import at_the_door
from momentary.serving.state import Visit
from momentary.types import BoolArray, FloatArray, IntArray, ItemTable, Recommendation, Sessions

MODEL = "model"
FALLBACK = "fallback"
"""The arms that an answer can name."""

_LOGGER = logging.getLogger(__name__)
_SCORES_AT_ONCE = 2_000_000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
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


class _Wanted(TypedDict):
    k: int
    rules: Rules
    explain: bool
    rng: np.random.Generator


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A list, the arm that made it, and the visit with the hidden state that is now known.

    Attributes:
        items: Item indices, best first.
        scores: Of the items.
        reasons: Of the items; None where nobody asked for them.
        propensities: The chance of each item to stand there, given those above it; None where
            nothing was left to chance.
    """

    items: list[int]
    scores: list[float]
    variant: str
    visit: Visit
    reasons: list[tuple[str, ...]] | None = None
    propensities: tuple[float, ...] | None = None


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
        self._remembering = scorer if isinstance(scorer, Remembering) else None
        self._rng = np.random.default_rng()

    @property
    def remembers(self) -> bool:
        """Whether the model knows visitors again."""
        return self._remembering is not None

    def knows(self, visitor: str) -> bool:
        """Whether the model learned from a visitor, by the event log's name."""
        return self._remembering is not None and self._remembering.places([visitor])[0] >= 0

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

    def cold(self) -> BoolArray:
        """Items of which the training saw no event, by the fallback. Shape (items,)."""
        if self._fallback is None:
            return np.zeros(len(self.recommender.items), dtype=np.bool_)
        found: BoolArray = self.popularity() <= 0
        return found

    def answer(self, visits: Sequence[Visit], wishes: Sequence[Wish]) -> list[Ranked | Problem]:
        """One list, or the reason for refusing it, per visit."""
        known = list(visits)
        states: FloatArray | None = None
        try:
            if self._remembering is not None:
                known = [at_the_door(self._remembering, visit) for visit in known]
            if self._incremental is not None:
                states, known = _advanced(self._incremental, known)
        except Exception:
            _LOGGER.exception("model %s failed to read %d visits", self.model_version, len(visits))
            return self._fall_back(known, wishes)
        found: dict[int, Ranked | Problem] = {}
        direct, whole = self._split(wishes)
        for rows in _groups(wishes, direct):
            found |= self._ranked(rows, known, wishes, states=states)
        # Larger products than this leave the processor's cache and gain nothing.
        step = max(1, _SCORES_AT_ONCE // max(1, len(self.recommender.items)))
        for start in range(0, len(whole), step):
            part = whole[start : start + step]
            scores = self._scores(part, known, states=states)
            for rows in _groups(wishes, part):
                own = None if scores is None else scores[np.searchsorted(part, rows)]
                found |= self._ranked(rows, known, wishes, scores=own)
        return [found[row] for row in range(len(visits))]

    def _split(self, wishes: Sequence[Wish]) -> tuple[list[int], list[int]]:
        """Rows that need no scores of the whole catalogue, and rows that do."""
        direct = [
            wish.scorer == "model" and self.recommender.is_direct(wish.rules) for wish in wishes
        ]
        return (
            [row for row, is_direct in enumerate(direct) if is_direct],
            [row for row, is_direct in enumerate(direct) if not is_direct],
        )

    def _scores(
        self, rows: list[int], visits: Sequence[Visit], *, states: FloatArray | None
    ) -> FloatArray | None:
        """The model's scores of the whole catalogue, None if it failed."""
        try:
            if self._incremental is not None and states is not None:
                return self._incremental.score_states(states[rows])
            latest = _sessions([visits[row] for row in rows], self._max_history)
            return self.recommender.scorer.score(latest)
        except Exception:
            _LOGGER.exception("model %s failed to score", self.model_version)
            return None

    def _ranked(
        self,
        rows: list[int],
        visits: Sequence[Visit],
        wishes: Sequence[Wish],
        *,
        states: FloatArray | None = None,
        scores: FloatArray | None = None,
    ) -> dict[int, Ranked | Problem]:
        """Lists from states, or else from scores, for rows with equal wishes."""
        chosen, wish = [visits[row] for row in rows], wishes[rows[0]]
        ranked: Sequence[Ranked | Problem] | None
        try:
            if states is not None:
                ranked = self._from_states(states[rows], chosen, wish)
            elif scores is not None:
                sessions = _sessions(chosen)
                rescored = self._rescored(scores, sessions, wish.scorer)
                lists = self.recommender.rank_scores(rescored, sessions, **self._wanted(wish))
                ranked = self._checked(lists, chosen, variant=MODEL)
            else:
                ranked = self._fall_back(chosen, [wish] * len(rows))
        except DataError as error:
            return dict.fromkeys(rows, unfollowed(error))
        except Exception:
            _LOGGER.exception("model %s failed to rank", self.model_version)
            ranked = self._fall_back(chosen, [wish] * len(rows))
        return dict(zip(rows, ranked, strict=True))

    def _from_states(
        self, states: FloatArray, visits: Sequence[Visit], wish: Wish
    ) -> Sequence[Ranked]:
        """Lists from states, for equal wishes; most need neither reasons nor whole rows."""
        wanted = self._wanted(wish)
        if wish.explain:
            lists = self.recommender.rank_states(states, _sessions(visits), **wanted)
            return self._checked(lists, visits, variant=MODEL)
        sessions = _sessions(visits) if wish.rules.exclude_seen else None
        best = self.recommender.best(states, sessions, k=wish.k, rules=wish.rules)
        if best is None:
            lists = self.recommender.rank_states(states, _sessions(visits), **wanted)
            return self._checked(lists, visits, variant=MODEL)
        items, scores = best
        _refuse_infinite(np.isfinite(scores).all())
        return [
            Ranked(items=row, scores=own, variant=MODEL, visit=visit)
            for row, own, visit in zip(items.tolist(), scores.tolist(), visits, strict=True)
        ]

    def _checked(
        self, lists: list[list[Recommendation]], visits: Sequence[Visit], *, variant: str
    ) -> list[Ranked]:
        _refuse_infinite(all(math.isfinite(each.score) for items in lists for each in items))
        index = self.recommender.items.index
        return [
            Ranked(
                items=[index(each.item_id) for each in items],
                scores=[each.score for each in items],
                variant=variant,
                visit=visit,
                reasons=[each.reasons for each in items],
                propensities=(
                    tuple(each.propensity for each in items)
                    if any(each.propensity < 1 for each in items)
                    else None
                ),
            )
            for items, visit in zip(lists, visits, strict=True)
        ]

    def _wanted(self, wish: Wish) -> _Wanted:
        return {"k": wish.k, "rules": wish.rules, "explain": wish.explain, "rng": self._rng}

    def _rescored(self, scores: FloatArray, sessions: Sessions, scorer: Scorer) -> FloatArray:
        """The scores that a wish asks for, made from the model's where it has to do with them."""
        if scorer == "similar":
            reasons = self.recommender.reasons
            return alike(scores, sessions, None if reasons is None else reasons.related)
        if scorer == "popular":
            return np.broadcast_to(self.popularity(), scores.shape)
        return scores

    def _fall_back(self, visits: Sequence[Visit], wishes: Sequence[Wish]) -> list[Ranked | Problem]:
        found: dict[int, Ranked | Problem] = {}
        for rows in _groups(wishes, range(len(wishes))):
            chosen, wish = [visits[row] for row in rows], wishes[rows[0]]
            found |= dict(zip(rows, self._stand_in(chosen, wish), strict=True))
        return [found[row] for row in range(len(wishes))]

    def _stand_in(self, visits: Sequence[Visit], wish: Wish) -> Sequence[Ranked | Problem]:
        """Lists of the fallback, for equal wishes."""
        if self._fallback is not None:
            _LOGGER.warning("the fallback answers %d requests", len(visits))
            try:
                lists = self._fallback.recommend(_sessions(visits), **self._wanted(wish))
                return self._checked(lists, visits, variant=FALLBACK)
            except DataError as error:
                return [unfollowed(error) for _ in visits]
            except Exception:
                _LOGGER.exception("the fallback failed too")
        return [_unavailable() for _ in visits]


def _unavailable() -> Problem:
    detail = (
        "The model failed and nothing stands in for it; the server's log says why. Try again later."
    )
    return Problem(503, detail, headers=((b"retry-after", b"1"),))


def _refuse_infinite(finite: object) -> None:
    # JSON has no word for such scores, and no order is true of them.
    if not finite:
        raise ValueError("a score is not finite; look for an exploded training.")


def _groups(wishes: Sequence[Wish], chosen: Iterable[int]) -> Iterator[list[int]]:
    """The chosen rows by equal wishes, ascending."""
    rows: dict[bytes, list[int]] = {}
    for row in chosen:
        rows.setdefault(wishes[row].group(), []).append(row)
    yield from rows.values()


def _sessions(visits: Sequence[Visit], most: int | None = None) -> Sessions:
    last = slice(None) if most is None else slice(-most, None)
    return Sessions.from_lists(
        [visit.items[last] for visit in visits],
        times_us=[visit.times_us[last] for visit in visits],
        types=[visit.types[last] for visit in visits],
    )


def _advanced(model: Incremental, visits: Sequence[Visit]) -> tuple[FloatArray, list[Visit]]:
    """Hidden states after the pending clicks, and the visits that know them.

    Clicks at the same depth go in one batch.
    """
    states = model.start(len(visits)).copy()
    for row, visit in enumerate(visits):
        before = visit.door if visit.hidden is None else visit.hidden
        if before is not None:
            states[row] = before
    for depth in range(max((len(visit.pending) for visit in visits), default=0)):
        rows = [row for row, visit in enumerate(visits) if len(visit.pending) > depth]
        items: IntArray = np.array([visits[row].pending[depth] for row in rows], dtype=np.int64)
        states[rows] = model.advance(states[rows], items)
    known = [
        replace(visit, hidden=state.copy(), pending=()) if visit.pending else visit
        for visit, state in zip(visits, states, strict=True)
    ]
    return states, known
