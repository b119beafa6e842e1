"""The nouns of a result: effects with their rung, curves, the decision card, and their file.

Everything here is plain data that survives a trip through JSON, so that estimating, asking
"what if" and drawing the report can happen on different days and machines.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from momentary.errors import DataError

Moment = Literal["research", "first_sight", "use", "advocacy"]
"""ZMOT, FMOT, SMOT, and TMOT or UMOT."""

MOMENTS: Mapping[Moment, str] = {
    "research": "Research (ZMOT)",
    "first_sight": "First sight (FMOT)",
    "use": "Use (SMOT)",
    "advocacy": "Advocacy (TMOT)",
}
"""How a moment is written, in the order in which a shopper lives through them."""

RUNGS: Mapping[int, str] = {
    1: "association",
    2: "adjusted for what was measured",
    3: "within item, before and after a change",
    4: "randomised",
}
"""The evidence ladder; a number is never promoted to a rung that it was not measured on."""

_FORMAT = 1
_MOST_PERCENT = 1e6
_HIGHEST = 20.0  # a logarithm well above it, for which exp stays finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is counted, and per what.

    Attributes:
        name: Short key, such as "click".
        moment: When it happens.
        label: How it is written, such as "clicks per impression".
        per: The exposure that the rate is per, such as "impression".
        good: False where more of it is bad, as with returns.
    """

    name: str
    moment: Moment
    label: str
    per: str
    good: bool = True


_OUTCOMES = (
    Outcome(
        name="detail",
        moment="research",
        label="detail views per research view",
        per="research view",
    ),
    Outcome(name="click", moment="first_sight", label="clicks per impression", per="impression"),
    Outcome(name="cart", moment="first_sight", label="carts per impression", per="impression"),
    Outcome(
        name="purchase", moment="first_sight", label="purchases per impression", per="impression"
    ),
    Outcome(name="rating", moment="use", label="good ratings per purchase", per="purchase"),
    Outcome(name="return", moment="use", label="returns per purchase", per="purchase", good=False),
    Outcome(name="repurchase", moment="use", label="repurchases per purchase", per="purchase"),
    Outcome(name="review", moment="advocacy", label="reviews per purchase", per="purchase"),
    Outcome(name="share", moment="advocacy", label="shares per purchase", per="purchase"),
)
OUTCOMES: Mapping[str, Outcome] = {each.name: each for each in _OUTCOMES}
"""The outcomes of an event log. An analysis of other data, such as promotions, makes its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What one unit of an effect means: the spread of one attribute in the data.

    Attributes:
        attribute: Its name, such as "brightness".
        label: How it is written.
        unit: Such as "share of white" or "share of pixels"; "" where it is a plain yes or no.
        mean: In that unit.
        sd: In that unit; effects are per this much. For a yes-or-no exposure (`binary`) it is 1:
            an effect is then that of yes against no.
        low: Lowest value that the data speak for (the 1st percentile, say).
        high: Highest value that the data speak for.
        binary: True for a yes-or-no exposure, such as being on the front page of a mailer.
        noisy: True where re-encoding or resizing a picture moves the measurement too much.
    """

    attribute: str
    label: str
    unit: str
    mean: float
    sd: float
    low: float
    high: float
    binary: bool = False
    noisy: bool = False

    def __post_init__(self) -> None:
        if not (self.sd > 0 and math.isfinite(self.sd)):
            raise ValueError(
                f"sd of {self.attribute} is {self.sd}; it must be above 0: leave out an attribute "
                "that never varies."
            )
        if not self.low <= self.high:
            raise ValueError(f"{self.attribute} ranges from {self.low} to {self.high}; swap them.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A percent change with its confidence interval; all three in percent."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one attribute does to one outcome, the other attributes held fixed.

    Attributes:
        attribute: A `Scale.attribute`.
        outcome: An `Outcome.name`.
        rung: 1 to 4, of the method that gave the number.
        method: In a few words, such as "within-item Poisson".
        percent: Change of the outcome's rate per +1 SD (yes against no if binary), in percent.
        low: Lower end of the interval, in percent.
        high: Upper end of the interval, in percent.
        coefficient: The same as a logarithm per SD: log(1 + percent / 100).
        standard_error: Of the coefficient.
        p: Two-sided p value.
        q: Two-stage q value over all attributes and outcomes, for the table's false-discovery rate.
        discovered: True where q is at most the table's false-discovery rate and nothing refuses it.
        family_p: Romano-Wolf p value, for headlines; None where not computed.
        robustness: Share of the residual variance of exposure and outcome that an unseen cause
            would have to explain to bring the interval to 0; None where not computed.
        naive: What plain correlation would have said; None where not computed.
        refused: Why the number must not be read as an effect, in plain words; "" if it may be.
        words: The conclusion in one plain sentence.
        warnings: Other plain sentences that belong beside the number.
    """

    attribute: str
    outcome: str
    rung: int
    method: str
    percent: float
    low: float
    high: float
    coefficient: float
    standard_error: float
    p: float
    q: float
    discovered: bool
    words: str
    family_p: float | None = None
    robustness: float | None = None
    naive: Interval | None = None
    refused: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The joint fit behind the effects on one outcome; "what if" needs the whole covariance.

    Attributes:
        outcome: An `Outcome.name`.
        rung: 1 to 4.
        method: In a few words.
        attributes: In the order of the coefficients.
        coefficients: Logarithm of the rate ratio per +1 SD. Shape (attributes,).
        covariance: Of the coefficients. Shape (attributes, attributes).
        rate: Events per exposure in the data; None where the outcome is not a rate.
        items: Items in the fit.
        exposures: Impressions (purchases, ...) in the fit.
        events: Events in the fit.
        switchers: Items whose picture (or exposure) changed; None where the method needs none.
        divergence_p: p value of the test that rungs 2 and 3 agree; None where not run.
        placebo_p: Share-of-placebos p value (permuted exposures); None where not run.
    """

    outcome: str
    rung: int
    method: str
    attributes: tuple[str, ...]
    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    rate: float | None
    items: int
    exposures: float
    events: float
    switchers: int | None = None
    divergence_p: float | None = None
    placebo_p: float | None = None

    def __post_init__(self) -> None:
        n = len(self.attributes)
        shape = (len(self.covariance), *{len(row) for row in self.covariance})
        if len(self.coefficients) != n or (n and shape != (n, n)):
            raise ValueError(
                f"The fit of {self.outcome} names {n} attributes but has {len(self.coefficients)} "
                f"coefficients and a covariance of shape {shape}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Dose and response: percent change against the mean dose, with where the data are.

    Attributes:
        attribute: A `Scale.attribute`.
        outcome: An `Outcome.name`.
        doses: In the attribute's unit, ascending. Shape (points,).
        percent: Change against the dose at the mean. Shape (points,).
        low: Lower ends. Shape (points,).
        high: Upper ends. Shape (points,).
        rug: A sample of observed doses, so that a reader sees where the data are thin.
    """

    attribute: str
    outcome: str
    doses: tuple[float, ...]
    percent: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rug: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeksAround:
    """What happens before, in and after a week of exposure, against weeks far from one.

    Attributes:
        attribute: A `Scale.attribute`.
        outcome: An `Outcome.name`.
        weeks: From the exposure: below 0 before it. Ascending. Shape (weeks,).
        percent: Shape (weeks,).
        low: Lower ends. Shape (weeks,).
        high: Upper ends. Shape (weeks,).
    """

    attribute: str
    outcome: str
    weeks: tuple[int, ...]
    percent: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heterogeneity:
    """Does the effect differ between categories? The rows are shown only if the test says so.

    Attributes:
        attribute: A `Scale.attribute`.
        outcome: An `Outcome.name`.
        p: p value of the test that all categories have the same effect (corrected over tests).
        differs: True where the test rejects.
        categories: Names. Shape (categories,).
        effects: One interval a category. Shape (categories,).
        words: The conclusion in one plain sentence.
    """

    attribute: str
    outcome: str
    p: float
    differs: bool
    categories: tuple[str, ...]
    effects: tuple[Interval, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One part of a decision: its share of what decides within a choice set.

    Attributes:
        part: "taste", "loyalty", "price", "position" or "image".
        share: Of the variance of utility within the choice set, 0 to 1.
        low: Lower end of the share's interval.
        high: Upper end of the share's interval.
        words: In one plain sentence.
    """

    part: str
    share: float
    low: float
    high: float
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """One coefficient of the decision model, in utility."""

    name: str
    value: float
    standard_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCard:
    """What decides: taste, loyalty, price, position, image.

    Attributes:
        influences: The shares; they add up to 1 but for what no part explains.
        coefficients: Of the choice model.
        people: People in the fit.
        choices: Choices in the fit.
        words: The conclusion in plain sentences.
    """

    influences: tuple[Influence, ...]
    coefficients: tuple[Coefficient, ...]
    people: int
    choices: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectTable:
    """Everything that one analysis found; `write_table` and `read_table` are its file.

    Attributes:
        title: What was analysed.
        source: Where the data come from; says "simulated" if they are.
        simulated: True where the behaviour (not the pictures) was made up.
        exposure_noun: What is shown: "picture", or "promotion" where there are no pictures.
        fdr: The false-discovery rate that `Effect.discovered` keeps.
        level: Coverage of every interval, such as .95.
        outcomes: What was counted, in the order in which to show it.
        scales: The attributes, in the order in which to show them.
        effects: One a pair of attribute and outcome.
        fits: One an outcome: the fit that the effects are taken from.
        curves: Where they were estimated.
        heterogeneity: Where it was tested.
        around: The weeks around an exposure, where there are weeks.
        decision: None where no choice model was fitted.
        warnings: Plain sentences that belong on the page's top.
        merged: Attributes that were left out because they are nearly those kept: (left out, kept).
    """

    title: str
    source: str
    outcomes: tuple[Outcome, ...]
    scales: tuple[Scale, ...]
    effects: tuple[Effect, ...]
    fits: tuple[Fit, ...]
    simulated: bool = False
    exposure_noun: str = "picture"
    fdr: float = 0.10
    level: float = 0.95
    curves: tuple[Curve, ...] = ()
    heterogeneity: tuple[Heterogeneity, ...] = ()
    around: tuple[WeeksAround, ...] = ()
    decision: DecisionCard | None = None
    warnings: tuple[str, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        outcomes = {each.name for each in self.outcomes}
        attributes = {each.attribute for each in self.scales}
        for each in self.effects:
            if each.outcome not in outcomes or each.attribute not in attributes:
                raise ValueError(
                    f"An effect of {each.attribute!r} on {each.outcome!r} has no scale or outcome; "
                    f"there are scales of {sorted(attributes)} and outcomes {sorted(outcomes)}."
                )

    def scale(self, attribute: str) -> Scale:
        """The scale of one attribute.

        Raises:
            DataError: If the table does not know it.
        """
        for each in self.scales:
            if each.attribute == attribute:
                return each
        known = ", ".join(each.attribute for each in self.scales)
        raise DataError(f"The table has no attribute {attribute!r}; it has {known}.")

    def outcome(self, name: str) -> Outcome:
        """One outcome by its name.

        Raises:
            DataError: If the table does not know it.
        """
        for each in self.outcomes:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.outcomes)
        raise DataError(f"The table has no outcome {name!r}; it has {known}.")

    def fit(self, outcome: str) -> Fit:
        """The fit of one outcome.

        Raises:
            DataError: If there is none.
        """
        for each in self.fits:
            if each.outcome == outcome:
                return each
        known = ", ".join(each.outcome for each in self.fits)
        raise DataError(f"The table has no fit of {outcome!r}; it has fits of {known}.")

    def of(self, outcome: str) -> tuple[Effect, ...]:
        """The effects on one outcome, largest first by the end of the interval nearest 0."""
        chosen = [each for each in self.effects if each.outcome == outcome]
        return tuple(sorted(chosen, key=_strength, reverse=True))


def mark_noisy(table: EffectTable, attributes: Collection[str]) -> EffectTable:
    """The table with these attributes, too, marked as measured with noise."""
    scales = tuple(
        replace(each, noisy=each.noisy or each.attribute in attributes) for each in table.scales
    )
    return replace(table, scales=scales)


def percent(log_ratio: float) -> float:
    """A logarithm of a rate ratio as a percent change, never above a million.

    No picture multiplies sales by more than ten thousand: an end of an interval that is told as a
    million percent says that there is no upper end, and stays a number in JSON.

    >>> round(percent(0.0953), 2)
    10.0
    >>> percent(3.4e17), percent(-3.4e17)
    (1000000.0, -100.0)
    """
    return min(100.0 * math.expm1(min(log_ratio, _HIGHEST)), _MOST_PERCENT)


def _strength(effect: Effect) -> tuple[bool, float, float]:
    nearest = max(effect.low, -effect.high, 0.0)
    return (not effect.refused, nearest, abs(effect.percent))


def words_of(names: Sequence[str]) -> str:
    """A list as a person writes it.

    >>> words_of(["a", "b", "c"])
    'a, b and c'
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def table_json(table: EffectTable) -> bytes:
    """The table as JSON, with a format number in front."""
    return msgspec.json.encode({"format": _FORMAT, "table": table}, enc_hook=plain)


def plain(value: object) -> object:
    """NumPy's numbers as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a table of results.")


def write_table(table: EffectTable, file: Path) -> None:
    """Write the table as JSON."""
    file.write_bytes(table_json(table))


def read_table(file: Path) -> EffectTable:
    """Read what `write_table` (or `moments effects`) wrote.

    Raises:
        DataError: If the file is missing, is not JSON, or is not such a table.
    """
    try:
        raw = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
        raise DataError(
            f"{file} is not an effects table of format {_FORMAT}; write one with "
            "momentary moments effects --out."
        )
    try:
        return msgspec.convert(raw.get("table"), EffectTable)
    except (msgspec.ValidationError, ValueError) as error:
        raise DataError(f"{file} is not an effects table: {error}.") from error
