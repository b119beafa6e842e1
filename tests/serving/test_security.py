"""Attempts to get in, to learn something, or to wear the service out."""

import asyncio
import contextlib
import logging

import pytest
import uvicorn
from uvicorn.server import ServerState

from momentary.errors import SettingsError
from momentary.serving.protocol import MOST_HEAD_BYTES, guarded
from momentary.settings import ServeSettings, api_key_digest
from tests.serving.world import BrokenScorer, ask, event, opened

KEY = "mk_this-is-the-secret-itself"
KEYS = (f"admin:{api_key_digest(KEY)}",)


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "", "0", "127.1", "192.168.0.3", "::ffff:127.0.0.1", "shop.example"),
        *("localhost.evil.example", "127.0.0.1.nip.io", "2130706433"),
    ],
)
def test_a_service_without_keys_listens_to_this_machine_alone(host):
    with pytest.raises(SettingsError, match="there is no key"):
        ServeSettings(host=host)
    assert ServeSettings(host=host, api_keys=KEYS).host == host


def test_a_page_that_reaches_this_machine_by_its_own_name_is_refused(tmp_path):
    names = ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "")
    with opened(tmp_path) as app:
        for name in names:
            for method, path in (("GET", "/v1/popular"), ("DELETE", "/v1/users/u")):
                answer = ask(app, method, path, headers={"host": name})
                assert answer.status_code == 421, name
        sent = ask(
            app, "POST", "/v1/events", json=event("s", "i1"), headers={"host": "evil.example"}
        )
        assert sent.status_code == 421
        assert app.engine._log.count() == 0
        for name in (
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "LOCALHOST",
            "127.0.0.5",
        ):
            assert ask(app, "GET", "/v1/popular", headers={"host": name}).status_code == 200, name
        assert ask(app, "GET", "/health/live", headers={"host": "evil.example"}).status_code == 200
    with opened(tmp_path, api_keys=KEYS) as app:
        headers = {"host": "shop.example", "x-api-key": KEY}
        assert ask(app, "GET", "/v1/popular", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": KEYS[0]},
        {"x-api-key": api_key_digest(KEY)},
        {"x-api-key": KEY + " "},
        {"x-api-key": KEY.upper()},
        {"x-api-key": KEY[:-1]},
        {"authorization": f"Bearer {KEY}"},
        {"cookie": f"x-api-key={KEY}"},
        [("x-api-key", "wrong"), ("x-api-key", KEY)],
    ],
)
def test_what_is_nearly_a_key_opens_nothing(tmp_path, headers):
    guarded_paths = ("/v1/popular", "/v1/items/i1", "/v1/models", "/metrics", "/v1/rules")
    with opened(tmp_path, api_keys=KEYS) as app:
        for path in guarded_paths:
            answer = ask(app, "GET", path, headers=headers, params={"x-api-key": KEY})
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "ApiKey"
        assert ask(app, "PUT", "/v1/items/x", json={}, headers=headers).status_code == 401
        assert app._routes._audit.entries() == []


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/V1/models",
            "//v1/models",
            "/./v1/models",
            "/%761/models",
            "/v1%2Fmodels",
            "/v1/../v1/models",
        ),
        *(
            "/v1/models/",
            "/metrics/",
            "/metrics%20",
            "/METRICS",
            "/docs/../metrics",
            "/v1/models;x",
        ),
    ],
)
def test_no_other_spelling_of_a_path_goes_around_the_key(tmp_path, path):
    with opened(tmp_path, api_keys=KEYS) as app:
        answer = ask(app, "GET", f"http://localhost{path}")
    assert answer.status_code in (401, 404, 405)
    assert b"momentary_" not in answer.content


def test_nothing_logged_or_answered_holds_the_key(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    sent = {"x-api-key": KEY}
    with opened(tmp_path, BrokenScorer(), api_keys=KEYS, rate_limit=1000) as app:
        bodies = []
        for method, path, more in (
            ("POST", "/v1/recommend", {"json": {"session_id": "s"}}),
            ("POST", "/v1/recommend", {"content": b"{"}),
            ("PUT", "/v1/items/i1", {"json": {"price": "x"}}),
            ("PUT", "/v1/items/i1", {"json": {"price": 1}}),
            ("PUT", "/v1/models/prod", {"json": {"version": "none"}}),
            ("DELETE", "/v1/users/u", {}),
            ("GET", "/metrics", {}),
            ("GET", "/v1/nowhere", {}),
        ):
            headers = {**sent, "content-type": "application/json"}
            bodies.append(ask(app, method, path, headers=headers, **more).text)
    said = caplog.text + "".join(bodies) + (tmp_path / "audit.jsonl").read_text()
    assert "failed to score" in said
    assert KEY not in said
    assert api_key_digest(KEY) not in said
    assert KEY not in repr(app._settings)


def test_every_answer_carries_the_security_headers(tmp_path):
    asked = [
        ("GET", "/v1/popular", {}),
        ("POST", "/v1/recommend", {"json": {}}),
        ("POST", "/v1/recommend", {"json": {"k": 0}}),
        ("GET", "/v1/nowhere", {}),
        ("PATCH", "/v1/items/i1", {"json": {}}),
        ("GET", "/health/live", {}),
        ("GET", "/openapi.json", {}),
        ("DELETE", "/v1/items/i1", {}),
        ("GET", "/", {}),
        ("GET", "/metrics", {}),
    ]
    with opened(tmp_path) as app:
        for method, path, more in asked:
            headers = ask(app, method, path, **more).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["cache-control"] == "no-store", path
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert "server" not in headers
        page = ask(app, "GET", "/docs").headers
        assert "frame-ancestors 'none'" in page["content-security-policy"]


def test_what_an_admin_does_is_written_down_and_nothing_else(tmp_path):
    read = api_key_digest("reader")
    with opened(tmp_path, api_keys=(*KEYS, f"read:{read}")) as app:
        admin, reader = {"x-api-key": KEY}, {"x-api-key": "reader"}
        for headers in (reader, admin):
            ask(app, "PUT", "/v1/items/a%0Ab", json={}, headers=headers)
            ask(app, "DELETE", "/v1/items/a%0Ab", headers=headers)
            ask(app, "PUT", "/v1/rules/r", json={}, headers=headers)
            ask(app, "DELETE", "/v1/rules/r", headers=headers)
            ask(app, "DELETE", "/v1/users/secret-person", headers=headers)
        ask(app, "PUT", "/v1/rules/r", json={"allow": "?"}, headers=admin)
        ask(app, "GET", "/v1/models", headers=admin)
        lines = app._routes._audit.entries()
        text = (tmp_path / "audit.jsonl").read_text()
    assert [(line.action, line.target) for line in lines[:4]] == [
        ("put_item", "a\nb"),
        ("delete_item", "a\nb"),
        ("put_rules", "r"),
        ("delete_rules", "r"),
    ]
    assert len(lines) == 5
    assert {line.key for line in lines} == {api_key_digest(KEY)[:8]}
    assert "secret-person" not in text
    assert text.count("\n") == 5
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


@contextlib.asynccontextmanager
async def _listening(app, request_s):
    """The application behind the guarded protocol, on a free port of this machine."""
    protocol = guarded(request_s)
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.close()
        await asyncio.sleep(0.05)


HEAD = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


async def _answer(port, *pieces, wait_s=5.0):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(4_000), wait_s)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "flood",
    [
        b"".join(b"x-%d: y\r\n" % number for number in range(20_000)),
        b"x-long: " + b"y" * 300_000,
        b"x" * 300_000,
    ],
)
def test_a_flood_of_headers_is_cut_off(tmp_path, flood):
    async def run(app):
        async with _listening(app, 30) as port:
            flooded = await _answer(
                port, HEAD, *(flood[at : at + 50_000] for at in range(0, len(flood), 50_000))
            )
            longest = b"x-long: " + b"y" * (MOST_HEAD_BYTES - 1_000) + b"\r\n"
            fine = await _answer(port, HEAD + longest + b"content-length: 2\r\n\r\n{}")
            long_url = await _answer(port, b"GET /" + b"a" * 200_000)
            return flooded, fine, long_url

    with opened(tmp_path) as app:
        flooded, fine, long_url = asyncio.run(run(app))
    # A client that is still sending may see the connection reset instead.
    assert flooded == b"" or flooded.startswith(b"HTTP/1.1 431")
    assert fine.startswith(b"HTTP/1.1 422")
    assert long_url == b"" or long_url.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "start",
    [b"", b"P", HEAD, HEAD + b"content-length: 100\r\n\r\n", HEAD + b"content-length: 9\r\n\r\n{"],
)
def test_a_request_that_never_ends_is_let_go_while_others_are_served(tmp_path, start):
    click = b'{"session_id":"s","item_id":"i1","event_type":"view_item","timestamp":1}'
    good = HEAD + b"content-length: %d\r\n\r\n" % len(click) + click

    async def run(app):
        async with _listening(app, 1) as port:
            slow = asyncio.create_task(_answer(port, start))
            await asyncio.sleep(0.1)
            served = await _answer(port, good)
            return await slow, served

    with opened(tmp_path) as app:
        slow, served = asyncio.run(run(app))
        assert app.engine._log.count() == 1
    assert slow.startswith(b"HTTP/1.1 408")
    assert served.startswith(b"HTTP/1.1 200")


def test_a_connection_may_stay_open_between_requests_and_is_watched_again(tmp_path):
    async def run(app):
        async with _listening(app, 1) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answers = []
            for _ in range(3):
                writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                answers.append(await asyncio.wait_for(reader.read(2_000), 3))
                await asyncio.sleep(0.3)
            writer.write(b"GET /health/live HTT")
            answers.append(await asyncio.wait_for(reader.read(2_000), 3))
            writer.close()
            return answers

    with opened(tmp_path) as app:
        *answers, last = asyncio.run(run(app))
    assert all(each.startswith(b"HTTP/1.1 200") for each in answers)
    assert last.startswith(b"HTTP/1.1 408")
