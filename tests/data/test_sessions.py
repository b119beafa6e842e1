import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.datasets import sessions_of
from momentary.data.sessions import load_sessions, sessionize

COLUMNS = {
    "item_id": pa.string(),
    "event_type": pa.string(),
    "timestamp_us": pa.int64(),
    "event_id": pa.string(),
    "user_id": pa.string(),
    "anonymous_id": pa.string(),
    "session_id": pa.string(),
}


def table(rows):
    """Rows of (visitor, second, item[, event type[, session id]])."""
    full = [(*row, "view_item", None)[:5] if len(row) == 3 else (*row, None)[:5] for row in rows]
    return pa.Table.from_pylist(
        [
            {
                "user_id": user,
                "timestamp_us": int(second * 1_000_000),
                "item_id": item,
                "event_type": kind,
                "session_id": session,
                "event_id": f"e{item}{number if session is None else ''}",
            }
            for number, (user, second, item, kind, session) in enumerate(full)
        ],
        schema=pa.schema(COLUMNS),
    )


def named(log):
    ids = log.items.ids
    return [
        (log.visitors.ids[user], [ids[i] for i in log.sessions.session(row)])
        for row, user in enumerate(log.sessions.users)
    ]


def test_silence_cuts_and_visitors_never_mix():
    log = sessions_of(
        table([("u1", 0, "a"), ("u2", 10, "x"), ("u1", 1800, "b"), ("u1", 3601, "c")])
    )
    assert named(log) == [("u:u1", ["a", "b"]), ("u:u2", ["x"]), ("u:u1", ["c"])]


def test_given_session_ids_are_respected_across_silence_and_only_for_their_visitor():
    log = sessions_of(
        table(
            [
                ("u1", 0, "a", "view_item", "s"),
                ("u1", 90_000, "b", "view_item", "s"),
                ("u2", 5, "x", "view_item", "s"),
                ("u1", 60, "loose", "view_item", None),
            ]
        )
    )
    assert named(log) == [("u:u1", ["a", "b"]), ("u:u2", ["x"]), ("u:u1", ["loose"])]


def test_only_interest_makes_a_session():
    log = sessions_of(
        table([("u1", 0, "a"), ("u1", 1, "seen", "view_item_list"), ("u1", 2, "gone", "refund")])
    )
    assert named(log) == [("u:u1", ["a"])]


@settings(deadline=None, max_examples=40)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["u1", "u/2", "ü3"]), st.integers(0, 20_000), st.sampled_from("abcd")
        ),
        min_size=1,
        max_size=40,
    ),
    idle_s=st.sampled_from([1, 600, 1800]),
)
def test_sessions_agree_with_a_plain_loop(events, idle_s):
    log = sessions_of(table(events), idle_s=idle_s)
    expected = []
    for user in {user for user, _, _ in events}:
        times = sorted(second for u, second, _ in events if u == user)
        session = [times[0]]
        for second in times[1:]:
            if second - session[-1] > idle_s:
                expected.append((session[0], f"u:{user}", session))
                session = []
            session.append(second)
        expected.append((session[0], f"u:{user}", session))
    expected.sort(key=lambda each: (each[0], each[1]))
    starts = log.sessions.offsets
    found = [
        (
            log.sessions.times_us[starts[row]] // 1_000_000,
            log.visitors.ids[user],
            (log.sessions.times_us[starts[row] : starts[row + 1]] // 1_000_000).tolist(),
        )
        for row, user in enumerate(log.sessions.users)
    ]
    assert found == expected


def test_events_of_one_instant_do_not_follow_the_order_of_the_file():
    items = [f"{n:03d}" for n in range(50)]
    rows = [("u", 0, item, "purchase", "basket") for item in items]
    (_, basket), *_ = named(sessions_of(table(rows)))
    assert sorted(basket) == items
    assert basket != items
    backwards = table(rows).take(pa.array(range(49, -1, -1)))
    (_, again), *_ = named(sessions_of(backwards))
    assert again == basket


def test_an_empty_log_has_no_sessions():
    log = sessions_of(table([("u", 0, "a")]).slice(0, 0))
    assert len(log.sessions) == 0
    assert log.sessions.offsets.tolist() == [0]


def test_idle_time_must_be_above_zero():
    with pytest.raises(ValueError, match="idle_s is 0"):
        sessionize(duckdb.connect(), idle_s=0)


def test_a_large_log_comes_out_in_order():
    count = 300_000
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            CREATE VIEW events AS SELECT 'u:' || (hash(i) % 5000) AS visitor, NULL AS session_id,
              'i' || (hash(i * 7) % 100) AS item_id, 'view_item' AS event_type,
              'e' || i AS event_id, (hash(i * 13) % 86400000)::BIGINT * 1000
              AS timestamp_us FROM range({count}) r(i)
            """
        )
        log = load_sessions(connection)
    sessions = log.sessions
    assert len(sessions.items) == count
    firsts = sessions.times_us[sessions.offsets[:-1]]
    assert (np.diff(firsts) >= 0).all()
    within = np.diff(sessions.times_us)
    within[sessions.offsets[1:-1] - 1] = 0
    assert within.min() >= 0
    assert within.max() <= 1_800_000_000
