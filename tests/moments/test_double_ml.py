import numpy as np

from momentary.moments.double_ml import log_double_ml
from momentary.moments.splines import Confounders


def world(seed, effect):
    rng = np.random.default_rng(seed)
    items, periods = 500, 3
    item = np.repeat(np.arange(items), periods)
    quality = rng.normal(size=items)
    attributes = rng.normal(size=(items * periods, 2)) * 0.8
    attributes[:, 0] += np.sin(2 * quality)[item]
    exposure = 150 * np.exp(0.3 * quality)[item]
    pull = (0.6 * np.sin(2 * quality) + 0.3 * np.abs(quality))[item]
    counts = rng.poisson(exposure * np.exp(-2.5 + effect * attributes[:, 0] + pull)).astype(float)
    confounders = Confounders(
        numbers=quality[item][:, None],
        names=("quality",),
        category=np.zeros(len(item), dtype=np.int64),
        period=np.tile(np.arange(periods), items),
    )
    return {
        "counts": counts,
        "exposure": exposure,
        "attributes": attributes,
        "confounders": confounders,
        "item": item,
    }


def test_a_curved_confounder_is_taken_out():
    found = [log_double_ml(**world(seed, 0.1), rng=np.random.default_rng(0)) for seed in range(12)]
    values = np.array([each.coefficients for each in found])
    errors = np.array([each.errors for each in found])
    assert np.allclose(values.mean(axis=0), [0.1, 0.0], atol=0.01)
    assert (np.abs(values - [0.1, 0.0]) < 2 * errors).mean() >= 0.8
    assert np.allclose(values.std(axis=0), errors.mean(axis=0), rtol=0.6)


def test_the_same_split_gives_the_same_number():
    drawn = world(0, 0.1)
    one = log_double_ml(**drawn, rng=np.random.default_rng(3))
    other = log_double_ml(**drawn, rng=np.random.default_rng(3))
    assert (one.coefficients == other.coefficients).all()
