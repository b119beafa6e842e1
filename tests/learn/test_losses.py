import numpy as np
import pytest
import torch

from momentary.learn.losses import bpr_max, cross_entropy

SCORES = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.5, 0.0]])


def test_cross_entropy_is_the_surprise_of_the_diagonal():
    expected = sum(
        -np.log(np.exp(row[i]) / np.exp(row).sum()) for i, row in enumerate(SCORES.numpy())
    )
    assert cross_entropy(SCORES).item() == pytest.approx(expected, rel=1e-6)


def test_log_q_lowers_what_is_offered_often():
    corrected = cross_entropy(SCORES, log_q=torch.tensor([0.0, 3.0, 0.0]))
    by_hand = cross_entropy(SCORES - torch.tensor([0.0, 3.0, 0.0]))
    assert corrected.item() == pytest.approx(by_hand.item())


def test_bpr_max_by_hand_for_one_negative():
    # One negative has all the weight: -log sigmoid(2 - 1) + 0.5 * 1^2
    loss = bpr_max(torch.tensor([[2.0, 1.0]]), elu=0, regularization=0.5)
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-1)) + 0.5, rel=1e-5)


def test_elu_bounds_low_scores():
    low = bpr_max(torch.tensor([[0.0, -50.0]]), elu=1.0, regularization=1.0)
    # elu(-50) is -1: -log sigmoid(1) + 1
    assert low.item() == pytest.approx(np.log(1 + np.exp(-1)) + 1, rel=1e-4)
