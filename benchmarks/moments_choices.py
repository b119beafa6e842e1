"""Simulated choices whose loyalty is known, for the decision model."""

from __future__ import annotations

import numpy as np

from benchmarks.moments_kept import Kept
from momentary.moments.decision import Choices, DecisionConfig, DecisionModel

LOYALTY = 0.6


def simulate_choices(
    rng: np.random.Generator, *, people: int = 300, choices: int = 15, alternatives: int = 5
) -> Choices:
    """People with lasting tastes who also come back to the brand they chose last.

    Nobody has chosen anything before the first choice, so there is no unseen past.
    """
    brands, categories = 5, 3
    shape = (people, choices, alternatives)
    brand = np.argsort(rng.random((people, choices, brands)), axis=2)[:, :, :alternatives]
    category = rng.integers(categories, size=shape)
    price, image = rng.normal(size=shape), rng.normal(size=shape)
    visual = rng.normal(size=shape)
    position = np.log(np.argsort(rng.random(shape), axis=2) + 1.0)
    taste_brand = 0.9 * rng.normal(size=(people, brands))
    taste_category = 0.6 * rng.normal(size=(people, categories))
    taste_visual = 0.5 * rng.normal(size=people)
    means = np.array([0.0, 0.2, -0.2, 0.3, 0.1])
    loyalty, chosen = np.zeros(shape), np.empty((people, choices), dtype=np.int64)
    last = np.full(people, -1)
    rows = np.arange(people)
    for t in range(choices):
        loyalty[:, t] = brand[:, t] == last[:, None]
        utility = (
            LOYALTY * loyalty[:, t]
            - 0.8 * price[:, t]
            - 0.5 * position[:, t]
            + 0.3 * image[:, t]
            + means[brand[:, t]]
            + taste_brand[rows[:, None], brand[:, t]]
            + taste_category[rows[:, None], category[:, t]]
            + taste_visual[:, None] * visual[:, t]
            + rng.gumbel(size=(people, alternatives))
        )
        chosen[:, t] = utility.argmax(axis=1)
        last = brand[rows, t, chosen[:, t]]
    flat = (people * choices, alternatives)
    return Choices(
        person=np.repeat(rows, choices),
        chosen=chosen.ravel(),
        brand=brand.reshape(flat),
        category=category.reshape(flat),
        loyalty=loyalty.reshape(flat),
        price=price.reshape(flat),
        position=position.reshape(flat),
        image=image.reshape(*flat, 1),
        visual=visual.reshape(*flat, 1),
        image_names=("image",),
    )


def choose(seed: int) -> Kept:
    """Loyalty with taste and without, each with its standard error."""
    choices = simulate_choices(np.random.default_rng(seed), people=200)
    rng = np.random.default_rng(seed)
    mixed = DecisionModel().fit(choices, rng=rng)
    plain = DecisionModel(DecisionConfig(heterogeneity=False)).fit(choices, rng=rng)
    return {
        name: np.array([fit.values[0], fit.errors[0]])
        for name, fit in (("mixed", mixed), ("plain", plain))
    }
