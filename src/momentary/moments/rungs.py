"""The evidence ladder of one outcome: what each rung says, and which rung may speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from momentary.errors import DataError
from momentary.moments.double_ml import DoubleMLConfig, log_double_ml
from momentary.moments.estimates import Estimate, Matrix
from momentary.moments.poisson import comparable, informative, within_poisson
from momentary.moments.refute import Leads, divergence_p, find_leads
from momentary.moments.splines import Confounders
from momentary.types import BoolArray, IntArray

METHODS: Mapping[int, str] = {
    1: "joint Poisson regression",
    2: "log-link double machine learning",
    3: "within-item Poisson",
    4: "randomised pictures",
}
"""How the method of a rung is written."""

_MOVED = 0.05  # SD within an item that count as a changed picture
_FEW_ITEMS = 40  # for each attribute; below, rung 2 must give the same when split otherwise
_SPLITS = 3
_APART = 1.0  # standard errors between splits that are too many
_UNTOLD = 3.0  # standard error per SD, as a logarithm: 400 times as much or a 400th
_EXTREME = 1.5  # per SD, as a logarithm: 4.5 times as much is no picture's doing


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The spells of one outcome.

    Attributes:
        counts: Shape (spells,).
        exposure: Above 0. Shape (spells,).
        attributes: In SD. Shape (spells, attributes).
        item: Shape (spells,).
        randomized: True where chance chose the picture. Shape (spells,).
        confounders: Everything measured.
        moving: What may change within an item from period to period. Shape (spells, numbers).
        adjusted: True where something about the items was measured, beyond the category.
    """

    counts: Matrix
    exposure: Matrix
    attributes: Matrix
    item: IntArray
    randomized: BoolArray
    confounders: Confounders
    moving: Matrix
    adjusted: bool

    def take(self, rows: BoolArray) -> Sample:
        """Some of the spells."""
        return Sample(
            counts=self.counts[rows],
            exposure=self.exposure[rows],
            attributes=self.attributes[rows],
            item=self.item[rows],
            randomized=self.randomized[rows],
            confounders=Confounders(
                numbers=self.confounders.numbers[rows],
                names=self.confounders.names,
                category=self.confounders.category[rows],
                period=self.confounders.period[rows],
            ),
            moving=self.moving[rows],
            adjusted=self.adjusted,
        )

    def showing(self, attributes: Matrix) -> Sample:
        """The same spells with other pictures."""
        return Sample(
            counts=self.counts,
            exposure=self.exposure,
            attributes=attributes,
            item=self.item,
            randomized=self.randomized,
            confounders=self.confounders,
            moving=self.moving,
            adjusted=self.adjusted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung's joint estimate.

    Attributes:
        estimate: Of the attributes in `columns`.
        columns: Which attributes it could tell. Shape (coefficients,).
    """

    estimate: Estimate
    columns: IntArray

    def place(self, attribute: int) -> int | None:
        """Where an attribute stands in the estimate; None where it does not."""
        found = np.flatnonzero(self.columns == attribute)
        return int(found[0]) if len(found) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Every rung that could be climbed, and what speaks against it.

    Attributes:
        rungs: By number.
        switchers: Items whose picture changed in each attribute. Shape (attributes,).
        divergence: p value that rungs 2 and 3 agree; None where not both could be fitted.
        leads: p value that pictures do nothing before they are shown; None where unknown. Below
            `LadderConfig.leads_size` the intervals of rung 3 allow for as much.
        notes: Why a rung is missing, by its number.
    """

    rungs: Mapping[int, Rung]
    switchers: IntArray
    divergence: float | None
    leads: float | None
    notes: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """When a rung holds.

    Attributes:
        min_switchers: An attribute that fewer items changed is not compared within items.
        min_events: An outcome with fewer events is not analysed.
        divergence_size: Below this p value rungs 2 and 3 disagree.
        leads_size: Below this p value the rate moved before the pictures did, and the intervals of
            rung 3 are widened by as much.
        double_ml: How rung 2 learns its nuisance functions.
    """

    min_switchers: int = 30
    min_events: int = 200
    divergence_size: float = 0.05
    leads_size: float = 0.01
    double_ml: DoubleMLConfig = field(default_factory=DoubleMLConfig)

    def __post_init__(self) -> None:
        if self.min_switchers < 2:
            raise ValueError(f"min_switchers is {self.min_switchers}; it must be 2 or more.")
        for name, value in (
            ("divergence_size", self.divergence_size),
            ("leads_size", self.leads_size),
        ):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1; 0.05 is usual.")


def climb(sample: Sample, *, rng: np.random.Generator, config: LadderConfig) -> Ladder:
    """Fit every rung that the data allow, and test them against each other.

    Args:
        sample: The spells of one outcome.
        rng: Splits the items for rung 2, and draws the signs for the test of leads.
        config: When a rung holds.
    """
    switchers = changed_items(sample)
    rungs: dict[int, Rung] = {}
    notes: dict[int, str] = {}
    ways: Mapping[int, Callable[[], Rung]] = {
        1: lambda: association(sample),
        2: lambda: adjusted(sample, rng=rng, config=config.double_ml),
        3: lambda: within(sample, enough=switchers >= config.min_switchers),
        4: lambda: randomised(sample, min_switchers=config.min_switchers),
    }
    for number, fit in ways.items():
        try:
            rungs[number] = _told(fit())
        except DataError as error:
            notes[number] = str(error)
    divergence, leads = _divergence(rungs), _leads(sample, rungs, rng=rng)
    if leads is not None and leads.p < config.leads_size:
        try:
            rungs[3] = allowing(rungs[3], leads)
        except DataError as error:
            del rungs[3]
            notes[3] = str(error)
    return Ladder(
        rungs=rungs,
        switchers=switchers,
        divergence=divergence,
        leads=None if leads is None else leads.p,
        notes=notes,
    )


def allowing(rung: Rung, leads: Leads) -> Rung:
    """The rung with intervals as wide as if what shows before a picture were in its number, too.

    Up or down, and as much: relative magnitudes with M = 1 (Rambachan & Roth, Review of Economic
    Studies 2023). Errors are widened so that the 95 % interval is right; an attribute whose lead
    cannot be told is left out.

    Args:
        rung: Each item against itself.
        leads: What its pictures seem to do before they are shown.

    Raises:
        DataError: If no lead can be told.
    """
    told = np.flatnonzero(np.isin(rung.columns, leads.columns))
    if not len(told):
        raise DataError("Sales moved before the pictures did, and nobody can tell how much.")
    own = rung.estimate.take(told)
    lead = leads.estimate.take(np.searchsorted(leads.columns, rung.columns[told]))
    along = lead.on(own.clusters)
    reach = stats.t.ppf(0.975, own.freedom)
    share = (len(own.clusters) - 1) / len(own.clusters)
    wide = np.max(
        [np.sqrt(((own.influence + sign * along) ** 2).sum(axis=0) * share) for sign in (-1, 1)],
        axis=0,
    )
    factor = (np.abs(lead.coefficients) + reach * wide) / (reach * np.maximum(own.errors, 1e-300))
    return Rung(
        estimate=replace(own, influence=own.influence * np.maximum(factor, 1.0)),
        columns=rung.columns[told],
    )


def _told(rung: Rung) -> Rung:
    """The rung without the numbers that say nothing at all, which are held fixed all the same."""
    errors = rung.estimate.errors
    told = np.isfinite(rung.estimate.coefficients) & (errors < _UNTOLD)
    if not told.any():
        raise DataError(
            "There are not enough events to tell what any attribute does; collect more."
        )
    if told.all():
        return rung
    return Rung(estimate=rung.estimate.take(np.flatnonzero(told)), columns=rung.columns[told])


def association(sample: Sample) -> Rung:
    """Rung 1: all attributes jointly, within category and period, nothing else held fixed."""
    periods = int(sample.confounders.period.max(initial=0)) + 1
    return _fixed_effects(
        sample,
        group=sample.confounders.category * periods + sample.confounders.period,
        controls=np.empty((len(sample.item), 0)),
        allowed=np.ones(sample.attributes.shape[1], dtype=np.bool_),
    )


def adjusted(
    sample: Sample, *, rng: np.random.Generator, config: DoubleMLConfig | None = None
) -> Rung:
    """Rung 2: everything that was measured held fixed.

    Raises:
        DataError: If nothing was measured about the items, the equations have no solution, or in
            a small shop the answer depends on how the items are split.
    """
    if not sample.adjusted:
        raise DataError(
            "Nothing is known of the items beside their category; give prices, ratings or other "
            "facts to adjust for."
        )

    def fit() -> Estimate:
        return log_double_ml(
            sample.counts,
            exposure=sample.exposure,
            attributes=sample.attributes,
            confounders=sample.confounders,
            item=sample.item,
            rng=rng,
            config=config,
        )

    estimate = fit()
    items, attributes = len(np.unique(sample.item)), sample.attributes.shape[1]
    if items < _FEW_ITEMS * attributes:
        _check_splits(estimate, [fit() for _ in range(_SPLITS - 1)], items=items)
    return Rung(estimate=estimate, columns=np.arange(sample.attributes.shape[1]))


def _check_splits(estimate: Estimate, others: Sequence[Estimate], *, items: int) -> None:
    """Refuse numbers that chance, drawing the split, had a large part in, and impossible ones."""
    found = np.stack([each.coefficients for each in (estimate, *others)])
    apart = np.ptp(found, axis=0) / np.maximum(estimate.errors, 1e-300)
    if apart.max(initial=0.0) > _APART or np.abs(found).max(initial=0.0) > _EXTREME:
        raise DataError(
            f"{items} items are too few to adjust for what was measured with {found.shape[1]} "
            "attributes at once: split otherwise, they give another answer. Give more items, or "
            "fewer attributes."
        )


def within(sample: Sample, *, enough: BoolArray) -> Rung:
    """Rung 3: each item against itself, before and after its picture changed.

    Args:
        sample: The spells.
        enough: Attributes that enough items changed. Shape (attributes,).

    Raises:
        DataError: If none was.
    """
    if not enough.any():
        raise DataError(
            "Not enough pictures changed to compare items with themselves; change more pictures, "
            "or test one with an A/B test."
        )
    controls = np.concatenate([_indicators(sample.confounders.period), sample.moving], axis=1)
    return _fixed_effects(sample, group=sample.item, controls=controls, allowed=enough)


def randomised(sample: Sample, *, min_switchers: int) -> Rung:
    """Rung 4: pictures of one item that chance chose between, in one period.

    Raises:
        DataError: If too few items had such pictures.
    """
    tested = sample.take(sample.randomized)
    periods = int(sample.confounders.period.max(initial=0)) + 1
    cell = tested.item * periods + tested.confounders.period
    moved = changed_items(tested, group=cell)
    if not (moved >= min(min_switchers, 2)).any():
        raise DataError("No pictures were randomised; run an A/B test to climb to this rung.")
    return _fixed_effects(
        tested,
        group=cell,
        controls=np.empty((len(tested.item), 0)),
        allowed=moved >= min(min_switchers, 2),
    )


def changed_items(sample: Sample, *, group: IntArray | None = None) -> IntArray:
    """Items whose pictures differ in each attribute, among those with events. Shape (attributes,).

    Args:
        sample: The spells.
        group: Compare only inside these, such as one item in one period; items if None.
    """
    inside = sample.item if group is None else group
    if not len(inside):
        return np.zeros(sample.attributes.shape[1], dtype=np.int64)
    useful = informative(sample.counts, exposure=sample.exposure, group=inside)
    if not useful.any():
        return np.zeros(sample.attributes.shape[1], dtype=np.int64)
    order = np.argsort(inside[useful], kind="stable")
    values = sample.attributes[useful][order]
    _, starts = np.unique(inside[useful][order], return_index=True)
    reach = np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)
    moved = reach > _MOVED
    owner = sample.item[useful][order][starts]
    counted = [len(np.unique(owner[column])) for column in moved.T]
    return np.array(counted, dtype=np.int64)


def _fixed_effects(
    sample: Sample, *, group: IntArray, controls: Matrix, allowed: BoolArray
) -> Rung:
    """Controls come first in the check, so that what they explain is not laid to a picture."""
    chosen = np.flatnonzero(allowed)
    columns = np.concatenate([controls, sample.attributes[:, chosen]], axis=1)
    useful, kept = comparable(sample.counts, exposure=sample.exposure, columns=columns, group=group)
    if not useful.any():
        raise DataError("No two spells can be compared; collect more events.")
    columns = columns[useful]
    count = controls.shape[1]
    told = chosen[kept[count:]]
    if not len(told):
        if useful.sum() < informative(sample.counts, exposure=sample.exposure, group=group).sum():
            raise DataError("There are not enough events where pictures changed; collect more.")
        raise DataError("The pictures change only together with something else that is held fixed.")
    estimate = within_poisson(
        sample.counts[useful],
        exposure=sample.exposure[useful],
        columns=np.concatenate(
            [columns[:, count:][:, kept[count:]], columns[:, :count][:, kept[:count]]], axis=1
        ),
        group=group[useful],
        cluster=sample.item[useful],
    )
    return Rung(estimate=estimate.first(len(told)), columns=told)


def _divergence(rungs: Mapping[int, Rung]) -> float | None:
    if 2 not in rungs or 3 not in rungs:
        return None
    return divergence_p(rungs[2].estimate.take(rungs[3].columns), rungs[3].estimate)


def _leads(sample: Sample, rungs: Mapping[int, Rung], *, rng: np.random.Generator) -> Leads | None:
    """The leads by the columns of the sample."""
    if 3 not in rungs:
        return None
    controls = np.concatenate([_indicators(sample.confounders.period), sample.moving], axis=1)
    found = find_leads(
        sample.counts,
        exposure=sample.exposure,
        attributes=sample.attributes[:, rungs[3].columns],
        controls=controls,
        item=sample.item,
        period=sample.confounders.period,
        rng=rng,
    )
    return None if found is None else replace(found, columns=rungs[3].columns[found.columns])


def _indicators(codes: IntArray) -> Matrix:
    values, place = np.unique(codes, return_inverse=True)
    return np.eye(len(values))[place][:, 1:]
