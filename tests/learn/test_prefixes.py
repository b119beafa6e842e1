import numpy as np

from momentary.learn.prefixes import distinct_states
from momentary.types import Sessions


class Counts:
    """The state is the path as digits, and every advance is counted."""

    def __init__(self):
        self.advanced = 0

    def start(self, count):
        return np.zeros((count, 1), dtype=np.float32)

    def advance(self, states, items):
        self.advanced += len(items)
        return states * 10 + items[:, None].astype(np.float32)


def test_every_distinct_path_is_walked_once():
    sessions = Sessions.from_lists([[1, 2, 3], [], [1], [1, 2], [2, 1], [1, 2, 3], [1, 2, 4], []])
    model = Counts()
    states, which = distinct_states(model, sessions)
    assert states[which, 0].tolist() == [123, 0, 1, 12, 21, 123, 124, 0]
    assert len(states) == 6
    assert model.advanced == 6  # 1, 2, 12, 21, 123, 124


def test_nothing_asked_is_nothing_found():
    states, which = distinct_states(Counts(), Sessions.from_lists([]))
    assert states.shape == (0, 1)
    assert which.shape == (0,)
