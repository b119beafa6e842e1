"""Negative items, drawn from a power of their popularity."""

from __future__ import annotations

import numpy as np

from momentary.types import IntArray


class PopularitySampler:
    """Draws items with probability proportional to count ** alpha.

    Source: Hidasi & Karatzoglou, CIKM 2018, section 3.1 (shared additional negatives).

    Args:
        counts: How often each item was seen. Shape (items,).
        alpha: 0 draws uniformly among the items that were seen, 1 by popularity.
        rng: The chance that draws.
    """

    def __init__(self, counts: IntArray, *, alpha: float, rng: np.random.Generator) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
        if counts.sum() <= 0:
            raise ValueError("counts are all 0; at least one item must have been seen.")
        weights = np.where(counts > 0, counts.astype(np.float64) ** alpha, 0.0)
        self._cumulative = np.cumsum(weights)
        self._rng = rng

    def draw(self, count: int) -> IntArray:
        """Item indices, with repeats. Shape (count,)."""
        at = self._rng.random(count) * self._cumulative[-1]
        drawn: IntArray = np.searchsorted(self._cumulative, at, side="right")
        return drawn
