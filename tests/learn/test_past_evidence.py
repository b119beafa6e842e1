"""Evidence from before a stretch, against counts by hand, one session and one click at a time."""

import numpy as np
import pytest

from momentary.learn.past_evidence import FACTS, PastEvidence, facts_and_likely, facts_of
from momentary.types import Sessions

SESSIONS = Sessions.from_lists(
    [[0, 1, 2, 3, 1, 0, 4], [2], [], [3, 4], [0, 2, 0], [4, 3, 2, 1], [1, 2], [0, 4]]
)
N_ITEMS, WINDOW, SHRINKAGE, HALF_LIFE = 6, 2, 0.7, 3.0
LIVES = (1.5, 4.0)


def counted(sessions=SESSIONS, stretches=3):
    return PastEvidence.of(
        sessions,
        n_items=N_ITEMS,
        stretches=stretches,
        window=WINDOW,
        shrinkage=SHRINKAGE,
        half_life=HALF_LIFE,
        fame_half_lives=LIVES,
    )


def by_hand(until):
    """F and clicks by half-life, from the sessions before `until`."""
    pairs, clicks = np.zeros((N_ITEMS, N_ITEMS)), np.zeros((N_ITEMS, len(LIVES)))
    for row in range(until):
        session, age = SESSIONS.session(row), until - 1 - row
        for i, item in enumerate(session):
            clicks[item] += [0.5 ** (age / life) for life in LIVES]
            for j in range(i + 1, min(i + WINDOW, len(session) - 1) + 1):
                if item != session[j]:
                    pairs[item, session[j]] += 0.5 ** (age / HALF_LIFE) / (j - i)
    return pairs, clicks


def dense(links, stretch):
    matrix = np.zeros((N_ITEMS, N_ITEMS))
    for item in range(N_ITEMS):
        row = slice(links.starts[item], links.starts[item + 1])
        matrix[item, links.columns[row]] = links.shares[stretch, row]
    return matrix


def test_a_stretch_knows_the_sessions_before_it_and_no_others():
    past = counted()
    assert past.stretch.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    for stretch, until in enumerate([0, 2, 5, 8]):
        pairs, clicks = by_hand(until)
        for links, matrix in ((past.ahead, pairs), (past.behind, pairs.T)):
            shares = matrix / (matrix.sum(axis=1, keepdims=True) + SHRINKAGE)
            np.testing.assert_allclose(dense(links, stretch), shares, rtol=1e-5)
        share = np.log((clicks + 0.5) / (clicks + 0.5).mean(axis=0))
        np.testing.assert_allclose(past.fame[stretch], 0.3 * share, rtol=1e-5)


def test_what_comes_later_changes_nothing_that_was_known():
    later = Sessions.from_lists([*(SESSIONS.session(row) for row in range(5)), [5, 0], [5], [5, 1]])
    for before, after in ((counted(), counted(later)),):
        for stretch in range(3):
            for way in ("ahead", "behind"):
                np.testing.assert_allclose(
                    dense(getattr(before, way), stretch), dense(getattr(after, way), stretch)
                )
            np.testing.assert_allclose(before.fame[stretch], after.fame[stretch])


@pytest.mark.parametrize("stretches", [1, 8, 100])
def test_there_are_as_many_stretches_as_sessions_at_most(stretches):
    past = counted(stretches=stretches)
    assert past.stretch.max() + 1 == min(stretches, len(SESSIONS))
    assert len(past.fame) == min(stretches, len(SESSIONS)) + 1
    assert (past.ahead.shares[0] == 0).all()


def test_facts_are_those_of_the_equations():
    past = counted()
    visits = np.array([[0, 1, 0, 2], [3, 4, 4, 4]])
    asked = np.array([[True, False, True, True], [True, True, False, False]])
    stretch, chosen = np.array([2, 1]), np.array([4, 0, 2, 1])
    place = np.full(N_ITEMS, -1)
    place[chosen] = np.arange(len(chosen))
    found = facts_of(
        (visits, asked), stretch, (past.ahead, past.behind), place=place, candidates=len(chosen)
    )
    questions = [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)]
    expected = np.zeros((len(questions), len(chosen), FACTS))
    for question, (visit, last) in enumerate(questions):
        ahead, behind = (dense(links, stretch[visit]) for links in (past.ahead, past.behind))
        for back, item in enumerate(visits[visit, last::-1]):
            for candidate, each in enumerate(chosen):
                expected[question, candidate, min(back, 2)] += ahead[item, each]
                expected[question, candidate, 3 + min(back, 2)] += behind[item, each]
                expected[question, candidate, 6 if back == 0 else 7] += item == each
    expected[..., :6] = np.log(1 + 1000 * expected[..., :6])
    told = np.zeros_like(expected)
    told[found.questions, found.candidates] = found.values
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-6)
    pairs = set(zip(found.questions.tolist(), found.candidates.tolist(), strict=True))
    assert len(pairs) == len(found.questions)


def test_what_is_kept_is_the_strongest_in_the_callers_numbers():
    past = counted()
    number = np.array([3, 0, 5, 1, 4, 2])
    whole = past.ahead.last(number=number, limit=100)
    ours = dense(past.ahead, -1)
    np.testing.assert_allclose(dense(whole, 0), ours[np.ix_(number, number)], rtol=1e-6)
    best = dense(past.ahead.last(number=number, limit=1), 0)
    strongest = ours[np.ix_(number, number)].max(axis=1)
    np.testing.assert_allclose(best.max(axis=1), strongest, rtol=1e-6)
    assert (np.count_nonzero(best, axis=1) <= 1).all()


@pytest.mark.parametrize("limit", [1, 2, 6])
def test_the_likely_are_those_of_which_most_is_said_whatever_the_candidates(limit):
    past = counted()
    clicks = np.array([[0, 1, 2, 1], [3, 4, 4, 4], [5, 5, 5, 5]])
    asked = np.array([[True, False, True, True], [True, True, False, False], [True] + 3 * [False]])
    links, stretch = (past.ahead, past.behind), np.array([2, 1, 2])
    everything = np.arange(N_ITEMS)
    whole = facts_of((clicks, asked), stretch, links, place=everything, candidates=N_ITEMS)
    some = np.where(everything % 2, everything // 2, -1)
    facts, likely = facts_and_likely(
        (clicks, asked), stretch, links, place=some, candidates=3, limit=limit
    )
    odd = whole.candidates % 2 == 1
    np.testing.assert_array_equal(facts.candidates, whole.candidates[odd] // 2)
    np.testing.assert_array_equal(facts.values, whole.values[odd])
    for question in range(asked.sum()):
        own = whole.questions == question
        said = {
            int(item): values
            for item, values in zip(whole.candidates[own], whole.values[own], strict=True)
            if values[:6].sum() > 0
        }
        strength = sorted((float(values[:6].sum()) for values in said.values()), reverse=True)
        named = [int(item) for item in likely.items[question] if item >= 0]
        assert len(named) == len(set(named)) == min(limit, len(said))
        found = [float(said[item][:6].sum()) for item in named]
        np.testing.assert_allclose(found, strength[: len(named)], rtol=1e-6)
        for at, item in enumerate(named):
            np.testing.assert_array_equal(likely.values[question, at], said[item])
