"""Shares, softmax and mixture in compiled code, against NumPy."""

import numpy as np

from momentary.learn.mixture import in_order, write_mixture, write_shares, write_softmax

RNG = np.random.default_rng(0)
SCORES = RNG.random((3, 11)).astype(np.float32)


def test_scores_become_shares_of_their_row():
    scores = SCORES.copy()
    scores[1] = 0
    out = np.empty_like(scores)
    assert write_shares(scores, out) == 0
    np.testing.assert_allclose(
        out[[0, 2]], scores[[0, 2]] / scores[[0, 2]].sum(1, keepdims=True), 1e-6
    )
    np.testing.assert_allclose(out[1], 1 / 11)


def test_the_lowest_score_is_told():
    assert write_shares(
        SCORES - np.float32(0.5), np.empty_like(SCORES)
    ) == SCORES.min() - np.float32(0.5)


def test_the_softmax_leaves_out_what_has_no_score():
    scores = (100 * SCORES).astype(np.float32)
    scores[0, 3] = -np.inf
    out = np.empty_like(scores)
    write_softmax(scores, out)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(out, powers / powers.sum(1, keepdims=True), rtol=1e-5, atol=1e-30)


def test_parts_are_mixed_and_put_in_order():
    chances, shares = np.stack([SCORES, SCORES[::-1]]), np.array([0.3, 0.7], dtype=np.float32)
    mixed, ordered = np.empty_like(SCORES), np.empty_like(SCORES)
    write_mixture(chances, shares, mixed)
    np.testing.assert_allclose(mixed, 0.3 * SCORES + 0.7 * SCORES[::-1], rtol=1e-6)
    places = RNG.permutation(11)
    in_order(mixed, places, ordered)
    np.testing.assert_array_equal(ordered, mixed[:, places])
