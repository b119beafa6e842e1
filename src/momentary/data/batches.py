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


@dataclass(frozen=True, slots=True)
class UserStep:
    """One event of all lanes that are still at a visitor.

    Attributes:
        lanes: Which lanes take part, ascending. Shape (active,).
        inputs: The item each lane stands at. Shape (active,).
        targets: The item that follows in the same session, -1 where none does. Shape (active,).
        fresh: True where a lane begins a session. Shape (active,).
        changed: True where a lane begins another visitor, and so a session. Shape (active,).
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    changed: BoolArray


@dataclass(frozen=True, slots=True)
class UserParallel:
    """The plan of one pass over the visitors, each lane walking through one visitor's sessions.

    User-parallel minibatches (Quadrana et al., RecSys 2017, section 3.3). Visitors come in the
    order of their first session, and a lane that is free takes the next one; an unknown visitor
    has one session. A session's last event is a step too, for it is part of what the visitor did;
    only a visitor's very last one is left out, since nothing comes after it.

    >>> sessions = Sessions.from_lists([[1, 2], [3, 4], [5, 6]], users=[0, 1, 0])
    >>> plan = UserParallel.plan(sessions, batch_size=2)
    >>> [(step.inputs.tolist(), step.targets.tolist()) for step in plan]
    [([1, 3], [2, 4]), ([2], [-1]), ([5], [6])]
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    changed: BoolArray
    starts: IntArray

    @classmethod
    def plan(cls, sessions: Sessions, *, batch_size: int) -> UserParallel:
        """Lay the visitors out over `batch_size` lanes; the lane that is free first goes first."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        visits = sessions.take(np.flatnonzero(sessions.lengths > 0))
        visitor = visitors_of(visits)
        walked = visits.take(np.argsort(visitor, kind="stable"))
        who = np.repeat(np.sort(visitor), walked.lengths)
        events_of = np.bincount(who)
        lanes, first_steps = _assign(events_of - 1, batch_size)

        place = np.arange(len(who)) - np.repeat(np.cumsum(events_of) - events_of, events_of)
        ends = np.zeros(len(who), dtype=np.bool_)
        ends[walked.offsets[1:] - 1] = True
        follows = np.append(walked.items[1:], -1)
        kept = np.flatnonzero(place < events_of[who] - 1)
        steps = first_steps[who[kept]] + place[kept]
        order = np.lexsort((lanes[who[kept]], steps))
        kept = kept[order]
        begins = np.zeros(len(who), dtype=np.bool_)
        begins[walked.offsets[:-1]] = True
        n_steps = int(steps.max()) + 1 if len(steps) else 0
        return cls(
            lanes=lanes[who[kept]],
            inputs=walked.items[kept],
            targets=np.where(ends, -1, follows)[kept],
            fresh=begins[kept],
            changed=place[kept] == 0,
            starts=np.searchsorted(steps[order], np.arange(n_steps + 1)),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[UserStep]:
        for begin, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield UserStep(
                self.lanes[begin:end],
                self.inputs[begin:end],
                self.targets[begin:end],
                self.fresh[begin:end],
                self.changed[begin:end],
            )

    @property
    def predictions(self) -> int:
        """Events whose follower is asked for."""
        return int((self.targets >= 0).sum())


def visitors_of(sessions: Sessions) -> IntArray:
    """Number each session's visitor by first appearance; the unknown are one each.

    >>> visitors_of(Sessions.from_lists([[1], [2], [3], [4]], users=[7, -1, 2, 7])).tolist()
    [0, 1, 2, 0]
    """
    own = np.where(sessions.users >= 0, sessions.users, -1 - np.arange(len(sessions)))
    _, first, which = np.unique(own, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[which]
