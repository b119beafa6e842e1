r"""Session kNN: what followed in the past sessions that look like this one.

Both models find past sessions that share items with the current session s, keep the most
similar of them, N, and let those vote (the sample of the most recent candidates is from
Jannach & Ludewig, RecSys 2017):

    score(i | s) = sum over n in N with i in n of  sim(s, n) * match(s, n) * near(i, n) * idf(i)

- V-SkNN (Ludewig & Jannach, "Evaluation of session-based recommendation algorithms", UMUAI
  2018, arXiv 1803.09587): sim(s, n) = sum of w(step) over the shared items, where `step` is how
  far from the end of s an item stands; match = w(step of the last shared item); near = 1.
- VSTAN (Garg et al., "Sequence and time aware neighborhood for session-based recommendations",
  SIGIR 2019, doi 10.1145/3331184.3331322; joined with V-SkNN by Ludewig et al., arXiv 1910.12781):
  sim(s, n) = sum of exp(-step / l1) / sqrt(|n|) * exp(-age(n) / l2),
  match = exp(-step of the last shared item / l4),
  near(i, n) = exp(-|distance in n from i to the last shared item| / l3).

Items that are already in the session may be recommended: people return to what they saw. How
soon differs from shop to shop, so near(i, n) is `repeat` for the last shared item itself; the
papers have 1.
Where `event_weights` says what events count, a shared item adds to sim as much as the strongest
events with it in s and in n multiplied, and an event of n votes with its own weight.
Ages count from the newest candidate session, which changes every score of a row by the same
factor and no order, and keeps old data from vanishing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from momentary.learn.counts import (
    US_PER_DAY,
    last_events,
    relative_popularity,
    require_items_below,
    session_rows,
)
from momentary.learn.event_weights import (
    EventWeights,
    counted,
    require_event_weights,
    strongest,
)
from momentary.learn.fitted import require_fitted
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

POPULARITY_SHARE = 1e-6
"""Weight of popularity: below any vote, so that it only orders what got none."""

Weighting = Literal["same", "linear", "quadratic", "div", "log"]
"""How the weight of an item falls with its step from the end of the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VSKNNConfig:
    """How V-SkNN finds and weighs neighbours.

    Attributes:
        neighbours: Similar sessions that vote.
        sample_size: Most recent candidate sessions that are compared.
        weighting: Weight of a shared item in the similarity, by its step from the end.
        match_weighting: Weight of a neighbour's vote, by the step of the last shared item.
        repeat: Weight of a neighbour's vote for the last shared item itself.
        idf_similarity: How much more rare items count in the similarity; 0 is not at all.
        idf_score: How much more rare items count when voted for; 0 is not at all.
        max_session: Only this many last events of a longer session are used.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    neighbours: int = 1000
    sample_size: int = 5000
    weighting: Weighting = "quadratic"
    match_weighting: Weighting = "linear"
    repeat: float = 1.0
    idf_similarity: float = 0.2
    idf_score: float = 1.0
    max_session: int = 100
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_search(self)
        for name in ("weighting", "match_weighting"):
            if getattr(self, name) not in _WEIGHTINGS:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {sorted(_WEIGHTINGS)}."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class VSTANConfig:
    """How VSTAN finds and weighs neighbours; infinity turns a decay off.

    Attributes:
        neighbours: Similar sessions that vote.
        sample_size: Most recent candidate sessions that are compared.
        position_decay: Steps from the session's end over which a shared item's weight in the
            similarity falls to 1/e (lambda 1).
        recency_days: Age in days over which a past session's weight falls to 1/e (lambda 2).
        distance_decay: Steps from the last shared item, inside a past session, over which a
            vote falls to 1/e (lambda 3).
        match_decay: Steps from the session's end of the last shared item over which a vote
            falls to 1/e.
        repeat: Weight of a neighbour's vote for the last shared item itself.
        idf_similarity: How much more rare items count in the similarity; 0 is not at all.
        idf_score: How much more rare items count when voted for; 0 is not at all.
        max_session: Only this many last events of a longer session are used.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    neighbours: int = 1000
    sample_size: int = 5000
    position_decay: float = 2.0
    recency_days: float = 80.0
    distance_decay: float = 2.0
    match_decay: float = 2.0
    repeat: float = 0.2
    idf_similarity: float = 0.2
    idf_score: float = 0.2
    max_session: int = 100
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_search(self)
        for name in ("position_decay", "recency_days", "distance_decay", "match_decay"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be above 0. "
                    "float('inf') turns the decay off."
                )


def _check_search(config: VSKNNConfig | VSTANConfig) -> None:
    require_event_weights(config.event_weights)
    for name in ("neighbours", "sample_size", "max_session"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be 1 or more.")
    for name in ("repeat", "idf_similarity", "idf_score"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be 0 or more, finite.")


class _Index(NamedTuple):
    """Past sessions, numbered from the oldest to the newest.

    Attributes:
        items: Items of the sessions, end to end. Shape (events,).
        offsets: Session s is `items[offsets[s]:offsets[s + 1]]`. Shape (sessions + 1,).
        times_us: Time of each session's last event. Shape (sessions,).
        postings: Sessions that hold an item, oldest first, item by item. Shape (postings,).
        posting_offsets: Where each item's postings start. Shape (items + 1,).
        event_weights: How much each event counts; empty: 1 each. Shape (events,).
        posting_weights: How much the strongest event of a posting does; empty: 1 each. Shape
            (postings,).
    """

    items: NDArray[np.int32]
    offsets: IntArray
    times_us: IntArray
    postings: NDArray[np.int32]
    posting_offsets: IntArray
    event_weights: FloatArray
    posting_weights: FloatArray


_FOR_WEIGHTS = ("event_weights", "posting_weights")
_ALL_ALIKE: FloatArray = np.zeros(0, dtype=np.float32)
"""Stands for weights that are all 1, so that nobody reads them."""


class _Weights(NamedTuple):
    """Everything that tells one session kNN from another, as tables.

    Attributes:
        similarity: By step of a shared item. Shape (max_session,).
        match: By step of the last shared item. Shape (max_session,).
        near: By distance inside a neighbour, from -(max_session - 1). Shape (2 max_session - 1,).
        length: By a neighbour's length. Shape (max_session + 1,).
        similarity_idf: By item. Shape (items,).
        score_idf: By item. Shape (items,).
        decay_per_us: Rate at which similarity falls with age.
    """

    similarity: FloatArray
    match: FloatArray
    near: FloatArray
    length: FloatArray
    similarity_idf: FloatArray
    score_idf: FloatArray
    decay_per_us: float
    neighbours: int
    sample_size: int


class _Scratch(NamedTuple):
    """Room to work in, one entry a past session; zeros between queries where it matters.

    Attributes:
        similarity: To the current session, 0 where nothing is shared. Shape (sessions,).
        bits: The same memory read as integers, which for numbers above 0 have the same order.
        step: Of the last shared item. Shape (sessions,).
        touched: Sessions that share something, in order of discovery. Shape (sessions,).
        keys: Similarity and recency of the sampled sessions as one integer. Shape (sessions,).
    """

    similarity: FloatArray
    bits: NDArray[np.int32]
    step: NDArray[np.int32]
    touched: IntArray
    keys: IntArray


class _Search(NamedTuple):
    """What the kernels work on."""

    past: _Index
    weights: _Weights
    scratch: _Scratch


@dataclass(frozen=True, slots=True)
class _Learned:
    past: _Index
    popularity: FloatArray


Config = TypeVar("Config", VSKNNConfig, VSTANConfig)


class _SessionKNN(Generic[Config]):
    """What both models share: the index of past sessions and the search in it."""

    def __init__(self, config: Config) -> None:
        self.config: Config = config
        self._learned: _Learned | None = None
        self._weights: _Weights | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing here is left to chance
        progress: Progress = silent,
    ) -> Self:
        """Index sessions by the items in them.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        past = _index(last_events(told, self.config.max_session), self.config, n_items=n_items)
        self._learn(_Learned(past, popularity))
        progress(1, 1)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Add up the votes of each session's neighbours. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        weights = require_fitted(self._weights, self)
        require_items_below(sessions.items, len(learned.popularity))
        scores = np.tile(learned.popularity * np.float32(POPULARITY_SHARE), (len(sessions), 1))
        # Copies, because a read-only array would have the kernel compiled once more.
        told, each = counted(sessions, self.config.event_weights)
        weights_of_query = _ALL_ALIKE if each is None else strongest(told, each)
        queries = (np.array(told.items), np.array(told.offsets), weights_of_query)
        scratch = _scratch(len(learned.past.times_us))
        _score_rows(queries, _Search(learned.past, weights, scratch), scores)
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """The indexed sessions."""
        learned = require_fitted(self._learned, self)
        past = learned.past._asdict()
        if not len(learned.past.event_weights):
            past = {name: array for name, array in past.items() if name not in _FOR_WEIGHTS}
        return {**past, "popularity": learned.popularity}

    @classmethod
    def from_state(cls, config: Config, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        writable = {name: np.require(array, None, ["C", "W"]) for name, array in state.items()}
        weights = {name: writable.get(name, _ALL_ALIKE.copy()) for name in _FOR_WEIGHTS}
        past = _Index(**{name: (writable | weights)[name] for name in _Index._fields})
        model._learn(_Learned(past, writable["popularity"]))
        return model

    def _learn(self, learned: _Learned) -> None:
        self._learned = learned
        self._weights = _weights(self.config, learned.past)


class VSKNN(_SessionKNN[VSKNNConfig]):
    """Vector multiplication session kNN."""

    kind: ClassVar[str] = "vsknn"

    def __init__(self, config: VSKNNConfig) -> None:
        """Make a model that has learned nothing yet."""
        super().__init__(config)


class VSTAN(_SessionKNN[VSTANConfig]):
    """Sequence and time aware neighbourhood, with the weights of V-SkNN."""

    kind: ClassVar[str] = "vstan"

    def __init__(self, config: VSTANConfig) -> None:
        """Make a model that has learned nothing yet."""
        super().__init__(config)


def _index(sessions: Sessions, config: VSKNNConfig | VSTANConfig, *, n_items: int) -> _Index:
    by_time = np.argsort(sessions.last_times_us, kind="stable")
    ordered = sessions.take(by_time[sessions.lengths[by_time] > 0])
    pairs, first = np.unique(
        ordered.items * max(len(ordered), 1) + session_rows(ordered), return_index=True
    )
    weights = counted(ordered, config.event_weights)[1]
    holders = np.bincount(pairs // max(len(ordered), 1), minlength=n_items)  # (items,)
    return _Index(
        items=ordered.items.astype(np.int32),
        offsets=ordered.offsets,
        times_us=ordered.last_times_us,
        postings=(pairs % max(len(ordered), 1)).astype(np.int32),
        posting_offsets=np.concatenate([[0], np.cumsum(holders)]).astype(np.int64),
        event_weights=_ALL_ALIKE.copy() if weights is None else weights,
        posting_weights=_ALL_ALIKE.copy()
        if weights is None
        else strongest(ordered, weights)[first],
    )


def _scratch(n_sessions: int) -> _Scratch:
    similarity = np.zeros(n_sessions, dtype=np.float32)
    return _Scratch(
        similarity=similarity,
        bits=similarity.view(np.int32),
        step=np.empty(n_sessions, dtype=np.int32),
        touched=np.empty(n_sessions, dtype=np.int64),
        keys=np.empty(n_sessions, dtype=np.int64),
    )


_WEIGHTINGS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "same": lambda steps: np.ones_like(steps),
    "linear": lambda steps: np.maximum(1.0 - 0.1 * steps, 0.0),
    "quadratic": lambda steps: 1.0 / (steps + 1.0) ** 2,
    "div": lambda steps: 1.0 / (steps + 1.0),
    "log": lambda steps: 1.0 / np.log10(steps + 2.7),
}


def _weights(config: VSKNNConfig | VSTANConfig, past: _Index) -> _Weights:
    steps = np.arange(config.max_session, dtype=np.float64)
    distances = np.abs(np.arange(1 - config.max_session, config.max_session))
    lengths = np.maximum(np.arange(config.max_session + 1), 1)
    if isinstance(config, VSTANConfig):
        similarity = np.exp(-steps / config.position_decay)
        match = np.exp(-steps / config.match_decay)
        near = np.exp(-distances / config.distance_decay)
        length = lengths**-0.5
        decay_per_us = 1.0 / (config.recency_days * US_PER_DAY)
    else:
        similarity = _WEIGHTINGS[config.weighting](steps)
        match = _WEIGHTINGS[config.match_weighting](steps)
        near = np.ones(len(distances))
        length = np.ones(len(lengths))
        decay_per_us = 0.0
    near[config.max_session - 1] = config.repeat  # distance 0
    idf = np.log(max(len(past.times_us), 1) / np.maximum(np.diff(past.posting_offsets), 1))
    return _Weights(
        similarity=similarity.astype(np.float32),
        match=match.astype(np.float32),
        near=near.astype(np.float32),
        length=length.astype(np.float32),
        similarity_idf=(1.0 + config.idf_similarity * idf).astype(np.float32),
        score_idf=(1.0 + config.idf_score * idf).astype(np.float32),
        decay_per_us=decay_per_us,
        neighbours=config.neighbours,
        sample_size=config.sample_size,
    )


@numba.njit(cache=True, nogil=True)
def _score_rows(
    queries: tuple[IntArray, IntArray, FloatArray], search: _Search, scores: FloatArray
) -> None:
    items, offsets, weights = queries
    for row in range(len(offsets) - 1):
        query = items[offsets[row] : offsets[row + 1]]
        touched = _match(query, weights[offsets[row] : offsets[row + 1]], search)
        if touched > 0:
            kept = _nearest(touched, search)
            for neighbour in search.scratch.keys[:kept]:
                _vote(query, neighbour, search, scores[row])
            for session in search.scratch.touched[:touched]:
                search.scratch.similarity[session] = 0.0


@numba.njit(cache=True, nogil=True)
def _match(query: IntArray, counts: FloatArray, search: _Search) -> int:
    """Add up what every past session shares with the query; how many share anything.

    Only the newest `sample_size` holders of each item are read: the newest `sample_size` of all
    candidates are among them. `counts` says how much each event of the query does; empty: 1 each.
    """
    past, weights, scratch = search
    touched = 0
    for step in range(min(len(query), len(weights.similarity))):
        item = query[len(query) - 1 - step]
        weight = weights.similarity[step] * weights.similarity_idf[item]
        if weight <= 0.0 or _stands_later(query, step):
            continue
        if len(counts) > 0:
            weight *= counts[len(query) - 1 - step]
        end = past.posting_offsets[item + 1]
        start = max(past.posting_offsets[item], end - weights.sample_size)
        holders, strengths = past.postings[start:end], past.posting_weights[start:end]
        weighed = len(strengths) > 0
        for place in range(len(holders)):
            session = holders[place]
            if scratch.similarity[session] == 0.0:
                scratch.touched[touched] = session
                scratch.step[session] = step
                touched += 1
            scratch.similarity[session] += weight * strengths[place] if weighed else weight
    return touched


@numba.njit(cache=True, nogil=True)
def _stands_later(query: IntArray, step: int) -> bool:
    position = len(query) - 1 - step
    later = position + 1
    while later < len(query) and query[later] != query[position]:
        later += 1
    return later < len(query)


@numba.njit(cache=True, nogil=True)
def _nearest(touched: int, search: _Search) -> int:
    """Put the neighbours' numbers into the first `keys`; how many there are."""
    past, weights, scratch = search
    candidates = scratch.touched[:touched]
    newest = candidates.max()
    oldest = 0
    if touched > weights.sample_size:
        oldest = _largest_ends_at(candidates.copy(), weights.sample_size)
    kept = 0
    for session in candidates:
        if session >= oldest:
            age_us = past.times_us[newest] - past.times_us[session]
            length = past.offsets[session + 1] - past.offsets[session]
            scratch.similarity[session] *= weights.length[length] * math.exp(
                -age_us * weights.decay_per_us
            )
            # The more similar session comes first; of equal ones the newer.
            scratch.keys[kept] = (np.int64(scratch.bits[session]) << 32) | session
            kept += 1
    if kept > weights.neighbours:
        weakest = _largest_ends_at(scratch.keys[:kept].copy(), weights.neighbours)
        chosen = 0
        for key in scratch.keys[:kept]:
            if key >= weakest:
                scratch.keys[chosen] = key
                chosen += 1
        kept = chosen
    for place in range(kept):
        scratch.keys[place] &= 0xFFFFFFFF
    return kept


@numba.njit(cache=True, nogil=True)
def _largest_ends_at(numbers: IntArray, count: int) -> int:
    """The `count`-th largest number, by Hoare's FIND; `numbers` are rearranged.

    It compiles in a tenth of a second, where NumPy's partition takes Numba several.
    """
    place = len(numbers) - count
    low, high = 0, len(numbers) - 1
    while low < high:
        pivot = numbers[place]
        left, right = low, high
        while left <= right:
            while numbers[left] < pivot:
                left += 1
            while pivot < numbers[right]:
                right -= 1
            if left <= right:
                numbers[left], numbers[right] = numbers[right], numbers[left]
                left += 1
                right -= 1
        if right < place:
            low = left
        if place < left:
            high = right
    return numbers[place]  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _vote(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, session: int, search: _Search, scores: FloatArray
) -> None:
    """Add one neighbour's votes to the scores of one query."""
    past, weights, scratch = search
    step = scratch.step[session]
    shared = query[len(query) - 1 - step]
    start, end = past.offsets[session], past.offsets[session + 1]
    anchor = end - 1
    while past.items[anchor] != shared:
        anchor -= 1
    vote = scratch.similarity[session] * weights.match[step]
    middle = len(weights.near) // 2
    weighed = len(past.event_weights) > 0
    for place in range(start, end):
        item = past.items[place]
        gained = vote * weights.near[place - anchor + middle] * weights.score_idf[item]
        if weighed:
            gained *= past.event_weights[place]
        scores[item] += gained
