"""Adagrad with momentum, for whole parameters and for the few rows of a table."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Adagrad:
    """One parameter's Adagrad (Duchi et al. 2011) with heavy-ball momentum.

    G <- G + g^2;  v <- momentum v - learning_rate g / sqrt(G + eps);  p <- p + v

    Rows of a table that a step does not touch keep p, v and G as they are.

    Args:
        parameter: Changed in place.
        learning_rate: Above 0.
        momentum: 0 (none) up to, not including, 1.
        eps: Keeps the first steps finite.
    """

    def __init__(
        self, parameter: Tensor, *, learning_rate: float, momentum: float, eps: float = 1e-6
    ) -> None:
        self.parameter = parameter
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.eps = eps
        self.squares = torch.zeros_like(parameter)
        self.velocity = torch.zeros_like(parameter) if momentum > 0 else None

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move the whole parameter."""
        self.squares.add_(gradient.square())
        move = gradient / self.squares.add(self.eps).sqrt_()
        if self.velocity is None:
            self.parameter.add_(move, alpha=-self.learning_rate)
        else:
            self.velocity.mul_(self.momentum).add_(move, alpha=-self.learning_rate)
            self.parameter.add_(self.velocity)

    @torch.no_grad()
    def step_rows(self, rows: Int[Tensor, " rows"], gradient: Float[Tensor, "rows width"]) -> None:
        """Move the named rows, each of which is named once."""
        squares = self.squares[rows].add_(gradient.square())
        self.squares[rows] = squares
        move = gradient / squares.add_(self.eps).sqrt_()
        if self.velocity is None:
            self.parameter[rows] = self.parameter[rows].add_(move, alpha=-self.learning_rate)
        else:
            velocity = self.velocity[rows].mul_(self.momentum).add_(move, alpha=-self.learning_rate)
            self.velocity[rows] = velocity
            self.parameter[rows] = self.parameter[rows].add_(velocity)
