"""An estimate that knows its clusters: covariance, degrees of freedom, tests.

Spells of one item hang together, so the item is what could have been drawn otherwise. Every
estimator of this room ends here: it gives, for each cluster, its share of the score and of the
information, and gets errors from leaving each cluster out (CRV3), which stay honest when few
clusters carry the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from momentary.errors import DataError
from momentary.types import IntArray

Matrix = NDArray[np.float64]

_CHUNK_BYTES = 64 * 2**20
_kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Coefficients with what each cluster does to them.

    Attributes:
        coefficients: Shape (coefficients,).
        influence: Minus the change of the coefficients when one cluster is left out, to first
            order. Shape (clusters, coefficients).
        clusters: Ids of the clusters, ascending. Shape (clusters,).
        effective: How many equally informative clusters each coefficient stands on (Carter,
            Schnepel & Steigerwald 2017, with uncorrelated errors). Shape (coefficients,).
    """

    coefficients: Matrix
    influence: Matrix
    clusters: IntArray
    effective: Matrix

    @property
    def covariance(self) -> Matrix:
        """Jackknife (CRV3) covariance. Shape (coefficients, coefficients)."""
        count = len(self.clusters)
        product: Matrix = self.influence.T @ self.influence
        return product * ((count - 1) / count)

    @property
    def errors(self) -> Matrix:
        """Standard errors. Shape (coefficients,)."""
        errors: Matrix = np.sqrt(np.diag(self.covariance))
        return errors

    @property
    def freedom(self) -> Matrix:
        """Degrees of freedom of each coefficient's t statistic. Shape (coefficients,)."""
        return np.maximum(self.effective - 1.0, 1.0)

    @property
    def p_values(self) -> Matrix:
        """Two-sided, against 0. Shape (coefficients,)."""
        statistic = np.abs(self.coefficients) / np.maximum(self.errors, 1e-300)
        p: Matrix = 2.0 * stats.t.sf(statistic, self.freedom)
        return p

    def interval(self, level: float) -> tuple[Matrix, Matrix]:
        """Lower and upper ends. Each of shape (coefficients,)."""
        reach = stats.t.ppf(0.5 + level / 2.0, self.freedom) * self.errors
        return self.coefficients - reach, self.coefficients + reach

    def take(self, columns: IntArray) -> Estimate:
        """Some of the coefficients."""
        return Estimate(
            coefficients=self.coefficients[columns],
            influence=self.influence[:, columns],
            clusters=self.clusters,
            effective=self.effective[columns],
        )

    def first(self, count: int) -> Estimate:
        """The first coefficients: an estimator puts what is asked for before the controls."""
        return self.take(np.arange(count))

    def on(self, clusters: IntArray) -> Matrix:
        """The influence of other clusters, 0 for those that had none. Shape (clusters, ...)."""
        found = np.zeros((len(clusters), self.influence.shape[1]))
        place = np.searchsorted(self.clusters, clusters)
        place[place == len(self.clusters)] = 0
        here = self.clusters[place] == clusters
        found[here] = self.influence[place[here]]
        return found


def leave_out(
    coefficients: Matrix, *, score: Matrix, rows: Matrix, other: Matrix, cluster: IntArray
) -> Estimate:
    """The estimate from its rows, with one Newton step away from each cluster.

    The estimating equations are sum of `score` over all rows = 0, and minus their derivative is
    `rows.T @ other` (the same matrix twice for a likelihood). Leaving cluster g out moves the
    coefficients by -(H - H_g)^-1 s_g.

    Args:
        coefficients: Shape (coefficients,).
        score: Each row's share. Shape (rows, coefficients).
        rows: Left factor of the information. Shape (rows, coefficients).
        other: Right factor of the information. Shape (rows, coefficients).
        cluster: Each row's cluster. Shape (rows,).

    Raises:
        DataError: If the rows do not identify the coefficients.
    """
    order = np.argsort(cluster, kind="stable")
    ids, starts = np.unique(cluster[order], return_index=True)
    bounds = np.append(starts, len(order))
    sums = np.add.reduceat(score[order], starts, axis=0)
    left, right = np.ascontiguousarray(rows[order]), np.ascontiguousarray(other[order])
    whole = left.T @ right
    try:
        inverse = np.linalg.inv(whole)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "The data cannot tell the effects apart; leave out attributes that few items changed."
        ) from error
    size = whole.shape[0]
    influence = np.empty_like(sums)
    leverage = np.empty_like(sums)
    chunk = max(1, _CHUNK_BYTES // (8 * size * size))
    for first in range(0, len(ids), chunk):
        last = min(first + chunk, len(ids))
        own = _own_information(left, right, bounds[first : last + 1])
        leverage[first:last] = np.einsum("ka,gab,kb->gk", inverse, own, inverse, optimize=True)
        influence[first:last] = _solve(whole - own, sums[first:last])
    total = np.maximum(leverage.sum(axis=0), 1e-300)
    share = np.maximum(leverage, 0.0) / total
    return Estimate(
        coefficients=coefficients,
        influence=influence,
        clusters=ids,
        effective=1.0 / np.maximum((share**2).sum(axis=0), 1e-300),
    )


def _solve(matrices: Matrix, vectors: Matrix) -> Matrix:
    """A cluster that alone identifies a coefficient leaves no information: pinv, not an error."""
    try:
        solved: Matrix = np.linalg.solve(matrices, vectors[:, :, None])[:, :, 0].astype(np.float64)
    except np.linalg.LinAlgError:
        solved = np.einsum("gab,gb->ga", np.linalg.pinv(matrices), vectors)
    return solved


@_kernel
def _own_information(left: Matrix, right: Matrix, bounds: IntArray) -> Matrix:
    """Each cluster's `left.T @ right`. Shape (clusters, coefficients, coefficients)."""
    size = left.shape[1]
    own = np.zeros((len(bounds) - 1, size, size))
    for group in range(len(bounds) - 1):
        for row in range(bounds[group], bounds[group + 1]):
            for a in range(size):
                weight = left[row, a]
                if weight != 0.0:
                    for b in range(size):
                        own[group, a, b] += weight * right[row, b]
    return own


def wald_p(difference: Matrix, covariance: Matrix, *, freedom: float) -> float:
    """P value of the test that `difference` is 0.

    Hotelling's form: with d differences and f degrees of freedom of the covariance, the statistic
    times (f - d + 1) / (d f) has an F distribution.

    Args:
        difference: Shape (differences,).
        covariance: Shape (differences, differences).
        freedom: Of the covariance: clusters less one.
    """
    count = len(difference)
    if count == 0 or freedom - count + 1.0 < 1.0:
        return 1.0
    statistic = float(difference @ np.linalg.pinv(covariance, hermitian=True) @ difference)
    scaled = statistic * (freedom - count + 1.0) / (count * freedom)
    return float(stats.f.sf(scaled, count, freedom - count + 1.0))


def difference(one: Estimate, other: Estimate) -> tuple[Matrix, Matrix, int]:
    """`one` less `other` from the same data, its covariance, and how many clusters it stands on.

    Both come from the same items, so their errors are correlated; the influence of each item on
    the difference takes care of that, and neither needs to be efficient (unlike Hausman's test).
    """
    clusters = np.union1d(one.clusters, other.clusters)
    influence = one.on(clusters) - other.on(clusters)
    covariance: Matrix = influence.T @ influence
    return one.coefficients - other.coefficients, covariance, len(clusters)
