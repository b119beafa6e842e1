import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from momentary.moments.estimates import wald_p
from momentary.moments.examination import examination
from momentary.moments.multiplicity import (
    adaptive_step_up,
    benjamini_hochberg,
    near_duplicates,
    romano_wolf,
)
from momentary.moments.refute import find_leads, robustness_value, welch_p


def test_the_robustness_value_is_cinelli_and_hazletts():
    """Their Darfur example: t of 4.18 with 783 degrees of freedom gives 13.9 %, 7.6 % at .05."""
    assert robustness_value(4.184, freedom=783) == pytest.approx(0.139, abs=5e-4)
    reach = stats.t.ppf(0.975, 782) * np.sqrt(783 / 782)
    assert robustness_value(4.184, freedom=783, reach=float(reach)) == pytest.approx(
        0.076, abs=1e-3
    )
    assert robustness_value(1.0, freedom=100, reach=1.96) == 0.0


def test_welch_is_scipys():
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=size) * spread for size, spread in ((12, 1), (30, 3), (8, 0.5))]
    found = welch_p(
        np.array([group.mean() for group in groups]),
        errors=np.array([group.std(ddof=1) / np.sqrt(len(group)) for group in groups]),
        freedom=np.array([len(group) - 1.0 for group in groups]),
    )
    assert found == pytest.approx(stats.f_oneway(*groups, equal_var=False).pvalue, rel=1e-6)


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(0).random(20) ** 3
    assert np.allclose(benjamini_hochberg(p), stats.false_discovery_control(p))


def test_the_two_stage_step_up_is_statsmodels():
    rng = np.random.default_rng(0)
    for fdr in (0.05, 0.1, 0.2):
        for power in (1, 3, 6):
            p = rng.random(20) ** power
            found = adaptive_step_up(p, fdr=fdr) <= fdr
            assert (found == multipletests(p, alpha=fdr, method="fdr_tsbky")[0]).all()


def test_the_two_stage_step_up_keeps_the_rate_and_finds_more():
    rng = np.random.default_rng(0)
    false, found, plainly = [], [], []
    for _ in range(2000):
        at = rng.normal(size=12) + np.repeat([2.6, 0.0], 6)
        p = 2 * stats.norm.sf(np.abs(at))
        hits = adaptive_step_up(p, fdr=0.1) <= 0.1
        false.append(hits[6:].sum() / max(hits.sum(), 1))
        found.append(hits[:6].mean())
        plainly.append((benjamini_hochberg(p)[:6] <= 0.1).mean())
    assert np.mean(false) <= 0.1
    assert np.mean(found) > np.mean(plainly) + 0.03
    nothing = [adaptive_step_up(rng.random(12), fdr=0.1).min() <= 0.1 for _ in range(2000)]
    assert np.mean(nothing) <= 0.1


def test_the_joint_test_has_its_size():
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        drawn = rng.normal(size=(40, 5))
        influence = drawn - drawn.mean(axis=0)
        spread = influence.T @ influence * 40 / 39
        rejected += wald_p(drawn.sum(axis=0), spread, freedom=39.0) < 0.05
    assert 0.02 <= rejected / 400 <= 0.09


def test_romano_wolf_keeps_the_family_and_finds_what_is_there():
    rng = np.random.default_rng(0)
    influence = rng.normal(size=(200, 10)) / np.sqrt(200)
    null = [
        romano_wolf(rng.normal(size=10), influence, rng=rng, draws=400).min() < 0.05
        for _ in range(200)
    ]
    assert np.mean(null) <= 0.10
    found = romano_wolf(np.array([6.0, *[0.1] * 9]), influence, rng=rng)
    assert found[0] < 0.01
    assert found[1:].min() > 0.3


def test_near_duplicates_need_all_pairs_to_be_alike():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 4000))
    middle = (first + other) / np.sqrt(2)  # .71 with each, and they 0 with each other
    values = np.stack([first, -first + 0.1 * other, middle, other], axis=1)
    groups = [set(group.tolist()) for group in near_duplicates(values, above=0.65)]
    assert {0, 1} in groups
    assert {2, 3} in groups


def test_examination_is_not_fooled_by_better_items_on_top():
    rng = np.random.default_rng(0)
    true = np.array([1.0, 0.7, 0.5, 0.3])
    quality = rng.normal(size=400)
    chance = np.exp(-0.5 * quality[:, None] * np.arange(4) + 0.3 * rng.normal(size=(400, 4)))
    shown = rng.multinomial(300, chance / chance.sum(axis=1, keepdims=True))
    clicks = rng.binomial(shown, np.minimum(0.1 * np.exp(0.5 * quality)[:, None] * true, 1))
    found = examination(
        shown.ravel().astype(float),
        clicks=clicks.ravel().astype(float),
        position=np.tile(np.arange(4), 400),
        spell=np.repeat(np.arange(400), 4),
        positions=4,
    )
    plain = clicks.sum(0) / shown.sum(0)
    assert np.allclose(found, true, rtol=0.1)
    assert abs(plain[3] / plain[0] - true[3]) > 0.08


@pytest.mark.parametrize(("follows", "rejected"), [(False, False), (True, True)])
def test_leads_see_pictures_that_follow_sales(follows, rejected):
    """Where a picture is changed after a good period, it seems to work before it is there."""
    rng = np.random.default_rng(0)
    items, periods = 300, 5
    shock = 0.4 * rng.normal(size=(items, periods))
    dose = rng.normal(size=(items, periods))
    if follows:
        dose[:, 1:] += 2.0 * shock[:, :-1]
    counts = rng.poisson(100 * np.exp(-1.5 + shock))
    found = find_leads(
        counts.ravel().astype(float),
        exposure=np.full(items * periods, 100.0),
        attributes=dose.reshape(-1, 1),
        controls=np.eye(periods)[np.tile(np.arange(periods), items)][:, 1:],
        item=np.repeat(np.arange(items), periods),
        period=np.tile(np.arange(periods), items),
        rng=rng,
    )
    assert (found.p < 0.001) == rejected


def test_leads_keep_their_size_where_few_items_changed():
    """A joint F test that counts every item rejects .08 of these where .05 is meant."""
    rng = np.random.default_rng(0)
    items, periods, attributes = 150, 4, 14
    controls = np.eye(periods)[np.tile(np.arange(periods), items)][:, 1:]
    rejected = 0
    for _ in range(200):
        changes = rng.random((items, 1, 1)) < 0.33
        dose = changes * rng.normal(size=(items, periods, attributes))
        shock = 0.3 * rng.normal(size=(items, periods))
        found = find_leads(
            rng.poisson(100 * np.exp(-1.5 + shock)).ravel().astype(float),
            exposure=np.full(items * periods, 100.0),
            attributes=dose.reshape(-1, attributes),
            controls=controls,
            item=np.repeat(np.arange(items), periods),
            period=np.tile(np.arange(periods), items),
            rng=rng,
        )
        rejected += found.p < 0.05
    assert rejected / 200 <= 0.06
