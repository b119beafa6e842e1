"""Which number may be read as an effect, and how it is said in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from momentary.moments.estimates import Estimate, Matrix
from momentary.moments.results import Interval, Outcome, Scale
from momentary.moments.rungs import Ladder, LadderConfig

_NOTHING = Estimate(
    coefficients=np.zeros(1),
    influence=np.array([[100.0], [-100.0]]),
    clusters=np.arange(2),
    effective=np.full(1, 2.0),
)
"""Of an attribute that no rung can tell: 0, with an interval that leaves out nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The number of one attribute and outcome, before other tests are taken into account.

    Attributes:
        outcome: An `Outcome.name`.
        attribute: Its place among the scales.
        rung: Whose number it is.
        estimate: Of that rung.
        place: Of the attribute in the estimate.
        refused: Why it must not be read as an effect; "" if it may be.
    """

    outcome: str
    attribute: int
    rung: int
    estimate: Estimate
    place: int
    refused: str

    @property
    def told(self) -> bool:
        """Whether there is a number at all."""
        return self.estimate is not _NOTHING

    @property
    def coefficient(self) -> float:
        """Logarithm of the rate ratio per SD."""
        return float(self.estimate.coefficients[self.place])

    @property
    def error(self) -> float:
        """Its standard error."""
        return float(self.estimate.errors[self.place])

    @property
    def p(self) -> float:
        """Two-sided p value."""
        return float(self.estimate.p_values[self.place])


def holds(ladder: Ladder, rung: int, config: LadderConfig) -> bool:
    """Whether nothing speaks against a rung as a whole."""
    if rung == 2:
        return ladder.divergence is None or ladder.divergence >= config.divergence_size
    return rung in {3, 4}


def draft(outcome: str, ladder: Ladder, *, attribute: int, config: LadderConfig) -> Draft:
    """The number of the highest rung that holds and can tell this attribute.

    Args:
        outcome: An `Outcome.name`.
        ladder: Of the outcome.
        attribute: Its place among the scales.
        config: When a rung holds.
    """
    for rung in (4, 3, 2):
        if rung not in ladder.rungs or not holds(ladder, rung, config):
            continue
        place = ladder.rungs[rung].place(attribute)
        if place is not None:
            return Draft(
                outcome=outcome,
                attribute=attribute,
                rung=rung,
                estimate=ladder.rungs[rung].estimate,
                place=place,
                refused="",
            )
    place = ladder.rungs[1].place(attribute) if 1 in ladder.rungs else None
    return Draft(
        outcome=outcome,
        attribute=attribute,
        rung=1,
        estimate=_NOTHING if place is None else ladder.rungs[1].estimate,
        place=0 if place is None else place,
        refused=refusal(ladder, attribute, config, told=place is not None),
    )


def refusal(ladder: Ladder, attribute: int, config: LadderConfig, *, told: bool) -> str:
    """Why no rung above association holds for an attribute."""
    if not told:
        return (
            "It varies only together with other attributes, or there are not enough events, so no "
            "effect of its own can be told."
        )
    reasons = []
    if ladder.switchers[attribute] < config.min_switchers:
        reasons.append(
            f"not enough pictures changed: {int(ladder.switchers[attribute])} items changed it "
            f"and {config.min_switchers} are needed"
        )
    elif 3 not in ladder.rungs:
        reasons.append(_within_a_sentence(ladder.notes[3]))
    elif ladder.rungs[3].place(attribute) is None:
        reasons.append(
            "not enough events where pictures changed it, or it changed only together with others"
        )
    if 2 in ladder.rungs and not holds(ladder, 2, config):
        reasons.append(
            "what was measured about the items does not explain the sales well enough: items "
            "compared with themselves give another answer"
        )
    elif 2 not in ladder.rungs:
        reasons.append(f"nothing better could be computed: {_within_a_sentence(ladder.notes[2])}")
    return f"This is an association only: {'; '.join(reasons)}. An A/B test can tell."


def _within_a_sentence(words: str) -> str:
    return words[:1].lower() + words[1:].rstrip(".")


def sentence(
    scale: Scale,
    outcome: Outcome,
    found: Interval,
    *,
    rung: int,
    discovered: bool,
    refused: str,
) -> str:
    """The conclusion in one plain sentence."""
    more = f"One SD more {scale.label}"
    numbers = f"{found.percent:+.1f} % ({found.low:+.1f} to {found.high:+.1f})"
    if refused:
        return f"{more} goes with {numbers} {outcome.label}, but this is no effect: {refused}"
    seen = {
        2: "items alike in everything measured being compared",
        3: "items being compared with themselves before and after their picture changed",
        4: "chance having chosen the picture",
    }[rung]
    if not discovered:
        return f"No clear effect of {scale.label} on {outcome.label}: {numbers} per SD, {seen}."
    verb = "raises" if found.percent > 0 else "lowers"
    size = f"{abs(found.percent):.1f} %"
    return (
        f"{more} {verb} {outcome.label} by {size} ({found.low:+.1f} to {found.high:+.1f}), {seen}."
    )


def no_number(scale: Scale, outcome: Outcome, refused: str) -> str:
    """What is said of an attribute that no rung can tell."""
    return f"Nothing can be said of what {scale.label} does to {outcome.label}: {refused}"


def cautions(scale: Scale, draft: Draft, ladder: Ladder) -> tuple[str, ...]:
    """What belongs beside the number."""
    found = []
    if scale.noisy:
        found.append("This attribute is measured with noise: re-encoding the picture moves it.")
    if draft.rung in (3, 4) and float(draft.estimate.effective[draft.place]) < 40:
        found.append(
            f"The number stands on as much as {draft.estimate.effective[draft.place]:.0f} equally "
            "informative items: a few items carry it."
        )
    if draft.rung == 2 and ladder.divergence is None:
        found.append(
            "Not enough pictures changed to check this number against items compared with "
            "themselves; what was not measured may be behind it."
        )
    return tuple(found)


def outcome_warnings(
    outcome: Outcome, ladder: Ladder, *, placebo: Matrix | None, config: LadderConfig
) -> list[str]:
    """What belongs on the page's top about one outcome."""
    found = []
    if ladder.divergence is not None and ladder.divergence < config.divergence_size:
        found.append(
            f"{outcome.label}: adjusting for what was measured and comparing items with themselves "
            f"disagree (p {ladder.divergence:.3g}), so something unseen moves both pictures and "
            "sales; adjusted numbers are not shown as effects."
        )
    if ladder.leads is not None and ladder.leads < config.leads_size:
        found.append(
            f"{outcome.label}: rates moved before pictures changed (p {ladder.leads:.3g}), so "
            "pictures may follow sales; every within-item interval allows for as large a "
            "difference as there was before."
        )
    if placebo is not None and placebo.size >= 20 and (placebo < 0.05).mean() > 0.15:
        found.append(
            f"{outcome.label}: {100 * (placebo < 0.05).mean():.0f} % of swapped pictures look "
            "significant where 5 % should; do not trust these numbers."
        )
    return found


def unchecked(ladders: Mapping[Outcome, Ladder]) -> list[str]:
    """Which outcomes' within-item numbers had no adjusted ones to be checked against, and why."""
    by_reason: dict[str, list[str]] = {}
    for outcome, ladder in ladders.items():
        if 3 in ladder.rungs and ladder.divergence is None and 2 in ladder.notes:
            by_reason.setdefault(ladder.notes[2], []).append(outcome.label)
    return [
        f"Not checked against numbers adjusted for what was measured: {', '.join(labels)}. {reason}"
        for reason, labels in by_reason.items()
    ]


def heterogeneity(scale: Scale, outcome: Outcome, *, differs: bool, p: float) -> str:
    """Whether categories differ, in one sentence."""
    if differs:
        return (
            f"What {scale.label} does to {outcome.label} differs between categories (corrected p "
            f"{p:.3g})."
        )
    return (
        f"Nothing shows that {scale.label} works otherwise in one category than in another "
        f"(corrected p {p:.2g})."
    )
