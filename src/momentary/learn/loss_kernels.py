"""Losses over the scores of shared candidates, with their gradients.

Target i of the batch stands in column i; every other column is a negative, and there are at least
two columns. A kernel takes the scores without the part that belongs to a candidate alone (its
bias, a correction) and leaves the gradient where the scores stood, row by row, so that a row is
worked on while it is in the cache. A score that is not a number makes the loss not a number.
"""

from __future__ import annotations

import numpy as np

from momentary.learn.arithmetic import exp, kernel, largest, sigmoid
from momentary.types import FloatArray

_LEAST = np.float32(1e-24)  # keeps the logarithm of BPR-max finite
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@kernel
def cross_entropy(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    scores: FloatArray,
    offsets: FloatArray,
    scale: float,
    column_sums: FloatArray,
    weights: FloatArray | None = None,
) -> float:
    """Softmax cross-entropy of each row's target, summed over the batch.

    With r = scores + offsets and p = softmax(r), the loss is -sum_i log p_ii and its gradient by
    r_ij is p_ij - [i = j]. An offset that holds -log q of its candidate, where q is how often it
    is offered, undoes the bias of sampling (logQ correction; Bengio & Senecal 2008, used for
    GRU4Rec by Hidasi & Czapp 2023, arXiv 2307.14956).

    Args:
        scores: Replaced by the gradient times `scale`. Shape (batch, candidates).
        offsets: Added to every row. Shape (candidates,).
        scale: Factor of the gradient, such as 1 / batch size; the loss is not scaled.
        column_sums: Replaced by the gradient's sum over the batch. Shape (candidates,).
        weights: How much each row counts, in loss and gradient; None: 1 each. Shape (batch,).
    """
    column_sums[:] = _ZERO
    loss = 0.0
    for i in range(len(scores)):
        weight = _ONE if weights is None else weights[i]
        factor = np.float32(scale) * weight
        row = scores[i]
        highest = _add(row, offsets)
        own = row[i]
        total = _ZERO
        for j in range(len(row)):
            row[j] = exp(row[j] - highest)
            total += row[j]
        loss += weight * (np.log(total) + highest - own)
        share = factor / total
        for j in range(len(row)):
            row[j] *= share
            column_sums[j] += row[j]
        row[i] -= factor
        column_sums[i] -= factor
    return loss


@kernel
def bpr_max(  # noqa: PLR0913, PLR0917 - compiled callers know no keyword-only ones
    scores: FloatArray,
    offsets: FloatArray,
    scale: float,
    column_sums: FloatArray,
    elu: float,
    regularization: float,
    weights: FloatArray | None = None,
) -> float:
    """BPR-max with score regularisation, summed over the batch.

    With r = elu(scores + offsets) and s_j the softmax of r over the negatives j of row i, the loss
    is the sum over i of

        -log won_i + lambda sum_j s_j r_j^2    with    won_i = sum_j s_j sigmoid(r_i - r_j)

    (Hidasi & Karatzoglou, CIKM 2018, equations 10 and 12). Write b_j for sigmoid(r_i - r_j) and
    f_j = lambda r_j^2 - b_j / won_i. The gradients are

        by r_j:  s_j (f_j - sum_k s_k f_k + b_j (1 - b_j) / won_i + 2 lambda r_j)
        by r_i:  -sum_j s_j b_j (1 - b_j) / won_i

    Args:
        scores: Replaced by the gradient times `scale`. Shape (batch, candidates).
        offsets: Added to every row. Shape (candidates,).
        scale: Factor of the gradient; the loss is not scaled.
        column_sums: Replaced by the gradient's sum over the batch. Shape (candidates,).
        elu: Width of the exponential linear unit; 0 leaves the scores linear.
        regularization: lambda.
        weights: How much each row counts, in loss and gradient; None: 1 each. Shape (batch,).
    """
    bend, weight = np.float32(elu), np.float32(regularization)
    column_sums[:] = _ZERO
    softmax, beats = np.empty_like(offsets), np.empty_like(offsets)
    loss = 0.0
    for i in range(len(scores)):
        counts = _ONE if weights is None else weights[i]
        factor = np.float32(scale) * counts
        row = scores[i]
        _add(row, offsets)
        _elu(row, bend)
        own = row[i]
        row[i] = row[i - 1]  # any negative in its place leaves the largest negative as it is
        _compare(row, own, (softmax, beats))
        softmax[i] = _ZERO
        won, penalty, slope = _averages(row, softmax, beats)
        won += _LEAST
        loss += counts * (weight * penalty - np.log(won))
        for j in range(len(row)):
            r, b = row[j], beats[j]
            change = weight * r * (r + _TWO) - b * b / won - weight * penalty + _ONE
            row[j] = factor * softmax[j] * change * _elu_slope(r, bend)
        row[i] = -factor * slope / won * _elu_slope(own, bend)
        for j in range(len(row)):
            column_sums[j] += row[j]
    return loss


@kernel
def _add(row: FloatArray, offsets: FloatArray) -> np.float32:
    """Add in place; the largest sum."""
    highest: np.float32 = row[0] + offsets[0]
    for j in range(len(row)):
        row[j] += offsets[j]
        highest = largest(highest, row[j])
    return highest


@kernel
def _elu(row: FloatArray, width: np.float32) -> None:
    """Bend what is below 0, in place."""
    if width > _ZERO:
        for j in range(len(row)):
            r = row[j]
            row[j] = r if r > _ZERO else width * (exp(r) - _ONE)


@kernel
def _elu_slope(bent: np.float32, width: np.float32) -> np.float32:
    """Slope of the unit where its value is `bent`."""
    return _ONE if width == _ZERO or bent > _ZERO else bent + width


@kernel
def _compare(row: FloatArray, own: np.float32, found: tuple[FloatArray, FloatArray]) -> None:
    """Softmax of the row, not yet divided by its sum, and how surely the target beats each."""
    softmax, beats = found
    highest = row[0]
    for j in range(len(row)):
        highest = largest(highest, row[j])
    for j in range(len(row)):
        softmax[j] = exp(row[j] - highest)
    for j in range(len(row)):
        beats[j] = sigmoid(own - row[j])


@kernel
def _averages(
    row: FloatArray, softmax: FloatArray, beats: FloatArray
) -> tuple[np.float32, np.float32, np.float32]:
    """Divide the softmax by its sum; the averages of b, of r^2 and of b (1 - b) under it."""
    total = won = penalty = slope = _ZERO
    for j in range(len(row)):
        s, b = softmax[j], beats[j]
        total += s
        won += s * b
        penalty += s * row[j] * row[j]
        slope += s * b * (_ONE - b)
    share = _ONE / total
    for j in range(len(row)):
        softmax[j] *= share
    return won * share, penalty * share, slope * share
