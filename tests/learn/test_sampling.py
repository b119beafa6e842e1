import numpy as np
import pytest

from momentary.learn.sampling import PopularitySampler

COUNTS = np.array([0, 1, 4, 16, 0])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_follow_the_power_of_the_counts(alpha):
    sampler = PopularitySampler(COUNTS, alpha=alpha, rng=np.random.default_rng(0))
    shares = np.bincount(sampler.draw(200_000), minlength=5) / 200_000
    weights = np.where(COUNTS > 0, COUNTS.astype(float) ** alpha, 0)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.005)
    assert shares[0] == shares[4] == 0


def test_the_alias_table_holds_every_item_its_exact_share():
    counts = np.random.default_rng(1).zipf(1.3, size=500) % 1000
    sampler = PopularitySampler(counts, alpha=0.75, rng=np.random.default_rng(0))
    keep, alias = sampler._keep, sampler._alias
    share = keep.copy()
    np.add.at(share, alias, 1 - keep)
    weights = counts[counts > 0].astype(float) ** 0.75
    np.testing.assert_allclose(share / len(share), weights / weights.sum(), atol=1e-12)
    assert ((keep >= 0) & (keep <= 1)).all()


def test_the_same_chance_draws_the_same():
    draws = [
        PopularitySampler(COUNTS, alpha=1, rng=np.random.default_rng(5)).draw(50) for _ in range(2)
    ]
    np.testing.assert_array_equal(*draws)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="alpha is 2"):
        PopularitySampler(COUNTS, alpha=2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="all 0"):
        PopularitySampler(np.zeros(3, int), alpha=1, rng=np.random.default_rng(0))
