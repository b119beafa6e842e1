import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.batches import SessionParallel
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
