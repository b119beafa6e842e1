"""Lists straight from the states of visits, without a row of scores: exact, and several at once.

A model whose score is a product with an item's vector needs no row of scores where no rule asks
for one. `learn.best_items` finds the best of the allowed items; the order, ties and limits are
those of `recommend.pipeline`, which falls back to whole rows where a list has room left.
"""

from __future__ import annotations

import numpy as np

from momentary.learn.best_items import BestItems, Rows
from momentary.models.protocol import Factored, Incremental
from momentary.types import BoolArray, FloatArray, IntArray, Sessions

_SAMPLES = 512
_SAMPLE_CLICKS = 3


class Index:
    """The items of one factored model, laid out for the search.

    Args:
        model: Its vectors are not to be changed any more.
        n_items: Of the model.
    """

    def __init__(self, model: Factored, *, n_items: int) -> None:
        self._model = model
        vectors, biases = model.item_vectors()
        self._best = BestItems(vectors, biases, samples=_samples(model, n_items))

    def best(
        self, states: FloatArray, k: int, *, allowed: BoolArray, excluded: Rows | None
    ) -> tuple[IntArray, FloatArray]:
        """The best `k` items after each visit and their scores; see `BestItems.best`."""
        return self._best.best(self._model.queries(states), k, allowed=allowed, excluded=excluded)

    def states(self, sessions: Sessions) -> FloatArray:
        """The states of visits after their last clicks. Shape (sessions, width)."""
        return states_after(self._model, sessions)


def index_of(scorer: object, *, n_items: int) -> Index | None:
    """The index of a scorer; None where its scores are no such products, or no numbers."""
    if not isinstance(scorer, Factored) or n_items == 0:
        return None
    try:
        return Index(scorer, n_items=n_items)
    except ValueError:
        # A model that has gone wrong says so where it scores.
        return None


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
