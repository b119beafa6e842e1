"""The weeks around a change, and intervals that allow for what they show.

Where sales differ before an exposure begins, something else moves both, or the exposure began
earlier than its date. The difference in the period before is estimated in the same fit, and the
interval is widened as if as much, up or down, were in the exposure's number: relative magnitudes,
M = 1 (Rambachan & Roth, "A more credible approach to parallel trends", Review of Economic Studies
2023). It is widened always, not only where the difference is significant: testing first would
mislead (Roth, "Pretest with caution", AER: Insights 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from momentary.moments.estimates import Estimate, Matrix
from momentary.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """One exposure's number with an interval that allows for the period before.

    Attributes:
        coefficient: Logarithm of the rate ratio, as estimated.
        low: Lower end of the widened interval.
        high: Upper end of the widened interval.
        p: That the number is 0 although as much as the period before shows is taken off.
        before: Coefficient of the period before; 0 where it could not be told.
        before_p: That nothing differs before; None where it could not be told.
        least: The coefficient with as much as the period before shows taken off; 0 at least.
        influence: Of each cluster on `least`. Shape (clusters,).
    """

    coefficient: float
    low: float
    high: float
    p: float
    before: float
    before_p: float | None
    least: float
    influence: Matrix


def neighbours(shown: Matrix, *, group: IntArray, period: IntArray, ahead: int) -> Matrix:
    """What is shown so many periods later, or earlier if below 0, in the same group.

    Args:
        shown: Rows sorted by group, then period. Shape (rows, columns).
        group: Shape (rows,).
        period: Shape (rows,).
        ahead: In periods.

    Returns:
        NaN where that period is not in the data. Shape (rows, columns).
    """
    found = np.full(shown.shape, np.nan)
    rows = np.arange(len(group))
    other = rows + ahead
    inside = (other >= 0) & (other < len(group))
    rows, other = rows[inside], other[inside]
    same = (group[rows] == group[other]) & (period[rows] + ahead == period[other])
    found[rows[same]] = shown[other[same]]
    return found


def known(columns: Matrix) -> BoolArray:
    """Rows without NaN."""
    return np.asarray(np.isfinite(columns).all(axis=1), dtype=np.bool_)


def allow_for_before(
    estimate: Estimate, *, exposure: int, before: int | None, level: float
) -> Allowed:
    """Widen the interval of one coefficient by what the period before shows.

    Args:
        estimate: Of the joint fit.
        exposure: Place of the exposure's coefficient.
        before: Place of the coefficient of the period before; None where there is none.
        level: Coverage, such as .95.
    """
    value, influence = estimate.coefficients[exposure], estimate.influence[:, exposure]
    freedom = float(estimate.freedom[exposure])
    reach = float(stats.t.ppf(0.5 + level / 2.0, freedom))
    moved, along = 0.0, np.zeros(len(influence))
    before_p = None
    if before is not None:
        moved, along = float(estimate.coefficients[before]), estimate.influence[:, before]
        before_p = float(estimate.p_values[before])
    ends = []
    for sign in (-1.0, 1.0):
        middle, error = value + sign * moved, _error(influence + sign * along)
        ends += [middle - reach * error, middle + reach * error]
    toward = -1.0 if value * moved > 0 else 1.0
    least = float(value + toward * moved)
    nearest = influence + toward * along
    passed = least * value <= 0
    statistic = 0.0 if passed else abs(least) / max(_error(nearest), 1e-300)
    return Allowed(
        coefficient=float(value),
        low=float(min(ends)),
        high=float(max(ends)),
        p=float(2.0 * stats.t.sf(statistic, freedom)),
        before=moved,
        before_p=before_p,
        least=0.0 if passed else least,
        influence=nearest,
    )


def _error(influence: Matrix) -> float:
    """Jackknife standard error, as `Estimate.covariance` has it."""
    count = len(influence)
    return float(np.sqrt((influence**2).sum() * (count - 1) / count))
