"""Within-item Poisson regression: the third rung.

Spell s of item i has rate E_s exp(alpha_i + x_s beta). Given the item's total Y_i the counts are
multinomial, so alpha_i falls out exactly (Hausman, Hall & Griliches 1984; Wooldridge 1999: only the
mean need be right, counts need not be Poisson):

    l(beta) = sum_s c_s log w_s,   w_s = E_s exp(x_s beta) / sum over the item's spells

Nothing that stays the same about an item, seen or unseen, can move the estimate.
"""

from __future__ import annotations

import numpy as np

from momentary.errors import DataError
from momentary.moments.estimates import Estimate, Matrix, leave_out
from momentary.moments.separation import separated
from momentary.types import BoolArray, IntArray

_STEPS = 60
_TOLERANCE = 1e-9
# Information left in some direction, a share of what there was in each column. Where there is an
# estimate it is above 1e-5, where the fit ran away below 1e-14.
_LEFT = 1e-10


def within_poisson(
    counts: Matrix,
    *,
    exposure: Matrix,
    columns: Matrix,
    group: IntArray,
    cluster: IntArray,
) -> Estimate:
    """Poisson regression with one fixed effect per group, by Newton's method.

    Args:
        counts: Events. Shape (spells,).
        exposure: What the rate is per; above 0. Shape (spells,).
        columns: What may move the rate; those of interest first. Each must vary within groups,
            apart from the others, and none may separate (`comparable`). Shape (spells, columns).
        group: Whose fixed effect, such as the item. Shape (spells,).
        cluster: Who could have been drawn otherwise; holds whole groups. Shape (spells,).

    Raises:
        DataError: If no group both has events and changed, columns cannot be told apart, or there
            are not enough events for an estimate.
    """
    used = informative(counts, exposure=exposure, group=group)
    if not used.any():
        raise DataError(
            "No item has events in two spells or more; collect more events, or cut the time into "
            "longer periods."
        )
    cells = _Cells(counts[used], exposure=exposure[used], columns=columns[used], group=group[used])
    beta = np.zeros(columns.shape[1])
    value = cells.likelihood(beta)
    _, start = cells.derivatives(beta)
    for _ in range(_STEPS):
        score, information = cells.derivatives(beta)
        step = _newton_step(information, score)
        beta, value = _climb(cells, beta, step=step, value=value)
        if np.abs(step).max(initial=0.0) < _TOLERANCE * (1.0 + np.abs(beta).max(initial=0.0)):
            break
    else:
        raise DataError(
            "There are not enough events where pictures changed to compare items with themselves: "
            "the fit does not settle. Collect more events, or leave out attributes that only a few "
            "items changed."
        )
    fitted, centred = cells.fitted(beta)
    residual = cells.counts - fitted
    weighted = centred * fitted[:, None]
    scale = np.sqrt(np.maximum(np.diag(start), 1e-300))
    if np.linalg.eigvalsh(weighted.T @ centred / np.outer(scale, scale))[0] < _LEFT:
        raise DataError(
            "There are not enough events where pictures changed to compare items with themselves: "
            "some effect would be infinite. Collect more events, or leave out attributes that only "
            "a few items changed."
        )
    return leave_out(
        beta,
        score=centred * residual[:, None],
        rows=weighted,
        other=centred,
        cluster=cluster[used][cells.order],
    )


def informative(counts: Matrix, *, exposure: Matrix, group: IntArray) -> BoolArray:
    """Spells of groups with events and at least two spells; others say nothing of a change."""
    shown = exposure > 0
    size = int(group.max(initial=-1)) + 1
    spells = np.bincount(group[shown], minlength=size)
    events = np.bincount(group[shown], weights=counts[shown], minlength=size)
    useful: BoolArray = shown & ((spells >= 2) & (events > 0))[group]
    return useful


def comparable(
    counts: Matrix, *, exposure: Matrix, columns: Matrix, group: IntArray
) -> tuple[BoolArray, BoolArray]:
    """Which spells and which columns a regression with a fixed effect per group can use.

    Left out are spells of groups without events or with one spell, spells that the columns explain
    perfectly (`separated`), and columns that do not vary within groups beyond those before them.

    Args:
        counts: Shape (spells,).
        exposure: Shape (spells,).
        columns: What others are adjusted for first. Shape (spells, columns).
        group: Shape (spells,).

    Returns:
        Of shape (spells,), and of shape (columns,).
    """
    rows = informative(counts, exposure=exposure, group=group)
    while True:
        if not rows.any():
            return rows, np.zeros(columns.shape[1], dtype=np.bool_)
        used = columns if rows.all() else columns[rows]
        kept = varies_within(used, weight=exposure[rows], group=group[rows])
        lost = separated(counts[rows], columns=used[:, kept], group=group[rows])
        if not lost.any():
            return rows, kept
        left = exposure.copy()
        left[np.flatnonzero(rows)[lost]] = 0.0
        rows &= informative(counts, exposure=np.where(rows, left, 0.0), group=group)


def varies_within(
    columns: Matrix, *, weight: Matrix, group: IntArray, tolerance: float = 1e-6
) -> BoolArray:
    """Which columns vary within groups beyond what the columns before them say.

    A Gram-Schmidt pass in the order of the columns, so the last of two equals is dropped.
    """
    demeaned = _demeaned(columns, weight=weight, group=group) * np.sqrt(weight)[:, None]
    gram = demeaned.T @ demeaned
    scale = ((columns - np.average(columns, axis=0, weights=weight)) ** 2 * weight[:, None]).sum(0)
    kept: list[int] = []
    for column in range(columns.shape[1]):
        left = gram[column, column]
        if kept and left > 0:
            inner = gram[np.ix_(kept, kept)]
            left = left - gram[column, kept] @ np.linalg.solve(inner, gram[kept, column])
        if left > tolerance * max(scale[column], 1e-300):
            kept.append(column)
    found = np.zeros(columns.shape[1], dtype=np.bool_)
    found[kept] = True
    return found


def _demeaned(columns: Matrix, *, weight: Matrix, group: IntArray) -> Matrix:
    _, place = np.unique(group, return_inverse=True)
    total = np.bincount(place, weights=weight)
    means = np.stack(
        [np.bincount(place, weights=weight * column) / total for column in columns.T], axis=1
    )
    return columns - means[place]


class _Cells:
    """Spells sorted by group, so that sums over a group are sums over a run."""

    def __init__(
        self, counts: Matrix, *, exposure: Matrix, columns: Matrix, group: IntArray
    ) -> None:
        self.order = np.argsort(group, kind="stable")
        self.counts = counts[self.order]
        self.columns = np.ascontiguousarray(columns[self.order])
        self._log_exposure = np.log(exposure[self.order])
        _, self._starts, self._sizes = np.unique(
            group[self.order], return_index=True, return_counts=True
        )
        self._events = np.add.reduceat(self.counts, self._starts)

    def likelihood(self, beta: Matrix) -> float:
        with np.errstate(divide="ignore"):
            log_share = np.log(self._share(beta))
        return float(self.counts @ np.maximum(log_share, -700.0))

    def fitted(self, beta: Matrix) -> tuple[Matrix, Matrix]:
        """Expected events, and the columns less their group's expected mean."""
        share = self._share(beta)
        mean = np.add.reduceat(self.columns * share[:, None], self._starts, axis=0)
        centred = self.columns - np.repeat(mean, self._sizes, axis=0)
        return share * np.repeat(self._events, self._sizes), centred

    def derivatives(self, beta: Matrix) -> tuple[Matrix, Matrix]:
        fitted, centred = self.fitted(beta)
        score = centred.T @ (self.counts - fitted)
        return score, (centred * fitted[:, None]).T @ centred

    def _share(self, beta: Matrix) -> Matrix:
        utility = self._log_exposure + self.columns @ beta
        utility -= np.repeat(np.maximum.reduceat(utility, self._starts), self._sizes)
        weight = np.exp(utility)
        share: Matrix = weight / np.repeat(np.add.reduceat(weight, self._starts), self._sizes)
        return share


def _newton_step(information: Matrix, score: Matrix) -> Matrix:
    try:
        step: Matrix = np.linalg.solve(information, score).astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "Two attributes always change together within items, so their effects cannot be told "
            "apart; leave one out."
        ) from error
    return step


def _climb(cells: _Cells, beta: Matrix, *, step: Matrix, value: float) -> tuple[Matrix, float]:
    """The Newton step, halved until the likelihood does not fall."""
    for _ in range(30):
        candidate = beta + step
        reached = cells.likelihood(candidate)
        if reached >= value - 1e-9 * abs(value):
            return candidate, reached
        step = step / 2.0
    return beta, value
