import numpy as np
import pytest
from scipy import stats

from benchmarks.moments_choices import simulate_choices
from momentary.moments.decision import (
    Choices,
    DecisionConfig,
    DecisionModel,
    _columns,
    _Data,
    _Kinds,
    _owners,
    _Simulated,
    decision_card,
)


@pytest.fixture(scope="module")
def choices():
    return simulate_choices(np.random.default_rng(0), people=80, choices=10)


def data_of(choices):
    columns, _, fixed = _columns(choices)
    return _Data(columns, choices.chosen, _owners(choices)), fixed


def test_the_gradient_is_that_of_the_likelihood(choices):
    data, fixed = data_of(choices)
    kinds = _Kinds.of(choices, heterogeneity=True)
    theta = np.random.default_rng(1).normal(size=fixed + kinds.spreads) * 0.3
    simulated = kinds.surround(theta, data, draws=16, rng=np.random.default_rng(0))
    gradient = kinds.likelihood(theta, data, simulated)[1].sum(axis=0)
    for k in range(len(theta)):
        step = np.eye(len(theta))[k] * 1e-5
        above, below = (
            kinds.likelihood(theta + side * step, data, simulated)[0].sum() for side in (1, -1)
        )
        assert gradient[k] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-4)


def test_simulation_agrees_with_quadrature():
    """Two brands and one taste: the integral has one dimension and Gauss-Hermite knows it."""
    rng = np.random.default_rng(2)
    people, each = 40, 6
    shape = (people * each, 2)
    zeros = np.zeros(shape)
    price = rng.normal(size=shape)
    visual = rng.normal(size=(*shape, 1))
    chosen = rng.integers(2, size=people * each)
    choices = Choices(
        person=np.repeat(np.arange(people), each),
        chosen=chosen,
        brand=np.zeros(shape, dtype=np.int64),
        category=np.zeros(shape, dtype=np.int64),
        loyalty=zeros,
        price=price,
        position=zeros,
        image=np.zeros((*shape, 1)),
        visual=visual,
        image_names=("image",),
    )
    data, fixed = data_of(choices)
    kinds = _Kinds.of(choices, heterogeneity=True)
    theta = np.array([0.0, -0.7, 0.0, 0.0, 0.0, 0.8])
    assert len(theta) == fixed + kinds.spreads
    found, _ = kinds.likelihood(theta, data, kinds.surround(theta, data, draws=512, rng=rng))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    sign = np.where(chosen == 0, 1.0, -1.0)
    gap = -0.7 * (price[:, 0] - price[:, 1])
    taste = 0.8 * (visual[:, 0, 0] - visual[:, 1, 0])
    p = 1 / (1 + np.exp(-sign[:, None] * (gap[:, None] + taste[:, None] * nodes)))
    exact = np.log(p.reshape(people, each, -1).prod(axis=1) @ (weights / weights.sum()))
    assert np.allclose(found, exact, atol=0.005)
    assert found.sum() == pytest.approx(exact.sum(), abs=0.02)


def test_few_draws_that_surround_a_person_do_what_many_do(choices):
    """Draws from the population would leave the likelihood too low and depend on their number."""
    data, fixed = data_of(choices)
    kinds = _Kinds.of(choices, heterogeneity=True)
    theta = np.concatenate([[0.6, -0.8, -0.5, 0.3], [0.2, -0.2, 0.3, 0.1], [0.9, 0.6, 0.5]])
    assert len(theta) == fixed + kinds.spreads

    def value(simulated):
        return kinds.likelihood(theta, data, simulated)[0].sum()

    many, few = (
        value(kinds.surround(theta, data, draws=draws, rng=np.random.default_rng(draws)))
        for draws in (4096, 128)
    )
    assert few == pytest.approx(many, abs=0.3)
    points = kinds.points(80, 128, rng=np.random.default_rng(1))
    assert value(_Simulated(points, np.zeros(points.shape[:2]))) < many - 1.0


def test_without_taste_loyalty_is_inflated(choices):
    rng = np.random.default_rng(0)
    mixed = DecisionModel(DecisionConfig(draws=64)).fit(choices, rng=rng)
    plain = DecisionModel(DecisionConfig(heterogeneity=False)).fit(choices, rng=rng)
    assert abs(mixed.values[0] - 0.6) < 2.5 * mixed.errors[0]
    assert plain.values[0] > mixed.values[0] + 0.15
    assert mixed.log_likelihood > plain.log_likelihood + stats.chi2.ppf(0.99, 3) / 2
    card = decision_card(choices, mixed, rng=rng)
    assert sum(each.share for each in card.influences) == pytest.approx(1.0)
    assert all(each.low <= each.share <= each.high for each in card.influences)
    assert card.influences[0].part == "taste"
    assert card.influences[0].share > 0.4


def test_choices_that_do_not_fit_are_refused(choices):
    fields = {name: getattr(choices, name) for name in choices.__dataclass_fields__}
    with pytest.raises(ValueError, match="price has shape"):
        Choices(**{**fields, "price": choices.price[:-1]})
    with pytest.raises(ValueError, match="ascend"):
        Choices(**{**fields, "person": choices.person[::-1]})
