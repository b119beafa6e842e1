"""Rows that can be compared, and what they say of the candidates of a question, by hand."""

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.learn.choice import learn_choice
from momentary.learn.content import narrowed, require_row_an_item, unit_rows
from momentary.learn.content_evidence import A_STREAM, say_content
from momentary.learn.evidence import describe, groups, width_of
from momentary.learn.facts import facts_of
from momentary.types import Sessions

ROWS = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32) + 2
ROWS[4] = np.nan
UNIT = unit_rows("text", ROWS)


def test_rows_have_length_one_or_say_nothing():
    lengths = np.linalg.norm(UNIT, axis=1)
    np.testing.assert_allclose(np.delete(lengths, 4), 1, rtol=1e-6)
    assert lengths[4] == 0


def test_cosines_around_the_middle_tell_items_apart():
    moved = narrowed(UNIT, width=9)
    known = np.delete(np.arange(9), 4)
    centred = UNIT[known] - UNIT[known].mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(moved[known] @ moved[known].T, centred @ centred.T, atol=1e-5)
    assert not moved[4].any()
    assert (moved[known] @ moved[known].T).mean() < (UNIT[known] @ UNIT[known].T).mean() / 4


def test_what_is_kept_are_the_directions_in_which_items_differ():
    rng = np.random.default_rng(1)
    wide = np.zeros((40, 30), dtype=np.float32)
    wide[:, :2] = rng.normal(size=(40, 2))
    mixed = unit_rows("text", wide @ np.linalg.qr(rng.normal(size=(30, 30)))[0])
    narrow, whole = narrowed(mixed, width=2), narrowed(mixed, width=30)
    assert narrow.shape == (40, 2)
    np.testing.assert_allclose(narrow @ narrow.T, whole @ whole.T, atol=1e-4)


def test_items_that_are_all_alike_say_nothing():
    assert not narrowed(np.ones((3, 4), dtype=np.float32) / 2, width=4).any()
    assert not narrowed(np.zeros((3, 4), dtype=np.float32), width=2).any()


def test_features_have_a_row_an_item():
    require_row_an_item({"text": UNIT}, 9)
    with pytest.raises(DataError, match=r"'text' has 9 rows, but there are 8 items"):
        require_row_an_item({"text": UNIT}, 8)


def test_content_says_how_near_a_candidate_is_to_what_was_visited():
    vectors = narrowed(UNIT, width=5)
    visits = Sessions.from_lists([[0, 4, 1, 2, 0], [4], []])
    candidates = np.array([[3, 4, 1]] * 3, dtype=np.int32)
    out = np.full((3, 3, 2 * A_STREAM), 7.0, dtype=np.float32)
    out[:, :, A_STREAM:] = 0
    say_content(
        (np.zeros_like(vectors), vectors),
        candidates=candidates,
        counts=np.array([3, 3, 2]),
        sessions=visits,
        out=out,
    )
    latest = [0, 2, 1, 4, 0]  # the last one first; nothing is known of 4
    mean = sum(0.7**step * vectors[item] for step, item in enumerate(latest))
    mean = mean / np.linalg.norm(mean)
    for place, item in ((0, 3), (2, 1)):
        cosines = [float(vectors[item] @ vectors[other]) for other in (0, 2, 1, 0)]
        by_hand = [*cosines[:3], vectors[item] @ mean, max(cosines), np.mean(cosines), 1, 4 / 5]
        np.testing.assert_allclose(out[0, place, A_STREAM:], by_hand, atol=1e-5)
    assert out[0, 1, A_STREAM:].tolist() == [0, 0, 0, 0, 0, 0, 0, pytest.approx(4 / 5)]
    assert out[1, 0, A_STREAM:].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]  # the visit is unknown
    assert out[2, 0, A_STREAM:].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]  # and here there is none
    assert not out[2, 2, A_STREAM:].any()  # no candidate


def test_content_stands_behind_all_other_evidence():
    past = Sessions.from_lists([[0, 1, 2], [5, 6], [0, 1]])
    facts = facts_of(past, n_items=9, life=7.0, rng=np.random.default_rng(0))
    asked = Sessions.from_lists([[0, 2], [5]])

    def described(content):
        return describe(
            np.full((1, 2, 9), 1 / 9, dtype=np.float32),
            np.array([9]),
            shares=np.ones(1, dtype=np.float32),
            most=9,
            sessions=asked,
            facts=facts,
            content=content,
        )

    alone, both = described(()), described((UNIT, UNIT))
    plain = width_of(1)
    assert both.features.shape[2] == width_of(1, 2) == plain + 2 * A_STREAM
    np.testing.assert_array_equal(both.features[:, :, :plain], alone.features)
    np.testing.assert_array_equal(both.candidates, alone.candidates)
    *others, first, second = groups(1, 2)
    assert others == groups(1)
    assert (first.start, second.stop) == (plain, width_of(1, 2))
    said = both.features[0, list(both.candidates[0]).index(3), second]
    assert said[0] == pytest.approx(float(UNIT[3] @ UNIT[2]), abs=1e-6)


def test_choices_are_weighed_by_their_most_probable_reasons():
    rng = np.random.default_rng(0)
    true = np.array([1.5, -0.7, 0.0])
    reasons = rng.normal(size=(3_000, 6, 3)).astype(np.float32)
    gumbel = rng.gumbel(size=(3_000, 6))
    chosen = (reasons @ true + gumbel).argmax(axis=1)
    reasons[np.arange(3_000), chosen], reasons[:, 0] = (
        reasons[:, 0].copy(),
        reasons[np.arange(3_000), chosen].copy(),
    )
    offsets = np.zeros((3_000, 6), dtype=np.float32)
    np.testing.assert_allclose(learn_choice(reasons, offsets), true, atol=0.1)
    # Things that are none count for nothing, whatever speaks for them.
    padded = np.concatenate([reasons, np.full((3_000, 2, 3), 50, dtype=np.float32)], axis=1)
    none = np.concatenate([offsets, np.full((3_000, 2), -np.inf, dtype=np.float32)], axis=1)
    np.testing.assert_allclose(learn_choice(padded, none), learn_choice(reasons, offsets))
    # A thing that stands for two counts twice.
    twice = np.concatenate([reasons, reasons[:, 5:]], axis=1)
    for_two = offsets.copy()
    for_two[:, 5] = np.log(2)
    same = learn_choice(twice, np.zeros((3_000, 7), dtype=np.float32))
    np.testing.assert_allclose(learn_choice(reasons, for_two), same, rtol=1e-4)


def test_a_penalty_pulls_weights_to_nothing():
    reasons = np.zeros((50, 2, 1), dtype=np.float32)
    reasons[:, 0] = 1  # without a penalty there would be no end
    offsets = np.zeros((50, 2), dtype=np.float32)
    strong, weak = (learn_choice(reasons, offsets, penalty=each)[0] for each in (100.0, 0.1))
    assert 0 < strong < 0.3 < 3 < weak < 10
    assert learn_choice(np.zeros((0, 2, 1), np.float32), offsets[:0])[0] == 0
