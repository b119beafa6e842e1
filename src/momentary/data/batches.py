"""Minibatches of sessions.

Session-parallel minibatches (Hidasi et al., ICLR 2016, figure 1): every lane of the batch walks
through one session, and a lane whose session has ended takes the next session in line.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from momentary.types import BoolArray, FloatArray, IntArray, Sessions


@dataclass(frozen=True, slots=True)
class Step:
    """One step of all lanes that still have an event to predict.

    Attributes:
        lanes: Which lanes take part, ascending. Shape (active,).
        inputs: The item each lane stands at. Shape (active,).
        targets: The item that follows. Shape (active,).
        fresh: True where a lane begins a session, so its memory is cleared. Shape (active,).
        weights: How much each target counts, empty where all count 1. Shape (active,) or (0,).
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    weights: FloatArray


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
    weights: FloatArray
    starts: IntArray

    @classmethod
    def plan(
        cls,
        sessions: Sessions,
        *,
        batch_size: int,
        chosen: IntArray | None = None,
        weights: FloatArray | None = None,
    ) -> SessionParallel:
        """Lay sessions out over `batch_size` lanes; the lane that is free first goes first.

        Args:
            sessions: In the order in which they are walked through.
            batch_size: Lanes.
            chosen: Which of them, ascending; None: all. Shape (sessions,).
            weights: How much each event counts as a target; None: 1 each. Shape (events,).
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        every = np.arange(len(sessions)) if chosen is None else chosen
        rows = every[sessions.lengths[every] >= 2]
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
            weights=np.zeros(0, dtype=np.float32) if weights is None else weights[events + 1],
            starts=np.searchsorted(steps[order], np.arange(n_steps + 1)),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[Step]:
        return (self.step(number) for number in range(len(self)))

    def step(self, number: int) -> Step:
        """One step, from 0."""
        rows = slice(self.starts[number], self.starts[number + 1])
        return Step(
            self.lanes[rows],
            self.inputs[rows],
            self.targets[rows],
            self.fresh[rows],
            self.weights[rows],
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
    """One event of every lane that is in a session, with the visitors' places in a memory.

    Attributes:
        lanes: Whose memory takes part: the visitors' places, ascending. Shape (active,).
        inputs: The item each lane stands at. Shape (active,).
        targets: The item that follows in the same session, -1 where none does. Shape (active,).
        fresh: True where a session begins. Shape (active,).
        changed: True where a visitor's first session begins, so that the place is cleared. Shape
            (active,).
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    changed: BoolArray


@dataclass(frozen=True, slots=True)
class VisitParallel:
    """The plan of one pass over sessions in time order that remembers every visitor.

    As in session-parallel minibatches a lane takes the next session in line. A session begins with
    what its visitor did before, so it waits until the visitor's session before it has ended. (The
    user-parallel minibatches of Quadrana et al., RecSys 2017, walk through one visitor after the
    other, which gives up time order.) A visitor keeps a place in the memory from the first session
    to the last; an unknown visitor has one session. A session's last event is a step too, for it is
    part of what the visitor did; only a visitor's very last one is left out.

    >>> sessions = Sessions.from_lists([[1, 2], [3, 4], [5, 6]], users=[0, 1, 0])
    >>> plan = VisitParallel.plan(sessions, batch_size=2)
    >>> [(step.inputs.tolist(), step.targets.tolist()) for step in plan]
    [([1, 3], [2, 4]), ([2], [-1]), ([5], [6])]
    """

    lanes: IntArray
    inputs: IntArray
    targets: IntArray
    fresh: BoolArray
    changed: BoolArray
    starts: IntArray
    places: int

    @classmethod
    def plan(cls, sessions: Sessions, *, batch_size: int) -> VisitParallel:
        """Lay the sessions out over `batch_size` lanes; the lane that is free first goes first."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        visits = sessions.take(np.flatnonzero(sessions.lengths > 0))
        visitor = visitors_of(visits)
        first, last = np.ones(len(visitor), dtype=np.bool_), np.ones(len(visitor), dtype=np.bool_)
        order = np.argsort(visitor, kind="stable")
        again = visitor[order[1:]] == visitor[order[:-1]]
        first[order[1:][again]] = False
        last[order[:-1][again]] = False
        walked = visits.lengths - last
        first_steps, places = _seated(visitor, walked, last=last, batch_size=batch_size)

        total = int(walked.sum())
        place = np.arange(total) - np.repeat(np.cumsum(walked) - walked, walked)
        events = np.repeat(visits.offsets[:-1], walked) + place
        ends = place == np.repeat(visits.lengths, walked) - 1
        steps = np.repeat(first_steps, walked) + place
        memory = np.repeat(places, walked)
        by_step = np.lexsort((memory, steps))
        follows = np.append(visits.items[1:], -1)
        n_steps = int(steps.max()) + 1 if total else 0
        return cls(
            lanes=memory[by_step],
            inputs=visits.items[events][by_step],
            targets=np.where(ends, -1, follows[events])[by_step],
            fresh=(place == 0)[by_step],
            changed=((place == 0) & np.repeat(first, walked))[by_step],
            starts=np.searchsorted(steps[by_step], np.arange(n_steps + 1)),
            places=int(memory.max(initial=-1)) + 1,
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


def _seated(
    visitor: IntArray, walked: IntArray, *, last: BoolArray, batch_size: int
) -> tuple[IntArray, IntArray]:
    """The first step of every session and its visitor's place in the memory."""
    free = [0] * batch_size
    queue = [(0, lane) for lane in range(batch_size)]
    seats: dict[int, tuple[int, int, int]] = {}  # where: place, lane and step after the last event
    left: list[tuple[int, int]] = []
    first_steps = np.zeros(len(visitor), dtype=np.int64)
    places = np.zeros(len(visitor), dtype=np.int64)
    taken = 0
    for row, (who, count, leaves) in enumerate(
        zip(visitor.tolist(), walked.tolist(), last.tolist(), strict=True)
    ):
        if count == 0 and who not in seats:
            continue
        while queue[0][0] < free[queue[0][1]]:  # the lane has been given more since
            heapq.heapreplace(queue, (free[queue[0][1]], queue[0][1]))
        lane = queue[0][1]
        if who in seats:
            place, own, ends = seats[who]
            if ends > free[lane]:  # still at it: go on behind, and let others have the free lane
                lane = own
        elif left and left[0][0] <= free[lane]:
            place = heapq.heappop(left)[1]
        else:
            place, taken = taken, taken + 1
        first_steps[row], places[row] = free[lane], place
        free[lane] += count
        seats[who] = (place, lane, free[lane])
        if leaves:
            heapq.heappush(left, (seats.pop(who)[2], place))
    return first_steps, places


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
