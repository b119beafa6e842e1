"""Minibatches of sessions.

Session-parallel minibatches (Hidasi et al., ICLR 2016, figure 1): every lane of the batch walks
through one session, and a lane whose session has ended takes the next session in line.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from momentary.types import BoolArray, IntArray, Sessions


@dataclass(frozen=True, slots=True)
class Step:
    """One step of all lanes that still have an event to predict.

    Attributes:
        lanes: Which lanes take part, ascending. Shape (active,).
        inputs: The item each lane stands at. Shape (active,).
        targets: The item that follows. Shape (active,).
        fresh: True where a lane begins a session, so its memory is cleared. Shape (active,).
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray


@dataclass(frozen=True, slots=True)
class SessionParallel:
    """The plan of one pass over the sessions, in the order in which they are given.

    Sessions of fewer than two events hold nothing to predict and are left out.

    >>> sessions = Sessions.from_lists([[1, 2, 3], [4, 5], [6, 7]])
    >>> plan = SessionParallel.plan(sessions, batch_size=2)
    >>> [(step.inputs.tolist(), step.targets.tolist()) for step in plan]
    [([1, 4], [2, 5]), ([2, 6], [3, 7])]
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    starts: IntArray

    @classmethod
    def plan(cls, sessions: Sessions, *, batch_size: int) -> SessionParallel:
        """Lay the sessions out over `batch_size` lanes; the lane that is free first goes first."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        rows = np.flatnonzero(sessions.lengths >= 2)
        predictions = sessions.lengths[rows] - 1
        lanes, first_steps = _assign(predictions, batch_size)

        total = int(predictions.sum())
        ends = np.cumsum(predictions)
        place = np.arange(total) - np.repeat(ends - predictions, predictions)
        events = np.repeat(sessions.offsets[rows], predictions) + place
        steps = np.repeat(first_steps, predictions) + place
        lane_of = np.repeat(lanes, predictions)
        order = np.lexsort((lane_of, steps))
        events = events[order]
        n_steps = int(steps.max()) + 1 if total else 0
        return cls(
            lanes=lane_of[order],
            inputs=sessions.items[events],
            targets=sessions.items[events + 1],
            fresh=(place == 0)[order],
            starts=np.searchsorted(steps[order], np.arange(n_steps + 1)),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[Step]:
        for begin, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield Step(
                self.lanes[begin:end],
                self.inputs[begin:end],
                self.targets[begin:end],
                self.fresh[begin:end],
            )


def _assign(predictions: IntArray, batch_size: int) -> tuple[IntArray, IntArray]:
    free = [(0, lane) for lane in range(batch_size)]
    lanes = np.empty(len(predictions), dtype=np.int64)
    first_steps = np.empty(len(predictions), dtype=np.int64)
    for row, count in enumerate(predictions.tolist()):
        step, lane = free[0]
        lanes[row], first_steps[row] = lane, step
        heapq.heapreplace(free, (step + count, lane))
    return lanes, first_steps
