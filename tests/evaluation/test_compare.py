"""Intervals cover, null p-values are uniform, and corrections are Holm's."""

import numpy as np
import pytest

from momentary.evaluation.compare import bootstrap, holm, paired_difference, two_sided


def world(rng, *, shift=0.0, groups=60):
    """Two models on clustered queries; group sizes differ and share an effect."""
    sizes = rng.integers(1, 6, size=groups)
    group = np.repeat(np.arange(groups), sizes)
    common = rng.normal(size=groups)[group]
    own = rng.normal(size=(2, groups))[:, group]
    noise = rng.normal(size=(2, len(group)))
    return 3 * common + own[0] + noise[0] + shift, 3 * common + own[1] + noise[1], group


def test_intervals_cover_the_truth_and_null_p_values_are_uniform():
    covered, p_values = 0, []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        first, second, group = world(rng, groups=150)
        found = paired_difference(first, second, group, rng=rng, resamples=300)
        covered += found.low <= 0 <= found.high
        p_values.append(found.p_value)
    # Three standard errors of a share of .95 of 300 are .038.
    assert 0.912 <= covered / 300 <= 0.988
    deciles = np.quantile(p_values, np.arange(0.1, 1, 0.1))
    assert np.abs(deciles - np.arange(0.1, 1, 0.1)).max() < 0.1


def test_ignoring_the_groups_would_be_too_sure():
    rng = np.random.default_rng(0)
    first, second, group = world(rng, groups=400)
    whole = paired_difference(first, second, group, rng=rng)
    alone = paired_difference(first, second, np.arange(len(group)), rng=rng)
    assert whole.high - whole.low > 1.2 * (alone.high - alone.low)


def test_a_true_difference_is_found_and_pairing_narrows_it():
    rng = np.random.default_rng(1)
    first, second, group = world(rng, shift=0.6, groups=400)
    found = paired_difference(first, second, group, rng=rng)
    assert found.low <= 0.6 <= found.high
    assert found.p_value == pytest.approx(2 / 1001)
    assert found.value == pytest.approx(first.mean() - second.mean())
    both = bootstrap(np.stack([first, second], axis=1), group, rng=rng)
    alone = both.estimate(0)
    assert alone.value == pytest.approx(first.mean())
    assert found.high - found.low < 0.7 * (alone.high - alone.low)


def test_the_spread_is_that_of_the_formula():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(500, 1))
    drawn = bootstrap(values, np.arange(500), rng=rng, resamples=4000).drawn
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(500), rel=0.05)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)


def test_the_same_seed_gives_the_same_interval_and_group_names_do_not_matter():
    rng = np.random.default_rng(3)
    first, second, group = world(rng)
    runs = [
        paired_difference(first, second, names, rng=np.random.default_rng(9))
        for names in (group, group, group * 1000 + 7)
    ]
    assert runs[0] == runs[1] == runs[2]


def test_a_difference_reverses_its_sign():
    rng = np.random.default_rng(4)
    first, second, group = world(rng, shift=0.3)
    both = bootstrap(np.stack([first, second], axis=1), group, rng=rng)
    ahead, behind = both.difference(0, 1), both.difference(1, 0)
    assert (ahead.value, ahead.low, ahead.high) == pytest.approx(
        (-behind.value, -behind.high, -behind.low)
    )
    assert ahead.p_value == behind.p_value


def test_p_values_are_never_zero_and_equal_models_give_one():
    assert two_sided(np.full(999, 0.5)) == pytest.approx(0.002)
    assert two_sided(np.zeros(999)) == 1.0
    assert two_sided(np.concatenate([np.full(9, -1.0), np.full(90, 1.0)])) == pytest.approx(0.2)


def test_holm_by_hand():
    # .01 * 4, .02 * 3, .04 * 2 and .5 * 1, never falling.
    assert holm([0.04, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.08, 0.04, 0.5, 0.06])
    assert holm([0.03, 0.03]).tolist() == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="all queries come from one group"):
        bootstrap(np.ones((3, 1)), np.zeros(3, dtype=np.int64), rng=rng)
    with pytest.raises(ValueError, match="NaN or infinite"):
        bootstrap(np.array([[1.0], [np.nan]]), np.arange(2), rng=rng)
    with pytest.raises(ValueError, match="resamples is 10"):
        bootstrap(np.ones((2, 1)), np.arange(2), rng=rng, resamples=10)
    with pytest.raises(ValueError, match="3 values against 2"):
        paired_difference(np.ones(3), np.ones(2), np.arange(3), rng=rng)
    with pytest.raises(ValueError, match="one row a query"):
        bootstrap(np.ones((2, 1)), np.arange(3), rng=rng)
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap(np.ones((2, 1)), np.arange(2), rng=rng, level=95)
