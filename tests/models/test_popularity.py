import math
from dataclasses import replace

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.models.popularity import (
    PersonalPopularity,
    PersonalPopularityConfig,
    Popularity,
    PopularityConfig,
)
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, fashion, favourites, noise, recall_at_5

DAY_US = 24 * 3600 * 1_000_000
RNG = np.random.default_rng(0)
VIEW, CART, BUY = (EVENT_TYPES.index(name) for name in ("view_item", "add_to_cart", "purchase"))


def days(rows: list[list[int]], times_days: list[list[float]]) -> Sessions:
    return Sessions.from_lists(
        rows, times_us=[[int(t * DAY_US) for t in row] for row in times_days]
    )


LOG = days([[0, 1], [1, 2], [1]], [[0, 1], [2, 3], [3]])


def test_an_event_counts_half_when_it_is_one_half_life_old():
    model = Popularity(PopularityConfig(half_life_days=2)).fit(LOG, n_items=5, rng=RNG)
    expected = [2**-1.5, 2**-1.0 + 2**-0.5 + 1, 1, 0, 0]
    np.testing.assert_allclose(model.score(LOG.take(np.array([0]))), [expected], rtol=1e-6)


def test_an_event_counts_as_much_as_its_type():
    types = np.array([VIEW, BUY, VIEW, CART, BUY], dtype=np.int8)
    weights = {"view_item": 0.5, "purchase": 3.0, "add_to_cart": 0.0}
    config = PopularityConfig(half_life_days=math.inf, event_weights=weights)
    model = Popularity(config).fit(replace(LOG, types=types), n_items=4, rng=RNG)
    assert model.score(LOG)[0].tolist() == [0.5, 3 + 0.5 + 3, 0, 0]
    own = PersonalPopularity(PersonalPopularityConfig(backoff=0.5, event_weights=weights))
    own.fit(replace(LOG, types=types), n_items=4, rng=RNG)
    visit = Sessions.from_lists([[2, 3, 2]], types=[[BUY, CART, VIEW]])
    expected = 0.5 * np.array([0.5, 6.5, 0, 0]) / 6.5 + [0, 0, 3.5, 0]
    np.testing.assert_allclose(own.score(visit)[0], expected, rtol=1e-6)


def test_no_half_life_counts_all_the_same_and_ties_stay_ties():
    model = Popularity(PopularityConfig(half_life_days=math.inf)).fit(LOG, n_items=5, rng=RNG)
    assert model.score(LOG)[1].tolist() == [1, 3, 1, 0, 0]


def test_a_window_forgets_what_is_older():
    model = Popularity(PopularityConfig(half_life_days=math.inf, window_days=2)).fit(
        LOG, n_items=5, rng=RNG
    )
    assert model.score(LOG)[0].tolist() == [0, 2, 1, 0, 0]


def test_a_log_without_events_gives_zeros():
    empty = Sessions.from_lists([[]])
    assert Popularity(PopularityConfig()).fit(empty, n_items=3, rng=RNG).score(empty).sum() == 0


def test_an_item_outside_the_catalogue_is_refused():
    with pytest.raises(DataError, match=r"0 to 2, but n_items is 2"):
        Popularity(PopularityConfig()).fit(LOG, n_items=2, rng=RNG)


def test_personal_counts_fade_from_the_sessions_last_event():
    config = PersonalPopularityConfig(half_life_days=1, backoff=0.01)
    model = PersonalPopularity(config).fit(LOG, n_items=5, rng=RNG)
    visitor = days([[3, 4, 3], []], [[10, 12, 13], []])
    own = np.array([[0, 0, 0, 1 + 1 / 8, 1 / 2], [0, 0, 0, 0, 0]])
    backoff = 0.01 * np.array([1 / 3, 1, 1 / 3, 0, 0])
    np.testing.assert_allclose(model.score(visitor), own + backoff, rtol=1e-6)


def test_recent_popularity_finds_what_is_in_fashion():
    assert recall_at_5(Popularity(PopularityConfig(half_life_days=1)), fashion(RNG)) == 1.0
    assert recall_at_5(Popularity(PopularityConfig(window_days=2)), fashion(RNG)) == 1.0


def test_personal_popularity_finds_favourites():
    model = PersonalPopularity(PersonalPopularityConfig())
    assert recall_at_5(model, favourites(RNG)) > 0.9


@pytest.mark.parametrize(
    "model",
    [Popularity(PopularityConfig()), PersonalPopularity(PersonalPopularityConfig())],
    ids=lambda model: model.kind,
)
def test_noise_is_left_at_chance(model):
    world = noise(np.random.default_rng(4), n_sessions=4000)
    assert recall_at_5(model, world) == pytest.approx(CHANCE, abs=0.04)


@pytest.mark.parametrize("half_life_days", [0, -1, math.nan])
def test_a_half_life_that_cannot_be_is_refused(half_life_days):
    with pytest.raises(ValueError, match="half_life_days"):
        PopularityConfig(half_life_days=half_life_days)
    with pytest.raises(ValueError, match="half_life_days"):
        PersonalPopularityConfig(half_life_days=half_life_days)


def test_other_values_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="window_days is 0"):
        PopularityConfig(window_days=0)
    with pytest.raises(ValueError, match="backoff is -1"):
        PersonalPopularityConfig(backoff=-1)
