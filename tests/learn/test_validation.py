"""Validation inside training: what is kept apart, what is asked, how it is judged."""

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.learn.validation import Validation, cut_newest
from momentary.types import Sessions

SESSIONS = Sessions.from_lists([[0, 1, 2], [2, 1], [1, 0], [0, 9, 2, 1], [9, 0]])


class Fixed:
    """Item i scores i at every question, but for a tie between 1 and 2."""

    def score(self, sessions):
        return np.tile(np.array([0, 2, 2, 3], dtype=np.float32), (len(sessions), 1))


def test_the_newest_are_kept_apart():
    older, newest = cut_newest(SESSIONS, 0.4)
    assert older.items.tolist() == [0, 1, 2, 2, 1, 1, 0]
    assert newest.items.tolist() == [0, 9, 2, 1, 9, 0]
    for share in (0.01, 0.95):
        with pytest.raises(DataError, match=f"holdout is {share}"):
            cut_newest(SESSIONS, share)


def test_every_click_of_a_known_item_is_asked_for():
    older, newest = cut_newest(SESSIONS, 0.4)
    asked = Validation.of(newest, known=older)
    assert [asked.history.session(row).tolist() for row in range(2)] == [[0], [0, 2]]
    assert asked.targets.tolist() == [2, 1]
    assert Validation.of(newest, known=older, most=1).targets.tolist() == [1]
    # Ties count against the model: 1 and 2 stand at place 3 each.
    assert asked.mrr(Fixed()) == pytest.approx(1 / 3)
    assert asked.mrr(Fixed(), k=2) == 0


def test_nothing_to_ask_is_refused():
    with pytest.raises(DataError, match="raise holdout"):
        Validation.of(Sessions.from_lists([[9, 8], [1]]), known=SESSIONS.take(np.array([1])))
