"""How likely is a position to be looked at?

Clicks at position k of a spell follow N_k kappa_k r with r the spell's own pull (the position-based
model). The same spell at several positions tells kappa from r: intervention harvesting (Agarwal et
al., WSDM 2019), here as the Poisson likelihood over all spells at once, solved by iterative
proportional fitting. Where slots were randomised, only those impressions are used.
"""

from __future__ import annotations

import numpy as np

from momentary.moments.estimates import Matrix
from momentary.types import IntArray

_ROUNDS = 2000
_TOLERANCE = 1e-7
_MIN_CLICKS = 30


def examination(
    impressions: Matrix, *, clicks: Matrix, position: IntArray, spell: IntArray, positions: int
) -> Matrix | None:
    """Chance that each position is examined, against the first; later never above earlier ones.

    Args:
        impressions: Of one spell at one position. Shape (cells,).
        clicks: Of the same. Shape (cells,).
        position: From 0; those from `positions` - 1 on share the last value. Shape (cells,).
        spell: Shape (cells,).
        positions: How many values to tell apart.

    Returns:
        Shape (positions,), 1 at the first; None where no spell was seen at several positions.
    """
    place = np.minimum(position, positions - 1)
    _, row = np.unique(spell, return_inverse=True)
    seen_at = np.zeros((int(row.max(initial=-1)) + 1, positions), dtype=np.bool_)
    seen_at[row, place] = True
    moved = (seen_at.sum(axis=1) > 1)[row]
    if not moved.any():
        return None
    n, c, k, r = impressions[moved], clicks[moved], place[moved], row[moved]
    total_spell = np.bincount(r, weights=c)
    total_position = np.bincount(k, weights=c, minlength=positions)
    kappa = np.ones(positions)
    for _ in range(_ROUNDS):
        shown = np.bincount(r, weights=n * kappa[k])
        pull = np.divide(total_spell, shown, out=np.zeros_like(shown), where=shown > 0)
        expected = np.bincount(k, weights=n * pull[r], minlength=positions)
        updated = np.divide(total_position, expected, out=kappa.copy(), where=expected > 0)
        if np.abs(updated - kappa).max() < _TOLERANCE:
            break
        kappa = updated
    return _falling(kappa / kappa[0] if kappa[0] > 0 else kappa, total_position.astype(np.float64))


def _falling(kappa: Matrix, clicks: Matrix) -> Matrix:
    """Pool neighbours that rise, and positions with too few clicks, weighted by their clicks."""
    values: list[float] = []
    weights: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(kappa.tolist(), clicks.tolist(), strict=True):
        values.append(value)
        weights.append(weight)
        sizes.append(1)
        while len(values) > 1 and (values[-1] > values[-2] or weights[-1] < _MIN_CLICKS):
            both = weights[-1] + weights[-2]
            mean = (
                (values[-1] * weights[-1] + values[-2] * weights[-2]) / both if both else values[-2]
            )
            values[-2:], weights[-2:] = [mean], [both]
            sizes[-2:] = [sizes[-1] + sizes[-2]]
    pooled = np.repeat(values, sizes)
    falling: Matrix = pooled / pooled[0] if pooled[0] > 0 else np.ones_like(pooled)
    return falling
