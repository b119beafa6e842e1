"""Candidates and features, against numbers worked out by hand."""

import numpy as np
import pytest

from momentary.learn import evidence
from momentary.learn.evidence import A_PART, describe
from momentary.learn.facts import ITEM, facts_of
from momentary.types import Sessions


def facts(sessions, n_items):
    return facts_of(sessions, n_items=n_items, life=float(len(sessions.items)))


def test_candidates_are_the_best_of_each_part_and_ties_go_to_the_earlier_item():
    chances = np.zeros((2, 1, 6), dtype=np.float32)
    chances[0, 0] = [0.1, 0.4, 0.1, 0.1, 0.3, 0.0]
    chances[1, 0] = [0.0, 0.0, 0.0, 0.2, 0.0, 0.8]
    asked = Sessions.from_lists([[4]])
    answers = describe(chances, np.array([3, 1]), sessions=asked, facts=facts(asked, 6))
    count = answers.counts[0]
    assert answers.candidates[0, :count].tolist() == [1, 4, 0, 5]
    said = answers.features[0, :count]
    np.testing.assert_allclose(said[:, 0], np.log([0.4, 0.3, 0.1, 1e-30]).clip(-16), rtol=1e-5)
    np.testing.assert_allclose(said[:, 2], [1, 1 / 2, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(said[:, A_PART + 2], [0, 0, 0, 1])


def test_features_tell_of_repeats_and_of_pairs():
    past = Sessions.from_lists([[0, 1, 2], [0, 1], [1, 0]])
    chances = np.full((1, 1, 4), 0.25, dtype=np.float32)
    asked = Sessions.from_lists([[0, 2, 0]])
    answers = describe(chances, np.array([4]), sessions=asked, facts=facts(past, 4))
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
