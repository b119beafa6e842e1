"""Simulated shoppers before real photos: worlds whose true effects are known.

Pictures and their attributes are real (`moments_photos`); quality, exposure and clicks are made up.
A: confounders are seen. B: most of quality is unseen and moves pictures that matter. C: pictures at
random. D: unseen quality moves pictures that do not matter. The worlds below them were not used to
choose any setting: people differ (their sensitivity has an SD of half its mean), the same people
come back, and other attributes matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.moments_photos import PhotoPool
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.estimates import Matrix
from momentary.moments.examination import examination
from momentary.moments.multiplicity import near_duplicates
from momentary.moments.spells import ItemFacts, PictureTable, Spells
from momentary.types import IntArray

POSITIONS = 10
EXAMINED = 1.0 / np.arange(1, POSITIONS + 1) ** 0.7
"""The true chance that a position is examined."""

REAL = {
    "brightness": 0.10,
    "warmth": -0.09,
    "clutter": -0.12,
    "subject_size": 0.10,
    "centring": 0.10,
}
"""True effects: logarithm of the rate per SD over the pool."""

OTHER = {"whiteness": 0.11, "thirds": 0.10, "hue_count": -0.10, "sharpness": 0.10}
"""Another mix, for a world that was not tuned on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How a world is made.

    Attributes:
        effects: True effects per SD of the pool.
        seen: Share of quality's variance that was measured.
        pushed: Attributes whose value in an item's photo follows its quality, with a sign.
        push: How strongly.
        sensitivity_sd: Of a person's sensitivity to pictures, its mean being 1.
        returning: Impressions of one person; 1 if each is somebody else's.
        holdout: True where no setting was chosen on the world.
    """

    effects: Mapping[str, float]
    seen: float = 1.0
    pushed: Mapping[str, float]
    push: float = 0.5
    sensitivity_sd: float = 0.0
    returning: int = 1
    holdout: bool = False


_REAL_PUSH = {"brightness": 1.0, "clutter": -1.0, "subject_size": 0.7, "sharpness": 0.7}
_NULL_PUSH = {"whiteness": 1.0, "sharpness": 1.0, "thirds": 0.8, "symmetry": 0.8}
_BOTH_PUSH = {"brightness": 0.7, "thirds": 0.8, "whiteness": 0.7, "symmetry": -0.6}

WORLDS: Mapping[str, World] = {
    "A": World(effects=REAL, pushed=_REAL_PUSH),
    "B": World(effects=REAL, seen=0.24, pushed=_REAL_PUSH),
    "C": World(effects=REAL, pushed={}),
    "D": World(effects=REAL, seen=0.24, pushed=_NULL_PUSH, push=0.4),
    "varied people": World(
        effects=REAL, pushed=_REAL_PUSH, sensitivity_sd=0.5, returning=30, holdout=True
    ),
    "other mix": World(effects=OTHER, seen=0.5, pushed=_BOTH_PUSH, holdout=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What an analyst sees, and the truth.

    Attributes:
        spells: With examination estimated from the clicks.
        pictures: Measured attributes.
        facts: What was measured about the items.
        truth: Logarithm of the rate per unit of each attribute. Shape (attributes,).
    """

    spells: Spells
    pictures: PictureTable
    facts: ItemFacts
    truth: Matrix


def kept_attributes(pool: PhotoPool) -> IntArray:
    """Columns that are nobody's near-duplicate; the truth is written in these."""
    flat = pool.values.reshape(-1, pool.values.shape[2])
    return np.array([group[0] for group in near_duplicates(flat, above=0.75)])


def simulate(
    world: World,
    pool: PhotoPool,
    *,
    rng: np.random.Generator,
    items: int = 1500,
    periods: int = 6,
    impressions: int = 150,
) -> Simulated:
    """One draw of a world.

    Args:
        world: How it is made.
        pool: Photos to draw from.
        rng: Makes everything.
        items: How many.
        periods: How many; in each later one a third of the items get another version.
        impressions: Of one item in one period, on average.
    """
    kept = kept_attributes(pool)
    names = tuple(np.array(list(ATTRIBUTES))[kept])
    values = pool.values[:, :, kept]
    spread = values.reshape(-1, len(kept)).std(axis=0)
    per_sd = np.array([world.effects.get(name, 0.0) for name in names])
    seen, unseen = rng.normal(size=(2, items))
    quality = np.sqrt(world.seen) * seen + np.sqrt(1.0 - world.seen) * unseen
    photo = _choose(world, values, names, quality=quality, rng=rng)
    category = pool.category[photo]
    price = rng.normal(size=items) + 0.4 * seen
    version = _versions(values.shape[1], items=items, periods=periods, rng=rng)
    shown = values[photo[:, None], version]
    signal = ((shown - values[:, 0].mean(axis=0)) / spread) @ per_sd
    season = 0.08 * rng.normal(size=periods)
    base = (
        -2.4
        + 0.45 * quality
        + 0.12 * (seen**2 - 1.0)
        - 0.25 * np.tanh(price)
        + 0.15 * (category % 4 - 1.5)
        + 0.25 * rng.normal(size=items)
    )
    shown_at, clicks_at = _clicks(
        world, base[:, None] + season, signal, quality=quality, mean=impressions, rng=rng
    )
    return _observed(
        shown_at,
        clicks_at,
        version=version,
        photo=photo,
        values=values,
        names=names,
        facts=ItemFacts(
            items=tuple(map(str, range(items))),
            category=tuple(f"category {each}" for each in category),
            numbers=np.stack([seen, price], axis=1),
            names=("rating", "log price"),
        ),
        truth=per_sd / spread,
    )


def _choose(
    world: World,
    values: Matrix,
    names: tuple[str, ...],
    *,
    quality: Matrix,
    rng: np.random.Generator,
) -> IntArray:
    """Each item's photo: better items draw photos that score higher on what is pushed."""
    direction = np.array([world.pushed.get(name, 0.0) for name in names])
    photos, items = values.shape[0], len(quality)
    if not direction.any():
        return rng.integers(photos, size=items)
    original = values[:, 0]
    score = ((original - original.mean(axis=0)) / original.std(axis=0)) @ direction
    score = np.clip((score - score.mean()) / score.std(), -2.0, 2.0)
    wish = world.push * quality[:, None] * score + rng.gumbel(size=(items, photos))
    chosen: IntArray = wish.argmax(axis=1)
    return chosen


def _versions(count: int, *, items: int, periods: int, rng: np.random.Generator) -> IntArray:
    """Which version of its photo an item shows in each period. Shape (items, periods)."""
    version = np.zeros((items, periods), dtype=np.int64)
    version[:, 0] = np.where(rng.random(items) < 0.3, rng.integers(count, size=items), 0)
    for period in range(1, periods):
        change = rng.random(items) < 0.35
        fresh = rng.integers(count, size=items)
        version[:, period] = np.where(change, fresh, version[:, period - 1])
    return version


def _clicks(
    world: World,
    base: Matrix,
    signal: Matrix,
    *,
    quality: Matrix,
    mean: int,
    rng: np.random.Generator,
) -> tuple[Matrix, Matrix]:
    """Impressions and clicks by item, period and position: better items stand higher."""
    items, periods = base.shape
    shown = rng.poisson(mean * np.exp(0.2 * quality[:, None] - 0.02), size=(items, periods))
    lean = -0.25 * quality[:, None, None] * np.arange(POSITIONS) / 3.0
    jitter = 0.5 * rng.normal(size=(items, periods, POSITIONS))
    chance = np.exp(lean + jitter)
    chance /= chance.sum(axis=2, keepdims=True)
    at = rng.multinomial(shown, chance)
    rate = np.exp(base + signal)[:, :, None] * EXAMINED
    if world.sensitivity_sd == 0 and world.returning == 1:
        return at, rng.binomial(at, np.minimum(rate, 0.95))
    return at, _clicks_of_people(world, at, base=base, signal=signal, rng=rng)


def _clicks_of_people(
    world: World, at: Matrix, *, base: Matrix, signal: Matrix, rng: np.random.Generator
) -> Matrix:
    """The same impressions, each made by a person who clicks more or less and cares differently."""
    flat = at.ravel().astype(np.int64)
    cell = np.repeat(np.arange(len(flat)), flat)
    people = max(1, len(cell) // world.returning)
    person = rng.integers(people, size=len(cell))
    active = np.exp(0.6 * rng.normal(size=people) - 0.18)
    care = 1.0 + world.sensitivity_sd * rng.normal(size=people)
    spell = cell // POSITIONS
    log_rate = base.ravel()[spell] + care[person] * signal.ravel()[spell]
    rate = np.exp(log_rate) * EXAMINED[cell % POSITIONS] * active[person]
    clicked = rng.random(len(cell)) < rate
    return np.bincount(cell[clicked], minlength=len(flat)).reshape(at.shape)


def _observed(  # noqa: PLR0913
    at: Matrix,
    clicks: Matrix,
    *,
    version: IntArray,
    photo: IntArray,
    values: Matrix,
    names: tuple[str, ...],
    facts: ItemFacts,
    truth: Matrix,
) -> Simulated:
    items, periods = version.shape
    cells = np.arange(items * periods)
    kappa = examination(
        at.ravel().astype(np.float64),
        clicks=clicks.ravel().astype(np.float64),
        position=np.tile(np.arange(POSITIONS), len(cells)),
        spell=np.repeat(cells, POSITIONS),
        positions=POSITIONS,
    )
    if kappa is None:
        raise RuntimeError("The simulated items never moved between positions.")
    keys, picture = np.unique(
        np.stack([np.repeat(photo, periods), version.ravel()]), axis=1, return_inverse=True
    )
    pictures = tuple(f"{one}-{two}" for one, two in keys.T.tolist())
    spells = Spells(
        item=np.repeat(np.arange(items), periods),
        picture=picture.ravel().astype(np.int64),
        period=np.tile(np.arange(periods), items),
        items=facts.items,
        pictures=pictures,
        exposure={"impression": (at @ kappa).ravel()},
        counts={"click": clicks.sum(axis=2).ravel().astype(np.float64)},
        numbers=np.empty((items * periods, 0)),
        names=(),
        randomized=np.zeros(items * periods, dtype=np.bool_),
        examination=tuple(kappa.tolist()),
    )
    table = PictureTable(pictures=pictures, attributes=names, values=values[keys[0], keys[1]])
    return Simulated(spells=spells, pictures=table, facts=facts, truth=truth)
