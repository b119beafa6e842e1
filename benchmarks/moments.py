"""The gates of the moments of truth, on simulated shoppers before real photos.

Each world is drawn many times; every method answers the same draws. Coverage, bias, false
discoveries and power stand beside plain correlation and the textbook recipe.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.moments_choices import LOYALTY, simulate_choices
from benchmarks.moments_photos import PhotoPool, measure_laws, measure_pool
from benchmarks.moments_recipes import (
    linear_controls,
    naive_correlation,
    textbook_double_ml,
)
from benchmarks.moments_worlds import EXAMINED, WORLDS, simulate
from benchmarks.report import Row, data_folder, finish, sha256
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.decision import DecisionConfig, DecisionModel
from momentary.moments.effects import EffectsDesign, ImageEffects, refit
from momentary.moments.estimates import Matrix
from momentary.moments.multiplicity import benjamini_hochberg
from momentary.moments.plan import anytime_lift, sample_ratio_p
from momentary.moments.refute import placebo_p_values

FDR = 0.10
METHODS = ("naive", "OLS", "textbook", "log-link DML", "within-item", "highest rung")
_POOL: list[PhotoPool] = []

Summary = dict[str, dict[str, float]]
"""By method and figure."""


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


def choose(seed: int) -> tuple[float, float, bool]:
    """Loyalty with taste and without, and whether the former's interval holds the truth."""
    choices = simulate_choices(np.random.default_rng(seed), people=200)
    rng = np.random.default_rng(seed)
    mixed = DecisionModel(DecisionConfig(draws=512)).fit(choices, rng=rng)
    plain = DecisionModel(DecisionConfig(heterogeneity=False)).fit(choices, rng=rng)
    covered = abs(mixed.values[0] - LOYALTY) <= 1.96 * mixed.errors[0]
    return float(mixed.values[0]), float(plain.values[0]), bool(covered)


def watch(seed: int, *, looks: int = 25, users: int = 120_000) -> tuple[bool, bool, bool]:
    """One A/B test that is looked at all the time.

    Returns:
        Whether a 2 % imbalance raised the alarm, whether a fair split did, and whether the
        interval held the true lift at every look.
    """
    rng = np.random.default_rng(seed)
    sizes = np.linspace(users / looks, users, looks).astype(int)
    faulty, fair = rng.random(users) < 0.51, rng.random(users) < 0.5
    alarm, false_alarm, held = False, False, True
    rate, lift = 0.08, 0.05
    clicked = rng.random(users) < np.where(fair, rate * (1 + lift), rate)
    for size in sizes.tolist():
        for split, is_fair in ((faulty, False), (fair, True)):
            new = int(split[:size].sum())
            low = sample_ratio_p((size - new, new), shares=(0.5, 0.5)) < 0.01
            alarm |= low and not is_fair
            false_alarm |= low and is_fair
        new = fair[:size]
        events = clicked[:size]
        found = anytime_lift(
            (int(events[~new].sum()), int((~new).sum())), (int(events[new].sum()), int(new.sum()))
        )
        held &= found.low <= 100 * lift <= found.high
    return alarm, false_alarm, held


def summary(name: str, draws: Sequence[Draw]) -> Summary:
    """Bias, coverage, false-discovery rate and power of every method."""
    truth = np.array([np.expm1(each.truth) for each in draws])
    real = np.abs(truth.mean(axis=0)) > 1e-9
    found = {}
    for place, method in enumerate(METHODS):
        values = np.array([each.values[place] for each in draws])
        covered = np.array([each.covered[place] for each in draws])
        hits = np.array([each.found[place] for each in draws])
        bias = np.abs((values - truth).mean(axis=0)[real] / truth.mean(axis=0)[real])
        false = hits[:, ~real].sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
        found[method] = {
            "bias": float(bias.mean()),
            "coverage": float(covered.mean()),
            "least coverage": float(covered.mean(axis=0).min()),
            "FDR": float(false.mean()),
            "power": float(hits[:, real].mean()),
        }
    text = "  ".join(
        f"{method}: {100 * f['bias']:.0f}% / {f['coverage']:.2f} / {f['FDR']:.2f} / "
        f"{f['power']:.2f}"
        for method, f in found.items()
    )
    print(f"{name} (bias / coverage / FDR / power)  {text}", flush=True)
    return found


def gates(worlds: dict[str, list[Draw]], by_world: dict[str, Summary]) -> list[Row]:  # noqa: C901 - one gate after another
    """The gates that the worlds answer."""
    rows: list[Row] = []
    for name in ("A", "C"):
        for method in ("log-link DML", "within-item"):
            rows += _accuracy(name, method, by_world[name], bias=0.06, low=0.92, high=0.98)
    for name in ("B", "D", *(each for each, world in WORLDS.items() if world.holdout)):
        gate = "G2" if name in "BD" else "G2 held out"
        found = by_world[name]
        rows += [
            _row(f"{gate} {name}: within-item coverage", found["within-item"]["coverage"], 0.91),
            _row(f"{gate} {name}: within-item bias", found["within-item"]["bias"], 0.08, "lower"),
        ]
    rows += [
        Row(
            what=f"G2 {name}: FDR of the highest rung",
            value=found["highest rung"]["FDR"],
            target=0.12,
            better="lower",
            peer="naive correlation",
            peer_value=found["naive"]["FDR"],
        )
        for name, found in by_world.items()
    ]
    for name in ("A", "D"):
        rows.append(_row(f"G3 {name}: naive FDR", by_world[name]["naive"]["FDR"], 0.40))
    rows += [
        _row(f"G4 {name}: power of the highest rung", found["highest rung"]["power"], 0.90)
        for name, found in by_world.items()
    ]
    limits = {
        "A": (0.10, "lower"),
        "C": (0.10, "lower"),
        "B": (0.95, "higher"),
        "D": (0.60, "higher"),
    }
    for name, (target, better) in limits.items():
        rejected = float(np.mean([each.divergence < 0.05 for each in worlds[name]]))
        rows.append(_row(f"G5 {name}: divergence test rejects", rejected, target, better))
    placebo = np.array([each.placebo for draws in worlds.values() for each in draws])
    for place, method in enumerate(("log-link DML", "within-item")):
        share = float((placebo[:, place] < 0.05).mean())
        any_found = [bool((benjamini_hochberg(p) <= FDR).any()) for p in placebo[:, place]]
        rows += [
            _row(f"G6 {method}: swapped photos p < .05", share, 0.08, "lower"),
            _row(f"G6 {method}: swapped photos p < .05", share, 0.03),
            _row(f"G6 {method}: any discovery", float(np.mean(any_found)), 0.15, "lower"),
        ]
    everything = [each for draws in worlds.values() for each in draws]
    rows += [
        _row(
            "G7 worst error of examination, positions 1-5, any draw",
            max(each.examined for each in everything),
            0.15,
            "lower",
        ),
        _row(
            "G9 true lift inside its interval", float(np.mean([e.lift for e in everything])), 0.90
        ),
        _row(
            "G10 draws with any false heterogeneity",
            float(np.mean([each.differs > 0 for each in everything])),
            0.10,
            "lower",
        ),
    ]
    for name, found in by_world.items():
        for method in ("naive", "textbook"):
            rows.append(Row(what=f"{name}: {method}, FDR", value=found[method]["FDR"]))
            rows.append(Row(what=f"{name}: {method}, coverage", value=found[method]["coverage"]))
            rows.append(Row(what=f"{name}: {method}, bias", value=found[method]["bias"]))
    return rows


def _accuracy(
    name: str,
    method: str,
    found: dict[str, dict[str, float]],
    *,
    bias: float,
    low: float,
    high: float,
) -> list[Row]:
    ours, peer = found[method], found["textbook"]
    what = f"G1 {name}: {method}"
    return [
        Row(
            what=f"{what}, coverage",
            value=ours["coverage"],
            target=low,
            peer="textbook double ML",
            peer_value=peer["coverage"],
        ),
        _row(f"{what}, coverage", ours["coverage"], high, "lower"),
        _row(f"{what}, least coverage of an attribute", ours["least coverage"], 0.85),
        Row(
            what=f"{what}, bias",
            value=ours["bias"],
            target=bias,
            better="lower",
            peer="textbook double ML",
            peer_value=peer["bias"],
        ),
    ]


def _row(  # noqa: PLR0917
    what: str, value: float, target: float, better: str = "higher"
) -> Row:
    return Row(what=what, value=value, target=target, better=better)


def other_gates(*, quick: bool, workers: int) -> list[Row]:
    """G8, G9's and G12's laws of the pixels, and G11."""
    folder = data_folder() / "clothing_photos"
    with ProcessPoolExecutor(workers) as pool:
        loyal = list(pool.map(choose, range(4 if quick else 60)))
        watched = list(pool.map(watch, range(40 if quick else 400)))
    monotone, kept = measure_laws(
        folder / "images.zip", folder / "items.csv", photos=24 if quick else 200, workers=workers
    )
    values = np.array([each[0] for each in loyal])
    names = list(ATTRIBUTES)
    return [
        Row(
            what="G8 loyalty, bias with taste",
            value=float(abs(values.mean() / LOYALTY - 1)),
            target=0.08,
            better="lower",
            peer="without taste",
            peer_value=float(np.mean([each[1] for each in loyal]) / LOYALTY - 1),
        ),
        _row("G8 loyalty, coverage", float(np.mean([each[2] for each in loyal])), 0.90),
        _row(
            f"G9 edits move their attribute monotonically, worst ({names[monotone.argmin()]})",
            float(monotone.min()),
            0.98,
        ),
        Row(what="G9 the same, mean over the edits", value=float(monotone.mean())),
        _row("G11 alarm at 2 % imbalance", float(np.mean([each[0] for each in watched])), 0.99),
        _row("G11 false alarms", float(np.mean([each[1] for each in watched])), 0.01, "lower"),
        _row("G11 interval at every look", float(np.mean([each[2] for each in watched])), 0.95),
        _row(
            f"G12 correlation after JPEG q75, worst ({names[kept.argmin()]})",
            float(kept.min()),
            0.95,
        ),
    ]


def _share(pool: PhotoPool) -> None:
    _POOL[:] = [pool]


def main() -> None:
    """Run the gates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws; nothing is written")
    parser.add_argument("--draws", type=int, help="draws of each world (60; 4 if quick)")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    draws = given.draws or (4 if given.quick else 60)
    began = time.monotonic()
    folder = data_folder() / "clothing_photos"
    pool = measure_pool(
        folder / "images.zip",
        folder / "items.csv",
        photos=500 if given.quick else 1600,
        workers=given.workers,
    )
    print(f"photos measured ({time.monotonic() - began:.0f} s)", flush=True)
    worlds: dict[str, list[Draw]] = {}
    found: dict[str, Summary] = {}
    with ProcessPoolExecutor(
        given.workers, initializer=functools.partial(_share, pool)
    ) as processes:
        for name in WORLDS:
            tasks = [(name, seed, 1500) for seed in range(draws)]
            worlds[name] = list(processes.map(analyse, tasks))
            print(f"{name}: {draws} draws ({time.monotonic() - began:.0f} s)", flush=True)
            found[name] = summary(name, worlds[name])
    rows = gates(worlds, found) + other_gates(quick=given.quick, workers=given.workers)
    rows.append(Row(what="wall time", value=time.monotonic() - began, unit="s"))
    finish(
        "moments",
        rows,
        data={"clothing_photos": sha256(folder / "images.zip")},
        seeds=range(draws),
        whole=not given.quick and draws >= 60,
    )


if __name__ == "__main__":
    main()
