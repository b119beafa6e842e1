"""Adagrad with momentum, for whole parameters and for the few rows of a table."""

from __future__ import annotations

import copy

import numpy as np

from momentary.learn.arithmetic import ROWS_AHEAD, kernel, prefetch_row
from momentary.types import FloatArray, IntArray

State = tuple[FloatArray, FloatArray, FloatArray]
"""The parameter, its G and its v."""
Rates = tuple[np.float32, np.float32, np.float32]
"""Learning rate, momentum, eps."""


class Adagrad:
    """One parameter's Adagrad (Duchi et al. 2011) with heavy-ball momentum.

    G <- G + g^2;  v <- momentum v - learning_rate g / sqrt(G + eps);  p <- p + v

    Rows of a table that a step does not touch keep p, v and G as they are.

    Args:
        parameter: Changed in place; stored without gaps. Shape (rows, width) or any.
        learning_rate: Above 0.
        momentum: 0 (none) up to, not including, 1.
        eps: Keeps the first steps finite.

    Attributes:
        squares: G, of the parameter's shape.
        velocity: v, of the parameter's shape.
        first: Where a step named a row first; a note that need not be kept. Shape (rows,).
    """

    def __init__(
        self, parameter: FloatArray, *, learning_rate: float, momentum: float, eps: float = 1e-6
    ) -> None:
        self.parameter = parameter
        self.squares = _zeros_like(parameter)
        self.velocity = _zeros_like(parameter)
        self.rates = (np.float32(learning_rate), np.float32(momentum), np.float32(eps))
        self.first = np.zeros(len(parameter), dtype=np.int64)

    def twin(self) -> Adagrad:
        """An optimizer that shares the parameter and its history, for another thread.

        Two threads that move the same row at once may lose a part of one move.
        """
        other = copy.copy(self)
        other.first = np.zeros_like(self.first)
        return other

    def step(self, gradient: FloatArray) -> None:
        """Move the whole parameter."""
        move(self.flat(), gradient.reshape(-1), self.rates)

    def step_rows(self, rows: IntArray, gradient: FloatArray) -> None:
        """Move the named rows; the gradients of a row that is named again are added up.

        Args:
            rows: In any order. Shape (named,).
            gradient: Used up. Shape (named, width).
        """
        move_rows(self.tables(), gradient, self.rates, rows=rows, first=self.first)

    def tables(self) -> State:
        """The parameter, G and v."""
        return self.parameter, self.squares, self.velocity

    def flat(self) -> State:
        """The same as one long row each."""
        return self.parameter.reshape(-1), self.squares.reshape(-1), self.velocity.reshape(-1)


def _zeros_like(parameter: FloatArray) -> FloatArray:
    """Zeros that are written at once: np.zeros leaves a large table on small memory pages."""
    zeros = np.empty_like(parameter)
    zeros.fill(0)
    return zeros


@kernel
def move_rows(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    tables: State, gradient: FloatArray, rates: Rates, rows: IntArray, first: IntArray
) -> None:
    """Move the named rows; `first` is the optimizer's own note for telling repeated rows."""
    _add_up(rows, gradient, first)
    parameter, squares, velocity = tables
    for i in range(len(rows)):
        ahead = rows[min(i + ROWS_AHEAD, len(rows) - 1)]
        prefetch_row(parameter, ahead)
        prefetch_row(squares, ahead)
        prefetch_row(velocity, ahead)
        row = rows[i]
        if first[row] == i:
            move((parameter[row], squares[row], velocity[row]), gradient[i], rates)


@kernel
def move(state: State, gradient: FloatArray, rates: Rates) -> None:
    """Move one long row."""
    parameter, squares, velocity = state
    learning_rate, momentum, eps = rates
    for j in range(len(gradient)):
        g = gradient[j]
        squares[j] += g * g
        velocity[j] = momentum * velocity[j] - learning_rate * g / np.sqrt(squares[j] + eps)
        parameter[j] += velocity[j]


@kernel
def _add_up(rows: IntArray, gradient: FloatArray, first: IntArray) -> None:
    """Add the gradient of a row that is named again to the place where it is first named.

    `first[row]` becomes that place. What stood there from earlier steps is told apart without
    clearing: it holds only if it points to an earlier place that names this very row.
    """
    for i in range(len(rows)):
        row = rows[i]
        place = first[row]
        if place < i and rows[place] == row:
            for j in range(gradient.shape[1]):
                gradient[place, j] += gradient[i, j]
        else:
            first[row] = i
