"""How much each of some reasons counts when one thing is chosen among many.

The conditional logit (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974):
with x_qi the reasons for thing i in question q,

    p(i | q) = exp(w . x_qi) / sum over j of exp(w . x_qj),

whose likelihood, with a penalty on the length of w, has one maximum. Newton's steps find it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from momentary.types import FloatArray

Floats = NDArray[np.float64]

_STEPS = 25
_HALVINGS = 20
_NEAR = 1e-7
_AT_ONCE = 64


def learn_choice(reasons: FloatArray, offsets: FloatArray, *, penalty: float = 1.0) -> Floats:
    """Find w. Shape (reasons,).

    Args:
        reasons: For everything that could be chosen; what was chosen comes first. Shape
            (questions, things, reasons).
        offsets: Added to the exponents: -inf for what is no thing, and the log of how many a
            thing stands for. Shape (questions, things).
        penalty: Half of it times the squared length of w is taken off the log-likelihood.

    >>> reasons = np.zeros((60, 2, 1), dtype=np.float32)
    >>> reasons[:45, 0], reasons[45:, 1] = 1, 1
    >>> float(learn_choice(reasons, np.zeros((60, 2), dtype=np.float32), penalty=0).round(3)[0])
    1.099
    """
    w = np.zeros(reasons.shape[2])
    value, slope, bend = _likelihood(w, reasons, offsets, penalty=penalty)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        for _ in range(_HALVINGS):
            found = _likelihood(w + step, reasons, offsets, penalty=penalty)
            if found[0] >= value:
                break
            step /= 2
        else:
            return w
        gained, w = found[0] - value, w + step
        value, slope, bend = found
        if gained <= _NEAR * max(abs(value), 1.0):
            break
    return w


def _likelihood(
    w: Floats, reasons: FloatArray, offsets: FloatArray, *, penalty: float
) -> tuple[float, Floats, Floats]:
    """The penalized log-likelihood, its gradient, and its curvature turned positive."""
    value = -penalty / 2 * float(w @ w)
    slope, bend = -penalty * w, penalty * np.eye(len(w))
    for start in range(0, len(reasons), _AT_ONCE):
        x = reasons[start : start + _AT_ONCE].astype(np.float64)
        exponents = x @ w + offsets[start : start + _AT_ONCE]
        top = exponents.max(axis=1, keepdims=True)
        powers = np.exp(exponents - top)
        total = powers.sum(axis=1, keepdims=True)
        chances = powers / total
        value += float((exponents[:, :1] - top - np.log(total)).sum())
        means = (chances[:, :, None] * x).sum(axis=1)
        slope += (x[:, 0] - means).sum(axis=0)
        weighted = (chances[:, :, None] * x).reshape(-1, len(w))
        bend += weighted.T @ x.reshape(-1, len(w)) - means.T @ means
    return value, slope, bend
