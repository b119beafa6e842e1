from momentary.data.vocabulary import Vocabulary
from momentary.serving.state import EMPTY, LiveSessions
from momentary.types import Event

MINUTE_US = 60_000_000


class Log:
    """A log in memory that counts how often it is read."""

    def __init__(self):
        self.events = []
        self.reads = 0

    def history(self, key, limit):
        self.reads += 1
        column, value = key
        return [each for each in self.events if getattr(each, column) == value][-limit:]


def _sessions(log, **limits):
    given = {"idle_s": 1800, "max_sessions": 10, "max_seen": 5, **limits}
    return LiveSessions(items=Vocabulary("abcdefgh"), history=log.history, **given)


def _event(item_id, minute=0, event_type="view_item", **ids):
    return Event(
        event_id=f"{item_id}{minute}",
        item_id=item_id,
        event_type=event_type,
        timestamp_us=minute * MINUTE_US,
        **(ids or {"session_id": "s"}),
    )


def _played(events, *, key=("session_id", "s"), **limits):
    """The visit when live, after checking that reading it from the log gives the same."""
    log = Log()
    live = _sessions(log, **limits)
    live.load([key])
    for event in events:
        log.events.append(event)
        live.record([event])
    again = _sessions(log, **limits)
    again.load([key])
    assert again.get(key) == live.get(key)
    return live.get(key)


def test_clicks_of_interest_on_known_items_count():
    events = [
        _event("a"),
        _event("b", 1, "view_item_list"),
        _event("zzz", 2),
        _event("c", 3, "add_to_cart"),
    ]

    visit = _played(events)

    assert visit.items == (0, 2)
    assert visit.pending == (0, 2)
    assert visit.times_us == (0, 3 * MINUTE_US)


def test_half_an_hour_of_silence_ends_the_visit_of_a_visitor():
    events = [_event("a", 0, user_id="u"), _event("b", 30, user_id="u")]

    assert _played(events, key=("user_id", "u")).items == (0, 1)
    later = [*events, _event("c", 61, user_id="u"), _event("d", 62, user_id="u")]
    assert _played(later, key=("user_id", "u")).items == (2, 3)


def test_a_session_id_is_one_visit_however_long_its_silences():
    assert _played([_event("a", 0), _event("b", 10_000)]).items == (0, 1)


def test_an_old_event_that_comes_late_changes_no_visitors_visit():
    events = [_event("a", 100, user_id="u"), _event("b", 10, user_id="u")]

    assert _played(events, key=("user_id", "u")).items == (0,)


def test_times_ascend_though_clocks_disagree():
    assert _played([_event("a", 5), _event("b", 4)]).times_us == (5 * MINUTE_US, 5 * MINUTE_US)


def test_an_event_counts_for_every_id_that_it_carries():
    both = [_event("a", 0, user_id="u", session_id="s"), _event("b", 1, user_id="u")]

    assert _played(both, key=("user_id", "u")).items == (0, 1)
    assert _played(both, key=("session_id", "s")).items == (0,)


def test_only_the_last_clicks_are_kept():
    assert _played([_event(item, minute) for minute, item in enumerate("abcdefgh")]).items == (
        3,
        4,
        5,
        6,
        7,
    )


def test_the_least_recently_used_visit_leaves_memory_and_comes_back_from_the_log():
    log = Log()
    log.events = [_event(item, session_id=item) for item in "abc"]
    live = _sessions(log, max_sessions=2)
    live.load([("session_id", "a"), ("session_id", "b")])
    live.load([("session_id", "a"), ("session_id", "c")])
    assert len(live) == 3
    live.trim()

    assert len(live) == 2
    assert live.get(("session_id", "a")).items == (0,)
    assert live.get(("session_id", "b")) == EMPTY
    live.load([("session_id", "b")])
    assert live.get(("session_id", "b")).items == (1,)
    assert log.reads == 4


def test_restore_undoes_a_record():
    live = _sessions(Log())
    live.load([("session_id", "s"), ("user_id", "u")])
    live.record([_event("a")])
    before = live.record([_event("b", 1, session_id="s", user_id="u"), _event("c", 2)])

    live.restore(before)

    assert live.get(("session_id", "s")).items == (0,)
    assert live.get(("user_id", "u")) == EMPTY


def test_a_new_vocabulary_lets_go_of_all_visits():
    log = Log()
    log.events = [_event("c")]
    live = _sessions(log)
    live.load([("session_id", "s")])
    live.clear(Vocabulary("c"), version="v2")
    live.load([("session_id", "s")])

    assert live.get(("session_id", "s")).items == (0,)
    live.forget([("session_id", "s")])
    assert len(live) == 0
    assert live.get(None) == EMPTY


def test_another_account_on_a_browser_begins_a_visit_and_signing_in_or_out_does_not():
    browser = ("anonymous_id", "a")
    clicks = [_event("a", 0, anonymous_id="a"), _event("b", 1, anonymous_id="a", user_id="u")]
    clicks += [_event("c", 2, anonymous_id="a")]
    assert _played(clicks, key=browser).items == (0, 1, 2)
    clicks += [_event("d", 3, anonymous_id="a", user_id="v"), _event("e", 4, anonymous_id="a")]
    found = _played(clicks, key=browser)
    assert found.items == (3, 4)
    assert "v" not in found.account
