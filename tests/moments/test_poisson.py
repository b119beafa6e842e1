import numpy as np
import pytest
import statsmodels.api as sm

from momentary.errors import DataError
from momentary.moments.poisson import varies_within, within_poisson


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(0)
    items, periods = 60, 6
    item = np.repeat(np.arange(items), periods)
    columns = rng.normal(size=(items * periods, 3))
    exposure = rng.uniform(50, 200, items * periods)
    level = rng.normal(size=items)[item] * 0.5 - 3
    counts = rng.poisson(exposure * np.exp(level + columns @ [0.2, -0.1, 0.0])).astype(float)
    return counts, exposure, columns, item


def fit(counts, exposure, columns, item):
    return within_poisson(counts, exposure=exposure, columns=columns, group=item, cluster=item)


def test_it_is_the_regression_with_a_dummy_for_each_item(panel):
    counts, exposure, columns, item = panel
    dummies = (item[:, None] == np.arange(60)).astype(float)
    model = sm.GLM(
        counts,
        np.concatenate([columns, dummies], axis=1),
        family=sm.families.Poisson(),
        offset=np.log(exposure),
    )
    assert np.allclose(fit(*panel).coefficients, model.fit(tol=1e-12).params[:3], atol=1e-8)


def test_errors_are_those_of_leaving_each_item_out(panel):
    counts, exposure, columns, item = panel
    whole = fit(*panel)
    without = np.array(
        [
            fit(*(part[item != each] for part in (counts, exposure, columns, item))).coefficients
            for each in range(60)
        ]
    )
    moved = without - whole.coefficients
    assert np.allclose(-whole.influence, moved, atol=1e-4)
    jackknife = np.sqrt((moved**2).sum(axis=0) * 59 / 60)
    assert np.allclose(whole.errors, jackknife, rtol=0.01)


def test_what_never_changes_about_an_item_moves_nothing(panel):
    counts, exposure, columns, item = panel
    factor = np.exp(np.random.default_rng(1).normal(size=60))[item]
    moved = fit(counts, exposure * factor, columns, item)
    assert np.allclose(moved.coefficients, fit(*panel).coefficients, atol=1e-8)


def test_columns_that_stay_within_items_are_told(panel):
    _, exposure, columns, item = panel
    steady = item[:, None].astype(float)
    joined = np.concatenate([columns, steady, columns[:, :1] * 2 + steady], axis=1)
    kept = varies_within(joined, weight=exposure, group=item)
    assert kept.tolist() == [True, True, True, False, False]


def test_items_seen_once_say_nothing(panel):
    counts, exposure, columns, _ = panel
    with pytest.raises(DataError, match="two spells"):
        fit(counts, exposure, columns, np.arange(len(counts)))
