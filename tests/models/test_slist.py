from dataclasses import replace

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.learn.counts import US_PER_DAY
from momentary.models import slist
from momentary.models.slist import SLIST, SLISTConfig
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, cycle, noise, recall_at_5, tastes

RNG = np.random.default_rng(0)
N_ITEMS = 6
VIEW, BUY = EVENT_TYPES.index("view_item"), EVENT_TYPES.index("purchase")


@pytest.fixture
def log():
    """Every item shares a session with every other, so that the paper's solution is reached."""
    rng = np.random.default_rng(2)
    rows = [rng.integers(N_ITEMS, size=rng.integers(1, 8)).tolist() for _ in range(150)]
    times = [(day * US_PER_DAY + np.arange(len(row))).tolist() for day, row in enumerate(rows)]
    return Sessions.from_lists(rows, times_us=times)


def papers(log, config, counts=None):
    """B, with the matrices of the paper written out and inverted; `counts`: what events count."""
    counts = np.ones(len(log.items)) if counts is None else counts
    x, s, t, w_x, w_s = [], [], [], [], []
    for row in range(len(log)):
        items = log.session(row)[-config.max_session :]
        each = counts[log.offsets[row] : log.offsets[row + 1]][-config.max_session :]
        age = (log.last_times_us.max() - log.last_times_us[row]) / US_PER_DAY
        weight = np.exp(-age / config.recency_days)
        x.append([each[items == item].max(initial=0) for item in range(N_ITEMS)])
        w_x.append(weight)
        for place in range(1, len(items)):
            past, future = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
            for at, item in enumerate(items):
                if at < place:
                    past[item] += each[at] * np.exp(-(place - 1 - at) / config.past)
                else:
                    future[item] += each[at] * np.exp(-(at - place) / config.future)
            s.append(past)
            t.append(future)
            w_s.append(weight)
    x, s, t = (np.array(each) for each in (x, s, t))
    w_x, w_s = np.diag(w_x), np.diag(w_s)
    a = config.alpha * x.T @ w_x @ x + (1 - config.alpha) * s.T @ w_s @ s
    c = config.alpha * x.T @ w_x @ x + (1 - config.alpha) * s.T @ w_s @ t
    p = np.linalg.inv(a + config.regularization * np.eye(N_ITEMS))
    b = p @ c
    over = np.maximum(np.diag(b) - config.diagonal, 0) / np.diag(p)
    return b - p * over


SETTINGS = [
    SLISTConfig(regularization=2.0, diagonal=0.1),
    SLISTConfig(alpha=1.0, diagonal=0.0, recency_days=float("inf"), regularization=5.0),
    SLISTConfig(alpha=0.0, diagonal=0.05, past=0.7, future=3.0, max_session=4, regularization=0.5),
]


@pytest.mark.parametrize("config", SETTINGS)
def test_weights_are_the_papers(log, config):
    b = papers(log, config)
    assert (np.diag(b) <= config.diagonal + 1e-9).all()
    assert np.isclose(np.diag(b), config.diagonal).any()  # the bound is met, so it is tested
    model = SLIST(config).fit(log, n_items=N_ITEMS, rng=RNG)
    fading = np.exp(-1 / config.reach)
    expected = np.maximum(b[3] + fading * b[5] + fading**2 * b[3], 0)
    counts = np.bincount(log.items, minlength=N_ITEMS)
    scores = model.score(Sessions.from_lists([[3, 5, 3]]))
    assert (expected > 0.05).sum() > 2
    np.testing.assert_allclose(scores[0], expected + 1e-6 * counts / counts.max(), atol=4e-4)


@pytest.mark.parametrize("config", SETTINGS)
def test_events_count_as_much_as_their_type(log, config):
    typed = replace(log, types=np.where(RNG.random(len(log.items)) < 0.3, BUY, VIEW))
    counts = np.where(typed.types == BUY, 3.0, 0.5)
    b = papers(log, config, counts)
    config = replace(config, event_weights={"view_item": 0.5, "purchase": 3})
    model = SLIST(config).fit(typed, n_items=N_ITEMS, rng=RNG)
    fading = np.exp(-1 / config.reach)
    expected = np.maximum(0.5 * b[3] + 3 * fading * b[5] + 0.5 * fading**2 * b[3], 0)
    popular = np.bincount(log.items, weights=counts, minlength=N_ITEMS)
    scores = model.score(Sessions.from_lists([[3, 5, 3]], types=[[VIEW, BUY, VIEW]]))
    assert (expected > 0.05).sum() > 2
    np.testing.assert_allclose(scores[0], expected + 1e-6 * popular / popular.max(), atol=1e-3)


def test_a_truncated_column_is_the_best_of_its_neighbours(log):
    config = SLISTConfig(alpha=0.5, regularization=2.0, neighbours=3, diagonal=1.0)
    whole = slist._equations(config, log, n_items=N_ITEMS)
    chosen = slist._neighbours(whole, rank=np.arange(N_ITEMS), config=config)
    a, c = whole.a.toarray() + 2.0 * np.eye(N_ITEMS), whole.c.toarray().T
    model = SLIST(config).fit(log, n_items=N_ITEMS, rng=RNG)
    for item in range(N_ITEMS):
        near = chosen[[item]].indices
        assert item in near
        assert len(near) == 3
        others = np.setdiff1d(np.arange(N_ITEMS), [item])
        best = others[np.argsort(-c[others, item] / np.sqrt(np.diag(a))[others])[:2]]
        assert set(near) == {item, *best}
        expected = np.zeros(N_ITEMS)
        expected[near] = np.linalg.solve(a[np.ix_(near, near)], c[near, item])
        scores = model.score(Sessions.from_lists([[other] for other in range(N_ITEMS)]))[:, item]
        np.testing.assert_allclose(scores, np.maximum(expected, 0), atol=2e-4)


def test_solving_in_small_batches_changes_nothing(log, monkeypatch):
    config = SLISTConfig(neighbours=4, diagonal=0.1)
    whole = SLIST(config).fit(log, n_items=N_ITEMS, rng=RNG)
    monkeypatch.setattr(slist, "_NUMBERS_AT_ONCE", 20)
    parts = SLIST(config).fit(log, n_items=N_ITEMS, rng=RNG)
    np.testing.assert_allclose(parts.score(log), whole.score(log), rtol=1e-6)


def test_recent_sessions_count_more():
    old, new = [[0, 1]] * 5, [[0, 2]] * 5
    times = [[day * US_PER_DAY, day * US_PER_DAY + 1] for day in (0, 0, 0, 0, 0, 9, 9, 9, 9, 9)]
    log = Sessions.from_lists(old + new, times_us=times)
    config = SLISTConfig(recency_days=3.0, regularization=1.0)
    scores = SLIST(config).fit(log, n_items=3, rng=RNG).score(Sessions.from_lists([[0]]))[0]
    assert scores[2] > 2 * scores[1] > 0


def test_signal_is_found():
    assert recall_at_5(SLIST(SLISTConfig()), cycle(RNG)) > 0.8
    assert recall_at_5(SLIST(SLISTConfig()), tastes(RNG)) > 0.95


def test_noise_is_left_at_chance():
    world = noise(np.random.default_rng(4), n_sessions=4000)
    assert recall_at_5(SLIST(SLISTConfig()), world) == pytest.approx(CHANCE, abs=0.04)


def test_a_log_without_events_still_scores():
    model = SLIST(SLISTConfig()).fit(Sessions.from_lists([[]]), n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[1], []])).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_items_outside_the_catalogue_are_refused():
    with pytest.raises(DataError, match="n_items is 2"):
        SLIST(SLISTConfig()).fit(Sessions.from_lists([[0, 2]]), n_items=2, rng=RNG)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 1.1),
        ("regularization", 0.0),
        ("diagonal", -0.1),
        ("past", 0.0),
        ("reach", float("nan")),
        ("neighbours", 0),
        ("max_session", 1),
    ],
)
def test_settings_that_cannot_work_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SLISTConfig(**{name: value})
