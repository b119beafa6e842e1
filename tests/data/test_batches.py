import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.batches import SessionParallel, VisitParallel
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
def test_sessions_begin_in_line_and_go_on_where_their_visitor_stopped(lengths, batch_size, seed):
    users = np.random.default_rng(seed).integers(-1, 4, size=len(lengths))
    sessions = Sessions.from_lists(
        [range(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(len(lengths))], users=users
    )
    session_of = np.repeat(np.arange(len(lengths)), lengths)
    walks = {}
    for item, row in enumerate(session_of.tolist()):
        walks.setdefault(users[row] if users[row] >= 0 else -1 - row, []).append(item)
    visitor_of = {item: who for who, walk in walks.items() for item in walk}
    rest = {who: list(walk) for who, walk in walks.items()}
    plan = VisitParallel.plan(sessions, batch_size=batch_size)
    seated, begun, seen = {}, [], []
    for step in plan:
        assert 1 <= len(step.lanes) <= batch_size
        assert len(set(step.lanes.tolist())) == len(step.lanes)
        for place, lane in enumerate(step.lanes.tolist()):
            assert lane < plan.places
            item = int(step.inputs[place])
            who = visitor_of[item]
            if step.changed[place]:
                assert who not in seated
                assert lane not in seated.values() or rest_is_over(seated, rest, lane)
                seated = {w: at for w, at in seated.items() if at != lane} | {who: lane}
            assert seated[who] == lane
            assert rest[who].pop(0) == item
            first = item == 0 or session_of[item - 1] != session_of[item]
            last = item + 1 == len(session_of) or session_of[item + 1] != session_of[item]
            assert step.fresh[place] == first
            assert step.targets[place] == (-1 if last else item + 1)
            if first:
                begun.append((session_of[item], who))
            seen.append(item)
    assert sorted(seen) == sorted(item for walk in walks.values() for item in walk[:-1])
    if batch_size == 1:
        assert [row for row, _ in begun] == sorted(row for row, _ in begun)


def rest_is_over(seated, rest, lane):
    """Whoever sits there has nothing left but the event after which nothing comes."""
    return all(len(rest[who]) <= 1 for who, at in seated.items() if at == lane)


def test_time_order_is_kept_across_visitors_and_places_are_given_again():
    sessions = Sessions.from_lists([[0, 1], [2, 3], [4, 5], [6, 7]], users=[5, -1, 5, 0])
    plan = VisitParallel.plan(sessions, batch_size=1)
    assert [step.inputs.tolist() for step in plan] == [[0], [1], [2], [4], [6]]
    assert plan.places == 2
    assert [step.lanes.tolist() for step in plan] == [[0], [0], [1], [0], [1]]
    assert plan.predictions == 4


def test_a_session_waits_for_its_visitors_session_before():
    sessions = Sessions.from_lists([[0, 1, 2], [3, 4], [5, 6], [7, 8]], users=[0, 0, 1, 2])
    plan = VisitParallel.plan(sessions, batch_size=2)
    assert [step.inputs.tolist() for step in plan] == [[0, 5], [1, 7], [2], [3]]


def test_visitors_without_a_second_event_are_an_empty_plan():
    plan = VisitParallel.plan(Sessions.from_lists([[1], []], users=[0, 1]), batch_size=4)
    assert len(plan) == plan.predictions == plan.places == 0
    assert list(plan) == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        VisitParallel.plan(Sessions.from_lists([[1, 2]]), batch_size=0)
