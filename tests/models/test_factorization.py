from dataclasses import replace

import numpy as np
import pytest

from momentary.models.factorization import Factorization, FactorizationConfig
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, favourites, noise, recall_at_5, tastes

N_ITEMS = 8


def rng():
    return np.random.default_rng(1)


@pytest.fixture
def rows():
    chance = np.random.default_rng(2)
    return [chance.integers(N_ITEMS, size=chance.integers(2, 6)).tolist() for _ in range(20)]


def counted(rows):
    return np.array([np.bincount(row, minlength=N_ITEMS) for row in rows], dtype=float)


def ridge(factors, choices, config):
    """x = (Y'CY + lambda I)^-1 Y'Cp with every confidence written out."""
    confidence = np.diag(1 + config.alpha * choices)
    system = factors.T @ confidence @ factors + config.regularization * np.eye(factors.shape[1])
    return np.linalg.solve(system, factors.T @ confidence @ (choices > 0))


def test_one_factor_is_the_papers_solution(rows):
    config = FactorizationConfig(
        factors=1, regularization=0.5, alpha=2.0, iterations=100, decay=1.0
    )
    model = Factorization(config).fit(Sessions.from_lists(rows), n_items=N_ITEMS, rng=rng())
    choices, items = counted(rows), np.ones((N_ITEMS, 1))
    for _ in range(200):  # one factor of positive numbers has one solution
        visitors = np.array([ridge(items, row, config) for row in choices])
        items = np.array([ridge(visitors, column, config) for column in choices.T])
    popularity = choices.sum(axis=0) / choices.sum(axis=0).max()
    expected = [items @ ridge(items, row, config) + 1e-6 * popularity for row in choices]
    np.testing.assert_allclose(model.score(Sessions.from_lists(rows)), expected, rtol=1e-3)


def test_a_session_is_folded_in_with_duplicates_and_decay(rows):
    config = FactorizationConfig(factors=3, alpha=5.0, decay=0.5)
    model = Factorization(config).fit(Sessions.from_lists(rows), n_items=N_ITEMS, rng=rng())
    factors = model.state()["factors"].astype(float)
    choices = np.zeros(N_ITEMS)
    choices[4], choices[1] = 1 + 0.25, 0.5  # the session is 4, 1, 4
    expected = factors @ ridge(factors, choices, config) + 1e-6 * model.state()["popularity"]
    scores = model.score(Sessions.from_lists([[4, 1, 4]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-4, atol=1e-6)


def test_events_count_as_much_as_their_type(rows):
    view, buy = EVENT_TYPES.index("view_item"), EVENT_TYPES.index("purchase")
    config = FactorizationConfig(factors=3, alpha=5.0, decay=0.5, event_weights={"purchase": 3})
    types = [[buy if item == 4 else view for item in row] for row in rows]
    typed = Sessions.from_lists(rows, types=types)
    model = Factorization(config).fit(typed, n_items=N_ITEMS, rng=rng())
    # Three views of it tell as much as one purchase.
    thrice = [[item for each in row for item in [each] * (3 if each == 4 else 1)] for row in rows]
    plain = Factorization(replace(config, event_weights={}))
    plain.fit(Sessions.from_lists(thrice), n_items=N_ITEMS, rng=rng())
    factors = model.state()["factors"]
    np.testing.assert_allclose(factors, plain.state()["factors"], rtol=1e-4, atol=1e-5)
    choices = np.zeros(N_ITEMS)
    choices[4], choices[1] = 3 + 0.25, 0.5  # the session is a view of 4 and of 1, then 4 is bought
    expected = factors @ ridge(factors.astype(float), choices, config)
    visit = Sessions.from_lists([[4, 1, 4]], types=[[view, view, buy]])
    np.testing.assert_allclose(model.score(visit)[0], expected, rtol=1e-4, atol=1e-5)


def test_an_empty_session_gets_the_most_popular(rows):
    model = Factorization(FactorizationConfig()).fit(
        Sessions.from_lists(rows), n_items=N_ITEMS, rng=rng()
    )
    counts = counted(rows).sum(axis=0)
    scores = model.score(Sessions.from_lists([[]]))[0]
    np.testing.assert_allclose(scores, 1e-6 * counts / counts.max(), rtol=1e-5)


def test_sessions_of_a_known_visitor_are_one_row(rows):
    config = FactorizationConfig(factors=2)
    apart = Sessions.from_lists(rows, users=[7, -1] + [3] * 18)
    joined = Sessions.from_lists([rows[0], rows[1], [item for row in rows[2:] for item in row]])
    queries = Sessions.from_lists(rows)
    scores = [
        Factorization(config).fit(log, n_items=N_ITEMS, rng=rng()).score(queries)
        for log in (apart, joined, queries)
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-6)
    assert np.abs(scores[0] - scores[2]).max() > 0.01


def test_another_seed_gives_other_factors(rows):
    sessions = Sessions.from_lists(rows)
    config = FactorizationConfig(factors=3, iterations=2)
    one, same, other = (
        Factorization(config)
        .fit(sessions, n_items=N_ITEMS, rng=np.random.default_rng(seed))
        .state()["factors"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_more_sessions_than_fit_at_once_score_the_same(rows):
    model = Factorization(FactorizationConfig(factors=3)).fit(
        Sessions.from_lists(rows), n_items=N_ITEMS, rng=rng()
    )
    many = model.score(Sessions.from_lists(rows * 30))
    np.testing.assert_allclose(many[-20:], model.score(Sessions.from_lists(rows)), atol=1e-6)


def test_progress_reaches_the_end(rows):
    told = []
    Factorization(FactorizationConfig(iterations=4)).fit(
        Sessions.from_lists(rows),
        n_items=N_ITEMS,
        rng=rng(),
        progress=lambda done, total, *_: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_signal_is_found():
    config = FactorizationConfig(factors=8)
    assert recall_at_5(Factorization(config), tastes(rng())) > 0.95
    assert recall_at_5(Factorization(FactorizationConfig(factors=28)), favourites(rng())) > 0.8


def test_noise_is_left_at_chance():
    model = Factorization(FactorizationConfig(factors=8, iterations=5))
    world = noise(np.random.default_rng(4), n_sessions=4000)
    assert recall_at_5(model, world) == pytest.approx(CHANCE, abs=0.04)


def test_a_log_without_events_still_scores():
    model = Factorization(FactorizationConfig(factors=2))
    model.fit(Sessions.from_lists([[]]), n_items=3, rng=rng())
    assert model.score(Sessions.from_lists([[1], []])).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("factors", 0), ("iterations", 0), ("regularization", 0), ("alpha", -1), ("decay", 2)],
)
def test_values_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        FactorizationConfig(**{name: value})
