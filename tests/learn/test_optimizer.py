import numpy as np
import pytest
import torch

from momentary.learn.optimizer import Adagrad


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_dense_steps_follow_the_equation(momentum):
    start = np.array([1.0, -2.0])
    gradients = [np.array([0.5, 1.0]), np.array([-0.25, 0.1]), np.array([0.0, 2.0])]
    parameter = torch.tensor(start)
    optimizer = Adagrad(parameter, learning_rate=0.1, momentum=momentum)
    p, squares, velocity = start.copy(), np.zeros(2), np.zeros(2)
    for gradient in gradients:
        optimizer.step(torch.tensor(gradient))
        squares += gradient**2
        velocity = momentum * velocity - 0.1 * gradient / np.sqrt(squares + 1e-6)
        p += velocity
    np.testing.assert_allclose(parameter.numpy(), p)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_rows_move_as_a_parameter_of_their_own(momentum):
    table = torch.arange(12, dtype=torch.float64).view(4, 3)
    alone = table[[1, 3]].clone()
    untouched = table[[0, 2]].clone()
    by_rows = Adagrad(table, learning_rate=0.2, momentum=momentum)
    whole = Adagrad(alone, learning_rate=0.2, momentum=momentum)
    for scale in (1.0, -0.5, 2.0):
        gradient = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]], dtype=torch.float64) * scale
        by_rows.step_rows(torch.tensor([1, 3]), gradient)
        whole.step(gradient)
    torch.testing.assert_close(table[[1, 3]], alone)
    assert torch.equal(table[[0, 2]], untouched)
