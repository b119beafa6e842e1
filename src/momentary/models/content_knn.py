r"""Content kNN: what is like the latest clicks, by what items are and not by who chose them.

Each kind of content (text, picture, sound) is a stream of unit vectors x, brought around their
mean and into the directions in which they differ most (`learn.content`). With m the direction of
the visit's latest items, each weighing 0.7 of the one after it, and n_i the events of item i,

    score(i | s) = sum over streams f of [a_f x_last . x_i + b_f m . x_i + d_f known_f(i)]
                   + c log(1 + n_i),

and for one of the latest items themselves, r + c log(1 + n_i). The weights are those of a
conditional logit (`learn.choice`) on clicks of the training sessions: exp(score) is a chance, up to
its sum, and a kind of content that tells nothing weighs nothing. Content-based filtering with
weights from behaviour; cosines of content as a baseline: Lops, de Gemmis & Semeraro, "Content-based
recommender systems" (Recommender Systems Handbook, 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from momentary.learn.bounds import require_ranges
from momentary.learn.choice import learn_choice
from momentary.learn.content import (
    named_arrays,
    narrowed,
    require_row_an_item,
    streams_of,
    unit_rows,
)
from momentary.learn.content_evidence import LATEST, latest_means
from momentary.learn.counts import require_items_below
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance
from momentary.learn.threads import one_blas_thread
from momentary.learn.top_items import TopItems
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

_A_STREAM = 3
"""Weights of one stream: a, b and d. Behind all streams come c and r."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentKNNConfig:
    """How content is compared.

    Attributes:
        width: Numbers of a vector that are kept; wider content is reduced.
        questions: Clicks that the weights are learned from, drawn at random.
        rivals: Items beside what was clicked in each of these questions; a larger catalogue is
            represented by a sample.
        penalty: On the squared weights.
    """

    width: int = 64
    questions: int = 1_000
    rivals: int = 1_024
    penalty: float = 1.0

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)


_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 10_000),
    "questions": (1, 1_000_000),
    "rivals": (1, 1_000_000),
    "penalty": (1e-9, 1e9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What `fit` found.

    Attributes:
        streams: Unit rows, zeros where nothing is known. Shapes (items, dim).
        popularity: log(1 + n). Shape (items,).
        weights: Three a stream, then c and r; see the module. Shape (weights,).
        vectors: All streams side by side. Shape (items, all dims).
        biases: What does not hang on the visit. Shape (items,).
        top: Finds the best items of one query.
    """

    streams: Mapping[str, FloatArray]
    popularity: FloatArray
    weights: FloatArray
    vectors: FloatArray = field(init=False)
    biases: FloatArray = field(init=False)
    top: TopItems = field(init=False)

    def __post_init__(self) -> None:
        none = np.zeros((len(self.popularity), 1), dtype=np.float32)
        vectors = np.concatenate([*self.streams.values(), none][: len(self.streams) or 1], axis=1)
        biases = self.weights[-2] * self.popularity
        for place, rows in enumerate(self.streams.values()):
            biases = biases + self.weights[_A_STREAM * place + 2] * rows.any(axis=1)
        object.__setattr__(self, "vectors", np.ascontiguousarray(vectors))
        object.__setattr__(self, "biases", biases.astype(np.float32))
        object.__setattr__(self, "top", TopItems(self.vectors, self.biases))

    def queries(self, items: IntArray, offsets: IntArray) -> FloatArray:
        """What the items' vectors are multiplied with. Shape (visits, all dims)."""
        parts = [np.zeros((len(offsets) - 1, self.vectors.shape[1] if not self.streams else 0))]
        for place, rows in enumerate(self.streams.values()):
            a, b, _ = self.weights[_A_STREAM * place : _A_STREAM * (place + 1)]
            last, mean = directions(items, offsets, rows)
            parts.append(a * last + b * mean)
        return np.concatenate(parts, axis=1).astype(np.float32)

    def again(self, visited: IntArray) -> FloatArray:
        """The scores of the latest items themselves. Shape (items,)."""
        scores: FloatArray = self.weights[-1] + self.weights[-2] * self.popularity[visited]
        return scores


class ContentKNN:
    """Score an item by how like it is to the visit's latest items; see the module.

    Without features it knows only what is popular, and how often visitors come back to an item.

    Args:
        config: How content is compared.
        features: Content vectors by stream, one row an item; a row of NaN or of zeros means
            that the item has none. Each (items, dim).

    Raises:
        DataError: If a matrix cannot be used; the message says which and why.
    """

    kind: ClassVar[str] = "content_knn"

    def __init__(
        self,
        config: ContentKNNConfig | None = None,
        *,
        features: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> None:
        self.config = config or ContentKNNConfig()
        self._streams: dict[str, FloatArray] = {}
        self.describe(features or {})
        self._learned: _Learned | None = None

    @property
    def features(self) -> Mapping[str, FloatArray]:
        """The content that it compares, by stream, already reduced. Shapes (items, dim)."""
        return self._streams

    @property
    def takes_new_items(self) -> bool:
        """It recommends items of which it knows the content alone."""
        return True

    def describe(self, features: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        """Take these features in place of those that it has; see the class.

        Raises:
            DataError: If a matrix cannot be used; the message says which and why.
        """
        self._streams = {
            name: np.ascontiguousarray(narrowed(unit_rows(name, matrix), width=self.config.width))
            for name, matrix in features.items()
        }

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Learn the weights.

        Raises:
            DataError: If an item index is not below `n_items`, or a matrix of features has not
                one row an item.
        """
        require_items_below(sessions.items, n_items)
        require_row_an_item(self._streams, n_items)
        counts = np.bincount(sessions.items, minlength=n_items)
        popularity = np.log1p(counts).astype(np.float32)
        with one_blas_thread():
            reasons, offsets = _questions(
                sessions, self._streams, popularity, config=self.config, rng=rng
            )
            weights = learn_choice(reasons, offsets, penalty=self.config.penalty)
        self._learned = _Learned(
            streams=self._streams, popularity=popularity, weights=weights.astype(np.float32)
        )
        progress(1, 1, "weights learned")
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item by its likeness to the latest items. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.biases))
        with one_blas_thread():
            scores = learned.queries(sessions.items, sessions.offsets) @ learned.vectors.T
        scores += learned.biases
        for row in range(len(sessions)):
            visited = sessions.session(row)[-LATEST:]
            scores[row, visited] = learned.again(visited)
        return scores

    def score_visit(self, items: IntArray, *, exact: int) -> FloatArray:
        """Score every item, all but the best from bytes (`learn.top_items`). Shape (items,)."""
        learned = require_fitted(self._learned, self)
        visited = items[-LATEST:]
        query = learned.queries(items, np.array([0, len(items)]))[0]
        # As many more are scored in full as may then turn out to be in the visit.
        scores = learned.top.scores(query, exact=exact + len(visited))
        scores[visited] = learned.again(visited)
        return scores

    def state(self) -> Arrays:
        """The weights, the counts, and the content by stream."""
        learned = require_fitted(self._learned, self)
        content = named_arrays(learned.streams)
        return {"weights": learned.weights, "popularity": learned.popularity, **content}

    @classmethod
    def from_state(cls, config: ContentKNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`; the content comes with it."""
        model = cls(config)
        # Writable, because read-only arrays would have the kernels compiled once more.
        model._streams = {
            name: np.require(rows, None, ["C", "W"]) for name, rows in streams_of(state).items()
        }
        model._learned = _Learned(
            streams=model._streams, popularity=state["popularity"], weights=state["weights"]
        )
        return model


def directions(
    items: IntArray, offsets: IntArray, rows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Where visits point to: their last items, and their latest ones. Both (visits, dim)."""
    lengths = np.diff(offsets)
    last = np.zeros((len(lengths), rows.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(lengths)
    last[filled] = rows[items[offsets[filled + 1] - 1]]
    mean = np.zeros_like(last)
    latest_means(np.array(items), np.array(offsets), rows, mean)
    return last, mean


def _questions(
    sessions: Sessions,
    streams: Mapping[str, FloatArray],
    popularity: FloatArray,
    *,
    config: ContentKNNConfig,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """What speaks for each thing that could have been clicked, as `learn_choice` wants it."""
    n_items = len(popularity)
    begun = np.repeat(sessions.offsets[:-1], sessions.lengths)
    asked = np.flatnonzero(np.arange(len(begun)) > begun)
    asked = np.sort(rng.permutation(asked)[: config.questions])
    # In the order of appearance, so that names do not matter.
    order = first_appearance(sessions.items, n_items=n_items)
    drawn = order[np.sort(rng.permutation(n_items)[: config.rivals])]
    targets = sessions.items[asked]
    histories = [sessions.items[max(begun[at], at - LATEST) : at] for at in asked]
    things, again = _things(targets, histories, drawn)
    past = Sessions.from_lists(histories)
    reasons = np.zeros((*things.shape, _A_STREAM * len(streams) + 2), dtype=np.float32)
    for place, rows in enumerate(streams.values()):
        for way, query in enumerate(directions(past.items, past.offsets, rows)):
            found = reasons[:, :, _A_STREAM * place + way]
            found[:, 0] = np.einsum("qj,qj->q", query, rows[targets])
            found[:, 1 + LATEST :] = query @ rows[drawn].T
            found[again] = 0
        known = np.asarray(rows.any(axis=1))
        reasons[:, :, _A_STREAM * place + 2] = known[things] & ~again
    reasons[:, :, -2] = popularity[things]
    reasons[:, :, -1] = again
    offsets = np.zeros(things.shape, dtype=np.float32)
    offsets[:, 1 + LATEST :] = np.log(n_items / max(len(drawn), 1))
    offsets[things < 0] = -np.inf
    return reasons, offsets


def _things(
    targets: IntArray, histories: Sequence[IntArray], drawn: IntArray
) -> tuple[IntArray, BoolArray]:
    """What was clicked, what had been, and what represents the rest; -1 for nothing.

    Returns:
        Item indices, and whether the visit held the item. Both (questions, things).
    """
    things = np.full((len(targets), 1 + LATEST + len(drawn)), -1, dtype=np.int64)
    again = np.zeros(things.shape, dtype=np.bool_)
    again[:, 1 : 1 + LATEST] = True
    for row, (target, history) in enumerate(zip(targets, histories, strict=True)):
        others = np.setdiff1d(history, target)
        things[row, 0], things[row, 1 : 1 + len(others)] = target, others
        again[row, 0] = target in history
        things[row, 1 + LATEST :] = np.where(np.isin(drawn, [target, *history]), -1, drawn)
    return things, again
