"""The gates of the moments of truth, on simulated shoppers before real photos.

Each world is drawn many times; every method answers the same draws. Coverage, bias, false
discoveries and power stand beside plain correlation and the textbook recipe. `--only PART` runs
one part of the gates; in the results every part names the commit that it was run at.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import moments_draws
from benchmarks.moments_choices import LOYALTY, choose
from benchmarks.moments_draws import FDR, METHODS, Draw
from benchmarks.moments_kept import Keeper, digest
from benchmarks.moments_photos import PIXELS, measure_laws, measure_pool
from benchmarks.moments_scale import IMPRESSIONS, ITEMS, analyse_many, measure_pictures
from benchmarks.moments_worlds import WORLDS
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.estimates import Matrix
from momentary.moments.multiplicity import adaptive_step_up
from momentary.moments.plan import anytime_lift, sample_ratio_p
from momentary.moments.stability import STEADY, noisy, stability

WORLD_ITEMS = 1500

_ROOM = "src/momentary/moments/"
DRAWS = (
    *PIXELS,
    *(f"benchmarks/moments_{name}.py" for name in ("draws", "recipes", "worlds")),
    *(
        f"{_ROOM}{name}.py"
        for name in (
            *("conclusions", "double_ml", "effects", "estimates", "examination", "multiplicity"),
            *("poisson", "refute", "rungs", "separation", "spells", "splines"),
        )
    ),
)
"""What a draw of a world depends on."""

CHOICES = ("benchmarks/moments_choices.py", f"{_ROOM}decision.py")
"""What a fit of the decision model depends on."""

SCALE = (
    *DRAWS,
    "benchmarks/moments_scale.py",
    *(f"{_ROOM}{name}.py" for name in ("example", "exposures", "gallery")),
)
"""What the costs depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a part is run.

    Attributes:
        keeper: Of what was drawn already.
        workers: Processes.
        draws: Of each world, and of the decision model.
        quick: Small, for a look.
    """

    keeper: Keeper
    workers: int
    draws: int
    quick: bool


Summary = dict[str, dict[str, float]]
"""By method and figure."""


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
        any_found = [bool((adaptive_step_up(p, fdr=FDR) <= FDR).any()) for p in placebo[:, place]]
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
    rows += [
        Row(what=f"G4 {name}: standard error of its power", value=_power_error(draws))
        for name, draws in worlds.items()
    ]
    for name, found in by_world.items():
        for method in ("naive", "textbook"):
            rows.append(Row(what=f"{name}: {method}, FDR", value=found[method]["FDR"]))
            rows.append(Row(what=f"{name}: {method}, coverage", value=found[method]["coverage"]))
            rows.append(Row(what=f"{name}: {method}, bias", value=found[method]["bias"]))
    return rows


def _power_error(draws: Sequence[Draw]) -> float:
    """Standard error of the power of the highest rung over the draws."""
    real = np.abs(np.mean([each.truth for each in draws], axis=0)) > 1e-9
    place = METHODS.index("highest rung")
    power = [float(each.found[place][real].mean()) for each in draws]
    return float(np.std(power, ddof=1) / len(power) ** 0.5)


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


def worlds(run: Run) -> list[Row]:
    """G1 to G7, G10, and G9's lifts."""
    archive, table = _photos()
    photos = 500 if run.quick else 1600
    began = time.monotonic()
    with ProcessPoolExecutor(run.workers) as processes:
        pool = measure_pool(archive, table, photos=photos, keeper=run.keeper, processes=processes)
    print(f"photos measured ({time.monotonic() - began:.0f} s)", flush=True)
    drawn: dict[str, list[Draw]] = {}
    found: dict[str, Summary] = {}
    code = digest(DRAWS, photos, WORLD_ITEMS)
    with ProcessPoolExecutor(
        run.workers, initializer=functools.partial(moments_draws.share, pool)
    ) as processes:
        for name in WORLDS:
            tasks = {
                f"{name.replace(' ', '_')}-{seed}": (name, seed, WORLD_ITEMS)
                for seed in range(run.draws)
            }
            kept = run.keeper.each("worlds", moments_draws.draw, tasks, code=code, pool=processes)
            drawn[name] = [Draw.of(each) for each in kept]
            print(f"{name}: {run.draws} draws ({time.monotonic() - began:.0f} s)", flush=True)
            found[name] = summary(name, drawn[name])
    return gates(drawn, found)


def choices(run: Run) -> list[Row]:
    """G8."""
    tasks = {str(seed): seed for seed in range(run.draws)}
    with ProcessPoolExecutor(run.workers) as processes:
        fits = run.keeper.each("choices", choose, tasks, code=digest(CHOICES), pool=processes)
    mixed, plain = (np.array([each[name] for each in fits]) for name in ("mixed", "plain"))
    covered = np.abs(mixed[:, 0] - LOYALTY) <= 1.96 * mixed[:, 1]
    return [
        Row(
            what="G8 loyalty, bias with taste",
            value=float(abs(mixed[:, 0].mean() / LOYALTY - 1)),
            target=0.08,
            better="lower",
            peer="without taste",
            peer_value=float(plain[:, 0].mean() / LOYALTY - 1),
        ),
        _row("G8 loyalty, coverage", float(covered.mean()), 0.90),
    ]


def edits(run: Run) -> list[Row]:
    """G9's laws of the edits, and G12."""
    archive, table = _photos()
    with ProcessPoolExecutor(run.workers) as processes:
        monotone, again = measure_laws(
            archive,
            table,
            photos=24 if run.quick else 200,
            keeper=run.keeper,
            processes=processes,
        )
    names = list(ATTRIBUTES)
    return [
        _row(
            f"G9 edits move their attribute monotonically, worst ({names[monotone.argmin()]})",
            float(monotone.min()),
            0.98,
        ),
        Row(what="G9 the same, mean over the edits", value=float(monotone.mean())),
        *_steadiness(again),
    ]


def tests(run: Run) -> list[Row]:
    """G11."""
    with ProcessPoolExecutor(run.workers) as processes:
        watched = list(processes.map(watch, range(40 if run.quick else 400)))
    alarm, false_alarm, held = (float(np.mean(each)) for each in zip(*watched, strict=True))
    return [
        _row("G11 alarm at 2 % imbalance", alarm, 0.99),
        _row("G11 false alarms", false_alarm, 0.01, "lower"),
        _row("G11 interval at every look", held, 0.95),
    ]


def pictures(run: Run) -> list[Row]:
    """Pictures a second: by the clock only a quiet machine tells."""
    photos = 100 if run.quick else 1200
    speed = measure_pictures(photos)
    what = f"pictures of 224 pixels measured in a second ({photos} photos)"
    return [
        _row(f"{what}, two threads, by the clock", float(speed["wall"]), 300.0),
        Row(what=f"{what}, per second of processor", value=float(speed["cpu"])),
        Row(what="processors busy meanwhile, of 2", value=float(speed["wall"] / speed["cpu"])),
    ]


def shop(run: Run) -> list[Row]:
    """A large shop's effects, by the processor: machines are shared."""
    size = (1_000, 200_000) if run.quick else (ITEMS, IMPRESSIONS)
    with ProcessPoolExecutor(1) as processes:
        (cost,) = run.keeper.each(
            "scale", analyse_many, {f"{size[0]}": size}, code=digest(SCALE), pool=processes
        )
    what = f"{size[0]:,} items x {size[1]:,} impressions (simulated)"
    return [
        Row(
            what=f"{what}, all effects, CPU",
            value=float(cost["seconds"]),
            unit="s",
            target=300.0,
            better="lower",
        ),
        Row(
            what=f"{what}, peak memory",
            value=float(cost["gib"]),
            unit="GiB",
            target=4.0,
            better="lower",
        ),
    ]


PARTS: Mapping[str, Callable[[Run], list[Row]]] = {
    "worlds": worlds,
    "choices": choices,
    "edits": edits,
    "tests": tests,
    "pictures": pictures,
    "shop": shop,
}
"""What can be run alone."""


def _photos() -> tuple[Path, Path]:
    """The archive and its table."""
    folder = data_folder() / "clothing_photos"
    return folder / "images.zip", folder / "items.csv"


def _steadiness(again: Matrix) -> list[Row]:
    """G12: what does not survive is marked noisy, and its figure is told."""
    found = stability(again)
    marked = noisy(found)
    unmarked = [values for name, values in found.items() if name not in marked]
    rows = [
        _row(
            f"G12 r after {how}, worst attribute not marked noisy",
            min(values[place] for values in unmarked),
            STEADY,
        )
        for place, how in enumerate(("JPEG q75", "half the size"))
    ]
    for name in marked:
        rows.append(Row(what=f"G12 {name}, marked noisy: lowest r", value=min(found[name])))
    return rows


def main() -> None:
    """Run the gates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws; nothing is written")
    parser.add_argument("--draws", type=int, help="draws of each world (60; 4 if quick)")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--resume", type=Path, help="folder that keeps every draw; what is there is not done again"
    )
    parser.add_argument("--only", choices=[*PARTS], help="run one part")
    given = parser.parse_args()
    run = Run(
        keeper=Keeper(given.resume),
        workers=given.workers,
        draws=given.draws or (4 if given.quick else 60),
        quick=given.quick,
    )
    for name in [given.only] if given.only else PARTS:
        began = time.monotonic()
        rows = PARTS[name](run)
        rows.append(Row(what="wall time", value=time.monotonic() - began, unit="s"))
        finish_part(
            "moments",
            name,
            rows,
            data={"clothing_photos": sha256(_photos()[0])},
            seeds=range(run.draws),
            whole=not run.quick and run.draws >= 60,
        )


if __name__ == "__main__":
    main()
