import numpy as np
import pytest

from momentary.models.sequential_rules import SequentialRules, SequentialRulesConfig
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, cycle, noise, recall_at_5

RNG = np.random.default_rng(0)
N_ITEMS = 8


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_scores_are_the_papers(steps):
    rng = np.random.default_rng(2)
    rows = [rng.integers(N_ITEMS - 1, size=rng.integers(0, 6)).tolist() for _ in range(25)]
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for row in rows:
        for x in range(len(row)):
            for y in range(x + 1, min(x + steps, len(row) - 1) + 1):
                weights[row[x], row[y]] += 1 / (y - x)
    counts = np.bincount(np.concatenate(rows).astype(int), minlength=N_ITEMS)
    model = SequentialRules(SequentialRulesConfig(steps=steps))
    model.fit(Sessions.from_lists(rows), n_items=N_ITEMS, rng=RNG)
    scores = model.score(Sessions.from_lists([[5, 2], [2], [7]]))
    expected = weights[2] / weights[2].sum() + 1e-6 * counts / counts.max()
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(scores[0], scores[1])  # the last item decides alone
    np.testing.assert_allclose(scores[2], 1e-6 * counts / counts.max(), rtol=1e-5)


def test_a_rule_counts_as_much_as_its_events():
    view, buy = EVENT_TYPES.index("view_item"), EVENT_TYPES.index("purchase")
    model = SequentialRules(SequentialRulesConfig(event_weights={"purchase": 3, "view_item": 0.5}))
    visits = Sessions.from_lists([[0, 1, 2], [0, 3]], types=[[view, buy, view], [buy, view]])
    scores = model.fit(visits, n_items=5, rng=RNG).score(Sessions.from_lists([[0]]))
    weights = np.array([0, 0.5 * 3, 0.5 * 0.5 / 2, 3 * 0.5, 0])
    popular = np.array([3.5, 3, 0.5, 0.5, 0])
    expected = weights / weights.sum() + 1e-6 * popular / popular.max()
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_sessions_do_not_run_into_each_other():
    model = SequentialRules(SequentialRulesConfig())
    model.fit(Sessions.from_lists([[0, 1], [2], [3, 4]]), n_items=5, rng=RNG)
    scores = model.score(Sessions.from_lists([[1], [0]]))
    assert scores[0].max() <= 1e-6
    assert scores[1].argmax() == 1


def test_the_strongest_rules_are_kept_and_the_earlier_seen_of_equals():
    sessions = Sessions.from_lists([[0, 3], [0, 2], [0, 1], [0, 1]])
    model = SequentialRules(SequentialRulesConfig(rules_per_item=2)).fit(
        sessions, n_items=4, rng=RNG
    )
    scores = model.score(Sessions.from_lists([[0]]))[0]
    assert (scores > 1e-3).tolist() == [False, True, False, True]


def test_signal_is_found():
    model = SequentialRules(SequentialRulesConfig())
    assert recall_at_5(model, cycle(RNG)) > 0.85


def test_noise_is_left_at_chance():
    world = noise(np.random.default_rng(4), n_sessions=4000)
    model = SequentialRules(SequentialRulesConfig())
    assert recall_at_5(model, world) == pytest.approx(CHANCE, abs=0.04)


def test_a_log_without_events_still_scores():
    model = SequentialRules(SequentialRulesConfig())
    model.fit(Sessions.from_lists([[]]), n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[1], []])).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", ["steps", "rules_per_item"])
def test_values_that_cannot_be_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        SequentialRulesConfig(**{name: 0})
