"""Lists straight from the states of visits, without a row of scores, and several at once.

A model whose score is a product with an item's vector needs no row of scores where no rule asks
for one. `learn.best_items` finds the best of the allowed items; the order, ties and limits are
those of `recommend.pipeline`, which falls back to whole rows where a list has room left. Among very
many items a graph (`learn.graph`) names candidates first; scores are the exact ones all the same.
"""

from __future__ import annotations

import numpy as np

from momentary.learn.best_items import BestItems, Rows
from momentary.learn.graph import Graph
from momentary.models.protocol import Factored, Incremental
from momentary.types import BoolArray, FloatArray, IntArray, Sessions

_SAMPLES = 512
_SAMPLE_CLICKS = 3
_LEAST_SHARE = 0.2
_SPARE = 1.25
_DEPTHS = (50, 100, 200, 400)


class Index:
    """The items of one factored model, laid out for the search.

    With a graph, lists come from a walk along it, unless rules allow less than a fifth of the
    items, or a visit or a list is so long that the walk would cost what it saves, or the walk finds
    too few: those lists come from the exact search. Which way a list comes depends on its own
    question alone. Items behind those of the graph, which were placed since it was built and may
    move with every click, are searched exactly beside it.

    Args:
        model: Its vectors are not to be changed any more.
        n_items: Of the model.
        graph: Of its first items; None searches exactly.

    Attributes:
        graph: As given.
    """

    def __init__(self, model: Factored, *, n_items: int, graph: Graph | None = None) -> None:
        self._model = model
        vectors, biases = model.item_vectors()
        samples = _samples(model, n_items)
        self._best = BestItems(vectors, biases, samples=samples)
        self.graph = graph
        self._walked = self._scanned = 0
        self._newer: BestItems | None = None
        if graph is not None and graph.n_items < len(vectors):
            newer = slice(graph.n_items, None)
            self._newer = BestItems(vectors[newer], biases[newer], samples=samples)
        self._share: tuple[BoolArray, float] | None = None

    def best(
        self, states: FloatArray, k: int, *, allowed: BoolArray, excluded: Rows | None
    ) -> tuple[IntArray, FloatArray]:
        """The best `k` items after each visit and their scores; see `BestItems.best`."""
        queries = self._model.queries(states)
        if self.graph is None:
            self._scanned += len(queries)
            return self._best.best(queries, k, allowed=allowed, excluded=excluded)
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        depths = self._depths(len(queries), k, share=self._allowed(allowed), excluded=excluded)
        # Nothing leads a stranger's walk, and what is likely at all is found exactly at once.
        depths[~queries.any(axis=1)] = 0
        for depth in np.unique(depths[depths > 0]).tolist():
            rows = np.flatnonzero(depths == depth)
            near = self._near(self.graph, queries[rows], depth, allowed=allowed)
            found[rows], scores[rows] = self._best.among(
                queries[rows], k, near=near, allowed=allowed, excluded=_of(excluded, rows)
            )
        short = np.flatnonzero(found[:, -1] < 0)
        if len(short):
            found[short], scores[short] = self._best.best(
                queries[short], k, allowed=allowed, excluded=_of(excluded, short)
            )
        self._walked += len(queries) - len(short)
        self._scanned += len(short)
        return found, scores

    def taken(self) -> tuple[int, int]:
        """Lists from the graph and from the exact search since this was asked last."""
        found = self._walked, self._scanned
        self._walked = self._scanned = 0
        return found

    def _allowed(self, allowed: BoolArray) -> float:
        """The share of the items that may be listed; masks are kept and come again."""
        if self._share is None or self._share[0] is not allowed:
            self._share = (allowed, float(np.count_nonzero(allowed)) / max(1, len(allowed)))
        return self._share[1]

    def _near(
        self, graph: Graph, queries: FloatArray, depth: int, *, allowed: BoolArray
    ) -> IntArray:
        """What may be among the best of each query. Shape (queries, candidates)."""
        near = graph.near(queries, depth)
        if self._newer is None:
            return near
        own = np.ascontiguousarray(allowed[graph.n_items :])
        newer, _ = self._newer.best(queries, min(depth, len(own)), allowed=own)
        return np.hstack([near, np.sort(np.where(newer < 0, -1, newer + graph.n_items), axis=1)])

    @staticmethod
    def _depths(count: int, k: int, *, share: float, excluded: Rows | None) -> IntArray:
        """How many of the best items each walk has to find; 0 for none. Shape (queries,)."""
        if share < _LEAST_SHARE:
            return np.zeros(count, dtype=np.int64)
        held = 0 if excluded is None else np.diff(excluded[1])
        wanted = np.broadcast_to((k + held) * (1 if share == 1 else _SPARE / share), (count,))
        places = np.searchsorted(_DEPTHS, wanted)
        return np.array([*_DEPTHS, 0], dtype=np.int64)[places]

    def states(self, sessions: Sessions) -> FloatArray:
        """The states of visits after their last clicks. Shape (sessions, width)."""
        return states_after(self._model, sessions)


def index_of(scorer: object, *, n_items: int, graph: Graph | None = None) -> Index | None:
    """The index of a scorer; None where its scores are no such products, or no numbers."""
    if not isinstance(scorer, Factored) or n_items == 0:
        return None
    try:
        return Index(scorer, n_items=n_items, graph=graph)
    except ValueError:
        # A model that has gone wrong says so where it scores.
        return None


def _of(excluded: Rows | None, rows: IntArray) -> Rows | None:
    """What some of the queries may not be given."""
    if excluded is None or len(rows) == len(excluded[1]) - 1:
        return excluded
    held, offsets = excluded
    counts = np.diff(offsets)[rows]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.arange(ends[-1]) - np.repeat(ends[:-1] - offsets[:-1][rows], counts)
    return held[places], ends


def states_after(model: Incremental, sessions: Sessions) -> FloatArray:
    """The states of visits after their last clicks. Shape (sessions, width)."""
    states = model.start(len(sessions))
    lengths = sessions.lengths
    for place in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > place)
        states[rows] = model.advance(states[rows], sessions.items[sessions.offsets[rows] + place])
    return states


def _samples(model: Factored, n_items: int) -> FloatArray:
    """Queries after a few clicks, of which the likelier items get more."""
    likeliest = np.argsort(-model.item_vectors()[1], kind="stable")
    places = (n_items ** (np.arange(_SAMPLES) / _SAMPLES)).astype(np.int64) - 1
    states = model.start(_SAMPLES)
    for click in range(_SAMPLE_CLICKS):
        # Another order each time, so that clicks are not all on the same item.
        states = model.advance(states, likeliest[np.roll(places, click * _SAMPLES // 3)])
    return model.queries(states)
