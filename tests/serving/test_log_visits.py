"""Two processes over one log: each answers as if it were alone, whoever was told what."""

import contextlib

import numpy as np
import pytest

from momentary.data.events import EventLog
from momentary.data.vocabulary import Vocabulary
from momentary.serving.log_visits import LogVisits
from momentary.serving.state import EMPTY, LiveSessions
from momentary.serving.team import Team
from momentary.types import INTEREST_TYPES, Event

ITEMS = Vocabulary([f"i{number}" for number in range(9)])
SECOND_US = 1_000_000


def _event(number, *, item=0, **ids):
    return Event(
        item_id=f"i{item}",
        event_type="view_item",
        timestamp_us=number * SECOND_US,
        event_id=f"e{number}",
        **ids,
    )


class Process:
    """What a tick of one process does with its visits."""

    def __init__(self, path, turn, *, max_sessions=100):
        self.log = EventLog(path)
        local = LiveSessions(
            items=ITEMS,
            history=lambda key, limit: self.log.history(
                *key, limit=limit, event_types=INTEREST_TYPES
            ),
            idle_s=600,
            max_sessions=max_sessions,
            max_seen=5,
        )
        self.visits = LogVisits(local, self.log, turn=turn)

    def tick(self, keys, events=(), *, meanwhile=lambda: None):
        self.visits.load(keys)
        known = self.log.known([each.event_id for each in events])
        self.visits.record([each for each in events if each.event_id not in known])
        found = [self.visits.get(key) for key in keys]
        meanwhile()
        self.visits.announce(events)
        self.log.append(list(events))
        self.visits.publish()
        self.visits.trim()
        return [visit.items for visit in found]

    def close(self):
        self.visits.close()
        self.log.close()


@pytest.fixture
def start(tmp_path):
    team = Team(9, turn=tmp_path / "turn", keys=0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(team)

        def started(**limits):
            turn = team.member(0).turn
            process = Process(tmp_path / "events.sqlite", turn, **limits)
            stack.callback(process.close)
            return process

        yield started


KEY = ("session_id", "s")


def test_each_knows_what_the_other_was_told(start):
    one, two = start(), start()
    assert one.tick([KEY], [_event(1, item=1, session_id="s")]) == [(1,)]
    assert two.tick([KEY], [_event(2, item=2, session_id="s")]) == [(1, 2)]
    assert one.tick([KEY], [_event(3, item=3, session_id="s")]) == [(1, 2, 3)]
    assert two.tick([KEY]) == one.tick([KEY]) == [(1, 2, 3)]


def test_a_visit_that_both_change_at_once_is_as_the_log_has_it(start):
    one, two = start(), start()
    one.tick([KEY])
    two.tick([KEY])
    ours = _event(2, item=2, session_id="s")
    theirs = _event(1, item=1, session_id="s", user_id="u")
    one.tick([KEY], [ours], meanwhile=lambda: two.tick([KEY], [theirs]))
    assert one.tick([KEY]) == two.tick([KEY]) == start().tick([KEY]) == [(1, 2)]


def test_an_event_that_the_other_wrote_first_counts_where_that_one_says(start):
    one, two = start(), start()
    other = ("session_id", "t")
    one.tick([KEY, other])
    ours = _event(1, item=2, session_id="s")
    theirs = _event(1, item=1, session_id="t")
    one.tick([KEY], [ours], meanwhile=lambda: two.tick([other], [theirs]))
    assert one.tick([KEY, other]) == start().tick([KEY, other]) == [(), (1,)]


def test_a_visit_that_is_read_while_the_other_writes_counts_nothing_twice(start, monkeypatch):
    one, two = start(), start()
    two.tick([KEY], [_event(1, item=1, session_id="s")])
    read = one.log.history

    def slowly(*key, **limits):
        two.tick([], [_event(2, item=2, session_id="s")])
        return read(*key, **limits)

    monkeypatch.setattr(one.log, "history", slowly)
    one.visits.load([("user_id", "u")])
    monkeypatch.undo()
    one.visits.load([KEY])
    assert one.visits.get(KEY).items == (1, 2)

    def once(*key, **limits):
        monkeypatch.undo()
        return slowly(*key, **limits)

    one.visits.forget([KEY])
    monkeypatch.setattr(one.log, "history", once)
    two.tick([], [_event(3, item=3, session_id="s")])
    one.visits.load([KEY])
    assert one.visits.get(KEY).items == (1, 2, 3)


def test_what_the_other_deleted_is_gone(start):
    one, two = start(), start()
    one.tick([KEY], [_event(1, item=1, session_id="s")])
    two.tick([KEY])
    one.visits.announce([])
    one.log.erase(session_ids=["s"])
    one.visits.clear(ITEMS, version="v")
    one.visits.trim()
    # Even before it is told: the log has become shorter.
    assert two.tick([KEY]) == one.tick([KEY]) == [()]
    two.tick([KEY], [_event(4, item=4, session_id="s")])
    assert one.tick([KEY]) == [(4,)]


def test_a_tick_that_fails_lets_the_others_write_and_leaves_nothing_behind(start):
    one, two = start(), start()
    one.visits.load([KEY])
    before = one.visits.record([_event(1, item=1, session_id="s")])
    one.visits.announce([_event(1, item=1, session_id="s")])
    one.visits.restore(before)
    one.visits.trim()
    assert two.tick([KEY], [_event(2, item=2, session_id="s")]) == [(2,)]
    assert one.visits.get(KEY) == EMPTY
    assert one.tick([KEY]) == [(2,)]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_where_every_answer_is_that_of_the_log(start, seed):
    rng = np.random.default_rng(seed)
    processes = [start(max_sessions=4) for _ in range(3)]
    keys = [("session_id", "a"), ("session_id", "b"), ("user_id", "u"), ("anonymous_id", "b")]

    def click(number):
        chosen = [keys[at] for at in rng.choice(4, size=rng.integers(1, 4), replace=False)]
        return _event(number, item=int(rng.integers(9)), **dict(chosen))

    number = 0
    for _ in range(60):
        here, there = rng.choice(3, size=2, replace=False)
        number += 2
        meanwhile = lambda: None  # noqa: E731
        if rng.random() < 0.4:
            theirs = click(number - int(rng.random() < 0.3))
            meanwhile = lambda at=there, event=theirs: processes[at].tick(keys[:2], [event])  # noqa: E731
        asked = [keys[at] for at in rng.choice(4, size=2, replace=False)]
        ours = [click(number - 1)] if rng.random() < 0.7 else []
        processes[here].tick(asked, ours, meanwhile=meanwhile)
        fresh = start(max_sessions=100)
        truth = fresh.tick(keys)
        fresh.close()
        assert processes[here].tick(keys) == processes[there].tick(keys) == truth
