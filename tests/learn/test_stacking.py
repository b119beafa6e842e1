"""The learned stack: its arithmetic, its loss, and that it learns."""

import numpy as np
import pytest
import torch

from momentary.learn import stacking
from momentary.learn.stacking import Network, Stack, candidate_loss, forward


def network(rng):
    return Network(
        weights=(rng.normal(size=(3, 4)).astype("f4"), rng.normal(size=(4, 2)).astype("f4")),
        biases=(rng.normal(size=4).astype("f4"), rng.normal(size=2).astype("f4")),
        out=rng.normal(size=2).astype("f4"),
        linear=rng.normal(size=3).astype("f4"),
    )


def test_the_stack_computes_its_equation():
    rng = np.random.default_rng(2)
    net, inputs = network(rng), rng.normal(size=(5, 3)).astype("f4")
    for x, score in zip(inputs, forward(inputs, net), strict=True):
        first = [
            max(sum(x[i] * net.weights[0][i, j] for i in range(3)) + net.biases[0][j], 0)
            for j in range(4)
        ]
        second = [
            max(sum(first[i] * net.weights[1][i, j] for i in range(4)) + net.biases[1][j], 0)
            for j in range(2)
        ]
        by_hand = sum(second[j] * net.out[j] for j in range(2))
        by_hand += sum(x[i] * net.linear[i] for i in range(3))
        assert score == pytest.approx(by_hand, rel=1e-5)


def test_training_and_answering_compute_the_same():
    rng = np.random.default_rng(3)
    net, inputs = network(rng), rng.normal(size=(5, 3)).astype("f4")
    layers = [array for pair in zip(net.weights, net.biases, strict=True) for array in pair]
    tensors = [torch.from_numpy(array) for array in (net.out, net.linear, *layers)]
    trained = stacking._trained_forward(
        torch.from_numpy(inputs), tensors, dropout=0.0, chance=torch.Generator()
    )
    np.testing.assert_allclose(trained.numpy(), forward(inputs, net), rtol=1e-5)


def test_the_loss_is_a_softmax_over_each_questions_candidates():
    scores = torch.tensor([1.0, 2.0, 0.5, -1.0, 3.0], requires_grad=True)
    question, targets = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 3])
    loss = candidate_loss(scores, question, targets)
    gradient = torch.autograd.grad(loss, scores)[0].numpy()
    first = np.exp([1.0, 2.0, 0.5]) / np.exp([1.0, 2.0, 0.5]).sum()
    second = np.exp([-1.0, 3.0]) / np.exp([-1.0, 3.0]).sum()
    assert loss.item() == pytest.approx(-(np.log(first[1]) + np.log(second[0])) / 2, rel=1e-5)
    by_hand = np.concatenate([first - [0, 1, 0], second - [1, 0]]) / 2
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": ()}, "hidden"),
        ({"epochs": 0}, "epochs is 0"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_a_stack_that_cannot_learn_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Stack(**settings)
