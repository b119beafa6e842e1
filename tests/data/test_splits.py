import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.sessions import SessionLog
from momentary.data.splits import audit, split_at, split_last_days
from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError, LeakError
from momentary.types import Sessions

DAY = 86_400_000_000


def make_log(lists, times, users=None):
    sessions = Sessions.from_lists(lists, times_us=times, users=users)
    top = max((max(each, default=0) for each in lists), default=0)
    return SessionLog(
        sessions=sessions,
        items=Vocabulary([f"i{n}" for n in range(top + 1)]),
        visitors=Vocabulary([f"u{n}" for n in range(len(lists))]),
    )


def test_a_session_that_crosses_the_cut_is_asked_about_not_learned_from():
    log = make_log([[0, 1], [0, 1], [1, 0]], [[1, 2], [4, 6], [7, 8]])
    split = split_at(log, 5)
    assert [split.train.sessions.session(0).tolist()] == [[0, 1]]
    assert len(split.test.sessions) == 2
    assert split.audit.leaks == ()


def test_an_event_at_the_cut_trains():
    log = make_log([[0, 1], [0, 1]], [[1, 5], [6, 7]])
    assert len(split_at(log, 5).train.sessions) == 1


def test_items_unknown_to_training_are_left_out_and_counted():
    log = make_log([[0, 1], [2], [1, 2, 0]], [[1, 2], [6], [7, 8, 9]])
    split = split_at(log, 5)
    assert split.train.items.ids == split.test.items.ids == ("i0", "i1")
    assert split.audit.unknown_items == 2
    assert split.audit.emptied_sessions == 1
    assert [split.test.sessions.session(0).tolist()] == [[1, 0]]
    assert split.test.sessions.times_us.tolist() == [7, 9]


def test_rare_items_leave_both_sides():
    log = make_log([[0, 0, 1], [0, 1]], [[1, 2, 3], [7, 8]])
    split = split_at(log, 5, min_item_events=2)
    assert split.train.items.ids == ("i0",)
    assert split.test.sessions.items.tolist() == [0]


def test_last_days():
    log = make_log([[0], [0], [0]], [[0], [5 * DAY], [6 * DAY]])
    split = split_last_days(log, 2)
    assert (len(split.train.sessions), len(split.test.sessions)) == (1, 2)


@pytest.mark.parametrize(("cut", "side"), [(-1, "training"), (99, "test")])
def test_an_empty_side_is_refused(cut, side):
    with pytest.raises(DataError, match=f"no {side} session"):
        split_at(make_log([[0], [0]], [[1], [2]]), cut)


def test_days_must_be_above_zero():
    with pytest.raises(ValueError, match="days is 0"):
        split_last_days(make_log([[0]], [[1]]), 0)


def test_the_auditor_sees_duplicates_and_late_events_and_names_the_remedy():
    train = Sessions.from_lists([[0, 1], [2]], times_us=[[1, 2], [9]], users=[0, 1])
    test = Sessions.from_lists([[0, 1], [0, 1]], times_us=[[1, 2], [7, 8]], users=[0, 0])
    found = audit(train, test, cut_us=5)
    assert (found.duplicate_sessions, found.late_events) == (1, 1)
    with pytest.raises(LeakError, match=r"both sides.*after the cut"):
        found.refuse()


def test_the_same_items_at_another_time_or_by_another_visitor_are_no_duplicate():
    one = Sessions.from_lists([[0, 1]], times_us=[[1, 2]], users=[0])
    for times, user, items in ([[1, 3]], 0, [0, 1]), ([[1, 2]], 1, [0, 1]), ([[1, 2]], 0, [1, 0]):
        other = Sessions.from_lists([items], times_us=times, users=[user])
        assert audit(one, other, cut_us=9).duplicate_sessions == 0


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_split_leaks_and_none_loses_a_known_event(data):
    lists = data.draw(
        st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=2, max_size=12)
    )
    starts = data.draw(
        st.lists(st.integers(0, 1000), min_size=len(lists), max_size=len(lists), unique=True)
    )
    times = [
        [start * 10 + step for step in range(len(each))]
        for start, each in zip(sorted(starts), lists, strict=True)
    ]
    log = make_log(lists, times, users=list(range(len(lists))))
    ends = np.sort(log.sessions.last_times_us)
    cut = int(data.draw(st.sampled_from(ends[:-1].tolist())))
    split = split_at(log, cut)
    train, test = split.train.sessions, split.test.sessions
    assert train.times_us.max() <= cut
    assert (test.last_times_us > cut).sum() + split.audit.emptied_sessions >= 0
    assert set(test.items.tolist()) <= set(train.items.tolist())
    assert len(train.items) + len(test.items) + split.audit.unknown_items == len(log.sessions.items)
