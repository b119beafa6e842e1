"""Windows over whole sessions, the candidates of a softmax, and co-visits."""

import numpy as np
import pytest

from momentary.learn.candidates import CandidateSampler
from momentary.learn.covisits import association_vectors, followers, session_weights
from momentary.learn.row_adam import RowAdam
from momentary.learn.windows import Windows
from momentary.types import Sessions

SESSIONS = Sessions.from_lists([[0, 1, 2, 3, 1, 0, 4], [2], [], [3, 4], [0, 2, 0], [4, 3, 2, 1]])


def asked_of(windows, rows):
    padded = windows.padded(rows)
    return [
        (padded.items[row, : place + 1].tolist(), int(padded.items[row, place + 1]))
        for row, place in zip(*np.nonzero(padded.asked), strict=True)
    ]


def test_every_prefix_asks_for_its_next_item_once():
    windows = Windows.cut(SESSIONS, longest=20)
    found = asked_of(windows, np.arange(len(windows)))
    expected = [
        (SESSIONS.session(row)[:end].tolist(), int(SESSIONS.session(row)[end]))
        for row in range(len(SESSIONS))
        for end in range(1, len(SESSIONS.session(row)))
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("longest", [1, 2, 3, 4])
def test_a_long_session_is_cut_but_asks_for_the_same_items(longest):
    windows = Windows.cut(SESSIONS, longest=longest)
    assert windows.inputs.max() == longest
    assert (np.diff(windows.starts) >= 0).all()
    found = sorted(target for _, target in asked_of(windows, np.arange(len(windows))))
    lists = [SESSIONS.session(row)[1:] for row in range(len(SESSIONS))]
    assert found == sorted(np.concatenate(lists).tolist())


def test_a_window_of_no_events_is_refused():
    with pytest.raises(ValueError, match="longest"):
        Windows.cut(SESSIONS, longest=0)


def test_batches_hold_every_window_once_and_about_as_many_predictions():
    rng = np.random.default_rng(0)
    many = Sessions.from_lists([rng.integers(9, size=n) for n in rng.integers(0, 12, size=600)])
    windows = Windows.cut(many, longest=8)
    batches = windows.batches(predictions=50, rng=np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(windows)))
    sizes = np.array([windows.inputs[rows].sum() for rows in batches])
    assert sizes.min() > 30
    assert sizes.max() < 70
    again = windows.batches(predictions=50, rng=np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_candidates_are_distinct_and_hold_every_target():
    counts = np.array([5, 0, 1, 30, 2, 9])
    sampler = CandidateSampler(counts, n_sample=3, alpha=0.5, rng=np.random.default_rng(0))
    own = np.array([[3, 5], [3, 0]])
    drawn = sampler.draw(own)
    np.testing.assert_array_equal(drawn.items[drawn.places], own)
    assert (np.diff(drawn.items) > 0).all()
    assert 1 not in drawn.items


def test_the_weighted_sum_over_candidates_estimates_the_whole_sum():
    rng = np.random.default_rng(0)
    counts = np.array([400, 100, 40, 20, 10, 5, 3, 2, 1, 1])
    values = rng.random(10) + 0.5
    sampler = CandidateSampler(counts, n_sample=4, alpha=0.5, rng=rng)
    sums = []
    for _ in range(4000):
        drawn = sampler.draw(rng.choice(10, size=5, p=counts / counts.sum()))
        sums.append((values[drawn.items] / np.exp(drawn.log_inclusion)).sum())
    assert np.mean(sums) == pytest.approx(values.sum(), rel=0.03)


def test_candidates_of_nothing_are_refused():
    with pytest.raises(ValueError, match="counts"):
        CandidateSampler(np.zeros(3, int), n_sample=3, alpha=0.5, rng=np.random.default_rng(0))


WEIGHTS = session_weights(len(SESSIONS), half_life=2)


def counted(rows, window):
    counts = np.zeros((5, 5))
    for row in rows:
        session = SESSIONS.session(row)
        for i in range(len(session)):
            for j in range(i + 1, min(i + window, len(session) - 1) + 1):
                if session[i] != session[j]:
                    counts[session[i], session[j]] += WEIGHTS[row] / (j - i)
    return counts


def followed(window):
    return followers(SESSIONS, weights=WEIGHTS, n_items=5, window=window)


@pytest.mark.parametrize("window", [1, 2, 8])
def test_followers_are_counted_by_distance_and_recency(window):
    expected = counted(range(len(SESSIONS)), window)
    np.testing.assert_allclose(followed(window).toarray(), expected)


def test_items_visited_together_have_near_vectors():
    rng = np.random.default_rng(0)
    groups = rng.integers(4, size=(300, 1)) * 5 + rng.integers(5, size=(300, 4))
    sessions = Sessions.from_lists(groups.tolist())
    counts = followers(sessions, weights=np.ones(300), n_items=21, window=3)
    vectors = association_vectors(counts, width=4, rng=rng)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
    near = vectors[:20] @ vectors[:20].T
    same = np.arange(20)[:, None] // 5 == np.arange(20) // 5
    assert near[same].min() > near[~same].max() + 0.3
    wide = association_vectors(counts, width=30, rng=rng)
    assert wide.shape == (21, 30)
    assert np.isfinite(wide).all()


def test_rows_move_as_adam_says_and_the_others_stay():
    table = np.ones((4, 2), dtype=np.float32)
    optimizer = RowAdam(table)
    mean, square, expected = np.zeros((4, 2)), np.zeros((4, 2)), np.ones((4, 2))
    rng = np.random.default_rng(0)
    for step, rows in enumerate(([0, 2], [2], [0, 1]), start=1):
        gradient = rng.normal(size=(len(rows), 2))
        optimizer.step(np.array(rows), gradient.astype(np.float32), learning_rate=0.1)
        mean[rows] = 0.9 * mean[rows] + 0.1 * gradient
        square[rows] = 0.999 * square[rows] + 0.001 * gradient**2
        unbiased = np.sqrt(square[rows] / (1 - 0.999**step)) + 1e-8
        expected[rows] -= 0.1 * mean[rows] / (1 - 0.9**step) / unbiased
    np.testing.assert_allclose(table, expected, rtol=1e-5)
    np.testing.assert_array_equal(table[3], [1, 1])
