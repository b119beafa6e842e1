import pytest

from momentary.serving.access import Access
from momentary.serving.problems import Problem
from momentary.settings import ServeSettings, api_key_digest, new_api_key, read_key
from tests.serving.world import ask, event, opened

SCOPES = ("write", "read", "read+write", "admin")
KEYS = tuple(f"{scope}:{api_key_digest(scope)}" for scope in SCOPES)
SITE = "https://shop.example"


def _status(app, key, method, path, **rest):
    return ask(app, method, path, headers={"x-api-key": key}, **rest).status_code


def test_a_key_may_do_what_its_scopes_say_and_nothing_else(tmp_path):
    allowed = {
        ("POST", "/v1/events"): {"write", "read+write", "admin"},
        ("POST", "/v1/recommend"): {"read", "read+write", "admin"},
        ("GET", "/v1/sessions/s/recommend"): {"read", "read+write", "admin"},
        ("GET", "/v1/items/tea%2Fgreen/similar"): {"read", "read+write", "admin"},
        ("GET", "/v1/items/tea%2Fgreen/together"): {"read", "read+write", "admin"},
        ("GET", "/v1/popular"): {"read", "read+write", "admin"},
        ("GET", "/v1/trending"): {"read", "read+write", "admin"},
        ("GET", "/v1/search?q=tea"): {"read", "read+write", "admin"},
        ("GET", "/metrics"): {"read", "read+write", "admin"},
        ("PUT", "/v1/items/new"): {"admin"},
        ("DELETE", "/v1/items/new"): {"admin"},
        ("DELETE", "/v1/users/u"): {"admin"},
        ("GET", "/v1/models"): {"admin"},
        ("PUT", "/v1/models/prod"): {"admin"},
    }
    bodies = {
        "/v1/events": event("s", "x"),
        "/v1/recommend": {"k": 3},
        "/v1/items/new": {},
        "/v1/models/prod": {"version": "none"},
    }
    with opened(tmp_path, api_keys=KEYS) as app:
        for (method, path), who in allowed.items():
            body = {"json": bodies[path]} if method in ("POST", "PUT") else {}
            for scope in SCOPES:
                status = _status(app, scope, method, path, **body)
                assert (status != 403) == (scope in who), (method, path, scope, status)


def test_an_event_inside_a_question_needs_the_right_to_write(tmp_path):
    body = {"event": event("s", "x")}
    with opened(tmp_path, api_keys=KEYS) as app:
        assert _status(app, "read", "POST", "/v1/recommend", json=body) == 403
        assert app.engine._log.count() == 0
        assert _status(app, "read+write", "POST", "/v1/recommend", json=body) == 200


def test_a_key_that_asks_too_often_waits():
    now_s = 100.0
    settings = ServeSettings(api_keys=KEYS, rate_limit=2)
    access = Access(settings, clock_s=lambda: now_s)
    scope = {"headers": [(b"x-api-key", b"read")]}
    other = {"headers": [(b"x-api-key", b"write")]}
    for _ in range(4):
        access.caller(scope)
    with pytest.raises(Problem, match="More than 2 requests") as refused:
        access.caller(scope)
    assert refused.value.status == 429
    assert refused.value.headers == ((b"retry-after", b"1"),)
    assert access.caller(other).scopes == {"write"}
    now_s += 0.5
    access.caller(scope)
    with pytest.raises(Problem):
        access.caller(scope)


def test_browsers_of_named_sites_may_ask_and_no_others(tmp_path):
    asks = {"access-control-request-method": "POST", "origin": SITE}
    with opened(tmp_path, cors_origins=(SITE,), api_keys=KEYS) as app:
        first = ask(app, "OPTIONS", "/v1/events", headers=asks)
        other = ask(
            app, "OPTIONS", "/v1/events", headers={**asks, "origin": "https://evil.example"}
        )
        sent = {"origin": SITE, "x-api-key": "write"}
        answer = ask(app, "POST", "/v1/events", json=event("s", "x"), headers=sent)
        refused = ask(app, "POST", "/v1/events", json=event("s", "x"), headers={"origin": SITE})
        shown = ask(app, "GET", "/v1/popular", headers={"origin": SITE, "x-api-key": "read"})

    assert first.status_code == 204
    assert first.headers["access-control-allow-origin"] == SITE
    assert "x-api-key" in first.headers["access-control-allow-headers"]
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
    for each in (answer, refused, shown):
        assert each.headers["access-control-allow-origin"] == SITE
        assert each.headers["vary"] == "Origin"
    assert [answer.status_code, refused.status_code, shown.status_code] == [200, 401, 200]


def test_without_named_sites_nothing_is_said_to_browsers(tmp_path):
    with opened(tmp_path) as app:
        answer = ask(app, "GET", "/v1/popular", headers={"origin": SITE})
    assert "access-control-allow-origin" not in answer.headers


def test_a_new_key_is_kept_as_its_digest_only():
    key, entry = new_api_key("read+write")
    scopes, digest = read_key(entry)
    assert scopes == {"read", "write"}
    assert digest == api_key_digest(key)
    assert key not in entry
    assert new_api_key("admin")[0] != new_api_key("admin")[0]
