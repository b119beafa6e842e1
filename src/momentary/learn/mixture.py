"""Scores as probabilities, and their mixture: a few passes over the catalogue in compiled code."""

from __future__ import annotations

import numpy as np

from momentary.learn.arithmetic import kernel, softmax
from momentary.types import FloatArray, IntArray


@kernel
def write_shares(scores: FloatArray, out: FloatArray) -> np.float32:
    """Write each score's share of its row's sum; the lowest score of all. Shapes (rows, items).

    A row that sums to 0 holds all items for equally likely. Nothing is of use if the lowest score
    is below 0.
    """
    rows, items = scores.shape
    lowest = np.float32(0)
    for row in range(rows):
        total = np.float32(0)
        for i in range(items):
            total += scores[row, i]
            lowest = scores[row, i] if scores[row, i] < lowest else lowest
        if total > 0:
            share = np.float32(1) / total
            for i in range(items):
                out[row, i] = scores[row, i] * share
        else:
            out[row] = np.float32(1) / np.float32(items)
    return lowest


@kernel
def write_softmax(scores: FloatArray, out: FloatArray) -> None:
    """Write the softmax of every row. Shapes (rows, items)."""
    for row in range(len(scores)):
        for i in range(scores.shape[1]):
            out[row, i] = scores[row, i]
        softmax(out[row], np.float32(1))


@kernel
def write_mixture(chances: FloatArray, shares: FloatArray, out: FloatArray) -> None:
    """Mix the parts' probabilities. Shapes (parts, rows, items), (parts,), (rows, items)."""
    parts, rows, items = chances.shape
    for row in range(rows):
        for i in range(items):
            out[row, i] = shares[0] * chances[0, row, i]
        for part in range(1, parts):
            share = shares[part]
            for i in range(items):
                out[row, i] += share * chances[part, row, i]


@kernel
def in_order(values: FloatArray, places: IntArray, out: FloatArray) -> None:
    """Write every row's values at some places. Shapes (rows, items), (items,), (rows, items)."""
    for row in range(len(values)):
        for i in range(len(places)):
            out[row, i] = values[row, places[i]]
