"""What was measured about an item, as smooth columns for a ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.interpolate import BSpline

from momentary.moments.estimates import Matrix
from momentary.types import IntArray

_DEGREE = 3
_FEW_VALUES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Confounders:
    """What moves both the picture and the sales, one row a spell.

    Attributes:
        numbers: Such as log price, stock and rank; finite. Shape (spells, numbers).
        names: Of the columns of `numbers`.
        category: Index of the item's category. Shape (spells,).
        period: Index of the calendar period. Shape (spells,).
    """

    numbers: Matrix
    names: tuple[str, ...]
    category: IntArray
    period: IntArray

    def __post_init__(self) -> None:
        rows = len(self.category)
        if self.numbers.shape != (rows, len(self.names)) or len(self.period) != rows:
            raise ValueError(
                f"numbers has shape {self.numbers.shape} with {len(self.names)} names, "
                f"{rows} categories and {len(self.period)} periods; each spell has one of each."
            )
        if not np.isfinite(self.numbers).all():
            bad = self.names[int(np.flatnonzero(~np.isfinite(self.numbers).all(axis=0))[0])]
            raise ValueError(
                f"The confounder {bad} is missing for some spells; fill it in, and add a column "
                "that says where it was missing."
            )


def basis(confounders: Confounders, *, knots: int = 5) -> Matrix:
    """Columns whose sums can follow any smooth, mostly additive, function of the confounders.

    Each number gets a cubic spline over its quantiles; numbers also meet each other and each
    category as products. Categories and periods get a column each. Every column is centred and
    scaled to 1 SD, so that one penalty treats them alike.

    Args:
        confounders: What was measured.
        knots: Inner knots of a spline.

    Returns:
        Shape (spells, columns); there is no intercept.
    """
    categories = _indicators(confounders.category)
    columns = [categories, _indicators(confounders.period)]
    lines: list[Matrix] = []
    for number in confounders.numbers.T:
        spread = float(number.std())
        if spread < 1e-12:
            continue
        # Beyond the outer 1 % the data say too little about a curve's shape.
        low, high = np.quantile(number, [0.01, 0.99])
        line = (np.clip(number, low, high) - number.mean()) / spread if high > low else number
        lines.append(line)
        columns.append(_curve(line, knots=knots))
        columns.append(categories * line[:, None])
    columns += [(one * other)[:, None] for one, other in combinations(lines, 2)]
    columns += [(line**2)[:, None] for line in lines]
    joined = np.concatenate(columns, axis=1) if columns else np.empty((len(categories), 0))
    joined = joined - joined.mean(axis=0)
    spread_of = joined.std(axis=0)
    useful = spread_of > 1e-9
    scaled: Matrix = joined[:, useful] / spread_of[useful]
    return scaled


def _curve(line: Matrix, *, knots: int) -> Matrix:
    values = np.unique(line)
    if len(values) <= _FEW_VALUES:
        return _indicators(np.searchsorted(values, line))
    inner = np.unique(np.quantile(line, np.linspace(0, 1, knots + 2)[1:-1]))
    low, high = values[0], values[-1]
    inner = inner[(inner > low) & (inner < high)]
    places = np.concatenate([[low] * (_DEGREE + 1), inner, [high] * (_DEGREE + 1)])
    splines: Matrix = BSpline.design_matrix(line, places, _DEGREE).toarray()
    return splines


def _indicators(codes: IntArray) -> Matrix:
    values, place = np.unique(codes, return_inverse=True)
    return np.eye(len(values))[place][:, 1:] if len(values) > 1 else np.empty((len(codes), 0))
