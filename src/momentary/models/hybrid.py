r"""A blend of models: a learned stack over the candidates of several parts.

Every part scores the catalogue; its scores become probabilities p_m(i | s). Three blends:

- "probability": p(i | s) = sum over m of w_m p_m(i | s), with w by expectation maximisation on
  sessions that the parts have not seen (a linear opinion pool; Stone 1961; the weights as those
  of a mixture, Dempster, Laird & Rubin 1977).
- "rank": sum over m of w_m / (60 + rank_m(i)) over each part's best items (reciprocal rank fusion;
  Cormack, Clarke & Buettcher, SIGIR 2009).
- "stack" (stacked generalisation; Wolpert 1992): a small network (`learn.stacking`) orders the
  candidates, which are the likeliest of all parts' best items, by what the parts say of each,
  whether and where it stands in the session already, its popularity of late and of ever, how
  often it preceded, followed and accompanied the session's items, and how near it is to them
  (`learn.evidence`).

A blend that is told what items are like (`describe`) has one part more, which proposes what is like
the visit's items, and its stack sees how like them each candidate is, by each kind of content
(`learn.content_evidence`). Parts that read content themselves are told, too.

`fit` cuts the newest sessions off by time, fits the parts on the older ones, learns weights and
stack on the cut, whose last questions tell how well that went, and then fits the parts once more on
everything.
Items that are no candidates follow in the order of the probability blend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from momentary.errors import MomentaryError
from momentary.learn.content import require_row_an_item
from momentary.learn.content_evidence import LATEST
from momentary.learn.counts import require_items_below, session_rows
from momentary.learn.evidence import A_PART, Answers, describe, groups, width_of
from momentary.learn.facts import Facts, facts_of
from momentary.learn.fitted import require_fitted
from momentary.learn.mixture import in_order, write_mixture, write_shares, write_softmax
from momentary.learn.order import first_appearance, inverse
from momentary.learn.stacking import Lesson, Network, Stack, Stacked, learn_stack
from momentary.models.artifact import make
from momentary.models.protocol import Arrays, Described, Quick, Scorer
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

_ROWS_AT_ONCE = 16
_RANK_FUSION = 60.0
_QUESTIONS_FOR_SHARES = 4_000
_CHECKED = 0.1
_LISTED = 20
_ALIKE = 0.2  # the least cosine that is called a likeness


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One model of a blend.

    Attributes:
        kind: As in `artifact.KINDS`.
        settings: Of that model.
        scale: How scores become probabilities: "share" (a score's share of the sum; the scores
            must not be negative) or "softmax".
        candidates: Best items that it puts before the stack.
        networks: How many are fitted, from different seeds; their probabilities are averaged. It
            pays for models that start from chance, and costs as much again in fitting and asking.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    scale: Literal["share", "softmax"] = "share"
    candidates: int = 100
    networks: int = 1

    def __post_init__(self) -> None:
        if self.scale not in ("share", "softmax"):
            raise ValueError(f"scale is {self.scale!r}; it must be 'share' or 'softmax'.")
        if self.candidates < 0:
            raise ValueError(f"candidates is {self.candidates}; it must be 0 or more.")
        if self.networks < 1:
            raise ValueError(f"networks is {self.networks}; it must be 1 or more.")
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
DEFAULT_CONTENT = Part(kind="content_knn", scale="softmax", candidates=50)
"""What is like the latest clicks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """What is blended, and how.

    Attributes:
        parts: The models.
        content: One model more, where the blend is told what items are like; the stack sees the
            content that it reads. None makes nothing of content.
        blend: "stack", "probability" or "rank"; see the module.
        holdout: Share of the sessions, the newest, that weights and stack are learned from.
        window: Most steps between the items of a pair.
        partners: Most items whose pairs with one item are kept.
        stack: The network over the candidates.
    """

    parts: tuple[Part, ...] = DEFAULT_PARTS
    content: Part | None = DEFAULT_CONTENT
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


class _Learned(NamedTuple):
    """Everything in the order in which the items first appeared.

    Attributes:
        parts: Those of the settings, and the one for content if there is any.
        scorers: The networks of each part, fitted on everything.
        facts: What the features are made of.
        shares: Weights of the probability blend. Shape (parts,).
        stack: What orders the candidates.
        number: Place of each item in that order. Shape (items,).
        content: What items are like, by stream; empty without content. Shapes (items, dim).
    """

    parts: tuple[Part, ...]
    scorers: tuple[tuple[Scorer, ...], ...]
    facts: Facts
    shares: FloatArray
    stack: Stacked
    number: IntArray
    content: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedPart:
    """A part of a blend by itself, with the caller's numbers of items.

    Attributes:
        part: What was fitted.
        scorer: It, or the first of its networks, with the blend's own numbers of items.
        number: Those by item. Shape (items,).
    """

    part: Part
    scorer: Scorer
    number: IntArray

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item. Shape (sessions, items)."""
        scores: FloatArray = self.scorer.score(_renumbered(sessions, self.number))[:, self.number]
        return scores


class Hybrid:
    """A blend of models; see the module for papers and equations.

    Args:
        config: What is blended, and how.
        features: Content vectors by stream, one row an item; a row of NaN or of zeros means
            that the item has none. Without any the blend goes by visits alone. Each (items, dim).
    """

    kind: ClassVar[str] = "hybrid"

    def __init__(
        self,
        config: HybridConfig,
        *,
        features: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> None:
        self.config = config
        self._features: dict[str, NDArray[np.floating[Any]]] = dict(features or {})
        self._learned: _Learned | None = None
        self.checked: dict[str, tuple[float, float]] = {}
        """Recall@20 and MRR@20 of the stack and of every part, before it was fitted on everything,
        on the newest questions, from which the stack did not learn. Known after `fit` of a stack,
        if there were questions enough."""

    @property
    def features(self) -> Mapping[str, FloatArray]:
        """What it was told of the items, or what a saved blend keeps of that. (items, dim) each."""
        if self._features or self._learned is None:
            return {name: np.asarray(rows, np.float32) for name, rows in self._features.items()}
        return {name: rows[self._learned.number] for name, rows in self._learned.content.items()}

    @property
    def takes_new_items(self) -> bool:
        """New items are placed beside it (`placement`): its stack learns from clicked ones."""
        return False

    def describe(self, features: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        """Take these features in place of those that it has; see the class."""
        self._features = dict(features)

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
            DataError: If an item index is not below `n_items`, or features cannot be used.
            MomentaryError: If a part cannot learn from the sessions, or gives negative scores
                where shares are wanted.
        """
        require_items_below(sessions.items, n_items)
        features = self.features
        require_row_an_item(features, n_items)
        order = first_appearance(sessions.items, n_items=n_items)
        number = inverse(order)
        ours = _renumbered(sessions, number)
        told = {name: rows[order] for name, rows in features.items()}
        parts = self._parts(told=bool(told))
        seeds = rng.integers(2**63, size=len(parts) + 4)
        sampled, drawn, learned, turned = (
            np.random.default_rng(seed) for seed in seeds[len(parts) :]
        )
        past, late = _cut(ours, self.config.holdout)
        steps = _Steps(progress, 2 * sum(part.networks for part in parts) + 4)
        life = max(len(ours.items), 1)

        early = self._blank(
            parts,
            _fitted(parts, past, n_items=n_items, told=told, seeds=seeds, steps=steps),
            facts_of(past, n_items=n_items, life=life, rng=turned, **self._pairs()),
        )
        known = early.facts.counts > 0
        sample = _questions(late, known, limit=_QUESTIONS_FOR_SHARES, rng=sampled)
        early = early._replace(shares=mixture_shares(self._chances_of_targets(early, *sample)))
        steps.finish("parts weighed")
        if self.config.blend == "stack":
            asked = _questions(late, known, limit=self.config.stack.max_questions, rng=drawn)
            early = self._with_stack(early, *asked, rng=learned, steps=steps)
        whole = self._blank(
            parts,
            _fitted(parts, ours, n_items=n_items, told=told, seeds=seeds, steps=steps),
            facts_of(ours, n_items=n_items, life=life, rng=turned, **self._pairs()),
        )
        steps.end()
        self._learned = whole._replace(shares=early.shares, stack=early.stack, number=number)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Blend the parts' scores. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.number))
        scores = np.empty((len(sessions), len(learned.number)), dtype=np.float32)
        for rows in _blocks(len(sessions)):
            asked = _renumbered(sessions.take(rows), learned.number)
            chances = self._chances_of(learned, asked)
            blended = np.empty(chances.shape[1:], dtype=np.float32)
            write_mixture(chances, np.array(learned.shares), blended)
            self._put_candidates_first(blended, chances=chances, asked=asked, learned=learned)
            in_order(blended, learned.number, scores[rows[0] : rows[-1] + 1])
        return scores

    def sources(self, session: IntArray, items: IntArray) -> list[dict[str, float]]:
        """Tell what put items where they are: shares that sum to 1, by part or kind of evidence.

        With the stack, the share of a group of features is by how much the item's score falls
        when they become those of the average candidate; groups that speak against the item, or
        not at all, have none. For an item that is no candidate, and in the other blends, it is
        each part's share in the item's blended probability.
        """
        learned = require_fitted(self._learned, self)
        asked = _renumbered(Sessions.from_lists([session]), learned.number)
        chances = self._chances_of(learned, asked)
        names = _names(learned)
        numbers = learned.number[items]
        parts = learned.shares[:, None] * chances[:, 0, numbers]  # (parts, items)
        found = [_named_shares(names[: len(parts)], each) for each in parts.T]
        if self._without_stack(learned):
            return found
        answers = self._describe(learned, chances, asked)
        features = answers.features[0, : answers.counts[0]]
        average = features.mean(axis=0)
        sources = groups(len(learned.parts), len(learned.content))
        place_of = {int(item): row for row, item in enumerate(answers.candidates[0])}
        for at, place in enumerate(place_of.get(int(number), -1) for number in numbers):
            if place >= 0:
                changed = np.tile(features[place], (len(names) + 1, 1))
                for row, columns in enumerate(sources, start=1):
                    changed[row, columns] = average[columns]
                values = learned.stack.scores(changed, features)
                found[at] = _named_shares(names, np.maximum(values[0] - values[1:], 0))
        return found

    def likest(self, session: IntArray, item: int) -> tuple[int, tuple[str, ...]] | None:
        """The latest item of the visit that an item is most like, and by which content.

        Args:
            session: Item indices, oldest first. Shape (events,).
            item: Another item.

        Returns:
            The visit's item and the streams in which both are alike, the likest first; None where
            content tells of no likeness.
        """
        learned = require_fitted(self._learned, self)
        latest = dict.fromkeys(session[: -LATEST - 1 : -1].tolist())
        seen = [each for each in latest if each != item]
        if not seen or not learned.content:
            return None
        others, own = learned.number[seen], learned.number[item]
        cosines = np.stack([rows[others] @ rows[own] for rows in learned.content.values()])
        alike = np.maximum(cosines, 0)  # (streams, others)
        best = int(alike.sum(axis=0).argmax())
        order = np.argsort(-alike[:, best], kind="stable")
        names = tuple(learned.content)
        said = tuple(names[at] for at in order if alike[at, best] >= _ALIKE)
        return (seen[best], said) if said else None

    def fitted_parts(self) -> tuple[FittedPart, ...]:
        """The parts as they were fitted on everything, that for content, if there is one, last."""
        learned = require_fitted(self._learned, self)
        return tuple(
            FittedPart(part=part, scorer=networks[0], number=learned.number)
            for part, networks in zip(learned.parts, learned.scorers, strict=True)
        )

    def state(self) -> Arrays:
        """The parts' states, each under its place, and what the blend learned itself."""
        learned = require_fitted(self._learned, self)
        arrays: Arrays = {"number": learned.number, "shares": learned.shares}
        arrays |= {"stack.center": learned.stack.center, "stack.spread": learned.stack.spread}
        for place, network in enumerate(learned.stack.networks):
            arrays |= {f"stack.{place}.out": network.out, f"stack.{place}.linear": network.linear}
            arrays[f"stack.{place}.rivals"] = network.rivals
            for depth, (weight, bias) in enumerate(
                zip(network.weights, network.biases, strict=True)
            ):
                arrays |= {f"stack.{place}.w{depth}": weight, f"stack.{place}.b{depth}": bias}
        arrays |= {f"facts.{name}": array for name, array in learned.facts._asdict().items()}
        for place, networks in enumerate(learned.scorers):
            for copy, scorer in enumerate(networks):
                prefix = _prefix(place, copy)
                arrays |= {prefix + name: array for name, array in scorer.state().items()}
        return arrays

    @classmethod
    def from_state(cls, config: HybridConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The blend that gave `state`, ready to score."""
        model = cls(config)
        scorers = []
        told = any(name.startswith(_prefix(len(config.parts), 0)) for name in state)
        parts = model._parts(told=told)
        for place, part in enumerate(parts):
            unfitted = make(part.kind, part.settings)
            states = [_below(state, _prefix(place, copy)) for copy in range(part.networks)]
            scorers.append(tuple(type(unfitted).from_state(unfitted.config, own) for own in states))
        facts = {
            name: np.require(array, None, ["C", "W"])
            for name, array in _below(state, "facts.").items()
        }
        depths = range(len(config.stack.hidden))
        networks = [
            Network(
                rivals=state[f"stack.{place}.rivals"],
                weights=tuple(state[f"stack.{place}.w{depth}"] for depth in depths),
                biases=tuple(state[f"stack.{place}.b{depth}"] for depth in depths),
                out=state[f"stack.{place}.out"],
                linear=state[f"stack.{place}.linear"],
            )
            for place in range(config.stack.networks)
            if f"stack.{place}.out" in state
        ]
        model._learned = _Learned(
            parts=parts,
            scorers=tuple(scorers),
            facts=Facts(**facts),
            shares=state["shares"],
            stack=Stacked(state["stack.center"], state["stack.spread"], tuple(networks)),
            number=state["number"],
            content=model._content_of(scorers),
        )
        return model

    def _parts(self, *, told: bool) -> tuple[Part, ...]:
        """The parts of a blend that was told what items are like, or was not."""
        content = self.config.content
        if not told or content is None:
            return self.config.parts
        if not isinstance(make(content.kind, content.settings), Described):
            raise MomentaryError(
                f"content is {content.kind!r}, which reads no content; name a model that does, "
                "such as content_knn."
            )
        return (*self.config.parts, content)

    def _pairs(self) -> dict[str, int]:
        return {"window": self.config.window, "partners": self.config.partners}

    def _blank(
        self, parts: tuple[Part, ...], scorers: tuple[tuple[Scorer, ...], ...], facts: Facts
    ) -> _Learned:
        """Parts and facts without weights and stack; the items are numbered already."""
        nothing = np.zeros(0, dtype=np.float32)
        return _Learned(
            parts=parts,
            scorers=scorers,
            facts=facts,
            shares=np.full(len(scorers), 1 / len(scorers), dtype=np.float32),
            stack=Stacked(nothing, nothing, ()),
            number=np.arange(len(facts.counts)),
            content=self._content_of(scorers),
        )

    def _content_of(self, scorers: Sequence[tuple[Scorer, ...]]) -> Mapping[str, FloatArray]:
        """What the part for content reads, if there is one."""
        if len(scorers) == len(self.config.parts):
            return {}
        return cast("Described", scorers[-1][0]).features

    def _with_stack(
        self,
        early: _Learned,
        history: Sessions,
        targets: IntArray,
        *,
        rng: np.random.Generator,
        steps: _Steps,
    ) -> _Learned:
        """Learn to order candidates by these questions, the last of which say how well it went."""
        lesson = self._ask(early, history, targets, progress=steps.inner("questions"))
        steps.finish("questions asked")
        kept = len(lesson.targets) - round(_CHECKED * len(lesson.targets))
        stack = learn_stack(
            lesson.take(slice(0, kept)),
            self.config.stack,
            rng=rng,
            progress=steps.inner("stack"),
        )
        names = _names(early)[: len(early.parts)]
        self.checked = _check(lesson.take(slice(kept, None)), stack, parts=names)
        steps.finish(" ".join(f"{name} {mrr:.4f}" for name, (_, mrr) in self.checked.items()))
        return early._replace(stack=stack)

    def _chances_of_targets(
        self, early: _Learned, history: Sessions, targets: IntArray
    ) -> FloatArray:
        """The chance that each part gave what came next. Shape (questions, parts)."""
        given = np.zeros((len(targets), len(early.parts)), dtype=np.float32)
        for rows in _blocks(len(targets)):
            chances = self._chances_of(early, history.take(rows))
            given[rows] = chances[:, np.arange(len(rows)), targets[rows]].T
        return given

    def _ask(
        self, early: _Learned, history: Sessions, targets: IntArray, *, progress: Progress
    ) -> Lesson:
        """Have the candidates of every question described, and see where what came next is."""
        lesson = Lesson.blank(
            len(targets),
            candidates=self.config.stack.candidates,
            features=width_of(len(early.parts), len(early.content)),
        )
        for rows in _blocks(len(targets)):
            asked = history.take(rows)
            answers = self._describe(early, self._chances_of(early, asked), asked)
            width = answers.candidates.shape[1]
            lesson.features[rows, :width] = answers.features
            lesson.counts[rows] = answers.counts
            hit = answers.candidates == targets[rows, None]
            lesson.targets[rows] = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
            progress(int(rows[-1]) + 1, len(targets))
        return lesson

    def _describe(self, learned: _Learned, chances: FloatArray, asked: Sessions) -> Answers:
        limits = np.array([part.candidates for part in learned.parts], dtype=np.int64)
        return describe(
            chances,
            limits,
            shares=learned.shares,
            most=self.config.stack.candidates if self.config.blend == "stack" else limits.sum(),
            sessions=asked,
            facts=learned.facts,
            content=tuple(learned.content.values()),
        )

    def _chances_of(self, learned: _Learned, asked: Sessions) -> FloatArray:
        """What every part makes of every item. Shape (parts, rows, items)."""
        parts = learned.parts
        shape = (len(parts), len(asked), len(learned.facts.counts))
        chances = np.empty(shape, dtype=np.float32)
        for networks, part, out in zip(learned.scorers, parts, chances, strict=True):
            _write_chances(_scores_of(networks[0], part, asked), part, out)
            for network in networks[1:]:
                another = np.empty_like(out)
                _write_chances(_scores_of(network, part, asked), part, another)
                out += another
            if len(networks) > 1:
                out /= len(networks)
        return chances

    def _without_stack(self, learned: _Learned) -> bool:
        return self.config.blend != "stack" or not learned.stack.networks

    def _put_candidates_first(
        self, blended: FloatArray, *, chances: FloatArray, asked: Sessions, learned: _Learned
    ) -> None:
        """Let the candidates' scores stand above all others, which are at most 1."""
        by_rank = self.config.blend == "rank"
        if not by_rank and self._without_stack(learned):
            return
        answers = self._describe(learned, chances, asked)
        for row, count in enumerate(answers.counts):
            features = answers.features[row, :count]
            if by_rank:
                reciprocal = features[:, 2 : len(chances) * A_PART : A_PART]
                values = fused_ranks(reciprocal, learned.shares)
            else:
                values = learned.stack.scores(features)
            blended[row, answers.candidates[row, :count]] = (
                values - values.min(initial=np.inf) + 2.0
            )


_EVIDENCE = ("seen in this visit", "popular", "follows", "together")
"""What the stack knows besides the parts' answers, in the order of `groups`; content follows."""


def _names(learned: _Learned) -> tuple[str, ...]:
    """Of the parts, and of what the stack knows besides."""
    kinds = [part.kind for part in learned.parts]
    parts = [
        kind if kinds.index(kind) == place else f"{kind} {kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]
    return (*parts, *_EVIDENCE, *(f"content {stream}" for stream in learned.content))


class _Steps:
    """Tells how far `fit` is, in hundredths of steps that are held for equally long."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def inner(self, name: str) -> Progress:
        """What one step tells of itself."""

        def tell(done: int, total: int, note: str = "") -> None:
            share = min(int(100 * done / max(total, 1)), 99)
            self._tell(100 * self._done + share, f"{name}: {note}" if note else name)

        return tell

    def finish(self, note: str) -> None:
        """One step is done."""
        self._done += 1
        self._tell(100 * self._done, note)

    def end(self) -> None:
        """All is done."""
        self._tell(100 * self._total, "ready")

    def _tell(self, done: int, note: str) -> None:
        self._progress(done, 100 * self._total, note)


def _fitted(
    parts: Sequence[Part],
    sessions: Sessions,
    *,
    n_items: int,
    told: Mapping[str, FloatArray],
    seeds: IntArray,
    steps: _Steps,
) -> tuple[tuple[Scorer, ...], ...]:
    """The networks of each part, fitted; those that read content are told of it before."""
    scorers = []
    for part, seed in zip(parts, seeds, strict=False):
        networks = []
        for copy in range(part.networks):
            network = make(part.kind, part.settings)
            if isinstance(network, Described):
                network.describe(told)
            network.fit(
                sessions,
                n_items=n_items,
                rng=np.random.default_rng([seed, copy] if copy else seed),
                progress=steps.inner(part.kind),
            )
            networks.append(network)
            steps.finish(f"{part.kind} fitted")
        scorers.append(tuple(networks))
    return tuple(scorers)


def _check(
    lesson: Lesson, stack: Stacked, *, parts: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """See how well questions are answered that the stack has not learned from."""
    if not len(lesson.targets):
        return {}
    found = np.zeros((1 + len(parts), len(lesson.targets)))
    for row, (target, count) in enumerate(zip(lesson.targets, lesson.counts, strict=True)):
        if target >= 0:
            features = lesson.features[row, :count].astype(np.float32)
            if stack.networks:
                scores = stack.scores(features)
                found[0, row] = 1 / (scores >= scores[target]).sum()
            found[1:, row] = features[target, 2 : len(parts) * A_PART : A_PART]
    hits = found > 1 / (_LISTED + 0.5)
    recall, mrr = hits.mean(axis=1), np.where(hits, found, 0).mean(axis=1)
    return {
        name: (float(one), float(other))
        for name, one, other in zip(("stack", *parts), recall, mrr, strict=True)
    }


def _blocks(count: int) -> Iterator[IntArray]:
    """The numbers below `count`, some at a time."""
    for start in range(0, count, _ROWS_AT_ONCE):
        yield np.arange(start, min(start + _ROWS_AT_ONCE, count))


def _named_shares(names: Sequence[str], values: FloatArray) -> dict[str, float]:
    total = float(values.sum())
    if total <= 0:
        return dict.fromkeys(names, 1 / len(names))
    return {name: float(value) / total for name, value in zip(names, values, strict=True)}


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def _prefix(place: int, copy: int) -> str:
    """What the arrays of a part's network begin with; the first's bears no number of its own."""
    return f"part{place}+{copy}." if copy else f"part{place}."


def _renumbered(sessions: Sessions, number: IntArray) -> Sessions:
    return replace(sessions, items=number[sessions.items])


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
        types=None if late.types is None else late.types[kept][events],
    )
    return history, items[asked]


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


@cache
def _is_quick(model: type) -> bool:
    """Whether a model is `Quick`, which takes long to find out."""
    return issubclass(model, Quick)


def _scores_of(scorer: Scorer, part: Part, asked: Sessions) -> FloatArray:
    """Score every item, the part's candidates in full. Shape (sessions, items)."""
    if not _is_quick(type(scorer)):
        return scorer.score(asked)
    return _scores_of_each(cast("Quick", scorer), asked, exact=max(part.candidates, 1))


def _scores_of_each(scorer: Quick, asked: Sessions, *, exact: int) -> FloatArray:
    """Score every item visit by visit, the best ones in full. Shape (sessions, items)."""
    first, *rest = (
        scorer.score_visit(asked.items[start:end], exact=exact)
        for start, end in pairwise(asked.offsets)
    )
    return np.stack([first, *rest]) if rest else first[None]


def _write_chances(scores: FloatArray, part: Part, out: FloatArray) -> None:
    """Write a part's scores as probabilities over the catalogue. Shapes (rows, items)."""
    if part.scale == "softmax":
        write_softmax(scores, out)
        return
    lowest = write_shares(scores, out)
    if lowest < 0:
        raise MomentaryError(
            f"{part.kind} gave a score of {lowest}, which is no share of anything; "
            "give that part the scale 'softmax'."
        )
