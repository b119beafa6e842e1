"""Many questions at once: near-duplicates merged, false discoveries and headlines controlled."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from momentary.moments.estimates import Matrix
from momentary.types import IntArray


def near_duplicates(values: Matrix, *, above: float) -> list[IntArray]:
    """Groups of columns that all correlate with each other by more than `above`, in size.

    Complete linkage, so that a chain of half-likes is no group. The first of each group is the
    column that correlates most with the rest of it; groups are in the order of their first.

    Args:
        values: Shape (rows, columns).
        above: Correlation from 0 to 1.
    """
    if values.shape[1] < 2:
        return [np.arange(values.shape[1])] if values.shape[1] else []
    likeness = np.abs(np.nan_to_num(np.corrcoef(values, rowvar=False)))
    np.fill_diagonal(likeness, 1.0)
    distance = squareform(np.maximum(1.0 - likeness, 0.0), checks=False)
    label = fcluster(linkage(distance, method="complete"), t=1.0 - above, criterion="distance")
    groups = []
    for each in np.unique(label):
        members = np.flatnonzero(label == each)
        inner = likeness[np.ix_(members, members)].sum(axis=1)
        groups.append(members[np.argsort(-inner, kind="stable")])
    return sorted(groups, key=lambda group: int(group[0]))


def benjamini_hochberg(p: Matrix) -> Matrix:
    """Q values: the false-discovery rate at which each test would be a discovery. Shape (tests,).

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.02])).round(3).tolist()
    [0.03, 0.04, 0.03]
    """
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return q


def adaptive_step_up(p: Matrix, *, fdr: float) -> Matrix:
    """Q values that do not pay for what is plainly no null: discoveries are those up to `fdr`.

    Two-stage linear step-up (Benjamini, Krieger & Yekutieli, Biometrika 2006, definition 6): with
    m tests, of which the step-up of Benjamini and Hochberg at fdr / (1 + fdr) rejects r, the second
    stage is the same step-up at fdr / (1 + fdr) * m / (m - r). It keeps the rate where the first
    keeps fdr times the share of nulls; under no effect at all it is the stricter one.

    Args:
        p: Shape (tests,).
        fdr: The rate to keep, above 0 and below 1; the q values hold for this one.

    Returns:
        Shape (tests,).

    >>> adaptive_step_up(np.array([0.001, 0.002, 0.07, 0.4]), fdr=0.1).round(3).tolist()
    [0.002, 0.002, 0.051, 0.22]
    """
    q = benjamini_hochberg(p) * (1.0 + fdr)
    rejected = int((q <= fdr).sum())
    return np.minimum(q * max(len(p) - rejected, 1) / max(len(p), 1), 1.0)


def romano_wolf(
    coefficients: Matrix, influence: Matrix, *, rng: np.random.Generator, draws: int = 2000
) -> Matrix:
    """Stepdown p values that keep the chance of any false headline (Romano & Wolf 2005).

    The null distribution of the largest statistic comes from a multiplier bootstrap over the
    clusters, so correlated attributes are not paid for twice.

    Args:
        coefficients: Shape (tests,).
        influence: Of each cluster on each coefficient. Shape (clusters, tests).
        rng: Draws the bootstrap.
        draws: How many.

    Returns:
        Shape (tests,).
    """
    count = len(coefficients)
    if count == 0:
        return np.empty(0)
    error = np.maximum(np.sqrt((influence**2).sum(axis=0)), 1e-300)
    observed = np.abs(coefficients) / error
    null = np.empty((draws, count))
    for start in range(0, draws, 250):
        size = min(250, draws - start)
        signs = rng.integers(0, 2, (size, len(influence))) * 2.0 - 1.0
        null[start : start + size] = np.abs(signs @ influence) / error
    order = np.argsort(-observed)
    p = np.empty(count)
    largest = 0.0
    for place, test in enumerate(order):
        worst = null[:, order[place:]].max(axis=1)
        chance = (1.0 + (worst >= observed[test]).sum()) / (draws + 1.0)
        largest = max(largest, float(chance))
        p[test] = largest
    return p
