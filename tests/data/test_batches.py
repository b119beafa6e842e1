import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.batches import SessionParallel, UserParallel
from momentary.types import Sessions


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    batch_size=st.integers(1, 5),
)
def test_every_pair_comes_once_and_each_lane_walks_whole_sessions(lengths, batch_size):
    total = sum(lengths)
    sessions = Sessions.from_lists(
        [range(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(len(lengths))]
    )
    plan = SessionParallel.plan(sessions, batch_size=batch_size)
    pairs, memory = [], {}
    for step in plan:
        assert len(set(step.lanes.tolist())) == len(step.lanes) <= batch_size
        for lane, item, target, fresh in zip(
            step.lanes.tolist(),
            step.inputs.tolist(),
            step.targets.tolist(),
            step.fresh.tolist(),
            strict=True,
        ):
            # Items are numbered along the log, so a lane goes on exactly one item further.
            assert target == item + 1
            assert fresh == (item in sessions.offsets[:-1].tolist())
            assert fresh or memory[lane] == item
            memory[lane] = target
            pairs.append(item)
    ends = set((sessions.offsets[1:] - 1).tolist())
    assert sorted(pairs) == [item for item in range(total) if item not in ends]


def test_lanes_stay_full_while_sessions_wait():
    sessions = Sessions.from_lists([[1, 2]] * 10)
    widths = [len(step.lanes) for step in SessionParallel.plan(sessions, batch_size=4)]
    assert widths == [4, 4, 2]


def test_no_lane_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        SessionParallel.plan(Sessions.from_lists([[1, 2]]), batch_size=0)


def test_nothing_to_predict_is_an_empty_plan():
    plan = SessionParallel.plan(Sessions.from_lists([[1], []]), batch_size=4)
    assert len(plan) == 0
    assert list(plan) == []
    assert np.array_equal(plan.starts, [0])


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_each_lane_walks_one_visitor_after_the_other(lengths, batch_size, seed):
    users = np.random.default_rng(seed).integers(-1, 4, size=len(lengths))
    sessions = Sessions.from_lists(
        [range(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(len(lengths))], users=users
    )
    session_of = np.repeat(np.arange(len(lengths)), lengths)
    # A visitor's events in order; somebody unknown is a visitor of one session.
    walks = {}
    for item, row in enumerate(session_of.tolist()):
        walks.setdefault(users[row] if users[row] >= 0 else -1 - row, []).append(item)
    starts = {walk[0]: walk for walk in walks.values()}
    seen, now = [], {}
    for step in UserParallel.plan(sessions, batch_size=batch_size):
        assert len(set(step.lanes.tolist())) == len(step.lanes) <= batch_size
        for place, lane in enumerate(step.lanes.tolist()):
            item = int(step.inputs[place])
            if step.changed[place]:
                assert lane not in now
                assert step.fresh[place]
                now[lane] = list(starts[item])
            walk = now[lane]
            assert walk.pop(0) == item
            first = item == 0 or session_of[item - 1] != session_of[item]
            last = item + 1 == len(session_of) or session_of[item + 1] != session_of[item]
            assert step.fresh[place] == first
            assert step.targets[place] == (-1 if last else item + 1)
            seen.append(item)
            if len(walk) == 1:
                del now[lane]
    assert not now
    assert sorted(seen) == sorted(item for walk in walks.values() for item in walk[:-1])


def test_visitors_begin_in_the_order_of_their_first_session():
    sessions = Sessions.from_lists([[0, 1], [2, 3], [4, 5], [6, 7]], users=[5, -1, 5, 0])
    plan = UserParallel.plan(sessions, batch_size=1)
    assert [step.inputs.tolist() for step in plan] == [[0], [1], [4], [2], [6]]
    assert plan.predictions == 4


def test_visitors_without_a_second_event_are_an_empty_plan():
    plan = UserParallel.plan(Sessions.from_lists([[1], []], users=[0, 1]), batch_size=4)
    assert len(plan) == plan.predictions == 0
    assert list(plan) == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        UserParallel.plan(Sessions.from_lists([[1, 2]]), batch_size=0)
