r"""A blend of models: a learned stack over the candidates of several parts.

Every part scores the catalogue; its scores become probabilities p_m(i | s). Three blends:

- "probability": p(i | s) = sum over m of w_m p_m(i | s), with w by expectation maximisation on
  sessions that the parts have not seen (a linear opinion pool; Stone 1961; the weights as those
  of a mixture, Dempster, Laird & Rubin 1977).
- "rank": sum over m of w_m / (60 + rank_m(i)) over each part's best items (reciprocal rank fusion;
  Cormack, Clarke & Buettcher, SIGIR 2009).
- "stack" (stacked generalisation; Wolpert 1992): a small network f looks at every candidate, that
  is every item among some part's best, and is trained by the softmax over the candidates,

      loss = -log( exp f(x_target) / sum over candidates c of exp f(x_c) ),

  x being what the parts say of the candidate, whether and where it stands in the session already,
  its popularity of late and of ever, and how often it preceded, followed and accompanied the
  session's items.

`fit` cuts the newest sessions off by time, fits the parts on the older ones, learns weights and
stack on the cut, and then fits the parts once more on everything.
Items that are no candidates follow in the order of the probability blend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from momentary.errors import MomentaryError
from momentary.learn.counts import require_items_below, session_rows
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.learn.pruning import strongest_per_row
from momentary.learn.torch_threads import one_torch_thread
from momentary.models.artifact import make
from momentary.models.protocol import Arrays, Scorer
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

_ROWS_AT_ONCE = 16
_LEAST_LOG = -16.0
_RANK_FUSION = 60.0
_HALF_LIVES = (4, 16, 64, 256)
_LATEST = 15

# Columns of a pair of items (a, b), all counted over the training sessions.
_PAIR = 7
_NEXT, _SECOND, _AHEAD, _BEFORE, _BEHIND, _LATELY, _TOGETHER = range(_PAIR)

# Features of a candidate, group by group.
_A_PART = 5
_REPEAT, _ITEM, _LAST, _EARLIER, _VISIT, _SESSION = 8, 9, 14, 9, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One model of a blend.

    Attributes:
        kind: As in `artifact.KINDS`.
        settings: Of that model.
        scale: How scores become probabilities: "share" (a score's share of the sum; the scores
            must not be negative) or "softmax".
        candidates: Best items that it puts before the stack.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    scale: Literal["share", "softmax"] = "share"
    candidates: int = 100

    def __post_init__(self) -> None:
        if self.scale not in ("share", "softmax"):
            raise ValueError(f"scale is {self.scale!r}; it must be 'share' or 'softmax'.")
        if self.candidates < 0:
            raise ValueError(f"candidates is {self.candidates}; it must be 0 or more.")
        # JSON knows no infinity; as text it comes back through `make`.
        plain = {
            name: str(value) if value == math.inf else value
            for name, value in self.settings.items()
        }
        object.__setattr__(self, "settings", plain)


DEFAULT_PARTS = (
    Part(kind="attentive_rnn"),
    Part(kind="vstan"),
    Part(kind="item_knn"),
    Part(kind="sequential_rules", candidates=50),
    Part(kind="popularity", candidates=20),
)
"""A network, session kNN, item kNN, rules, popularity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The network over the candidates, and how it learns.

    Attributes:
        hidden: Width of each layer.
        networks: How many are trained, from different seeds; their outputs are averaged.
        epochs: Passes over the questions.
        batch_size: Questions in one step.
        learning_rate: Adam's at the start; it falls to 0 along a line.
        weight_decay: Adam's.
        dropout: Share of each layer's output that is dropped in training.
        max_questions: Learn from at most this many, drawn at random.
        least_questions: With fewer there is no stack, only the probability blend.
    """

    hidden: tuple[int, ...] = (64, 32)
    networks: int = 1
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    dropout: float = 0.1
    max_questions: int = 60_000
    least_questions: int = 200

    def __post_init__(self) -> None:
        for name in ("networks", "epochs", "batch_size", "max_questions", "least_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}; name at least one width, such as (64,).")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be 0 or more and below 1.")
        if not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; "
                "the first must be above 0 and the second not below."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """What is blended, and how.

    Attributes:
        parts: The models.
        blend: "stack", "probability" or "rank"; see the module.
        holdout: Share of the sessions, the newest, that weights and stack are learned from.
        window: Most steps between the items of a pair.
        partners: Most items whose pairs with one item are kept.
        stack: The network over the candidates.
    """

    parts: tuple[Part, ...] = DEFAULT_PARTS
    blend: Literal["stack", "probability", "rank"] = "stack"
    holdout: float = 0.1
    window: int = 10
    partners: int = 500
    stack: Stack = field(default_factory=Stack)

    def __post_init__(self) -> None:
        if not self.parts or not any(part.candidates for part in self.parts):
            raise ValueError("parts name no candidates; give at least one part some.")
        if self.blend not in ("stack", "probability", "rank"):
            raise ValueError(
                f"blend is {self.blend!r}; it must be 'stack', 'probability' or 'rank'."
            )
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout}; it must be between 0 and 1, such as 0.1.")
        for name in ("window", "partners"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")


class _Network(NamedTuple):
    """One network of the stack: layers of rectified units beside a linear path.

    f(x) = u . relu(W_2 relu(W_1 x + b_1) + b_2) + v . x
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    out: FloatArray
    linear: FloatArray


class _Learned(NamedTuple):
    """Everything in the order in which the items first appeared.

    Attributes:
        scorers: The parts, fitted on everything.
        facts: What the features are made of.
        shares: Weights of the probability blend. Shape (parts,).
        center: Mean of each feature. Shape (features,).
        spread: Standard deviation of each feature. Shape (features,).
        networks: None of them if there were too few questions.
        number: Place of each item in that order. Shape (items,).
    """

    scorers: tuple[Scorer, ...]
    facts: _Facts
    shares: FloatArray
    center: FloatArray
    spread: FloatArray
    networks: tuple[_Network, ...]
    number: IntArray


class _Lesson(NamedTuple):
    """What weights and stack are learned from.

    Attributes:
        chances: That each part gave the target. Shape (questions, parts).
        features: Of the candidates, question by question; half precision. (candidates, features)
        offsets: Where each question's candidates start. Shape (questions + 1,).
        targets: Row of the target in `features`, -1 if it was no candidate. Shape (questions,).
    """

    chances: FloatArray
    features: NDArray[np.float16]
    offsets: IntArray
    targets: IntArray


class Hybrid:
    """A blend of models; see the module for papers and equations."""

    kind: ClassVar[str] = "hybrid"

    def __init__(self, config: HybridConfig) -> None:
        """Make a blend that has learned nothing yet."""
        self.config = config
        self._learned: _Learned | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Learn the blend on the newest sessions, and the parts on all of them.

        Raises:
            DataError: If an item index is not below `n_items`.
            MomentaryError: If a part cannot learn from the sessions, or gives negative scores
                where shares are wanted.
        """
        require_items_below(sessions.items, n_items)
        number = inverse(first_appearance(sessions.items, n_items=n_items))
        ours = _renumbered(sessions, number)
        seeds = rng.integers(2**63, size=len(self.config.parts) + 2)
        past, late = _cut(ours, self.config.holdout)
        steps = len(self.config.parts) * 2 + 2
        told = _Told(progress, steps)

        early = self._blank(
            self._fit_parts(past, n_items=n_items, seeds=seeds, told=told),
            past,
            life=len(ours.items),
        )
        lesson = self._ask(early, late, rng=np.random.default_rng(seeds[-1]))
        told("questions asked")
        shares = mixture_shares(lesson.chances)
        center, spread, networks = learn_stack(
            lesson, self.config.stack, rng=np.random.default_rng(seeds[-2])
        )
        told("stack learned")
        whole = self._blank(
            self._fit_parts(ours, n_items=n_items, seeds=seeds, told=told),
            ours,
            life=len(ours.items),
        )
        self._learned = whole._replace(
            shares=shares, center=center, spread=spread, networks=networks, number=number
        )
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Blend the parts' scores. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.number))
        scores = np.empty((len(sessions), len(learned.number)), dtype=np.float32)
        for start in range(0, len(sessions), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(sessions)))
            asked = _renumbered(sessions.take(rows), learned.number)
            chances = self._chances_of(learned, asked)
            blended = np.tensordot(learned.shares, chances, axes=1)
            self._put_candidates_first(blended, chances=chances, asked=asked, learned=learned)
            scores[rows] = blended[:, learned.number]
        return scores

    def sources(self, session: IntArray, item: int) -> dict[str, float]:
        """Tell what put an item where it is: shares that sum to 1, by part or kind of evidence.

        With the stack, the share of a group of features is by how much the item's score falls
        when they become those of the average candidate; groups that speak against the item, or
        not at all, have none. For an item that is no candidate, and in the other blends, it is
        each part's share in the item's blended probability.
        """
        learned = require_fitted(self._learned, self)
        asked = _renumbered(Sessions.from_lists([session]), learned.number)
        chances = self._chances_of(learned, asked)
        answers = describe(chances, self._limits(), sessions=asked, facts=learned.facts)
        found = np.flatnonzero(answers.candidates[0] == learned.number[item])
        names = self._names()
        if len(found) == 0 or self._without_stack(learned):
            parts = learned.shares * chances[:, 0, learned.number[item]]
            return _named_shares(names[: len(parts)], parts)
        features = answers.features[0, : answers.counts[0]]
        average = features.mean(axis=0)
        changed = np.tile(features[found[0]], (len(names) + 1, 1))
        for row, columns in enumerate(_groups(len(self.config.parts)), start=1):
            changed[row, columns] = average[columns]
        values = _stack_scores(changed, learned)
        return _named_shares(names, np.maximum(values[0] - values[1:], 0))

    def state(self) -> Arrays:
        """The parts' states, each under its place, and what the blend learned itself."""
        learned = require_fitted(self._learned, self)
        arrays: Arrays = {"number": learned.number, "shares": learned.shares}
        arrays |= {"stack.center": learned.center, "stack.spread": learned.spread}
        for place, network in enumerate(learned.networks):
            arrays |= {f"stack.{place}.out": network.out, f"stack.{place}.linear": network.linear}
            for depth, (weight, bias) in enumerate(
                zip(network.weights, network.biases, strict=True)
            ):
                arrays |= {f"stack.{place}.w{depth}": weight, f"stack.{place}.b{depth}": bias}
        arrays |= {f"facts.{name}": array for name, array in learned.facts._asdict().items()}
        for place, scorer in enumerate(learned.scorers):
            arrays |= {f"part{place}.{name}": array for name, array in scorer.state().items()}
        return arrays

    @classmethod
    def from_state(cls, config: HybridConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The blend that gave `state`, ready to score."""
        model = cls(config)
        scorers = []
        for place, part in enumerate(config.parts):
            unfitted = make(part.kind, part.settings)
            own = _below(state, f"part{place}.")
            scorers.append(type(unfitted).from_state(unfitted.config, own))
        facts = {
            name: np.require(array, None, ["C", "W"])
            for name, array in _below(state, "facts.").items()
        }
        depths = range(len(config.stack.hidden))
        networks = [
            _Network(
                weights=tuple(state[f"stack.{place}.w{depth}"] for depth in depths),
                biases=tuple(state[f"stack.{place}.b{depth}"] for depth in depths),
                out=state[f"stack.{place}.out"],
                linear=state[f"stack.{place}.linear"],
            )
            for place in range(config.stack.networks)
            if f"stack.{place}.out" in state
        ]
        model._learned = _Learned(
            scorers=tuple(scorers),
            facts=_Facts(**facts),
            shares=state["shares"],
            center=state["stack.center"],
            spread=state["stack.spread"],
            networks=tuple(networks),
            number=state["number"],
        )
        return model

    def _fit_parts(
        self, sessions: Sessions, *, n_items: int, seeds: IntArray, told: _Told
    ) -> tuple[Scorer, ...]:
        scorers = []
        for part, seed in zip(self.config.parts, seeds, strict=False):
            scorer = make(part.kind, part.settings)
            scorers.append(scorer.fit(sessions, n_items=n_items, rng=np.random.default_rng(seed)))
            told(f"{part.kind} fitted")
        return tuple(scorers)

    def _blank(self, scorers: tuple[Scorer, ...], sessions: Sessions, *, life: float) -> _Learned:
        """Parts and facts without weights and stack; the items are numbered already."""
        n_items = len(scorers[0].score(Sessions.from_lists([[]]))[0])
        nothing = np.zeros(0, dtype=np.float32)
        return _Learned(
            scorers=scorers,
            facts=facts_of(
                sessions,
                n_items=n_items,
                life=max(life, 1.0),
                window=self.config.window,
                partners=self.config.partners,
            ),
            shares=nothing,
            center=nothing,
            spread=nothing,
            networks=(),
            number=np.arange(n_items),
        )

    def _ask(self, early: _Learned, late: Sessions, *, rng: np.random.Generator) -> _Lesson:
        """Ask after every event of the held-out sessions what the next one is."""
        known = early.facts.counts > 0
        history, targets = _questions(late, known, limit=self.config.stack.max_questions, rng=rng)
        parts = len(self.config.parts)
        lessons = []
        for start in range(0, len(targets), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(targets)))
            asked = history.take(rows)
            chances = self._chances_of(early, asked)
            answers = describe(chances, self._limits(), sessions=asked, facts=early.facts)
            lessons.append(_lesson(chances, answers, targets[rows]))
        if not lessons:
            nothing = np.zeros((0, _width(parts)), dtype=np.float16)
            none = np.zeros(0, dtype=np.int64)
            return _Lesson(np.zeros((0, parts), np.float32), nothing, np.zeros(1, np.int64), none)
        return _joined(lessons)

    def _limits(self) -> IntArray:
        return np.array([part.candidates for part in self.config.parts], dtype=np.int64)

    def _chances_of(self, learned: _Learned, asked: Sessions) -> FloatArray:
        """What every part makes of every item. Shape (parts, rows, items)."""
        parts = self.config.parts
        shape = (len(parts), len(asked), len(learned.facts.counts))
        chances = np.empty(shape, dtype=np.float32)
        for scorer, part, out in zip(learned.scorers, parts, chances, strict=True):
            _write_chances(scorer.score(asked), part, out)
        return chances

    def _without_stack(self, learned: _Learned) -> bool:
        return self.config.blend != "stack" or not learned.networks

    def _put_candidates_first(
        self, blended: FloatArray, *, chances: FloatArray, asked: Sessions, learned: _Learned
    ) -> None:
        """Let the candidates' scores stand above all others, which are at most 1."""
        by_rank = self.config.blend == "rank"
        if not by_rank and self._without_stack(learned):
            return
        answers = describe(chances, self._limits(), sessions=asked, facts=learned.facts)
        features = np.concatenate(
            [rows[:count] for rows, count in zip(answers.features, answers.counts, strict=True)]
        )
        if by_rank:
            values = fused_ranks(features[:, 2 : len(chances) * _A_PART : _A_PART], learned.shares)
        else:
            values = _stack_scores(features, learned)
        start = 0
        for row, count in enumerate(answers.counts):
            own = values[start : start + count]
            blended[row, answers.candidates[row, :count]] = own - own.min(initial=np.inf) + 2.0
            start += count

    def _names(self) -> tuple[str, ...]:
        kinds = [part.kind for part in self.config.parts]
        parts = [
            kind if kinds.index(kind) == place else f"{kind} {kinds[: place + 1].count(kind)}"
            for place, kind in enumerate(kinds)
        ]
        return (*parts, *_EVIDENCE)


_EVIDENCE = ("seen in this visit", "popular", "follows", "together")
"""What the stack knows besides the parts' answers, in the order of `_groups`."""


class _Told:
    """Counts the steps of `fit` for whoever wants to know."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, note: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, note)


def _groups(parts: int) -> list[slice]:
    """The columns of each source of evidence; those of the session alone belong to none."""
    widths = [_A_PART] * parts + [_REPEAT, _ITEM, _LAST + _EARLIER, _VISIT]
    ends = np.cumsum(widths)
    return [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]


def _width(parts: int) -> int:
    return parts * _A_PART + _REPEAT + _ITEM + _LAST + _EARLIER + _VISIT + _SESSION


def _named_shares(names: Sequence[str], values: FloatArray) -> dict[str, float]:
    total = float(values.sum())
    if total <= 0:
        return dict.fromkeys(names, 1 / len(names))
    return {name: float(value) / total for name, value in zip(names, values, strict=True)}


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def _renumbered(sessions: Sessions, number: IntArray) -> Sessions:
    return Sessions(
        items=number[sessions.items],
        offsets=sessions.offsets,
        times_us=sessions.times_us,
        users=sessions.users,
    )


def _cut(sessions: Sessions, share: float) -> tuple[Sessions, Sessions]:
    """The sessions that ended earlier and the newest ones; both keep their order."""
    filled = np.flatnonzero(sessions.lengths > 0)
    by_end = filled[np.argsort(sessions.last_times_us[filled], kind="stable")]
    count = max(round(share * len(by_end)), 1) if len(by_end) > 1 else 0
    newest = len(by_end) - min(count, len(by_end) - 1) if count else len(by_end)
    return sessions.take(np.sort(by_end[:newest])), sessions.take(np.sort(by_end[newest:]))


def _questions(
    late: Sessions, known: NDArray[np.bool_], *, limit: int, rng: np.random.Generator
) -> tuple[Sessions, IntArray]:
    """Histories and what came next, without the items that the parts never saw."""
    kept = known[late.items]
    rows = session_rows(late)[kept]
    items, times_us = late.items[kept], late.times_us[kept]
    starts = np.searchsorted(rows, rows)  # (events,) where each event's session starts
    asked = np.flatnonzero(starts < np.arange(len(rows)))
    if len(asked) > limit:
        asked = np.sort(rng.permutation(asked)[:limit])
    lengths = asked - starts[asked]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = np.arange(offsets[-1]) + np.repeat(starts[asked] - offsets[:-1], lengths)
    history = Sessions(
        items=items[events],
        offsets=offsets,
        times_us=times_us[events],
        users=late.users[rows[asked]],
    )
    return history, items[asked]


def _lesson(chances: FloatArray, answers: _Answers, targets: IntArray) -> _Lesson:
    offsets = np.concatenate([[0], np.cumsum(answers.counts)]).astype(np.int64)
    filled = np.arange(answers.candidates.shape[1]) < answers.counts[:, None]
    hit = (answers.candidates == targets[:, None]) & filled
    at = np.where(hit.any(axis=1), offsets[:-1] + hit.argmax(axis=1), -1)
    return _Lesson(
        chances=chances[:, np.arange(len(targets)), targets].T,
        features=answers.features[filled].astype(np.float16),
        offsets=offsets,
        targets=at,
    )


def _joined(lessons: list[_Lesson]) -> _Lesson:
    starts = np.cumsum([0] + [lesson.offsets[-1] for lesson in lessons])
    return _Lesson(
        chances=np.concatenate([lesson.chances for lesson in lessons]),
        features=np.concatenate([lesson.features for lesson in lessons]),
        offsets=np.concatenate(
            [[0]]
            + [lesson.offsets[1:] + start for lesson, start in zip(lessons, starts, strict=False)]
        ),
        targets=np.concatenate(
            [
                np.where(lesson.targets >= 0, lesson.targets + start, -1)
                for lesson, start in zip(lessons, starts, strict=False)
            ]
        ),
    )


def mixture_shares(chances: FloatArray, *, rounds: int = 100) -> FloatArray:
    """Weights of a mixture that make what came next most probable, by expectation maximisation.

    Args:
        chances: Probability that each part gave each target. Shape (questions, parts).
        rounds: Steps; each makes the targets more probable, or as probable.

    Returns:
        Weights above 0 that sum to 1; equal ones where there is nothing to learn from. (parts,)

    >>> mixture_shares(np.array([[0.5, 0.0], [0.0, 0.5]], dtype=np.float32)).tolist()
    [0.5, 0.5]
    """
    parts = chances.shape[1]
    shares = np.full(parts, 1 / parts)
    given = chances[chances.sum(axis=1) > 0].astype(np.float64)
    for _ in range(rounds if len(given) else 0):
        joint = given * shares
        shares = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        shares = np.maximum(shares, 1e-4)
        shares /= shares.sum()
    return shares.astype(np.float32)


def fused_ranks(reciprocal: FloatArray, shares: FloatArray) -> FloatArray:
    """Reciprocal rank fusion. Shape (candidates,).

    Args:
        reciprocal: 1 / (1 + rank) from rank 0, and 0 where a part did not rank the candidate.
            Shape (candidates, parts).
        shares: Weights of the parts. Shape (parts,).
    """
    ranks = np.divide(1.0, reciprocal, out=np.zeros_like(reciprocal), where=reciprocal > 0)
    ranked = np.where(reciprocal > 0, 1.0 / (_RANK_FUSION + ranks), 0.0)
    return (ranked @ shares).astype(np.float32)


def _stack_scores(features: FloatArray, learned: _Learned) -> FloatArray:
    """f(x) of every candidate, averaged over the networks. Shape (candidates,)."""
    inputs = (features - learned.center) / learned.spread
    scores = np.zeros(len(inputs), dtype=np.float32)
    for network in learned.networks:
        scores += forward(inputs, network)
    return scores / np.float32(len(learned.networks))


def forward(inputs: FloatArray, network: _Network) -> FloatArray:
    """f(x) of standardised features. Shapes (candidates, features) to (candidates,)."""
    hidden = inputs
    for weight, bias in zip(network.weights, network.biases, strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    return hidden @ network.out + inputs @ network.linear


def candidate_loss(
    scores: torch.Tensor, question: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Softmax cross-entropy of the target among its question's candidates, averaged.

    Args:
        scores: f of all candidates, question by question. Shape (candidates,).
        question: The question of each candidate, from 0. Shape (candidates,).
        targets: Place of each question's target among the candidates. Shape (questions,).
    """
    top = torch.full((len(targets),), -torch.inf).scatter_reduce(
        0, question, scores.detach(), "amax"
    )
    summed = torch.zeros(len(targets)).index_add(0, question, torch.exp(scores - top[question]))
    return (summed.log() + top - scores[targets]).mean()


def learn_stack(
    lesson: _Lesson, config: Stack, *, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, tuple[_Network, ...]]:
    """Train the networks; none if there are too few questions. Center, spread, networks."""
    asked = np.flatnonzero(lesson.targets >= 0)
    if len(asked) < config.least_questions:
        width = lesson.features.shape[1]
        return np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32), ()
    sample = rng.integers(len(lesson.features), size=min(len(lesson.features), 200_000))
    drawn = lesson.features[np.sort(sample)].astype(np.float32)
    center, spread = drawn.mean(axis=0), drawn.std(axis=0) + np.float32(1e-3)
    with one_torch_thread():
        networks = [
            _train(lesson, config, center=center, spread=spread, rng=rng)
            for _ in range(config.networks)
        ]
    return center, spread, tuple(networks)


def _train(
    lesson: _Lesson,
    config: Stack,
    *,
    center: FloatArray,
    spread: FloatArray,
    rng: np.random.Generator,
) -> _Network:
    chance = torch.Generator().manual_seed(int(rng.integers(2**63)))
    tensors = _initial(config.hidden, len(center), chance)
    optimizer = torch.optim.AdamW(
        tensors, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    asked = np.flatnonzero(lesson.targets >= 0)
    steps = config.epochs * math.ceil(len(asked) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(0.05 * steps, 1)) * (1 - step / steps)
    )
    for _ in range(config.epochs):
        shuffled = rng.permutation(asked)
        for start in range(0, len(shuffled), config.batch_size):
            chosen = shuffled[start : start + config.batch_size]
            inputs, question, targets = _batch(lesson, chosen, center=center, spread=spread)
            scores = _trained_forward(inputs, tensors, dropout=config.dropout, chance=chance)
            optimizer.zero_grad()
            # The stubs of torch leave backward untyped.
            candidate_loss(scores, question, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return _Network(
        weights=tuple(arrays[2::2]), biases=tuple(arrays[3::2]), out=arrays[0], linear=arrays[1]
    )


def _initial(hidden: tuple[int, ...], width: int, chance: torch.Generator) -> list[torch.Tensor]:
    """Output and linear path, then weight and bias of each layer (He et al. 2015)."""
    tensors = [
        torch.empty(hidden[-1]).normal_(0, hidden[-1] ** -0.5, generator=chance),
        torch.zeros(width),
    ]
    for wide, narrow in zip((width, *hidden), hidden, strict=False):
        tensors.append(torch.empty(wide, narrow).normal_(0, (2 / wide) ** 0.5, generator=chance))
        tensors.append(torch.zeros(narrow))
    for tensor in tensors:
        tensor.requires_grad_()
    return tensors


def _trained_forward(
    inputs: torch.Tensor,
    tensors: list[torch.Tensor],
    *,
    dropout: float,
    chance: torch.Generator,
) -> torch.Tensor:
    hidden = inputs
    for weight, bias in zip(tensors[2::2], tensors[3::2], strict=True):
        hidden = torch.relu(torch.addmm(bias, hidden, weight))
        if dropout > 0:
            kept = torch.empty_like(hidden).bernoulli_(1 - dropout, generator=chance)
            hidden = hidden * kept / (1 - dropout)
    return hidden @ tensors[0] + inputs @ tensors[1]


def _batch(
    lesson: _Lesson, chosen: IntArray, *, center: FloatArray, spread: FloatArray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Standardised candidates of the chosen questions, their questions, and the targets."""
    counts = lesson.offsets[chosen + 1] - lesson.offsets[chosen]
    starts = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(lesson.offsets[chosen] - starts, counts)
    inputs = (lesson.features[rows].astype(np.float32) - center) / spread
    question = np.repeat(np.arange(len(chosen)), counts)
    targets = lesson.targets[chosen] - lesson.offsets[chosen] + starts
    return torch.from_numpy(inputs), torch.from_numpy(question), torch.from_numpy(targets)


class _Pairs(NamedTuple):
    """Pairs of items in CSR form: row a holds every item b that stood near a in a session."""

    indptr: IntArray
    partners: NDArray[np.int32]
    values: FloatArray
    totals: FloatArray


class _Facts(NamedTuple):
    """What the features are made of, besides the parts' scores.

    Attributes:
        items: Logarithms of counts and ages. Shape (items, `_ITEM`).
        counts: Events of each item. Shape (items,).
    """

    items: FloatArray
    counts: FloatArray
    indptr: IntArray
    partners: NDArray[np.int32]
    values: FloatArray
    totals: FloatArray


def facts_of(
    sessions: Sessions, *, n_items: int, life: float, window: int = 10, partners: int = 500
) -> _Facts:
    """Count items and pairs of items; `life` is a number of events."""
    counts = np.bincount(sessions.items, minlength=n_items).astype(np.float32)
    age = _ages(sessions)
    columns = [np.log1p(counts)]
    for share in _HALF_LIVES:
        weights = np.exp2(-age * (share / life))
        lately = np.bincount(sessions.items, weights=weights, minlength=n_items)
        columns.append(np.log1p(lately))
    columns.append(columns[2] - columns[0])
    columns.append(columns[4] - columns[2])
    for extreme in (np.minimum, np.maximum):
        seen = np.full(n_items, life if extreme is np.minimum else 0.0)
        extreme.at(seen, sessions.items, age)
        columns.append(np.log1p(seen))
    pairs = _pairs_of(sessions, n_items=n_items, life=life, window=window, partners=partners)
    return _Facts(np.stack(columns, axis=1).astype(np.float32), counts, *pairs)


def _ages(sessions: Sessions) -> NDArray[np.float64]:
    """How many events happened after the end of each event's session. Shape (events,)."""
    order = np.argsort(sessions.last_times_us, kind="stable")
    lengths = sessions.lengths
    later = np.empty(len(sessions), dtype=np.float64)
    later[order] = lengths.sum() - np.cumsum(lengths[order])
    return later[session_rows(sessions)]


def _pairs_of(
    sessions: Sessions, *, n_items: int, life: float, window: int, partners: int
) -> _Pairs:
    rows = session_rows(sessions)
    lately = np.exp2(-_ages(sessions) * (16 / life))
    found = []
    for step in range(1, window + 1):
        near = (rows[step:] == rows[:-step]) & (sessions.items[step:] != sessions.items[:-step])
        place = np.flatnonzero(near)
        found.append((place, np.full(len(place), step)))
    place = np.concatenate([each for each, _ in found])
    steps = np.concatenate([each for _, each in found])
    before, after = sessions.items[place], sessions.items[place + steps]
    keys, entry = np.unique(
        np.concatenate([before * n_items + after, after * n_items + before]), return_inverse=True
    )
    ahead, behind = entry[: len(place)], entry[len(place) :]

    def count(where: IntArray, weights: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(where, weights=weights, minlength=len(keys)).astype(np.float64)

    values = np.empty((len(keys), _PAIR), dtype=np.float32)
    values[:, _NEXT] = count(ahead, steps == 1)
    values[:, _SECOND] = count(ahead, steps == 2)
    values[:, _AHEAD] = count(ahead, 1 / steps)
    values[:, _BEFORE] = count(behind, steps == 1)
    values[:, _BEHIND] = count(behind, 1 / steps)
    values[:, _LATELY] = count(ahead, lately[place] / steps)
    values[:, _TOGETHER] = count(ahead, np.ones(len(place))) + count(behind, np.ones(len(place)))
    indptr = np.searchsorted(keys, np.arange(n_items + 1) * n_items)
    totals = np.zeros((n_items, _PAIR), dtype=np.float32)
    filled = np.flatnonzero(np.diff(indptr))
    if len(filled):
        totals[filled] = np.add.reduceat(values, indptr[filled], axis=0)
    columns = (keys % max(n_items, 1)).astype(np.int32)
    strength = values[:, _AHEAD] + values[:, _BEHIND]
    kept = strongest_per_row(
        strength, indptr, columns, limit=partners, rank=np.arange(n_items, dtype=np.int64)
    )
    return _Pairs(
        np.searchsorted(kept, indptr).astype(np.int64), columns[kept], values[kept], totals
    )


class _Questions(NamedTuple):
    """What the kernels read.

    Attributes:
        probabilities: Shape (parts, rows, items).
        limits: Candidates of each part. Shape (parts,).
        items: Of the sessions, end to end. Shape (events,).
        offsets: Shape (rows + 1,).
    """

    probabilities: FloatArray
    limits: IntArray
    items: IntArray
    offsets: IntArray


class _Answers(NamedTuple):
    """What the kernels write.

    Attributes:
        candidates: Item indices. Shape (rows, most).
        counts: How many of them there are. Shape (rows,).
        ranks: By part from 0; the part's limit for what is not among its best. (most, parts)
        features: Shape (rows, most, features).
        slot: Place of an item among the row's candidates, -1 for none. Shape (items,).
    """

    candidates: NDArray[np.int32]
    counts: IntArray
    ranks: NDArray[np.int32]
    features: FloatArray
    slot: NDArray[np.int32]


def describe(
    probabilities: FloatArray, limits: IntArray, *, sessions: Sessions, facts: _Facts
) -> _Answers:
    """Find the candidates of some sessions and what there is to say of each."""
    parts, rows, n_items = probabilities.shape
    most = int(min(np.minimum(limits, n_items).sum(), n_items))
    width = parts * _A_PART + _REPEAT + _ITEM + _LAST + _EARLIER + _VISIT + _SESSION
    answers = _Answers(
        candidates=np.full((rows, most), -1, dtype=np.int32),
        counts=np.zeros(rows, dtype=np.int64),
        ranks=np.zeros((most, parts), dtype=np.int32),
        features=np.zeros((rows, most, width), dtype=np.float32),
        slot=np.full(n_items, -1, dtype=np.int32),
    )
    # Copies, because a read-only array would have the kernels compiled once more.
    asked = _Questions(probabilities, limits, np.array(sessions.items), np.array(sessions.offsets))
    _describe(asked, facts, answers)
    return answers


@numba.njit(cache=True, nogil=True)
def _describe(asked: _Questions, facts: _Facts, answers: _Answers) -> None:
    for row in range(len(asked.offsets) - 1):
        count = _gather(asked, answers, row)
        query = asked.items[asked.offsets[row] : asked.offsets[row + 1]]
        chosen = answers.candidates[row, :count]
        features = answers.features[row, :count]
        at = _say_parts(asked, answers, row)
        at = _say_repeats(query, chosen, features, at)
        features[:, at : at + _ITEM] = facts.items[chosen]
        at += _ITEM
        _say_pairs(query, facts, answers.slot, features[:, at:])
        at += _LAST + _EARLIER + _VISIT
        _say_session(query, facts, features[:, at:])
        for item in chosen:
            answers.slot[item] = -1


@numba.njit(cache=True, nogil=True)
def _worse(probabilities: FloatArray, one: int, other: int) -> bool:
    """Of equal items the one that appeared later is worse."""
    if probabilities[one] == probabilities[other]:
        return one > other
    return bool(probabilities[one] < probabilities[other])


@numba.njit(cache=True, nogil=True)
def _sink(  # noqa: PLR0917 - kernels are called by position
    probabilities: FloatArray, heap: NDArray[np.int32], start: int, size: int
) -> None:
    """Let an entry of a heap, whose worst item is on top, sink to where it belongs."""
    at = start
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _worse(probabilities, heap[child + 1], heap[child]):
            child += 1
        if not _worse(probabilities, heap[child], heap[at]):
            break
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@numba.njit(cache=True, nogil=True)
def _best(probabilities: FloatArray, limit: int) -> NDArray[np.int32]:
    """The most probable items, best first."""
    size = min(limit, len(probabilities))
    heap = np.arange(size).astype(np.int32)
    for start in range(size - 1, -1, -1):
        _sink(probabilities, heap, start, size)
    if size:
        bound = probabilities[heap[0]]
        for item in range(size, len(probabilities)):
            if probabilities[item] > bound:
                heap[0] = item
                _sink(probabilities, heap, 0, size)
                bound = probabilities[heap[0]]
    for last in range(size - 1, 0, -1):
        heap[0], heap[last] = heap[last], heap[0]
        _sink(probabilities, heap, 0, last)
    return heap


@numba.njit(cache=True, nogil=True)
def _gather(asked: _Questions, answers: _Answers, row: int) -> int:
    """Join the parts' best items; how many there are."""
    count = 0
    for part in range(len(asked.limits)):
        best = _best(asked.probabilities[part, row], asked.limits[part])
        for rank in range(len(best)):
            item = best[rank]
            place = answers.slot[item]
            if place < 0:
                place = count
                answers.slot[item] = place
                answers.candidates[row, place] = item
                for each in range(len(asked.limits)):
                    answers.ranks[place, each] = -1
                count += 1
            answers.ranks[place, part] = rank
    answers.counts[row] = count
    return count


@numba.njit(cache=True, nogil=True)
def _say_parts(asked: _Questions, answers: _Answers, row: int) -> int:
    at = 0
    for part in range(len(asked.limits)):
        chances = asked.probabilities[part, row]
        top = _LEAST_LOG
        for place in range(answers.counts[row]):
            chance = chances[answers.candidates[row, place]]
            value = max(math.log(chance + 1e-30), _LEAST_LOG)
            answers.features[row, place, at] = value
            top = max(top, value)
        for place in range(answers.counts[row]):
            said = answers.features[row, place, at : at + _A_PART]
            rank = answers.ranks[place, part]
            said[1] = said[0] - top
            said[2] = 1.0 / (rank + 1.0) if rank >= 0 else 0.0
            said[3] = math.log(rank + 1.0 if rank >= 0 else 2.0 * asked.limits[part] + 1.0)
            said[4] = top
        at += _A_PART
    return at


@numba.njit(cache=True, nogil=True)
def _say_repeats(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, chosen: NDArray[np.int32], features: FloatArray, at: int
) -> int:
    size = len(query)
    for place in range(len(chosen)):
        said = features[place, at : at + _REPEAT]
        times, steps, followed = 0, -1, 0.0
        for position in range(size - 1, -1, -1):
            if query[position] == chosen[place]:
                times += 1
                if steps < 0:
                    steps = size - 1 - position
                if position > 0 and query[position - 1] == query[size - 1]:
                    followed += 1.0
        if times:
            said[0] = 1.0
            said[1] = math.log(times)
            said[2] = 1.0 / (steps + 1.0)
            said[3] = 1.0 if steps == 0 else 0.0
            said[4] = math.log(steps + 1.0)
            said[5] = 1.0 if steps == 1 else 0.0
            said[6] = followed
            said[7] = times / size
    return at + _REPEAT


@numba.njit(cache=True, nogil=True)
def _say_pairs(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, facts: _Facts, slot: NDArray[np.int32], features: FloatArray
) -> None:
    """Read the pairs of the latest distinct items of the session."""
    size = len(query)
    distinct = 0
    for step in range(min(size, _LATEST)):
        item = query[size - 1 - step]
        if _asked_later(query, size - 1 - step):
            continue
        distinct += 1
        for entry in range(facts.indptr[item], facts.indptr[item + 1]):
            place = slot[facts.partners[entry]]
            if place >= 0:
                _say_pair(entry, item, step, facts, features[place])
    for place in range(len(features)):
        features[place, _LAST + _EARLIER + 2] /= max(distinct, 1)


@numba.njit(cache=True, nogil=True)
def _asked_later(query: IntArray, position: int) -> bool:
    for later in range(position + 1, len(query)):  # noqa: SIM110 - Numba knows no generators
        if query[later] == query[position]:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _say_pair(  # noqa: PLR0917 - kernels are called by position
    entry: int, item: int, step: int, facts: _Facts, features: FloatArray
) -> None:
    values = facts.values[entry]
    other = facts.partners[entry]
    ahead = values[_AHEAD] / (facts.totals[item, _AHEAD] + 1.0)
    if step == 0:
        _say_last(values, item, other, facts, features)
    elif step == 1:
        _say_second(values, item, facts, features[_LAST:])
    elif step == 2:
        features[_LAST + 7] = math.log1p(values[_AHEAD])
        features[_LAST + 8] = ahead
    near = values[_TOGETHER] / math.sqrt((facts.counts[item] + 5.0) * (facts.counts[other] + 5.0))
    said = features[_LAST + _EARLIER :]
    said[0] += near * 0.8**step
    said[1] = max(said[1], near)
    said[2] += 1.0
    said[3] += ahead


@numba.njit(cache=True, nogil=True)
def _say_last(  # noqa: PLR0917 - kernels are called by position
    values: FloatArray, item: int, other: int, facts: _Facts, said: FloatArray
) -> None:
    totals = facts.totals[item]
    for column in range(_PAIR):
        said[column] = math.log1p(values[column])
    said[7] = values[_NEXT] / (totals[_NEXT] + 1.0)
    said[8] = values[_AHEAD] / (totals[_AHEAD] + 1.0)
    said[9] = values[_BEHIND] / (totals[_BEHIND] + 1.0)
    said[10] = values[_LATELY] / (totals[_LATELY] + 0.1)
    said[11] = values[_AHEAD] / (facts.totals[other, _BEHIND] + 1.0)
    said[12] = math.log1p(
        1000.0 * values[_TOGETHER] / ((facts.counts[item] + 5.0) * (facts.counts[other] + 5.0))
    )
    said[13] = math.log((values[_NEXT] + 0.2) / (totals[_NEXT] + 1.0)) + 6.0


@numba.njit(cache=True, nogil=True)
def _say_second(  # noqa: PLR0917 - kernels are called by position
    values: FloatArray, item: int, facts: _Facts, said: FloatArray
) -> None:
    said[0] = math.log1p(values[_NEXT])
    said[1] = math.log1p(values[_SECOND])
    said[2] = math.log1p(values[_AHEAD])
    said[3] = math.log1p(values[_BEHIND])
    said[4] = math.log1p(values[_TOGETHER])
    said[5] = values[_SECOND] / (facts.totals[item, _SECOND] + 1.0)
    said[6] = values[_AHEAD] / (facts.totals[item, _AHEAD] + 1.0)


@numba.njit(cache=True, nogil=True)
def _say_session(query: IntArray, facts: _Facts, features: FloatArray) -> None:
    size = len(query)
    if size == 0:
        return
    last = query[size - 1]
    distinct = 0
    for position in range(size):
        if not _asked_later(query, position):
            distinct += 1
    again = 0.0
    for position in range(size - 1):
        if query[position] == last:
            again = 1.0
    for place in range(len(features)):
        features[place, 0] = math.log(size)
        features[place, 1] = distinct / size
        features[place, 2] = facts.items[last, 0]
        features[place, 3] = math.log1p(facts.totals[last, _NEXT])
        features[place, 4] = again


def _write_chances(scores: FloatArray, part: Part, out: FloatArray) -> None:
    """Write a part's scores as probabilities over the catalogue. Shapes (rows, items)."""
    if part.scale == "softmax":
        np.subtract(scores, scores.max(axis=1, keepdims=True), out=out)
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)
        return
    _refuse_negative(scores, part)
    totals = scores.sum(axis=1, keepdims=True)
    if totals.min(initial=1) > 0:
        np.divide(scores, totals, out=out)
    else:  # a part that knows nothing of a session holds all items for equally likely
        out[:] = 1 / max(scores.shape[1], 1)
        np.divide(scores, totals, out=out, where=totals > 0)


def _refuse_negative(scores: FloatArray, part: Part) -> None:
    if scores.size and scores.min() < 0:
        raise MomentaryError(
            f"{part.kind} gave a score of {scores.min()}, which is no share of anything; "
            "give that part the scale 'softmax'."
        )
