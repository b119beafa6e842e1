"""Is the difference real? Paired cluster bootstrap and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from momentary.types import IntArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: The mean over queries.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference of two means, first minus second.

    Attributes:
        value: Difference of the means.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: Two-sided, against no difference; not corrected for other comparisons.
    """

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resamples:
    """Means of several columns, as observed and in every bootstrap resample.

    Attributes:
        observed: Shape (columns,).
        drawn: All columns of one row come from the same resample. Shape (resamples, columns).
        level: Probability that an interval covers the truth.
    """

    observed: Matrix
    drawn: Matrix
    level: float

    def estimate(self, column: int) -> Estimate:
        """One column with its percentile interval."""
        low, high = self._interval(self.drawn[:, column])
        return Estimate(value=float(self.observed[column]), low=low, high=high)

    def difference(self, first: int, second: int) -> Difference:
        """Column `first` minus column `second`, resample by resample."""
        drawn = self.drawn[:, first] - self.drawn[:, second]
        low, high = self._interval(drawn)
        return Difference(
            value=float(self.observed[first] - self.observed[second]),
            low=low,
            high=high,
            p_value=two_sided(drawn),
        )

    def _interval(self, drawn: Matrix) -> tuple[float, float]:
        tail = (1.0 - self.level) / 2.0
        low, high = np.quantile(drawn, [tail, 1.0 - tail])
        return float(low), float(high)


def bootstrap(
    values: Matrix,
    groups: IntArray,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Resamples:
    """Resample whole groups with replacement and take the mean of every column.

    Queries of one visitor hang together, so the visitor is what is drawn (Efron & Tibshirani
    1993, chapter 8); models and metrics in the columns share each draw, which makes differences
    paired. A mean is the sum over drawn queries / their number.

    Args:
        values: One value a query and column. Shape (queries, columns).
        groups: Number of each query's visitor or session. Shape (queries,).
        rng: Draws the resamples.
        resamples: How many.
        level: Probability that an interval covers the truth.

    Raises:
        ValueError: If there are fewer than 2 groups, or a value is not finite.
    """
    _check(values, groups, resamples=resamples, level=level)
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    if count < 2:
        raise ValueError(
            "all queries come from one group, which says nothing of others; add visitors or "
            "sessions to the test part."
        )
    # The last column counts queries, so one product gives every numerator and the denominator.
    totals = np.stack(
        [
            *(np.bincount(group, weights=column, minlength=count) for column in values.T),
            np.bincount(group, minlength=count).astype(np.float64),
        ],
        axis=1,
    )
    sums = _drawn_sums(totals, resamples, rng)
    return Resamples(observed=values.mean(axis=0), drawn=sums[:, :-1] / sums[:, -1:], level=level)


def paired_difference(
    first: Matrix,
    second: Matrix,
    groups: IntArray,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Difference:
    """Compare two models on the same queries: first minus second, 95 % interval and p-value.

    Args:
        first: One value a query, such as `metrics.recall` of one model. Shape (queries,).
        second: The same of the other model, same queries in the same order.
        groups: Number of each query's visitor or session. Shape (queries,).
        rng: Draws the resamples.
        resamples: How many.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} values against {len(second)}; a paired comparison needs the same "
            "queries for both models."
        )
    both = np.stack([first, second], axis=1)
    return bootstrap(both, groups, rng=rng, resamples=resamples).difference(0, 1)


def two_sided(drawn: Matrix) -> float:
    """Two-sided p-value of "the mean is 0" from resampled means. Shape of `drawn` (resamples,).

    Twice the smaller share of resamples on or beyond 0, with one added to both counts so that it
    is never 0 (Davison & Hinkley 1997, section 4.2).
    """
    below = int(np.count_nonzero(drawn <= 0))
    above = int(np.count_nonzero(drawn >= 0))
    return min(1.0, 2.0 * (1 + min(below, above)) / (len(drawn) + 1))


def holm(p_values: Sequence[float]) -> Matrix:
    """Correct p-values for being several (Holm, Scandinavian Journal of Statistics 1979).

    Calling those below alpha real is wrong about any of them with probability at most alpha.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def _drawn_sums(totals: Matrix, resamples: int, rng: np.random.Generator) -> Matrix:
    """Sums over the drawn groups. Shape (resamples, columns)."""
    count = len(totals)
    # Blocks of about 2^21 weights keep memory small and the products large.
    block = max(1, min(resamples, 2**21 // count))
    sums = np.empty((resamples, totals.shape[1]))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        weights = np.empty((rows, count))
        for row in range(rows):
            drawn = rng.integers(count, size=count, dtype=np.int32)
            weights[row] = np.bincount(drawn, minlength=count)
        sums[start : start + rows] = weights @ totals
    return sums


def _check(values: Matrix, groups: IntArray, *, resamples: int, level: float) -> None:
    if values.ndim != 2 or len(values) != len(groups):
        raise ValueError(
            f"values have shape {values.shape} but there are {len(groups)} groups; "
            "give one row a query and one column a model or metric."
        )
    if not np.isfinite(values).all():
        raise ValueError("a value is NaN or infinite; leave out queries without a value.")
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; an interval needs at least 100.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must be between 0 and 1, such as 0.95.")
