import numpy as np
import pytest

from momentary.learn.loss_kernels import bpr_max, cross_entropy

SCORES = np.array([[1.0, 0.0, -1.0], [2.0, 0.5, 0.0]], dtype=np.float32)
NOTHING = np.zeros(3, dtype=np.float32)


def entropy(scores, offsets=NOTHING, scale=1.0):
    gradient, sums = scores.copy(), np.empty(scores.shape[1], dtype=np.float32)
    loss = cross_entropy(gradient, offsets, scale=scale, column_sums=sums)
    return loss, gradient, sums


def bpr(scores, *, elu, regularization, scale=1.0):
    gradient = np.array(scores, dtype=np.float32)
    sums, offsets = np.empty((2, gradient.shape[1]), dtype=np.float32)
    offsets[:] = 0
    loss = bpr_max(
        gradient, offsets, scale=scale, column_sums=sums, elu=elu, regularization=regularization
    )
    return loss, gradient, sums


def test_cross_entropy_is_the_surprise_of_the_diagonal():
    probability = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
    loss, gradient, sums = entropy(SCORES, scale=0.5)
    assert loss == pytest.approx(-np.log(probability.diagonal()).sum(), rel=1e-6)
    np.testing.assert_allclose(gradient, (probability - np.eye(2, 3)) / 2, atol=1e-7)
    np.testing.assert_allclose(sums, gradient.sum(axis=0), atol=1e-7)


@pytest.mark.parametrize("loss", [cross_entropy, bpr_max])
def test_a_row_counts_as_much_as_it_is_told(loss):
    more = {"elu": 0.5, "regularization": 0.7} if loss is bpr_max else {}
    weights = np.array([0.25, 3.0], dtype=np.float32)

    def of(scores, **given):
        gradient, sums = scores.copy(), np.empty(scores.shape[1], dtype=np.float32)
        return loss(gradient, NOTHING, scale=0.5, column_sums=sums, **more, **given), gradient, sums

    found, gradient, sums = of(SCORES, weights=weights)
    plain, slope, _ = of(SCORES)
    alone = of(SCORES, weights=np.array([1, 0], dtype=np.float32))[0]
    assert found == pytest.approx(0.25 * alone + 3 * (plain - alone), rel=1e-5)
    np.testing.assert_allclose(gradient, slope * weights[:, None], rtol=1e-5)
    np.testing.assert_allclose(sums, gradient.sum(axis=0), atol=1e-6)


def test_offsets_are_added_to_every_row():
    offsets = np.array([0.0, -3.0, 0.5], dtype=np.float32)
    assert entropy(SCORES, offsets)[0] == pytest.approx(entropy(SCORES + offsets)[0])


def test_large_scores_stay_finite():
    loss, gradient, _ = entropy(SCORES * 1000)
    assert loss == pytest.approx(1500)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [1, -1, 0]], atol=1e-6)


def test_a_score_that_is_no_number_shows_in_the_loss():
    broken = np.full_like(SCORES, np.nan)
    assert np.isnan(entropy(broken)[0])
    assert np.isnan(bpr(broken, elu=0.5, regularization=1.0)[0])


def test_bpr_max_by_hand_for_one_negative():
    # One negative has all the weight: -log sigmoid(2 - 1) + 0.5 * 1^2
    loss, gradient, _ = bpr([[2.0, 1.0]], elu=0, regularization=0.5)
    assert loss == pytest.approx(np.log(1 + np.exp(-1)) + 0.5, rel=1e-5)
    lost = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(gradient, [[-lost, lost + 1.0]], rtol=1e-5)


def test_elu_bounds_low_scores():
    loss, gradient, _ = bpr([[0.0, -50.0]], elu=1.0, regularization=1.0)
    # elu(-50) is -1: -log sigmoid(1) + 1
    assert loss == pytest.approx(np.log(1 + np.exp(-1)) + 1, rel=1e-4)
    assert gradient[0, 1] == pytest.approx(0, abs=1e-6)


def test_the_largest_negative_counts_not_the_target():
    # The target's own score, far above, must not push the negatives' softmax to nothing.
    loss, gradient, _ = bpr([[90.0, -60.0, -61.0]], elu=0, regularization=1.0)
    s = np.array([1, np.exp(-1)]) / (1 + np.exp(-1))
    assert loss == pytest.approx((s * [60**2, 61**2]).sum(), rel=1e-5)
    assert np.isfinite(gradient).all()
