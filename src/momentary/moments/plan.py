"""Plan an A/B test of two pictures, and watch it without fooling oneself.

Sizes: two proportions with unpooled variances, or Poisson counts, at fixed horizon; a design
effect stands for the impressions of one user that go together. Watching: a sample-ratio alarm that
may be looked at after every user (Lindon & Malek, "Anytime-valid inference for multinomial count
data", NeurIPS 2022) and intervals that hold at all times (asymptotic confidence sequence by normal
mixture: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, Annals of Statistics 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from momentary.moments.results import Interval, percent

Kind = Literal["proportion", "poisson"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """What the test must be able to see.

    Attributes:
        rate: Events per exposure with the old picture, such as clicks per impression.
        lift: The relative change that must not be missed, in percent.
        power: Probability of seeing it.
        alpha: Two-sided probability of seeing something where there is nothing.
        share: Share of users who get the new picture.
        kind: "proportion" where an exposure has at most one event, "poisson" where it may have
            several.
        per_user: Mean exposures of one user.
        alike: Intraclass correlation of one user's exposures, 0 to 1.
    """

    rate: float
    lift: float
    power: float = 0.8
    alpha: float = 0.05
    share: float = 0.5
    kind: Kind = "proportion"
    per_user: float = 1.0
    alike: float = 0.0

    def __post_init__(self) -> None:
        top = 1.0 if self.kind == "proportion" else math.inf
        if not 0 < self.rate < top:
            raise ValueError(f"rate is {self.rate}; it must be above 0 and, as a share, below 1.")
        if self.lift == 0 or self.lift <= -100 or not math.isfinite(self.lift):
            raise ValueError(f"lift is {self.lift} %; it must be above -100 and not 0.")
        if not self.rate * (1 + self.lift / 100) < top:
            raise ValueError(f"A lift of {self.lift} % takes the rate {self.rate} to 1 or more.")
        for name in ("power", "alpha", "share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1.")
        if self.per_user < 1 or not 0 <= self.alike <= 1:
            raise ValueError(
                f"per_user is {self.per_user} and alike {self.alike}; they must be at least 1, and "
                "from 0 to 1."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of the test.

    Attributes:
        old_exposures: With the old picture.
        new_exposures: With the new picture.
        users: In both arms together.
        words: What to do, in plain sentences.
    """

    config: PlanConfig
    old_exposures: int
    new_exposures: int
    users: int
    words: tuple[str, ...]


def plan(config: PlanConfig) -> Plan:
    """How many exposures and users an A/B test needs.

    >>> plan(PlanConfig(rate=0.10, lift=10.0)).new_exposures
    14749
    """
    old, new = config.rate, config.rate * (1 + config.lift / 100)
    reach = float(stats.norm.ppf(1 - config.alpha / 2) + stats.norm.ppf(config.power))
    effect = 1 + (config.per_user - 1) * config.alike
    spread = _variance(old, config) / (1 - config.share) + _variance(new, config) / config.share
    total = effect * spread * (reach / (new - old)) ** 2
    arms = [math.ceil(total * part) for part in (1 - config.share, config.share)]
    users = math.ceil(sum(arms) / config.per_user)
    words = (
        f"Show the old picture {arms[0]:,} times and the new one {arms[1]:,} times, "
        f"to {users:,} users drawn at random in advance.",
        "Randomise by user, so that nobody sees both pictures and lists do not mix.",
        f"Then a true change of {config.lift:+g} % from a rate of {config.rate:.4g} is seen with "
        f"probability {config.power:.0%}; where nothing changes, {config.alpha:.0%} of such tests "
        "say that it does.",
        "Stop early only by the intervals that hold at all times, and look at the sample-ratio "
        "alarm first.",
    )
    return Plan(
        config=config, old_exposures=arms[0], new_exposures=arms[1], users=users, words=words
    )


def power(config: PlanConfig, *, exposures: int) -> float:
    """Probability of seeing the lift with so many exposures in both arms together."""
    old, new = config.rate, config.rate * (1 + config.lift / 100)
    effect = 1 + (config.per_user - 1) * config.alike
    spread = _variance(old, config) / (1 - config.share) + _variance(new, config) / config.share
    distance = abs(new - old) / math.sqrt(effect * spread / exposures)
    return float(stats.norm.cdf(distance - stats.norm.ppf(1 - config.alpha / 2)))


def sample_ratio_p(
    counts: Sequence[int], *, shares: Sequence[float], concentration: float = 10_000.0
) -> float:
    """P value, valid however often one looks, that users were split as planned.

    One over the Bayes factor of a Dirichlet prior around the plan against the plan itself. Take
    the smallest value so far; below .01, stop the test and look for the fault.

    Args:
        counts: Users per arm so far. Shape (arms,).
        shares: Planned shares. Shape (arms,).
        concentration: Of the prior; 10,000 looks for imbalances of a percent or two.

    >>> sample_ratio_p([5_020, 4_980], shares=[0.5, 0.5]) > 0.5
    True
    """
    seen, planned = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if seen.shape != planned.shape or (planned <= 0).any() or abs(planned.sum() - 1) > 1e-6:
        raise ValueError(
            f"counts are {list(counts)} and shares {list(shares)}; give one share above 0 for each "
            "arm, adding up to 1."
        )
    if (seen < 0).any() or not seen.any():
        raise ValueError(f"counts are {list(counts)}; none may be below 0, and not all may be 0.")
    prior = concentration * planned
    log_factor = (
        special.gammaln(prior.sum())
        - special.gammaln(prior.sum() + seen.sum())
        + (special.gammaln(prior + seen) - special.gammaln(prior)).sum()
        - (seen * np.log(planned)).sum()
    )
    return float(min(1.0, math.exp(-min(max(log_factor, -700.0), 700.0))))


def anytime_lift(
    old: tuple[int, int], new: tuple[int, int], *, alpha: float = 0.05, best_at: int = 10_000
) -> Interval:
    """Lift of the new picture so far; the interval holds at all times at once.

    Args:
        old: Events and exposures of the old picture.
        new: Events and exposures of the new picture.
        alpha: Probability that the interval ever misses the truth.
        best_at: Exposures in all at which the interval shall be tightest.

    Raises:
        ValueError: If an arm has no event yet, when no lift can be told.
    """
    for events, exposures in (old, new):
        if not 0 < events <= exposures:
            raise ValueError(
                f"An arm has {events} events of {exposures} exposures; wait until each arm has one."
            )
    middle = math.log(new[0] / new[1]) - math.log(old[0] / old[1])
    total = old[1] + new[1]
    # Variance of the log ratio (delta method), as that of a mean over `total` exposures.
    variance = total * sum((1 - e / n) / e for e, n in (old, new))
    tuned = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / best_at
    reach = math.sqrt(
        2
        * (total * tuned + 1)
        / (total**2 * tuned)
        * math.log(math.sqrt(total * tuned + 1) / alpha)
    ) * math.sqrt(variance)
    low, high = (percent(middle + side * reach) for side in (-1, 1))
    return Interval(percent=percent(middle), low=low, high=high)


def _variance(rate: float, config: PlanConfig) -> float:
    return rate * (1 - rate) if config.kind == "proportion" else rate
