"""States of many visits at once: what several of them have in common is walked once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from momentary.types import FloatArray, IntArray, Sessions


class Advances(Protocol):
    """The part of an incremental model that walks."""

    def start(self, count: int) -> FloatArray:
        """The state of `count` visits before the first click. Shape (count, width)."""
        ...

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The states after one more click each. Shapes (count, width), (count,)."""
        ...


def distinct_states(model: Advances, sessions: Sessions) -> tuple[FloatArray, IntArray]:
    """The states after each session, each distinct session once.

    Sessions are walked as a tree: those that begin alike share a branch, so a session that is asked
    about after each of its clicks is walked once, and so is a first click that many share.

    Returns:
        States of shape (distinct, width), and the place of each session's among them.
    """
    lengths = sessions.lengths
    width = int(sessions.items.max(initial=0)) + 1
    node = np.zeros(len(sessions), dtype=np.int64)
    which = np.zeros(len(sessions), dtype=np.int64)
    level = model.start(1)
    found, count = [], 0
    if (lengths == 0).any():
        found, count = [level], 1
    rows = np.flatnonzero(lengths > 0)
    depth = 0
    while len(rows):
        clicked = sessions.items[sessions.offsets[rows] + depth]
        branches, node[rows] = np.unique(node[rows] * width + clicked, return_inverse=True)
        level = model.advance(level[branches // width], branches % width)
        depth += 1
        ended = rows[lengths[rows] == depth]
        if len(ended):
            leaves, place = np.unique(node[ended], return_inverse=True)
            which[ended] = count + place
            found.append(level[leaves])
            count += len(leaves)
        rows = rows[lengths[rows] > depth]
    return np.concatenate(found) if found else level[:0], which
