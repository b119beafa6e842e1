"""Which items stand in the denominator of a softmax that is too wide to be summed whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from momentary.types import FloatArray, IntArray


class Candidates(NamedTuple):
    """Items of one step's denominator, each once, ascending.

    Attributes:
        items: Shape (candidates,).
        places: Where each of the batch's own items stands among them. Shape of the batch.
        log_inclusion: Log of the chance that a step holds the item for the sake of others. Shape
            (candidates,).
    """

    items: IntArray
    places: IntArray
    log_inclusion: FloatArray


class CandidateSampler:
    """Takes the batch's own items and others drawn by popularity ** alpha, without duplicates.

    Dividing each candidate's exp(score) by its inclusion probability makes the sum an unbiased
    estimate of the whole one (Horvitz & Thompson, JASA 1952): with n draws from q, and a batch
    of b events that follow the popularity p,

        inclusion(i) = 1 - exp(-(b p_i + n q_i))

    For a question of a session that is in the batch, that session's own items are there for
    certain: their chance is 1, and whoever asks has to see to it. The logQ correction (Bengio &
    Senecal 2008) is the limit for rare items; here a popular item, which nearly every step holds,
    counts as it does in the whole softmax.

    Args:
        counts: How often each item was seen. Shape (items,).
        n_sample: Draws a step besides the targets.
        alpha: 0 draws uniformly among the items that were seen, 1 by popularity.
        rng: The chance that draws.
    """

    def __init__(
        self, counts: IntArray, *, n_sample: int, alpha: float, rng: np.random.Generator
    ) -> None:
        if counts.sum() <= 0:
            raise ValueError("counts are all 0; at least one item must have been seen.")
        weights = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** alpha, 0.0)
        self._cumulative = np.cumsum(weights)
        self._drawn = n_sample * weights / weights.sum()
        self._popularity = counts / counts.sum()
        self._n_sample = n_sample
        self._rng = rng

    def draw(self, own: IntArray, *, events: int | None = None) -> Candidates:
        """The candidates of a step whose sessions hold `own`, an array of items of any shape.

        `events` says how many of them are events, where others are padding.
        """
        at = self._rng.random(self._n_sample) * self._cumulative[-1]
        negatives = np.searchsorted(self._cumulative, at, side="right")
        joined = np.concatenate([own.ravel(), negatives])
        items, places = np.unique(joined, return_inverse=True)
        count = own.size if events is None else events
        expected = count * self._popularity[items] + self._drawn[items]
        return Candidates(
            items=items,
            places=places[: own.size].reshape(own.shape),
            log_inclusion=np.log(-np.expm1(-expected)).astype(np.float32),
        )
