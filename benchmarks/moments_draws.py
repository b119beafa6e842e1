"""One draw of a world: every method answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.moments_kept import Kept
from benchmarks.moments_photos import PhotoPool
from benchmarks.moments_recipes import (
    linear_controls,
    naive_correlation,
    textbook_double_ml,
)
from benchmarks.moments_worlds import EXAMINED, WORLDS, simulate
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.effects import EffectsDesign, ImageEffects, refit
from momentary.moments.estimates import Matrix
from momentary.moments.multiplicity import benjamini_hochberg
from momentary.moments.refute import placebo_p_values

FDR = 0.10
METHODS = ("naive", "OLS", "textbook", "log-link DML", "within-item", "highest rung")
_POOL: list[PhotoPool] = []


def share(pool: PhotoPool) -> None:
    """Give a process the photos that its draws show."""
    _POOL[:] = [pool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What every method said of one draw of one world.

    Attributes:
        truth: Shape (attributes,).
        values: By method. Shape (methods, attributes).
        covered: Whether the 95 % interval holds the truth. Shape (methods, attributes).
        found: Discovered at the false-discovery rate. Shape (methods, attributes).
        divergence: p value that rungs 2 and 3 agree.
        rung: Of the highest-rung method.
        examined: Worst error of the first five positions' examination.
        placebo: p values with swapped photos, rungs 2 and 3. Shape (2, attributes).
        differs: Attributes said to differ between categories.
        lift: Share of real edits whose true lift lies in its predicted interval.
    """

    truth: Matrix
    values: Matrix
    covered: Matrix
    found: Matrix
    divergence: float
    rung: int
    examined: float
    placebo: Matrix
    differs: int
    lift: float

    def kept(self) -> Kept:
        """As arrays, for a file."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, kept: Mapping[str, Matrix]) -> Draw:
        """From the arrays of `kept`."""
        return cls(**{n: v.item() if v.ndim == 0 else v for n, v in kept.items()})


def draw(task: tuple[str, int, int]) -> Kept:
    """`analyse`, as arrays."""
    return analyse(task).kept()


def analyse(task: tuple[str, int, int]) -> Draw:
    """Draw one world once and let every method answer."""
    name, seed, items = task
    pool, rng = _POOL[0], np.random.default_rng([seed, list(WORLDS).index(name)])
    drawn = simulate(WORLDS[name], pool, rng=rng, items=items)
    # The truth is written for each attribute, so none may be merged here; tests cover merging.
    design = EffectsDesign(outcomes=("click",), merge_above=0.95, curves=False, fdr=FDR)
    effects = ImageEffects(design).fit(drawn.spells, drawn.pictures, drawn.facts, rng=rng)
    table, fit = effects.table(), effects.fits["click"]
    spread = np.array([scale.sd for scale in table.scales])
    truth = drawn.truth * spread
    values, covered, found = [], [], []
    for value, error, p in (
        naive_correlation(fit.sample),
        linear_controls(fit.sample),
        textbook_double_ml(fit.sample, rng=rng),
    ):
        # A recipe on levels speaks of the relative change itself.
        values.append(value)
        covered.append(np.abs(value - np.expm1(truth)) <= 1.96 * error)
        found.append(benjamini_hochberg(p) <= FDR)
    for rung in (2, 3):
        if rung not in fit.ladder.rungs:
            # A method that gives no answer counts as one that says 0, is sure of it, and is wrong.
            print(f"{name}, seed {seed}: {fit.ladder.notes[rung]}", flush=True)
            values.append(np.zeros(len(truth)))
            covered.append(np.zeros(len(truth), dtype=np.bool_))
            found.append(np.zeros(len(truth), dtype=np.bool_))
            continue
        estimate = fit.ladder.rungs[rung].estimate
        low, high = estimate.interval(0.95)
        values.append(np.expm1(estimate.coefficients))
        covered.append((low <= truth) & (truth <= high))
        found.append(benjamini_hochberg(estimate.p_values) <= FDR)
    headline = {effect.attribute: effect for effect in table.effects}
    order = [headline[scale.attribute] for scale in table.scales]
    values.append(np.array([each.percent for each in order]) / 100.0)
    shown = np.expm1(truth) * 100.0
    covered.append(np.array([e.low <= t <= e.high for e, t in zip(order, shown, strict=True)]))
    found.append(np.array([each.discovered for each in order]))
    return Draw(
        truth=truth,
        values=np.array(values),
        covered=np.array(covered),
        found=np.array(found),
        divergence=1.0 if fit.ladder.divergence is None else fit.ladder.divergence,
        rung=fit.main,
        examined=float(np.abs(np.array(drawn.spells.examination[:5]) / EXAMINED[:5] - 1.0).max()),
        placebo=_placebo(effects, rng=rng),
        differs=sum(each.differs for each in table.heterogeneity),
        lift=_lift(effects, truth, pool, names=drawn.pictures.attributes, rng=rng),
    )


def _placebo(effects: ImageEffects, *, rng: np.random.Generator) -> Matrix:
    fit = effects.fits["click"]
    shown, place = np.unique(fit.picture, return_inverse=True)
    first = np.zeros(len(shown), dtype=np.int64)
    first[place] = np.arange(len(place))
    found = [
        placebo_p_values(
            lambda attributes, _, rung=rung: (
                refit(
                    fit.sample.showing(attributes), rung, rng=rng, config=effects.design.ladder
                ).estimate
            ),
            attributes=fit.sample.attributes[first],
            picture=place,
            category=fit.sample.confounders.category[first],
            rng=rng,
            rounds=1,
        )[0]
        for rung in (2, 3)
    ]
    return np.array(found)


def _lift(
    effects: ImageEffects,
    truth: Matrix,
    pool: PhotoPool,
    *,
    names: Sequence[str],
    rng: np.random.Generator,
) -> float:
    """Real edits of random photos: is the true lift inside what the main rung predicts?"""
    columns = [list(ATTRIBUTES).index(name) for name in names]
    table = effects.table()
    kept = [list(names).index(scale.attribute) for scale in table.scales]
    photo = rng.integers(len(pool.values), size=200)
    version = rng.integers(1, pool.values.shape[1], size=200)
    moved = (pool.values[photo, version] - pool.values[photo, 0])[:, columns][:, kept]
    step = moved / np.array([scale.sd for scale in table.scales])
    estimate = effects.fits["click"].ladder.rungs[3].estimate
    error = np.sqrt(np.einsum("ia,ab,ib->i", step, estimate.covariance, step))
    gap = np.abs(step @ (estimate.coefficients - truth))
    return float((gap <= 1.96 * error).mean())
