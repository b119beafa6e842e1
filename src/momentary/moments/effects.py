"""What in a picture moves people: % change of each stage's rate per +1 SD of an attribute.

    table = ImageEffects(design).fit(spells, attributes, confounders).table()

Every number names the rung of evidence it stands on and is never promoted: where the rungs
disagree, or too few pictures changed, the table says so and calls nothing an effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from momentary.errors import DataError, NotFittedError
from momentary.moments import conclusions
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.estimates import Estimate, Matrix
from momentary.moments.multiplicity import (
    adaptive_step_up,
    benjamini_hochberg,
    near_duplicates,
    romano_wolf,
)
from momentary.moments.refute import (
    CategoryEffects,
    category_effects,
    placebo_p_values,
    robustness_value,
)
from momentary.moments.results import (
    OUTCOMES,
    Curve,
    Effect,
    EffectTable,
    Fit,
    Heterogeneity,
    Interval,
    Scale,
    percent,
)
from momentary.moments.rungs import (
    METHODS,
    Ladder,
    LadderConfig,
    Rung,
    Sample,
    adjusted,
    association,
    climb,
    randomised,
    within,
)
from momentary.moments.spells import ItemFacts, PictureTable, Spells
from momentary.moments.splines import Confounders
from momentary.types import IntArray, Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectsDesign:
    """What is asked, and how strictly.

    Attributes:
        title: What is analysed.
        source: Where the data come from.
        simulated: True where the behaviour was made up.
        outcomes: Names in `OUTCOMES`; those without enough events are left out with a warning.
        fdr: False-discovery rate over all attributes and outcomes.
        level: Coverage of the intervals.
        merge_above: Attributes that correlate more than this are merged into one.
        placebo_rounds: How many times pictures are swapped to see what a false effect looks like.
        heterogeneity: Whether categories are compared.
        curves: Whether dose-response curves are drawn for what was discovered.
        ladder: When a rung holds.
    """

    title: str = "What in a picture moves people"
    source: str = ""
    simulated: bool = False
    outcomes: tuple[str, ...] = tuple(OUTCOMES)
    fdr: float = 0.10
    level: float = 0.95
    merge_above: float = 0.75
    placebo_rounds: int = 0
    heterogeneity: bool = True
    curves: bool = True
    ladder: LadderConfig = field(default_factory=LadderConfig)

    def __post_init__(self) -> None:
        for name, value in (
            ("fdr", self.fdr),
            ("level", self.level),
            ("merge_above", self.merge_above),
        ):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1.")
        unknown = [name for name in self.outcomes if name not in OUTCOMES]
        if unknown:
            raise ValueError(
                f"There is no outcome {unknown[0]!r}; there are {', '.join(OUTCOMES)}."
            )
        if self.placebo_rounds < 0:
            raise ValueError(f"placebo_rounds is {self.placebo_rounds}; it must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeFit:
    """One outcome's ladder with the data that it stands on.

    Attributes:
        sample: The spells with exposure.
        picture: Of those spells. Shape (spells,).
        ladder: Every rung.
        placebo: p values with swapped pictures; None where not asked for or not possible.
            Shape (rounds, ...).
        categories: Effects by category; None where not asked for or not possible.
        main: The rung that speaks for most attributes.
    """

    sample: Sample
    picture: IntArray
    ladder: Ladder
    placebo: Matrix | None
    categories: CategoryEffects | None
    main: int


class ImageEffects:
    """Fits every outcome's ladder and reads them together.

    Args:
        design: What is asked, and how strictly.
    """

    def __init__(self, design: EffectsDesign | None = None) -> None:
        self.design = design or EffectsDesign()
        self.fits: dict[str, OutcomeFit] = {}
        self._scales: tuple[Scale, ...] = ()
        self._merged: tuple[tuple[str, str], ...] = ()
        self._raw = np.empty((0, 0))
        self._category_names: tuple[str, ...] = ()
        self._warnings: list[str] = []
        self._rng = np.random.default_rng(0)

    def fit(
        self,
        events: Spells,
        attributes: PictureTable,
        confounders: ItemFacts | None = None,
        *,
        rng: np.random.Generator | None = None,
        progress: Progress = silent,
    ) -> ImageEffects:
        """Fit every outcome that has enough events.

        Args:
            events: What was shown and what came of it (`exposures.collect` makes it from a log).
            attributes: The measured pictures.
            confounders: Facts about the items; None: only what the spells carry.
            rng: Splits items and swaps pictures; a generator of seed 0 if None.
            progress: Told after each outcome.

        Returns:
            Itself.

        Raises:
            DataError: If a shown picture was not measured, or no outcome has enough events.
        """
        self._rng = rng or np.random.default_rng(0)
        self._warnings = list(events.warnings)
        raw = attributes.of(events.pictures)[events.picture]
        kept = self._merge(raw, attributes)
        self._raw = raw[:, kept]
        standard = (self._raw - [each.mean for each in self._scales]) / [
            each.sd for each in self._scales
        ]
        category, self._category_names, facts, names = _facts(events, confounders)
        self._warn_of_facts(events, confounders)
        self.fits = {}
        for done, name in enumerate(self.design.outcomes):
            progress(done, len(self.design.outcomes), name)
            if not self._enough(events, name):
                continue
            exposure = events.exposure[OUTCOMES[name].per]
            shown = exposure > 0
            sample = Sample(
                counts=events.counts[name].astype(np.float64),
                exposure=exposure.astype(np.float64),
                attributes=standard,
                item=events.item,
                randomized=events.randomized,
                confounders=Confounders(
                    numbers=np.concatenate([facts[events.item], events.numbers], axis=1),
                    names=(*names, *events.names),
                    category=category[events.item],
                    period=events.period,
                ),
                moving=_moving(events),
                adjusted=bool(names or events.names),
            ).take(shown)
            self.fits[name] = self._fit_outcome(sample, events.picture[shown])
        progress(len(self.design.outcomes), len(self.design.outcomes))
        if not self.fits:
            raise DataError(
                "No outcome has enough events for an analysis: "
                + " ".join(self._warnings)
                + " Collect more, or lower min_events."
            )
        return self

    def _merge(self, raw: Matrix, attributes: PictureTable) -> IntArray:
        varies = np.flatnonzero(raw.std(axis=0) > 1e-9 * np.maximum(np.abs(raw).max(axis=0), 1e-9))
        dropped = [n for i, n in enumerate(attributes.attributes) if i not in set(varies.tolist())]
        if dropped:
            self._warnings.append(f"Never varies, and is left out: {', '.join(dropped)}.")
        groups = near_duplicates(raw[:, varies], above=self.design.merge_above)
        names = attributes.attributes
        self._merged = tuple(
            (names[varies[other]], names[varies[group[0]]])
            for group in groups
            for other in group[1:]
        )
        kept = varies[[int(group[0]) for group in groups]]
        self._scales = tuple(
            _scale(names[column], raw[:, column], noisy=names[column] in attributes.noisy)
            for column in kept
        )
        return kept

    def _warn_of_facts(self, events: Spells, facts: ItemFacts | None) -> None:
        known = set(facts.items) if facts else set(events.items)
        unknown = [item for item in events.items if item not in known]
        if unknown:
            self._warnings.append(
                f"Nothing is known of {len(unknown):,} of {len(events.items):,} items, such as "
                f"{unknown[0]!r}: the facts do not name them. They count as one more category, "
                "with average numbers."
            )

    def _enough(self, events: Spells, name: str) -> bool:
        outcome = OUTCOMES[name]
        if name not in events.counts or outcome.per not in events.exposure:
            return False
        total = float(events.counts[name].sum())
        if total < self.design.ladder.min_events:
            if total > 0:
                self._warnings.append(
                    f"{outcome.label}: {total:,.0f} events are too few for an analysis; "
                    f"{self.design.ladder.min_events} are needed."
                )
            return False
        return True

    def _fit_outcome(self, sample: Sample, picture: IntArray) -> OutcomeFit:
        ladder = climb(sample, rng=self._rng, config=self.design.ladder)
        main = _main_rung(ladder, self.design.ladder)
        placebo = None
        if self.design.placebo_rounds:
            placebo = self._placebo(sample, picture, ladder, main=main)
        categories = None
        if self.design.heterogeneity and main > 1 and len(self._category_names) > 1:
            columns = ladder.rungs[main].columns
            categories = category_effects(
                lambda attributes, rows: (
                    self._refit(sample.showing(attributes).take(rows), main, len(columns)).estimate
                ),
                attributes=sample.attributes[:, columns],
                category=sample.confounders.category,
                item=sample.item,
            )
        return OutcomeFit(
            sample=sample,
            picture=picture,
            ladder=ladder,
            placebo=placebo,
            categories=categories,
            main=main,
        )

    def _placebo(
        self, sample: Sample, picture: IntArray, ladder: Ladder, *, main: int
    ) -> Matrix | None:
        shown, place = np.unique(picture, return_inverse=True)
        first = np.zeros(len(shown), dtype=np.int64)
        first[place] = np.arange(len(place))
        columns = ladder.rungs[main].columns
        found = placebo_p_values(
            lambda attributes, rows: (
                self._refit(sample.showing(attributes).take(rows), main, None).estimate
            ),
            attributes=sample.attributes[first][:, columns],
            picture=place,
            category=sample.confounders.category[first],
            rng=self._rng,
            rounds=self.design.placebo_rounds,
        )
        return found if len(found) else None

    def _refit(self, sample: Sample, rung: int, needed: int | None) -> Rung:
        found = refit(sample, rung, rng=self._rng, config=self.design.ladder)
        if needed is not None and len(found.columns) != needed:
            raise DataError("Some attributes never change in this part of the data.")
        return found

    def table(self) -> EffectTable:
        """Everything that was found, with false discoveries controlled over the whole of it.

        Raises:
            NotFittedError: Before `fit`.
        """
        if not self.fits:
            raise NotFittedError("ImageEffects was asked for its table before it was fitted.")
        drafts = [
            conclusions.draft(name, fit.ladder, attribute=place, config=self.design.ladder)
            for name, fit in self.fits.items()
            for place in range(len(self._scales))
        ]
        asked = [each for each in drafts if not each.refused]
        q = dict.fromkeys(range(len(drafts)), 1.0)
        family: dict[int, float] = {}
        if asked:
            p = np.array([each.p for each in asked])
            corrected = adaptive_step_up(p, fdr=self.design.fdr)
            stepdown = self._family(asked)
            places = [place for place, each in enumerate(drafts) if not each.refused]
            q.update(zip(places, corrected.tolist(), strict=True))
            family.update(zip(places, stepdown.tolist(), strict=True))
        effects = tuple(
            self._effect(each, q=q[place], family=family.get(place))
            for place, each in enumerate(drafts)
        )
        return EffectTable(
            title=self.design.title,
            source=self.design.source,
            simulated=self.design.simulated,
            outcomes=tuple(OUTCOMES[name] for name in self.fits),
            scales=self._scales,
            effects=effects,
            fits=tuple(self._fit_of(name) for name in self.fits),
            fdr=self.design.fdr,
            level=self.design.level,
            curves=self._curves(effects) if self.design.curves else (),
            heterogeneity=self._heterogeneity(),
            warnings=(*self._warnings, *self._outcome_warnings()),
            merged=self._merged,
        )

    def _family(self, drafts: list[conclusions.Draft]) -> Matrix:
        """Romano-Wolf over the headline numbers, through the influence of every item on each."""
        clusters = np.unique(np.concatenate([each.estimate.clusters for each in drafts]))
        influence = np.stack([each.estimate.on(clusters)[:, each.place] for each in drafts], axis=1)
        coefficients = np.array([each.coefficient for each in drafts])
        return romano_wolf(coefficients, influence, rng=self._rng)

    def _effect(self, draft: conclusions.Draft, *, q: float, family: float | None) -> Effect:
        scale, fit = self._scales[draft.attribute], self.fits[draft.outcome]
        low, high = (ends[draft.place] for ends in draft.estimate.interval(self.design.level))
        discovered = not draft.refused and q <= self.design.fdr
        freedom = float(draft.estimate.freedom[draft.place])
        interval = Interval(
            percent=percent(draft.coefficient), low=percent(low), high=percent(high)
        )
        return Effect(
            attribute=scale.attribute,
            outcome=draft.outcome,
            rung=draft.rung,
            method=METHODS[draft.rung],
            percent=interval.percent,
            low=interval.low,
            high=interval.high,
            coefficient=draft.coefficient,
            standard_error=draft.error,
            p=draft.p,
            q=q,
            discovered=discovered,
            family_p=family,
            robustness=robustness_value(
                draft.coefficient / max(draft.error, 1e-300),
                freedom=max(len(draft.estimate.clusters) - len(draft.estimate.coefficients), 1),
                reach=float(stats.t.ppf(0.5 + self.design.level / 2.0, freedom)),
            ),
            naive=naive_effect(fit.sample, draft.attribute, level=self.design.level),
            refused=draft.refused,
            words=conclusions.sentence(
                scale,
                OUTCOMES[draft.outcome],
                interval,
                rung=draft.rung,
                discovered=discovered,
                refused=draft.refused,
            )
            if draft.told
            else conclusions.no_number(scale, OUTCOMES[draft.outcome], draft.refused),
            warnings=conclusions.cautions(scale, draft, fit.ladder),
        )

    def _fit_of(self, name: str) -> Fit:
        fit = self.fits[name]
        rung = fit.ladder.rungs[fit.main]
        return Fit(
            outcome=name,
            rung=fit.main,
            method=METHODS[fit.main],
            attributes=tuple(self._scales[column].attribute for column in rung.columns),
            coefficients=tuple(rung.estimate.coefficients.tolist()),
            covariance=tuple(tuple(row) for row in rung.estimate.covariance.tolist()),
            rate=float(fit.sample.counts.sum() / fit.sample.exposure.sum()),
            items=len(np.unique(fit.sample.item)),
            exposures=float(fit.sample.exposure.sum()),
            events=float(fit.sample.counts.sum()),
            switchers=int(fit.ladder.switchers.max(initial=0)),
            divergence_p=fit.ladder.divergence,
            placebo_p=None if fit.placebo is None else float((fit.placebo < 0.05).mean()),
        )

    def _outcome_warnings(self) -> list[str]:
        ladders = {OUTCOMES[name]: fit.ladder for name, fit in self.fits.items()}
        return conclusions.unchecked(ladders) + [
            words
            for name, fit in self.fits.items()
            for words in conclusions.outcome_warnings(
                OUTCOMES[name], fit.ladder, placebo=fit.placebo, config=self.design.ladder
            )
        ]

    def _heterogeneity(self) -> tuple[Heterogeneity, ...]:
        """Corrected over all tests at once, so that comparing categories finds nothing by luck."""
        tests = [
            (name, fit.categories, place)
            for name, fit in self.fits.items()
            if fit.categories is not None
            for place in range(fit.categories.coefficients.shape[1])
        ]
        if not tests:
            return ()
        q = benjamini_hochberg(np.array([found.equality_p[place] for _, found, place in tests]))
        return tuple(
            self._categories_of(name, found, place, p=float(corrected))
            for (name, found, place), corrected in zip(tests, q, strict=True)
        )

    def _categories_of(
        self, name: str, found: CategoryEffects, place: int, *, p: float
    ) -> Heterogeneity:
        fit = self.fits[name]
        scale = self._scales[int(fit.ladder.rungs[fit.main].columns[place])]
        reach = stats.t.ppf(0.5 + self.design.level / 2.0, found.freedom[:, place])
        middle, error = found.coefficients[:, place], found.errors[:, place]
        labels = tuple(self._category_names[index] for index in found.categories)
        differs = p < 1.0 - self.design.level
        return Heterogeneity(
            attribute=scale.attribute,
            outcome=name,
            p=p,
            differs=differs,
            categories=labels,
            effects=tuple(
                Interval(percent=percent(m), low=percent(m - r * e), high=percent(m + r * e))
                for m, r, e in zip(middle.tolist(), reach.tolist(), error.tolist(), strict=True)
            ),
            words=conclusions.heterogeneity(scale, OUTCOMES[name], differs=differs, p=p),
        )

    def _curves(self, effects: tuple[Effect, ...]) -> tuple[Curve, ...]:
        index = {scale.attribute: place for place, scale in enumerate(self._scales)}
        found = []
        for effect in effects:
            fit = self.fits[effect.outcome]
            if not effect.discovered or effect.rung != fit.main:
                continue
            place = index[effect.attribute]
            try:
                found.append(self._curve(effect, fit, place))
            except (DataError, np.linalg.LinAlgError):
                continue
        return tuple(found)

    def _curve(self, effect: Effect, fit: OutcomeFit, place: int) -> Curve:
        """The attribute enters as a line and two bends, so that the curve may bend if it wants."""
        scale = self._scales[place]
        dose = fit.sample.attributes[:, place]
        knots = np.quantile(dose, [0.1, 0.5, 0.9])
        columns = fit.ladder.rungs[fit.main].columns
        others = [column for column in columns.tolist() if column != place]
        bent = np.concatenate([_bends(dose, knots), fit.sample.attributes[:, others]], axis=1)
        rung = self._refit(fit.sample.showing(bent), fit.main, bent.shape[1])
        estimate = rung.estimate.first(2)
        low, high = ((end - scale.mean) / scale.sd for end in (scale.low, scale.high))
        doses = np.linspace(low, high, 25)
        gap = _bends(doses, knots) - _bends(np.zeros(1), knots)
        middle = gap @ estimate.coefficients
        error = np.sqrt(np.einsum("ia,ab,ib->i", gap, estimate.covariance, gap))
        reach = float(stats.t.ppf(0.5 + self.design.level / 2.0, estimate.freedom.min())) * error
        sample = np.sort(dose)[:: max(1, len(dose) // 200)]
        return Curve(
            attribute=effect.attribute,
            outcome=effect.outcome,
            doses=tuple((doses * scale.sd + scale.mean).tolist()),
            percent=tuple(percent(value) for value in middle.tolist()),
            low=tuple(percent(value) for value in (middle - reach).tolist()),
            high=tuple(percent(value) for value in (middle + reach).tolist()),
            rug=tuple((sample * scale.sd + scale.mean).tolist()),
        )


def refit(sample: Sample, rung: int, *, rng: np.random.Generator, config: LadderConfig) -> Rung:
    """Fit one rung anew, with every attribute that the data can tell."""
    everything = np.ones(sample.attributes.shape[1], dtype=np.bool_)
    if rung == 1:
        return association(sample)
    if rung == 2:
        return adjusted(sample, rng=rng, config=config.double_ml)
    if rung == 3:
        return within(sample, enough=everything)
    return randomised(sample, min_switchers=config.min_switchers)


def naive_effect(sample: Sample, attribute: int, *, level: float) -> Interval:
    """What plain correlation says: a line through rates, one attribute at a time."""
    rate = sample.counts / sample.exposure
    line = stats.linregress(sample.attributes[:, attribute], rate)
    reach = float(stats.norm.ppf(0.5 + level / 2.0)) * line.stderr
    scale = 100.0 / max(float(rate.mean()), 1e-300)
    return Interval(
        percent=float(line.slope * scale),
        low=float((line.slope - reach) * scale),
        high=float((line.slope + reach) * scale),
    )


def _main_rung(ladder: Ladder, config: LadderConfig) -> int:
    """The highest rung that holds for the outcome as a whole."""
    for rung in (4, 3, 2):
        if rung in ladder.rungs and conclusions.holds(ladder, rung, config):
            return rung
    if 1 not in ladder.rungs:
        raise DataError(f"Not even an association can be estimated: {ladder.notes.get(1, '')}")
    return 1


def _bends(dose: Matrix, knots: Matrix) -> Matrix:
    """Restricted cubic spline of three knots: a line beyond the outer two. Shape (doses, 2)."""
    first, middle, last = knots.tolist()
    if not first < middle < last:
        raise DataError("The doses take too few values for a curve.")
    part = [np.maximum(dose - knot, 0.0) ** 3 for knot in (first, middle, last)]
    bend = (
        part[0]
        - part[1] * (last - first) / (last - middle)
        + part[2] * (middle - first) / (last - middle)
    )
    return np.stack([dose, bend / (last - first) ** 2], axis=1)


def _facts(
    spells: Spells, facts: ItemFacts | None
) -> tuple[IntArray, tuple[str, ...], Matrix, tuple[str, ...]]:
    if facts is None:
        return (
            np.zeros(len(spells.items), dtype=np.int64),
            ("",),
            np.empty((len(spells.items), 0)),
            (),
        )
    return facts.of(spells.items)


def _moving(spells: Spells) -> Matrix:
    """Measured numbers in SD; those that never vary are left out."""
    spread = spells.numbers.std(axis=0)
    useful = spread > 1e-9
    moving: Matrix = (spells.numbers[:, useful] - spells.numbers[:, useful].mean(axis=0)) / spread[
        useful
    ]
    return moving


def _scale(name: str, values: Matrix, *, noisy: bool) -> Scale:
    known = ATTRIBUTES.get(name)
    low, high = np.quantile(values, [0.01, 0.99]).tolist()
    return Scale(
        attribute=name,
        label=known.label if known else name.replace("_", " "),
        unit=known.unit if known else "",
        mean=float(values.mean()),
        sd=float(values.std()),
        low=low,
        high=high,
        noisy=noisy,
    )


__all__ = ["EffectsDesign", "Estimate", "ImageEffects", "OutcomeFit", "naive_effect", "refit"]
