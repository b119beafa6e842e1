"""Which spells without events a Poisson regression explains perfectly: separation.

If a number that varies within groups is highest, or lowest, wherever there were no events - a
period in which nobody bought, say - the likelihood rises for ever as its coefficient goes to
infinity, and no estimate exists. The spells concerned then say nothing about anything else
(Correia, Guimaraes & Zylkin 2019): without them the other coefficients are what they would be at
that limit. This module finds them exactly: a direction d of the columns separates if it is the same
for all spells with events of a group, nowhere higher for those without, and somewhere lower.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from momentary.moments.estimates import Matrix
from momentary.types import BoolArray, IntArray

# In SD within groups. An indicator gives exact zeros (1e-16 after rounding) and what is measured
# differs by more than a thousandth: both are far away from these.
_SAME = 1e-10  # mean square
_LOWER = 1e-6


def separated(counts: Matrix, *, columns: Matrix, group: IntArray) -> BoolArray:
    """Spells that must be left out for an estimate to exist. Shape (spells,).

    Args:
        counts: Events; every group has some. Shape (spells,).
        columns: Each varies within groups. Shape (spells, columns).
        group: Whose fixed effect, such as the item. Shape (spells,).
    """
    happened = counts > 0
    found = np.zeros(len(counts), dtype=np.bool_)
    if happened.all() or not columns.shape[1]:
        return found
    _, place = np.unique(group, return_inverse=True)
    spread = _spread(columns, place=place)
    with_events = _means(columns[happened], place=place[happened])
    gaps = (columns[happened] - with_events) / spread
    values, vectors = np.linalg.eigh(gaps.T @ gaps / len(gaps))
    free = vectors[:, values < _SAME]
    if not free.shape[1]:
        return found
    level = np.empty((int(place.max()) + 1, columns.shape[1]))
    level[place[happened]] = with_events
    empty = np.flatnonzero(~happened)
    beyond = (columns[empty] - level[place[empty]]) / spread @ free
    beyond[np.abs(beyond) < _LOWER] = 0.0
    while len(empty) and beyond.any():
        direction = _direction(beyond)
        lower = beyond @ direction < -_LOWER
        if not lower.any():
            break
        found[empty[lower]] = True
        empty, beyond = empty[~lower], beyond[~lower]
    return found


def _direction(beyond: Matrix) -> Matrix:
    """The direction in which no row is above 0 and the rows are lowest in all."""
    rows = beyond[beyond.any(axis=1)]
    solved = linprog(
        rows.sum(axis=0), A_ub=rows, b_ub=np.zeros(len(rows)), bounds=(-1.0, 1.0), method="highs"
    )
    if solved.x is None:
        return np.zeros(beyond.shape[1])
    direction: Matrix = np.asarray(solved.x, dtype=np.float64)
    return direction


def _spread(columns: Matrix, *, place: IntArray) -> Matrix:
    """SD of each column within groups, one at a time to spare memory. Shape (columns,)."""
    squares = [
        float(((column - _means(column[:, None], place=place)[:, 0]) ** 2).mean())
        for column in columns.T
    ]
    return np.sqrt(np.maximum(squares, 1e-300))


def _means(columns: Matrix, *, place: IntArray) -> Matrix:
    """Each row's group mean. Shape (rows, columns)."""
    size = np.maximum(np.bincount(place), 1)
    sums = [np.bincount(place, weights=column) / size for column in columns.T]
    means: Matrix = np.stack(sums, axis=1)[place]
    return means
