"""Candidates and features, against numbers worked out by hand."""

import numpy as np
import pytest

from momentary.learn import evidence
from momentary.learn.evidence import A_PART, describe, width_of
from momentary.learn.facts import ITEM, facts_of
from momentary.types import Sessions


def facts(sessions, n_items):
    life = float(len(sessions.items))
    return facts_of(sessions, n_items=n_items, life=life, rng=np.random.default_rng(0))


def described(chances, limits, *, asked, past, most=100, shares=None):
    return describe(
        chances,
        np.array(limits),
        shares=np.array(shares or [1.0] * len(limits), dtype=np.float32),
        most=most,
        sessions=asked,
        facts=past,
    )


def test_candidates_are_the_best_of_each_part_and_ties_go_to_the_earlier_item():
    chances = np.zeros((2, 1, 6), dtype=np.float32)
    chances[0, 0] = [0.1, 0.4, 0.1, 0.1, 0.3, 0.0]
    chances[1, 0] = [0.0, 0.0, 0.0, 0.2, 0.0, 0.8]
    asked = Sessions.from_lists([[4]])
    answers = described(chances, [3, 1], asked=asked, past=facts(asked, 6))
    count = answers.counts[0]
    assert answers.candidates[0, :count].tolist() == [5, 1, 4, 0]
    said = answers.features[0, :count]
    np.testing.assert_allclose(said[:, 0], np.log([1e-30, 0.4, 0.3, 0.1]).clip(-16), rtol=1e-5)
    np.testing.assert_allclose(said[:, 2], [0, 1, 1 / 2, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(said[:, A_PART + 2], [1, 0, 0, 0])


def test_features_tell_of_repeats_and_of_pairs():
    past = Sessions.from_lists([[0, 1, 2], [0, 1], [1, 0]])
    chances = np.full((1, 1, 4), 0.25, dtype=np.float32)
    asked = Sessions.from_lists([[0, 2, 0]])
    answers = described(chances, [4], asked=asked, past=facts(past, 4))
    said = {
        int(item): answers.features[0, place] for place, item in enumerate(answers.candidates[0])
    }
    repeat, pairs = A_PART, A_PART + evidence._REPEAT + ITEM
    assert said[0][repeat : repeat + 4].tolist() == pytest.approx([1, np.log(2), 1, 1])
    assert said[2][repeat : repeat + 6].tolist() == pytest.approx([1, 0, 1 / 2, 0, np.log(2), 1])
    assert said[2][repeat + 6] == 1  # it followed the last item once
    assert not said[1][repeat : repeat + evidence._REPEAT].any()
    # 0 -> 1 twice at once, 1 -> 0 once; 0 -> 2 once, two steps on
    assert np.expm1(said[1][pairs : pairs + 5]).tolist() == pytest.approx([2, 0, 2, 1, 1])
    assert np.expm1(said[2][pairs : pairs + 5]).tolist() == pytest.approx([0, 1, 0.5, 0, 0])
    assert not said[3][pairs : pairs + evidence._LAST].any()


def test_only_the_likeliest_of_the_best_are_candidates():
    chances = np.zeros((2, 2, 6), dtype=np.float32)
    chances[0] = [0.3, 0.2, 0.5, 0.0, 0.0, 0.0]
    chances[1] = [0.0, 0.4, 0.0, 0.3, 0.3, 0.0]
    asked = Sessions.from_lists([[4], [0, 1]])
    answers = described(
        chances, [3, 3], asked=asked, past=facts(asked, 6), most=3, shares=[0.5, 0.5]
    )
    # 1 has .3, 2 has .25; 0, 3 and 4 have .15 each, and the first part named 0
    assert answers.candidates.tolist() == [[1, 2, 0], [1, 2, 0]]
    assert answers.counts.tolist() == [3, 3]


def test_features_tell_how_near_a_candidate_is_to_the_visit():
    past = facts(Sessions.from_lists([[0, 1, 2], [0, 1], [3, 4], [4, 3, 5]]), 6)
    chances = np.full((1, 1, 6), 1 / 6, dtype=np.float32)
    visit = [0, 3, 1, 4]
    answers = described(chances, [6], asked=Sessions.from_lists([visit]), past=past)
    near = width_of(1) - evidence._SESSION - evidence._NEAR
    vectors = past.vectors
    lately = sum(0.7**step * vectors[item] for step, item in enumerate(visit[::-1]))
    for place, item in enumerate(answers.candidates[0]):
        cosines = [float(vectors[item] @ vectors[other]) for other in visit[::-1]]
        by_hand = [*cosines[:3], vectors[item] @ lately / np.linalg.norm(lately)]
        by_hand += [max(cosines), np.mean(cosines)]
        said = answers.features[0, place, near : near + evidence._NEAR]
        np.testing.assert_allclose(said, by_hand, atol=1e-5)
