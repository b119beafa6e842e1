import numpy as np
import pytest

from momentary.learn.adagrad import Adagrad


def rows_of(*numbers):
    return np.array(numbers, dtype=np.float32)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_dense_steps_follow_the_equation(momentum):
    start = np.array([1.0, -2.0])
    gradients = [np.array([0.5, 1.0]), np.array([-0.25, 0.1]), np.array([0.0, 2.0])]
    parameter = start.astype(np.float32)
    optimizer = Adagrad(parameter, learning_rate=0.1, momentum=momentum)
    p, squares, velocity = start.copy(), np.zeros(2), np.zeros(2)
    for gradient in gradients:
        optimizer.step(gradient.astype(np.float32))
        squares += gradient**2
        velocity = momentum * velocity - 0.1 * gradient / np.sqrt(squares + 1e-6)
        p += velocity
    np.testing.assert_allclose(parameter, p, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_rows_move_as_a_parameter_of_their_own(momentum):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    alone = table[[1, 3]].copy()
    untouched = table[[0, 2]].copy()
    by_rows = Adagrad(table, learning_rate=0.2, momentum=momentum)
    whole = Adagrad(alone, learning_rate=0.2, momentum=momentum)
    for scale in (1.0, -0.5, 2.0):
        gradient = rows_of([1.0, 2.0, 3.0], [0.5, 0.0, -1.0]) * np.float32(scale)
        whole.step(gradient)
        by_rows.step_rows(np.array([1, 3]), gradient)
    np.testing.assert_array_equal(table[[1, 3]], alone)
    np.testing.assert_array_equal(table[[0, 2]], untouched)


def test_a_row_that_is_named_again_moves_once_by_the_sum():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(9, 5)).astype(np.float32)
    repeated, summed = start.copy(), start.copy()
    first = Adagrad(repeated, learning_rate=0.2, momentum=0.5)
    second = Adagrad(summed, learning_rate=0.2, momentum=0.5)
    for _ in range(20):  # what earlier steps left behind must not be taken for this step's
        rows = rng.integers(9, size=12)
        gradient = rng.normal(size=(12, 5)).astype(np.float32)
        once = np.unique(rows)
        total = np.zeros((9, 5), dtype=np.float32)
        np.add.at(total, rows, gradient)
        first.step_rows(rows, gradient)
        second.step_rows(once, total[once])
    np.testing.assert_allclose(repeated, summed, rtol=1e-4, atol=1e-5)
