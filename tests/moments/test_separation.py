"""Periods without events, and other things that a Poisson regression cannot have."""

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.moments.poisson import comparable, within_poisson
from momentary.moments.separation import separated


@pytest.fixture
def panel():
    """80 items in 5 periods, in the last of which nobody bought."""
    rng = np.random.default_rng(0)
    items, periods = 80, 5
    item = np.repeat(np.arange(items), periods)
    period = np.tile(np.arange(periods), items)
    attribute = rng.normal(size=(items * periods, 2))
    indicators = (period[:, None] == np.arange(1, periods)).astype(float)
    counts = rng.poisson(3 * np.exp(attribute @ [0.3, 0.0])) * (period < periods - 1)
    columns = np.concatenate([indicators, attribute], axis=1)
    return counts.astype(float), columns, item, period


def test_a_period_without_events_is_left_out_and_the_rest_is_estimated(panel):
    counts, columns, item, period = panel
    rows, kept = comparable(counts, exposure=np.ones(len(item)), columns=columns, group=item)
    assert kept.tolist() == [True, True, True, False, True, True]
    assert not rows[period == 4].any()
    assert rows[period < 4].all()
    fitted = within_poisson(
        counts[rows],
        exposure=np.ones(rows.sum()),
        columns=columns[rows][:, kept],
        group=item[rows],
        cluster=item[rows],
    )
    assert np.allclose(fitted.coefficients[-2:], [0.3, 0.0], atol=0.15)
    assert fitted.errors.max() < 0.2


def test_without_leaving_out_the_fit_is_refused_and_not_shown(panel):
    counts, columns, item, _ = panel
    ones = np.ones(len(item))
    with pytest.raises(DataError, match="not enough events"):
        within_poisson(counts, exposure=ones, columns=columns, group=item, cluster=item)


def test_a_combination_that_separates_is_found():
    """Neither number alone tells where nothing happened, but their sum does."""
    rng = np.random.default_rng(1)
    item = np.repeat(np.arange(50), 4)
    one = rng.normal(size=200)
    high = np.tile([0, 0, 0, 1], 50)
    other = high * rng.uniform(0.5, 2.0, 200) - one
    counts = np.where(high, 0.0, rng.poisson(4, size=200) + 1.0)
    columns = np.stack([one, other], axis=1)
    assert separated(counts, columns=columns, group=item).tolist() == (high == 1).tolist()
    # One event among them is enough for an estimate.
    counts[3] = 1.0
    assert not separated(counts, columns=columns, group=item).any()


def test_only_what_is_explained_perfectly_is_left_out(panel):
    counts, columns, item, period = panel
    assert separated(counts, columns=columns, group=item).tolist() == (period == 4).tolist()
    assert not separated(counts, columns=columns[:, -2:], group=item).any()
    # Scale does not matter.
    scaled = columns * [1, 1, 1, 1e6, 1e-6, 1e3]
    assert separated(counts, columns=scaled, group=item).tolist() == (period == 4).tolist()
