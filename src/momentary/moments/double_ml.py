"""Log-link double machine learning: the second rung.

The rate of spell s is E_s exp(theta'A_s) h(X_s): what the picture does multiplies what the measured
confounders X do, and h is any function. theta solves

    sum over spells of psi = 0,   psi = (c exp(-theta'A) - E h(X)) (A - m(X))

where m(X) = E[E A | X] / E[E | X]. An error in h or in m moves psi by their product only (Neyman
orthogonality; Chernozhukov et al. 2018), so smooth learners that are a little wrong leave theta
right; both are fitted on other items than those they are used on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from momentary.errors import DataError
from momentary.moments.estimates import Estimate, Matrix, leave_out
from momentary.moments.splines import Confounders, basis
from momentary.types import IntArray

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # per observation, on columns of 1 SD
_ROUNDS = 25
_LONGEST = 2.0  # no spell's log rate moves by more in one step
_SHORT = 0.1  # a step of the log rate after which the information need not be computed anew
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleMLConfig:
    """How the nuisance functions are learned.

    Attributes:
        folds: Items are split into so many parts; each part's h and m come from the others.
        knots: Inner knots of each confounder's spline.
    """

    folds: int = 5
    knots: int = 5

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}; it must be 2 or more; 5 is usual.")
        if self.knots < 1:
            raise ValueError(f"knots is {self.knots}; it must be 1 or more; 5 is usual.")


def log_double_ml(  # noqa: PLR0913 - the estimating equation names them
    counts: Matrix,
    *,
    exposure: Matrix,
    attributes: Matrix,
    confounders: Confounders,
    item: IntArray,
    rng: np.random.Generator,
    config: DoubleMLConfig | None = None,
) -> Estimate:
    """The effect of every attribute, the others and the confounders held fixed.

    Args:
        counts: Events. Shape (spells,).
        exposure: What the rate is per; above 0. Shape (spells,).
        attributes: In SD. Shape (spells, attributes).
        confounders: What was measured, for the same spells.
        item: Shape (spells,).
        rng: Splits the items.
        config: How the nuisance functions are learned.

    Raises:
        DataError: If the estimating equation has no solution near the data.
    """
    chosen = config or DoubleMLConfig()
    smooth = basis(confounders, knots=chosen.knots)
    fold = _folds(item, folds=chosen.folds, rng=rng)
    outside = _linear_out_of_fold(smooth, attributes, weight=exposure, fold=fold)
    residual = attributes - outside
    popularity = _Popularity(smooth, exposure=exposure, fold=fold)
    theta = np.zeros(attributes.shape[1])
    for _ in range(_ROUNDS):
        deflated = counts * np.exp(-attributes @ theta)
        base = popularity.fit(deflated)
        score = residual.T @ (deflated - exposure * base)
        slope = (residual * deflated[:, None]).T @ attributes
        step = _bounded(_solved(slope, score))
        theta = theta + step
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    else:
        raise DataError(
            "Double machine learning does not settle: there may be too few items, a few popular "
            "ones may decide everything, or confounders may be measured from the picture itself. "
            "Give more items, or leave such confounders out."
        )
    deflated = counts * np.exp(-attributes @ theta)
    return leave_out(
        theta,
        score=residual * (deflated - exposure * base)[:, None],
        rows=residual * deflated[:, None],
        other=attributes,
        cluster=item,
    )


def _solved(slope: Matrix, score: Matrix) -> Matrix:
    try:
        return np.linalg.solve(slope, score).astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "Double machine learning cannot tell the attributes apart once what was measured is "
            "adjusted for; leave one of them out."
        ) from error


def _bounded(step: Matrix) -> Matrix:
    """At most half a log unit at a time: exp punishes a first guess that overshoots."""
    largest = np.abs(step).max(initial=0.0)
    return step if largest <= 0.5 else step * (0.5 / largest)


def _folds(item: IntArray, *, folds: int, rng: np.random.Generator) -> IntArray:
    ids, place = np.unique(item, return_inverse=True)
    if len(ids) < 2 * folds:
        raise DataError(
            f"There are {len(ids)} items with exposures; double machine learning needs at least "
            f"{2 * folds}."
        )
    return rng.permutation(np.arange(len(ids)) % folds)[place]


def _linear_out_of_fold(
    smooth: Matrix, targets: Matrix, *, weight: Matrix, fold: IntArray
) -> Matrix:
    """Weighted ridge of each target on the basis, predicted for the items left out.

    Each target has the penalty that predicts it best out of fold. Shape (spells, targets).
    """
    found = np.empty((len(_PENALTIES), *targets.shape))
    scaled_weight = weight / weight.mean()
    for part in np.unique(fold):
        inside, outside = fold != part, fold == part
        given = scaled_weight[inside]
        centre = np.average(smooth[inside], axis=0, weights=given)
        level = np.average(targets[inside], axis=0, weights=given)
        columns = smooth[inside] - centre
        gram = (columns * given[:, None]).T @ columns / given.sum()
        cross = (columns * given[:, None]).T @ (targets[inside] - level) / given.sum()
        values, vectors = np.linalg.eigh(gram)
        rotated, wanted = vectors.T @ cross, (smooth[outside] - centre) @ vectors
        for place, penalty in enumerate(_PENALTIES):
            shrunk = rotated / (np.maximum(values, 0.0) + penalty * 0.1)[:, None]
            found[place, outside] = level + wanted @ shrunk
    losses = ((targets - found) ** 2 * weight[:, None]).sum(axis=1)
    best = losses.argmin(axis=0)
    chosen: Matrix = found[best, :, np.arange(targets.shape[1])].T
    return chosen


class _Popularity:
    """h(X): Poisson ridge with a log link, fitted without the items it is asked about.

    Kept between calls, so that each starts where the last one ended.
    """

    def __init__(self, smooth: Matrix, *, exposure: Matrix, fold: IntArray) -> None:
        columns = np.concatenate([np.ones((len(smooth), 1)), smooth], axis=1)
        self._exposure = exposure
        self._columns = columns
        parts = [(fold != part, fold == part) for part in np.unique(fold)]
        self._outside = [outside for _, outside in parts]
        self._inside = [inside for inside, _ in parts]
        self._ridges = [_Ridge(columns[inside], exposure[inside]) for inside, _ in parts]
        self._penalty: float | None = None

    def fit(self, counts: Matrix) -> Matrix:
        """Expected counts per exposure. Shape (spells,)."""
        if self._penalty is None:
            self._penalty = self._choose(counts)
        found = np.empty(len(counts))
        for ridge, inside, outside in zip(self._ridges, self._inside, self._outside, strict=True):
            beta = ridge.fit(counts[inside], penalty=self._penalty)
            found[outside] = np.exp(self._columns[outside] @ beta)
        return found

    def _choose(self, counts: Matrix) -> float:
        """The penalty that predicts best out of fold, tried from the strongest on."""
        losses = {}
        for penalty in reversed(_PENALTIES):
            betas = [
                ridge.fit(counts[inside], penalty=penalty)
                for ridge, inside in zip(self._ridges, self._inside, strict=True)
            ]
            losses[penalty] = self._deviance(counts, betas)
        return min(_PENALTIES, key=lambda each: losses[each])

    def _deviance(self, counts: Matrix, betas: list[Matrix]) -> float:
        total = 0.0
        for outside, beta in zip(self._outside, betas, strict=True):
            log_rate = self._columns[outside] @ beta
            expected = self._exposure[outside] * np.exp(np.minimum(log_rate, 50.0))
            total += float((expected - counts[outside] * log_rate).sum())
        return total


class _Ridge:
    """Penalised Poisson regression that is asked again and again about nearly the same counts.

    The information is computed anew only while steps are long: near the end an old one leads to
    the same place in a few cheap steps.
    """

    def __init__(self, columns: Matrix, exposure: Matrix) -> None:
        self._columns = columns
        self._exposure = exposure
        self._beta: Matrix | None = None
        self._information = np.empty((0, 0))

    def fit(self, counts: Matrix, *, penalty: float) -> Matrix:
        """Coefficients, the intercept first and not penalised. Shape (columns,)."""
        columns = self._columns
        shrink = np.full(columns.shape[1], penalty * 0.1 * counts.sum())
        shrink[0] = 0.0
        beta, fresh = self._beta, True
        if beta is None:
            beta, fresh = np.zeros(columns.shape[1]), False
            beta[0] = np.log(counts.sum() / self._exposure.sum())
        for _ in range(100):
            expected = self._exposure * np.exp(np.clip(columns @ beta, -30.0, 30.0))
            score = columns.T @ (counts - expected) - shrink * beta
            if not fresh:
                # One array times itself costs half of two.
                weighted = columns * np.sqrt(expected)[:, None]
                self._information = weighted.T @ weighted
            step = np.linalg.solve(self._information + np.diag(shrink), score)
            moved = float(np.abs(columns @ step).max())
            beta = beta + (step if moved <= _LONGEST else step * (_LONGEST / moved))
            fresh = moved < _SHORT
            if np.abs(step).max() < 1e-6:
                break
        self._beta = beta
        return beta
