"""Attempts to break an effect: divergence, leads, placebo photos, sensitivity, categories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from momentary.errors import DataError
from momentary.moments.estimates import Estimate, Matrix, difference, wald_p
from momentary.moments.multiplicity import romano_wolf
from momentary.moments.poisson import comparable, within_poisson
from momentary.types import BoolArray, IntArray

Refit = Callable[[Matrix, BoolArray], Estimate]
"""Given the attributes of every spell and which spells count, the estimate."""

_SIGNS = 4000
"""Draws for p values that are compared with .01."""


def divergence_p(adjusted: Estimate, within: Estimate) -> float:
    """P value of the test that two rungs give the same effects.

    Where unseen quality moves both pictures and sales, adjusting for what was measured (rung 2)
    and comparing an item with itself (rung 3) disagree.

    Args:
        adjusted: Of rung 2, with the same coefficients in the same order as `within`.
        within: Of rung 3.
    """
    gap, covariance, clusters = difference(adjusted, within)
    return wald_p(gap, covariance, freedom=clusters - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leads:
    """What pictures seem to do before they are shown.

    Attributes:
        p: P value of the test that they do nothing.
        estimate: Of what each does in the period before it is shown.
        columns: Which attributes these are. Shape (coefficients,).
    """

    p: float
    estimate: Estimate
    columns: IntArray


def find_leads(  # noqa: PLR0913 - one array each
    counts: Matrix,
    *,
    exposure: Matrix,
    attributes: Matrix,
    controls: Matrix,
    item: IntArray,
    period: IntArray,
    rng: np.random.Generator,
) -> Leads | None:
    """Whether a picture works before it is shown.

    The picture of the item's next period joins the within-item regression. If it matters, the rate
    moved before the picture did: pictures were changed because of how sales went, and the
    within-item effect cannot be trusted. The largest of the leads in standard errors is compared
    with what it is where the sign of each item's part is left to chance (a score bootstrap; Kline &
    Santos 2012): the F distribution of a joint test counts every item, though few carry a lead.

    Args:
        counts: Shape (spells,).
        exposure: Shape (spells,).
        attributes: In SD. Shape (spells, attributes).
        controls: Such as period indicators. Shape (spells, controls).
        item: Shape (spells,).
        period: Shape (spells,).
        rng: Draws the signs.

    Returns:
        None where the data cannot tell, such as when pictures change only once at the end.
    """
    order = np.lexsort((period, item))
    now, later = order[:-1], order[1:]
    follows = (item[now] == item[later]) & (period[now] < period[later])
    now, later = now[follows], later[follows]
    if not len(now):
        return None
    ahead = attributes[later] - attributes[now]
    columns = np.concatenate([ahead, attributes[now], controls[now]], axis=1)
    used, kept = comparable(counts[now], exposure=exposure[now], columns=columns, group=item[now])
    leads = np.flatnonzero(kept[: attributes.shape[1]])
    if not len(leads):
        return None
    try:
        estimate = within_poisson(
            counts[now][used],
            exposure=exposure[now][used],
            columns=columns[used][:, kept],
            group=item[now][used],
            cluster=item[now][used],
        )
    except DataError:
        return None
    found = estimate.first(len(leads))
    p = romano_wolf(found.coefficients, found.influence, rng=rng, draws=_SIGNS)
    return Leads(p=float(p.min()), estimate=found, columns=leads)


def placebo_p_values(
    refit: Refit,
    *,
    attributes: Matrix,
    picture: IntArray,
    category: IntArray,
    rng: np.random.Generator,
    rounds: int,
) -> Matrix:
    """P values of pictures that nobody saw: pictures are swapped at random within their category.

    An honest method calls about 5 % of them significant at .05.

    Args:
        refit: The method.
        attributes: Of the pictures that were shown. Shape (pictures, attributes).
        picture: Shape (spells,).
        category: Of each picture. Shape (pictures,).
        rng: Swaps the pictures.
        rounds: How many times.

    Returns:
        Shape (rounds, attributes), without rounds that the method refused.
    """
    everything = np.ones(len(picture), dtype=np.bool_)
    found = []
    for _ in range(rounds):
        swapped = np.arange(len(attributes))
        for each in np.unique(category):
            members = np.flatnonzero(category == each)
            swapped[members] = rng.permutation(members)
        try:
            found.append(refit(attributes[swapped][picture], everything).p_values)
        except DataError:
            continue
    return np.array(found).reshape(len(found), attributes.shape[1])


def robustness_value(statistic: float, *, freedom: float, reach: float = 0.0) -> float:
    """How strong an unseen cause would have to be (Cinelli & Hazlett, JRSS B 2020).

    The share of the residual variance of both the attribute and the rate, across items, that it
    would have to explain to bring the estimate to 0, or with `reach` to bring the nearer end of the
    interval to 0.

    Args:
        statistic: The estimate in standard errors.
        freedom: Items less coefficients.
        reach: Standard errors from the estimate to the end of its interval.

    >>> round(robustness_value(4.18, freedom=783), 3)
    0.139
    """
    effect = max(abs(statistic) - reach, 0.0) / np.sqrt(freedom)
    square = effect**2
    return float((np.sqrt(square**2 + 4.0 * square) - square) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryEffects:
    """Effects by category.

    Attributes:
        categories: Index of each category that could be fitted. Shape (categories,).
        coefficients: Shape (categories, attributes).
        errors: Shape (categories, attributes).
        freedom: Shape (categories, attributes).
        equality_p: p value that all categories have the same effect. Shape (attributes,).
    """

    categories: IntArray
    coefficients: Matrix
    errors: Matrix
    freedom: Matrix
    equality_p: Matrix


def category_effects(
    refit: Refit, *, attributes: Matrix, category: IntArray, item: IntArray, min_items: int = 40
) -> CategoryEffects | None:
    """Fit each category alone and test whether they agree.

    Categories share no item, so their estimates are independent; Welch's test takes care of
    their unequal errors and freedom.

    Args:
        refit: The method.
        attributes: Shape (spells, attributes).
        category: Shape (spells,).
        item: Shape (spells,).
        min_items: Smaller categories are left out.

    Returns:
        None where fewer than two categories can be fitted.
    """
    found: dict[int, Estimate] = {}
    for each in np.unique(category).tolist():
        inside = category == each
        if len(np.unique(item[inside])) < min_items:
            continue
        try:
            found[each] = refit(attributes, inside)
        except (DataError, np.linalg.LinAlgError):
            continue
    if len(found) < 2:
        return None
    estimates = list(found.values())
    coefficients = np.stack([each.coefficients for each in estimates])
    errors = np.stack([each.errors for each in estimates])
    freedom = np.stack([each.freedom for each in estimates])
    equality = [
        welch_p(coefficients[:, a], errors=errors[:, a], freedom=freedom[:, a])
        for a in range(attributes.shape[1])
    ]
    return CategoryEffects(
        categories=np.array(list(found), dtype=np.int64),
        coefficients=coefficients,
        errors=errors,
        freedom=freedom,
        equality_p=np.array(equality),
    )


def welch_p(values: Matrix, *, errors: Matrix, freedom: Matrix) -> float:
    """P value that independent estimates have one mean (Welch, Biometrika 1951)."""
    count = len(values)
    weight = 1.0 / np.maximum(errors, 1e-300) ** 2
    share = weight / weight.sum()
    mean = float(share @ values)
    spread = float(weight @ (values - mean) ** 2) / (count - 1)
    loose = float(((1.0 - share) ** 2 / freedom).sum())
    scale = 1.0 + 2.0 * (count - 2) / (count**2 - 1) * loose
    denominator = (count**2 - 1) / (3.0 * loose) if loose > 0 else np.inf
    return float(stats.f.sf(spread / scale, count - 1, denominator))
