"""What would this picture gain if it were changed? Answered from fitted effects, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.edits import EDITS, edit
from momentary.moments.pixels import Pixels
from momentary.moments.results import RUNGS, EffectTable, Interval, percent, words_of

_STILL = 0.05  # standard deviations below which an attribute counts as unmoved
_UNTOLD = 0.3  # standard deviations that an attribute without an effect in the fit may move


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """The predicted change of one outcome's rate.

    Attributes:
        outcome: An `Outcome.name`.
        label: How it is written.
        rung: Of the effects that it is computed from.
        interval: In percent; None where it is refused.
        refused: Why there is no number, in plain words; "" where there is one.
        moved: How far each attribute of the fit moves, in standard deviations.
    """

    outcome: str
    label: str
    rung: int
    interval: Interval | None
    refused: str
    moved: Mapping[str, float]

    @property
    def words(self) -> str:
        """The answer as a sentence."""
        if self.interval is None:
            return f"No prediction: {self.refused}"
        found = self.interval
        return (
            f"Predicted {self.label}: {found.percent:+.1f} % (interval {found.low:+.1f} to "
            f"{found.high:+.1f} %), evidence: {RUNGS[self.rung]}. An A/B test can settle it."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One position of a slider: an edit's strength, and all attributes measured after it."""

    strength: float
    values: tuple[float, ...]


def predict(
    table: EffectTable,
    outcome: str,
    *,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> Lift:
    """The lift from one set of attribute values to another.

    With z the difference in standard deviations, b the coefficients and V their covariance, the
    rate changes by exp(z'b), with the interval exp(z'b +- c sqrt(z'Vz)).

    Args:
        table: The fitted effects.
        outcome: An `Outcome.name` of the table.
        before: Attribute values in their units; those of the fit must be there.
        after: The same after the change.

    Returns:
        The lift; refused where a moved attribute leaves the range that the data speak for, its
        effect is refused in the table, or it moves far and is not in the fit.

    Raises:
        DataError: If the table has no such fit, or a value is missing or not finite.
    """
    fit = table.fit(outcome)
    scales = [table.scale(name) for name in fit.attributes]
    values = np.array([[_value(each, name) for name in fit.attributes] for each in (before, after)])
    moves = (values[1] - values[0]) / np.array([each.sd for each in scales])
    moved = dict(zip(fit.attributes, moves.tolist(), strict=True))
    lift = partial(Lift, outcome=outcome, label=table.outcome(outcome).label, rung=fit.rung)
    refuse = partial(lift, interval=None, moved=moved)
    refused = {each.attribute: each.refused for each in table.effects if each.outcome == outcome}
    for scale, move, value in zip(scales, moves, values[1], strict=True):
        if abs(move) <= _STILL:
            continue
        reason = refused.get(scale.attribute, "")
        if not scale.low <= value <= scale.high:
            unit = f" {scale.unit}" if scale.unit else ""
            reason = (
                f"{scale.label} would be {value:.3g}{unit}, outside the range that the data speak "
                f"for ({scale.low:.3g} to {scale.high:.3g})."
            )
        if reason:
            return refuse(refused=reason)
    for scale in table.scales:
        ends = [each.get(scale.attribute) for each in (before, after)]
        if scale.attribute in moved or None in ends:
            continue
        move = (_value(after, scale.attribute) - _value(before, scale.attribute)) / scale.sd
        if abs(move) > _UNTOLD:
            return refuse(
                refused=f"the edit also moves {scale.label} by {move:+.1f} SD, and what that does "
                "could not be estimated together with the rest."
            )
    middle = float(moves @ np.array(fit.coefficients))
    variance = float(moves @ np.array(fit.covariance) @ moves)
    reach = float(stats.norm.ppf(0.5 + table.level / 2)) * max(variance, 0.0) ** 0.5
    found = Interval(
        percent=percent(middle), low=percent(middle - reach), high=percent(middle + reach)
    )
    return lift(interval=found, refused="", moved=moved)


def predict_edit(table: EffectTable, outcome: str, *, pixels: Pixels, edited: Pixels) -> Lift:
    """The lift of an edited picture: both are measured, and everything that moved counts."""
    names = list(ATTRIBUTES)
    unknown = [name for name in table.fit(outcome).attributes if name not in ATTRIBUTES]
    if unknown:
        raise DataError(
            f"The table's effects are of {words_of(unknown)}, which no picture shows; a picture "
            "can be asked about where its own attributes were analysed."
        )
    before, after = (
        dict(zip(names, measure(each).tolist(), strict=True)) for each in (pixels, edited)
    )
    return predict(table, outcome, before=before, after=after)


def stops(pixels: Pixels, attribute: str, *, strengths: Sequence[float]) -> tuple[Stop, ...]:
    """Measure a picture at each strength of one edit, for a slider that predicts in between."""
    if attribute not in EDITS:
        raise DataError(f"There is no edit of {attribute!r}; there are {', '.join(EDITS)}.")
    return tuple(
        Stop(strength=s, values=_rounded(measure(edit(pixels, attribute, s)))) for s in strengths
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _value(values: Mapping[str, float], name: str) -> float:
    value = values.get(name)
    if value is None or not np.isfinite(value):
        raise DataError(f"The value of {name} is {value}; give a number for every attribute.")
    return float(value)
