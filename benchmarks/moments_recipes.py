"""The plain recipes that the moments are measured against, as a textbook has them."""

from __future__ import annotations

import numpy as np
from scipy import stats

from momentary.moments.estimates import Matrix
from momentary.moments.rungs import Sample
from momentary.moments.splines import basis

Recipe = tuple[Matrix, Matrix, Matrix]
"""Relative change of the rate per SD, its standard error, its p value; each (attributes,)."""


def naive_correlation(sample: Sample) -> Recipe:
    """One attribute at a time: a line through click rates, spells as if independent."""
    rate = sample.counts / sample.exposure
    lines = [stats.linregress(column, rate) for column in sample.attributes.T]
    return (
        np.array([line.slope for line in lines]) / rate.mean(),
        np.array([line.stderr for line in lines]) / rate.mean(),
        np.array([line.pvalue for line in lines]),
    )


def linear_controls(sample: Sample) -> Recipe:
    """Least squares on click rates, all attributes, linear controls."""
    category = np.eye(int(sample.confounders.category.max()) + 1)[sample.confounders.category]
    controls = np.concatenate([category, sample.confounders.numbers], axis=1)
    return _least_squares(sample, sample.attributes, controls)


def textbook_double_ml(sample: Sample, *, rng: np.random.Generator) -> Recipe:
    """Partialling out on levels (Chernozhukov et al. 2018, equation 4.4), split by row."""
    smooth = np.concatenate([np.ones((len(sample.item), 1)), basis(sample.confounders)], axis=1)
    targets = np.concatenate(
        [(sample.counts / sample.exposure)[:, None], sample.attributes], axis=1
    )
    fold = rng.integers(5, size=len(targets))
    left = np.empty_like(targets)
    for part in range(5):
        inside, outside = fold != part, fold == part
        gram = smooth[inside].T @ smooth[inside] + np.eye(smooth.shape[1])
        left[outside] = targets[outside] - smooth[outside] @ np.linalg.solve(
            gram, smooth[inside].T @ targets[inside]
        )
    rate, columns = left[:, 0], left[:, 1:]
    return _robust(rate, columns, level=float(targets[:, 0].mean()), count=columns.shape[1])


def _least_squares(sample: Sample, wanted: Matrix, controls: Matrix) -> Recipe:
    rate = sample.counts / sample.exposure
    columns = np.concatenate([wanted, controls], axis=1)
    return _robust(rate, columns, level=float(rate.mean()), count=wanted.shape[1])


def _robust(rate: Matrix, columns: Matrix, *, level: float, count: int) -> Recipe:
    bread = np.linalg.pinv(columns.T @ columns)
    beta = bread @ columns.T @ rate
    residual = (rate - columns @ beta)[:, None] * columns
    error = np.sqrt(np.diag(bread @ (residual.T @ residual) @ bread))
    value, spread = beta[:count] / level, error[:count] / level
    return value, spread, 2.0 * stats.norm.sf(np.abs(value / spread))
