import asyncio
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momentary.serving.schemas import EventIn, ItemIn, RecommendIn
from momentary.settings import api_key_digest
from tests.serving.world import ITEMS, NOW_US, ask, event, opened

pytestmark = pytest.mark.usefixtures("over_both")

JSON = {"content-type": "application/json"}


def _post(app, path, content):
    return ask(app, "POST", path, content=content, headers=JSON)


def _problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"].endswith(".")
    return body


@pytest.mark.parametrize(
    "body",
    [
        event("s", "tea/green"),
        [event("s", "tea/green")],
        {"events": [event("s", "tea/green")]},
        event(None, "tea/green", user_id="u"),
        event(None, "tea/green", anonymous_id="a", properties={"colour": "red", "n": 10**30}),
    ],
)
def test_events_come_alone_in_an_array_or_wrapped(tmp_path, body):
    with opened(tmp_path) as app:
        answer = ask(app, "POST", "/v1/events", json=body)
        (stored,) = app.engine._log.read()

    assert answer.json() == {"accepted": 1, "duplicates": 0}
    assert stored.item_id == "tea/green"
    assert stored.timestamp_us == NOW_US


def test_no_events_are_no_fault(tmp_path):
    with opened(tmp_path) as app:
        assert ask(app, "POST", "/v1/events", json=[]).json() == {"accepted": 0, "duplicates": 0}


@pytest.mark.parametrize(
    "timestamp",
    [
        1_769_860_800,
        1_769_860_800.0,
        1_769_860_800_000,
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31T13:00:00.000000+01:00",
    ],
)
def test_time_is_iso_seconds_or_milliseconds(tmp_path, timestamp):
    with opened(tmp_path, clock_us=lambda: 1_769_900_000_000_000) as app:
        ask(app, "POST", "/v1/events", json=event("s", "x", timestamp=timestamp))
        (stored,) = app.engine._log.read()

    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert stored.timestamp_us == int(noon.timestamp()) * 1_000_000


def test_a_clock_that_is_far_ahead_stops_no_visit(tmp_path):
    """Every later click of the visitor would be taken for an old one, for as long."""
    lists = []
    with opened(tmp_path) as app:
        for user, when in (("right", NOW_US / 1e6), ("ahead", "2999-01-01")):
            ask(app, "POST", "/v1/events", json=event(None, "i1", user_id=user, timestamp=when))
            click = event(None, "i3", user_id=user, timestamp=NOW_US / 1e6 + 60)
            answer = ask(app, "POST", "/v1/recommend", json={"user_id": user, "event": click})
            lists.append(answer.json()["items"])
        tomorrow = event(None, "i1", user_id="tomorrow", timestamp=NOW_US / 1e6 + 80_000)
        ask(app, "POST", "/v1/events", json=tomorrow)
        stored = {each.timestamp_us - NOW_US for each in app.engine._log.read()}
    assert stored == {0, 60_000_000, 80_000_000_000}
    assert lists[0] == lists[1]


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        ({"event_type": "looked"}, "event_type", "event types that /docs lists"),
        ({"item_id": ""}, "item_id", "length >= 1"),
        ({"item_id": "x" * 513}, "item_id", "length <= 512"),
        ({"item_id": 7}, "item_id", "Expected `str`"),
        ({"timestamp": "yesterday"}, "timestamp", "ISO 8601"),
        ({"timestamp": -1}, "timestamp", "since 1970"),
        ({"timestamp": 10**400}, "timestamp", "since 1970"),
        ({"timestamp": 1e300}, "timestamp", "since 1970"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "timestamp", "before the year 3000"),
        ({"timestamp": None}, "timestamp", "ISO 8601"),
        ({"session_id": None}, "session_id", "user_id or anonymous_id"),
        ({"sesion_id": "s"}, "sesion_id", "unknown field"),
        ({"price": -1}, "price", ">= 0"),
        ({"position": 2**70}, "position", "int"),
        ({"properties": {"x": "y" * 20_001}}, "properties", "elsewhere"),
        ({"properties": [1]}, "properties", "object"),
    ],
)
def test_a_bad_field_is_named_with_its_remedy_and_nothing_is_written(
    tmp_path, change, field, remedy
):
    bad = {**event("s", "x"), **change}
    with opened(tmp_path) as app:
        single = _problem(ask(app, "POST", "/v1/events", json=bad), 422)
        among = _problem(ask(app, "POST", "/v1/events", json=[event("s", "x"), bad]), 422)
        asked = _problem(ask(app, "POST", "/v1/recommend", json={"event": bad}), 422)
        written = app.engine._log.count()

    assert single["field"] == field
    assert remedy in single["detail"]
    assert among["field"] == f"[1].{field}"
    assert asked["field"] == f"event.{field}"
    assert written == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"k": 0}, "k"),
        ({"k": 101}, "k"),
        ({"k": "5"}, "k"),
        ({"rules": {"max_per": {"brand": 0}}}, "rules"),
        ({"rules": {"price_min": 2, "price_max": 1}}, "rules"),
        ({"rules": {"cheap": True}}, "rules.cheap"),
        ({"items": [""]}, "items[0]"),
        ({"items": ["x"] * 501}, "items"),
        ({"session": "s"}, "session"),
    ],
)
def test_a_bad_question_is_refused_by_field(tmp_path, body, field):
    with opened(tmp_path) as app:
        assert _problem(ask(app, "POST", "/v1/recommend", json=body), 422)["field"] == field


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"\\ud800"', b'{"k": 1]'])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommend"])
def test_what_is_no_json_is_a_400(tmp_path, path, content):
    with opened(tmp_path) as app:
        _problem(_post(app, path, content), 400)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'["\xff"]', b'{"k": NaN}', b'{"a":' * 9999])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommend"])
def test_what_is_almost_json_is_refused(tmp_path, path, content):
    with opened(tmp_path) as app:
        assert _post(app, path, content).status_code in (400, 422)


def test_properties_that_are_nested_too_deeply_are_refused(tmp_path):
    deep = json.dumps(event("s", "x"))[:-1] + ', "properties": {"x": %s}}'
    with opened(tmp_path) as app:
        for depth in (17, 300, 5000):
            assert _post(
                app, "/v1/events", (deep % ("[" * depth + "]" * depth)).encode()
            ).status_code in (400, 422)
        assert _post(app, "/v1/events", (deep % "[[[[1]]]]").encode()).status_code == 200
        assert app.engine._log.count() == 1


def test_an_event_in_a_question_is_done_by_who_asks_unless_it_says_otherwise(tmp_path):
    own = event(None, "i2", user_id="other")
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/recommend", json={"user_id": "u", "event": event(None, "i1")})
        ask(app, "POST", "/v1/recommend", json={"user_id": "u", "event": own})
        stored = [(each.user_id, each.item_id) for each in app.engine._log.recent(5)]
        by_event = ask(app, "POST", "/v1/recommend", json={"event": event("s", "i3"), "k": 3})
        by_session = ask(app, "GET", "/v1/sessions/s/recommend?k=3")

    assert stored == [("u", "i1"), ("other", "i2")]
    assert by_event.json()["items"] == by_session.json()["items"]


def test_too_much_is_refused_before_it_is_read(tmp_path):
    read = 0

    async def forever():
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events"}
    scope |= {"headers": [(b"content-type", b"application/json")], "query_string": b""}
    with opened(tmp_path, max_body_bytes=5000) as app:
        asyncio.run(app(scope, forever, send))
        declared = _post(app, "/v1/events", b" " * 5001)
        item = ask(app, "PUT", "/v1/items/x", content=b" " * 5001, headers=JSON)
        whole = [event("s", "x")] * 10_001
    with opened(tmp_path, max_body_bytes=10_000_000) as app:
        many = ask(app, "POST", "/v1/events", json=whole)

    assert sent[0]["status"] == 413
    assert read == 6
    assert "5000 bytes" in _problem(declared, 413)["detail"]
    _problem(item, 413)
    assert "at most 10000" in _problem(many, 422)["detail"]


def test_unknown_paths_and_methods(tmp_path):
    with opened(tmp_path) as app:
        for path in ("/v2", "/v1/events/", "/v1", "/v1/item", "/docs/", "/%2e%2e"):
            assert "/docs lists" in _problem(ask(app, "GET", path), 404)["detail"]
        for method, path, allow in [
            ("GET", "/v1/events", "POST"),
            ("DELETE", "/v1/recommend", "POST"),
            ("PATCH", "/v1/items/x", "DELETE, GET, HEAD, PUT"),
            ("DELETE", "/v1/items/x/similar", "GET"),
            ("POST", "/health/live", "GET, HEAD"),
        ]:
            refused = ask(app, method, path, headers=JSON)
            _problem(refused, 405)
            assert refused.headers["allow"] == allow


def test_only_json_is_taken_so_that_no_other_site_can_post_through_a_browser(tmp_path):
    with opened(tmp_path) as app:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = ask(
                app,
                "POST",
                "/v1/events",
                content=json.dumps(event("s", "x")),
                headers={"content-type": kind},
            )
            assert "Content-Type" in _problem(answer, 415)["detail"]
        kind = {"content-type": "Application/JSON; charset=utf-8"}
        answer = ask(app, "POST", "/v1/events", content=json.dumps(event("s", "x")), headers=kind)
        assert answer.status_code == 200


def test_keys_are_asked_for_where_there_are_some(tmp_path):
    keys = (f"read+write:{api_key_digest('first')}", f"admin:{api_key_digest('sécond')}")
    with opened(tmp_path, api_keys=keys) as app:
        for headers in ({}, {"x-api-key": "third"}, {"x-api-key": ""}):
            answer = ask(app, "POST", "/v1/events", json=event("s", "x"), headers=headers)
            _problem(answer, 401)
            assert answer.headers["www-authenticate"] == "ApiKey"
            _problem(ask(app, "GET", "/v1/items/x", headers=headers), 401)
        for key in ("first", "sécond".encode()):
            answer = ask(
                app, "POST", "/v1/events", json=event("s", "x"), headers={"x-api-key": key}
            )
            assert answer.status_code == 200
        assert app.engine._log.count() == 2
        assert ask(app, "GET", "/health/live").status_code == 200
        assert ask(app, "GET", "/openapi.json").status_code == 200


@pytest.mark.parametrize("item_id", [*ITEMS, "a/similar", "/", "é/ü", "%", "%2F", "a b+c", "..%2f"])
def test_items_of_any_name_come_and_go(tmp_path, item_id):
    path = f"/v1/items/{quote(item_id, safe='')}"
    # A client may fold a path that is only dots, so those are sent percent-encoded.
    path = path.replace("..", "%2E%2E")
    with opened(tmp_path) as app:
        _problem(ask(app, "GET", path), 404)
        made = ask(app, "PUT", path, json={"name": "Tea", "price": 2.5, "item_id": item_id})
        again = ask(app, "PUT", path, json={"name": "Tea"})
        shown = ask(app, "GET", path)
        gone = ask(app, "DELETE", path)
        _problem(ask(app, "DELETE", path), 404)

    assert (made.status_code, again.status_code, gone.status_code) == (201, 200, 204)
    assert made.json() == {"item_id": item_id, "name": "Tea", "price": 2.5}
    assert shown.json() == {"item_id": item_id, "name": "Tea"}


def test_plain_slashes_are_part_of_an_item_id(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "PUT", "/v1/items/tea/green", json={})
        assert ask(app, "GET", "/v1/items/tea%2Fgreen").json() == {"item_id": "tea/green"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/items/%FF", 400),
        ("/v1/items/", 422),
        ("/v1/items/" + "x" * 513, 422),
        ("/v1/sessions/%C3/recommend", 400),
        ("/v1/sessions/s/recommend?k=0", 422),
        ("/v1/sessions/s/recommend?k=1e1", 422),
        ("/v1/sessions/s/recommend?limit=3", 422),
        ("/v1/sessions/s/recommend?explain=perhaps", 422),
        ("/v1/items/tea%2Fgreen/similar?k=1000", 422),
        ("/v1/items/coffee/similar", 404),
    ],
)
def test_bad_paths_and_parameters(tmp_path, path, status):
    with opened(tmp_path) as app:
        _problem(ask(app, "GET", path), status)


def test_a_bad_item_is_refused(tmp_path):
    with opened(tmp_path) as app:
        other = ask(app, "PUT", "/v1/items/x", json={"item_id": "y"})
        assert _problem(other, 422)["field"] == "item_id"
        assert (
            _problem(ask(app, "PUT", "/v1/items/x", json={"price": "2"}), 422)["field"] == "price"
        )
        _problem(ask(app, "PUT", "/v1/items/x", content=b"{", headers=JSON), 400)
        _problem(ask(app, "GET", "/v1/items/x"), 404)


def test_similar_items_are_listed(tmp_path):
    with opened(tmp_path) as app:
        answer = ask(app, "GET", f"/v1/items/{quote('tea/green', safe='')}/similar?k=4")
        sessions = ask(app, "GET", f"/v1/sessions/{quote('a/b ü', safe='')}/recommend?explain=true")
        (exposure,) = app.engine._log.exposures()

    assert len(answer.json()["items"]) == 4
    assert "tea/green" not in {each["item_id"] for each in answer.json()["items"]}
    assert len(sessions.json()["items"]) == 13
    assert exposure.session_id == "a/b ü"


def test_health(tmp_path):
    with opened(tmp_path) as app:
        assert ask(app, "GET", "/health/live").json() == {"status": "live"}
        ready = ask(app, "GET", "/health/ready").json()
        head = ask(app, "HEAD", "/health/ready")

    assert ready == {
        **{"status": "ready", "model_version": "v1", "items": 13},
        **{"search": "scores", "notes": []},
    }
    assert (head.status_code, head.content) == (200, b"")


def test_a_fault_of_the_server_tells_nothing(tmp_path, caplog, monkeypatch):
    async def fail(_body, _caller):
        raise RuntimeError("secret")

    with opened(tmp_path) as app:
        monkeypatch.setitem(app._hot, "/v1/events", fail)
        answer = ask(app, "POST", "/v1/events", json=[])

    assert "secret" not in _problem(answer, 500)["detail"]
    assert "secret" in caplog.text


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
_fields = st.sampled_from(
    [
        *EventIn.__struct_fields__,
        *RecommendIn.__struct_fields__,
        *ItemIn.__struct_fields__,
        "events",
    ]
)
_likely = st.sampled_from(
    ["view_item", "s", "i1", 5, 1_700_000_000, 1_700_000_000_000, "2026-01-31", {}, [], 1e308, -0.0]
)
_objects = st.dictionaries(_fields, _likely | _values, max_size=6)
_nested = st.builds(lambda outer, inner: {**outer, "event": inner}, _objects, _objects)
_rules = st.builds(
    lambda rules: {"rules": rules},
    st.dictionaries(
        st.sampled_from(
            ["exclude_seen", "in_stock", "allow", "deny", "price_min", "price_max", "max_per"]
        ),
        _values
        | st.dictionaries(
            st.sampled_from(["brand", "x"]), st.lists(st.text(max_size=3)) | st.integers()
        ),
        max_size=3,
    ),
)
_bodies = st.one_of(
    st.binary(max_size=60),
    st.one_of(_objects, _nested, _rules, st.lists(_objects, max_size=3), _values).map(
        lambda value: json.dumps(value).encode()
    ),
)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/events"), ("POST", "/v1/recommend"), ("PUT", "/v1/items/x")],
)
def test_no_body_breaks_the_server_and_a_refused_one_writes_nothing(tmp_path, method, path):
    with opened(tmp_path) as app:

        @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
        @given(body=_bodies)
        def check(body):
            before = app.engine._log.count()
            answer = ask(app, method, path, content=body, headers=JSON)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert app.engine._log.count() == before
                assert answer.json()["status"] == answer.status_code

        check()


def test_no_path_breaks_the_server(tmp_path):
    with opened(tmp_path) as app:

        @settings(max_examples=200, deadline=None)
        @given(
            start=st.sampled_from(["/", "/v1/items/", "/v1/sessions/", "/v1/"]),
            middle=st.binary(max_size=12).map(lambda raw: quote(raw, safe="/")),
            end=st.sampled_from(["", "/similar", "/recommend", "?k=", "/recommend?k=%FF&explain"]),
            method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
        )
        def check(start, middle, end, method):
            path = f"/{(start + middle + end).lstrip('/')}"
            assert ask(app, method, path).status_code < 500

        check()
