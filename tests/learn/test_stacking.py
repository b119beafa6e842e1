"""The learned stack: its arithmetic, its loss, and that it learns."""

import numpy as np
import pytest
import torch

from momentary.learn.stacking import (
    Lesson,
    Network,
    Stack,
    Stacked,
    forward,
    learn_stack,
    trained_forward,
)


def network(rng):
    return Network(
        out=rng.normal(size=2).astype("f4"),
        linear=rng.normal(size=3).astype("f4"),
        rivals=rng.normal(size=(3, 4)).astype("f4"),
        weights=(rng.normal(size=(3, 4)).astype("f4"), rng.normal(size=(4, 2)).astype("f4")),
        biases=(rng.normal(size=4).astype("f4"), rng.normal(size=2).astype("f4")),
    )


def test_the_stack_computes_its_equation():
    rng = np.random.default_rng(2)
    net, inputs = network(rng), rng.normal(size=(5, 3)).astype("f4")
    mean = rng.normal(size=3).astype("f4")
    for z, score in zip(inputs, forward(inputs, mean, net), strict=True):
        first = [
            max(
                sum(z[i] * net.weights[0][i, j] + mean[i] * net.rivals[i, j] for i in range(3))
                + net.biases[0][j],
                0,
            )
            for j in range(4)
        ]
        second = [
            max(sum(first[i] * net.weights[1][i, j] for i in range(4)) + net.biases[1][j], 0)
            for j in range(2)
        ]
        by_hand = sum(second[j] * net.out[j] for j in range(2))
        by_hand += sum(z[i] * net.linear[i] for i in range(3))
        assert score == pytest.approx(by_hand, rel=1e-4)


def test_training_and_answering_compute_the_same():
    rng = np.random.default_rng(3)
    net, inputs = network(rng), rng.normal(size=(2, 5, 3)).astype("f4")
    layers = [array for pair in zip(net.weights, net.biases, strict=True) for array in pair]
    tensors = [torch.from_numpy(array) for array in (net.out, net.linear, net.rivals, *layers)]
    filled = np.arange(5) < np.array([5, 3])[:, None]
    trained = trained_forward(
        torch.from_numpy(inputs),
        torch.from_numpy(filled),
        tensors,
        dropout=0.0,
        chance=torch.Generator(),
    ).numpy()
    stacked = Stacked(np.zeros(3, "f4"), np.ones(3, "f4"), (net, net))
    np.testing.assert_allclose(trained[0], stacked.scores(inputs[0]), rtol=1e-4)
    np.testing.assert_allclose(trained[1, :3], stacked.scores(inputs[1, :3]), rtol=1e-4)
    assert (trained[1, 3:] == -np.inf).all()
    # Some of the candidates score as they do among all of them.
    some = stacked.scores(inputs[0, :2], inputs[0])
    np.testing.assert_allclose(some, stacked.scores(inputs[0])[:2], rtol=1e-5)


def questions(rng, count, *, candidates=6):
    """The target is the candidate whose first feature is highest, unless its second is 1."""
    lesson = Lesson.blank(count, candidates=candidates, features=3)
    lesson.counts[:] = rng.integers(2, candidates + 1, size=count)
    features = rng.normal(size=(count, candidates, 3))
    features[:, :, 1] = rng.random((count, candidates)) < 0.5
    features[:, 0, 1] = 0
    lesson.features[:] = features * lesson.filled[:, :, None]
    usable = lesson.filled & (lesson.features[:, :, 1] == 0)
    lesson.targets[:] = np.where(usable, lesson.features[:, :, 0], -np.inf).argmax(axis=1)
    return lesson


def test_it_learns_which_candidate_is_the_target():
    rng = np.random.default_rng(4)
    told = []
    config = Stack(hidden=(16,), epochs=15, batch_size=64, learning_rate=0.01, networks=2)
    learned = learn_stack(
        questions(rng, 1500), config, rng=rng, progress=lambda *step: told.append(step[:2])
    )
    asked = questions(rng, 200)
    right = [
        learned.scores(features[:count].astype("f4")).argmax() == target
        for features, count, target in zip(*asked, strict=True)
    ]
    assert np.mean(right) > 0.9
    assert told == [(1, 2), (2, 2)]


def test_questions_without_their_target_are_no_lesson():
    rng = np.random.default_rng(5)
    lesson = questions(rng, 50)
    lesson.targets[:] = -1
    assert learn_stack(lesson, Stack(least_questions=1), rng=rng).networks == ()
    lesson.targets[0] = 0
    assert learn_stack(lesson, Stack(least_questions=2), rng=rng).networks == ()
    assert len(learn_stack(lesson, Stack(least_questions=1, networks=2), rng=rng).networks) == 2


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
