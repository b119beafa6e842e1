"""Negative items, drawn from a power of their popularity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from momentary.learn.arithmetic import kernel
from momentary.types import IntArray


class PopularitySampler:
    """Draws items with probability proportional to count ** alpha, each in constant time.

    Sources: Hidasi & Karatzoglou, CIKM 2018, section 3.1 (shared additional negatives); Vose,
    "A linear algorithm for generating random numbers with a given distribution", IEEE TSE 1991
    (the alias table: every column holds at most two items and is drawn as often as any other).

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
        seen = np.flatnonzero(counts > 0)
        weights = counts[seen].astype(np.float64) ** alpha
        self._items = seen
        self._keep, self._alias = _alias_table(weights * (len(seen) / weights.sum()))
        self._rng = rng

    def draw(self, count: int) -> IntArray:
        """Item indices, with repeats. Shape (count,)."""
        bits = self._rng.integers(2**64 - 1, size=count, dtype=np.uint64, endpoint=True)
        drawn = np.empty(count, dtype=np.int64)
        _look_up(bits, self._items, drawn, keep=self._keep, alias=self._alias)
        return drawn


@kernel
def _alias_table(heights: NDArray[np.float64]) -> tuple[NDArray[np.float64], IntArray]:
    """Cut columns of mean height 1 into columns of height 1 that hold at most two items.

    Returns:
        The part of each column that is its own, and whose the rest is.
    """
    count = len(heights)
    keep, alias = heights.copy(), np.arange(count)
    waiting = np.empty(count, dtype=np.int64)  # low columns from the left, high from the right
    low, high = 0, count
    for column in range(count):
        if keep[column] < 1.0:
            waiting[low] = column
            low += 1
        else:
            high -= 1
            waiting[high] = column
    while low > 0 and high < count:
        low -= 1
        short, tall = waiting[low], waiting[high]
        alias[short] = tall
        keep[tall] -= 1.0 - keep[short]
        if keep[tall] < 1.0:
            high += 1
            waiting[low] = tall
            low += 1
    for place in range(count):  # what rounding left over is full
        if place < low or place >= high:
            keep[waiting[place]] = 1.0
    return keep, alias


@kernel
def _look_up(
    bits: NDArray[np.uint64],
    items: IntArray,
    drawn: IntArray,
    *,
    keep: NDArray[np.float64],
    alias: IntArray,
) -> None:
    """The upper half of the bits chooses a column, the lower half a part of it."""
    for i in range(len(bits)):
        column = np.int64(((bits[i] >> np.uint64(32)) * np.uint64(len(items))) >> np.uint64(32))
        part = np.float64(bits[i] & np.uint64(0xFFFFFFFF)) * 2.0**-32
        drawn[i] = items[column] if part < keep[column] else items[alias[column]]
