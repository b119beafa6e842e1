"""The short way and the way through ASGI answer alike, whatever comes and in whatever pieces."""

import asyncio
import contextlib
import json
import re

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from momentary.serving.direct import DirectProtocol, fits, protocol_for
from momentary.serving.protocol import guarded
from momentary.settings import api_key_digest
from tests.serving.world import event, opened


class _Server:
    """An application on a free port; `through_asgi` lists the paths that came that way."""

    def __init__(self, app, protocol):
        self._app = app
        self._protocol = protocol
        self.through_asgi = []
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")]
        self.port = 0

    async def _called(self, scope, receive, send):
        self.through_asgi.append(scope["path"])
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def listening(self):
        config = uvicorn.Config(
            self._called,
            interface="asgi3",
            http=self._protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
        )
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: self._protocol(config=config, server_state=self.state, app_state={}),
            "127.0.0.1",
            0,
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in list(self.state.connections):
                connection.transport.close()
            await asyncio.sleep(0.02)

    async def say(self, *pieces, answers=1, pause_s=0.02):
        """What comes back for bytes that are sent in pieces."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if len(pieces) > 1:
                    await asyncio.sleep(pause_s)
            found = [await asyncio.wait_for(_answer(reader), 5) for _ in range(answers)]
            if any((b"connection", b"close") in headers for _, headers, _ in found):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            return found
        finally:
            writer.close()


async def _answer(reader):
    """Status line, headers without order, body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    if first == b"HTTP/1.1 100 Continue":
        return await _answer(reader)
    headers = sorted(tuple(line.split(b": ", 1)) for line in lines)
    body = await reader.readexactly(int(dict(headers).get(b"content-length", b"0")))
    return first, headers, re.sub(rb'"recommendation_id":"\w+"', b"", body)


def _post(path, body, *more, content_type="application/json", length=True):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if length:
        lines.append(f"Content-Length: {len(sent)}")
    return "\r\n".join([*lines, *more, "", ""]).encode() + sent


def _click(name, session="s", item="i1"):
    return event(session, item, event_id=name)


ORDINARY = [
    _post("/v1/events", _click("a")),
    _post("/v1/events", _click("a")),
    _post("/v1/events", [_click("b"), _click("c", item="i2")]),
    _post("/v1/recommend", {"session_id": "s", "k": 3}),
    _post("/v1/recommend", {"session_id": "s", "event": _click("d"), "explain": True}),
    _post("/v1/recommend", {"k": 2}, "Connection: close"),
    _post("/v1/recommend", {"k": 2}, "Origin: https://shop.example"),
    _post("/v1/recommend", {"k": 2}, "Origin: https://other.example"),
]
REFUSED = [
    _post("/v1/recommend", b"no json"),
    _post("/v1/recommend", {"k": 1000}),
    _post("/v1/recommend", {"rules": {"price_min": "x"}}),
    _post("/v1/recommend", {"rules": {"allow": "colour = 'red'"}}),
    _post("/v1/events", {**_click("e"), "timestamp": "never"}),
    _post("/v1/events", _click("f"), content_type="text/plain"),
    _post("/v1/events", _click("f"), content_type=None),
    _post("/v1/events", b" " * 3_000),
]
UNUSUAL = [
    _post("/v1/events?x=1", _click("g")),
    _post("/v1/events", _click("h"), "Expect: 100-continue"),
    _post("/v1/events", b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
    _post("/v1/events", _click("i"), "Upgrade: h2c", "Connection: upgrade"),
    _post("/v1/events", _click("j"), "Host: elsewhere"),
    _post("/v1/events", _click("k")).replace(b"HTTP/1.1", b"HTTP/1.0"),
    _post("/v1/events", b" " * 70_000),
    b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
]


def _both_ways(tmp_path, requests, **limits):
    """The answers of two equal services, one of which has only ASGI, and who came that way."""

    async def run(app, protocol):
        async with _Server(app, protocol).listening() as server:
            found = [(await server.say(each))[0] for each in requests]
            return found, server.through_asgi

    answers = []
    for name in ("direct", "asgi"):
        (tmp_path / name).mkdir()
        with opened(tmp_path / name, **limits) as app:
            routes = app.direct() if name == "direct" else {}
            app._access._clock_s = lambda: 1.0  # however long a busy machine takes
            answers.append(asyncio.run(run(app, protocol_for(30, routes))))
            answers[-1] += (app.engine.measure(),)
    return answers


LIMITS = {"cors_origins": ("https://shop.example",), "max_body_bytes": 2_000}


@pytest.mark.parametrize(
    ("requests", "direct"), [(ORDINARY, True), (REFUSED, True), (UNUSUAL, False)]
)
def test_both_ways_answer_alike(tmp_path, requests, direct):
    (short, through, told), (long, all_through, told_long) = _both_ways(
        tmp_path, requests, **LIMITS
    )

    assert short == long
    assert len(all_through) == len(requests)
    assert len(through) == (0 if direct else len(requests))
    counted = [
        sorted(line for line in text.splitlines() if line.startswith(b"momentary_requests_total"))
        for text in (told, told_long)
    ]
    assert counted[0] == counted[1] != []


def test_a_head_that_comes_again_is_not_parsed_again_and_answered_alike(tmp_path, monkeypatch):
    """Clicks in one piece behind the same head, then others among them, on one connection."""
    requests = [
        _post("/v1/events", _click("a")),
        _post("/v1/events", _click("b")),
        _post("/v1/events", b"not json" + b" " * (len(json.dumps(_click("b"))) - 8)),
        _post("/v1/events", _click("longer")),
        _post("/v1/events", _click("longer")),
        _post("/v1/recommend", {"session_id": "s", "k": 3}),
        _post("/v1/recommend", {"session_id": "s", "k": 4}),
        _post("/v1/recommend", {"session_id": "s", "k": 4}, "Cookie: id=zoe"),
        _post("/v1/recommend", {"session_id": "s", "k": 2}, "Cookie: id=zoe"),
        _post("/v1/events", _click("c"), content_type="text/plain"),
        _post("/v1/events", _click("d"), content_type="text/plain"),
        b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        _post("/v1/events", _click("e")),
        _post("/v1/events", _click("f")),
    ]
    begun = []
    begin = DirectProtocol.on_message_begin
    monkeypatch.setattr(
        DirectProtocol, "on_message_begin", lambda self: (begun.append(1), begin(self))[1]
    )

    async def run(app, routes):
        protocol = protocol_for(30, routes)
        async with _Server(app, protocol).listening() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            found = []
            for each in requests:
                writer.write(each)
                found.append(await asyncio.wait_for(_answer(reader), 5))
            writer.close()
            return found, getattr(protocol, "heads", {})

    answers = []
    for name in ("direct", "asgi"):
        (tmp_path / name).mkdir()
        with opened(tmp_path / name) as app:
            answers.append(asyncio.run(run(app, app.direct() if name == "direct" else {})))
    (short, heads), (long, _) = answers

    assert short == long
    # Parsed: each head once, those with a cookie each time, and what comes after ASGI once more.
    assert len(begun) == len(requests) - 6
    assert len(heads) == 4
    assert not any(b"Cookie" in head for head in heads)


def test_a_known_head_waits_for_its_body_and_for_the_answer_before(tmp_path):
    whole = _post("/v1/recommend", {"session_id": "s", "k": 3})
    cut = len(whole) - 7

    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            first = await server.say(whole)
            pieces = await server.say(whole[:cut], whole[cut:])
            both = await server.say(whole + whole, answers=2)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            (connection,) = server.state.connections
            # The second comes before the engine has settled the first.
            connection.data_received(whole)
            connection.data_received(whole)
            late = [await asyncio.wait_for(_answer(reader), 5) for _ in range(2)]
            writer.close()
            return [*first, *pieces, *both, *late], server.through_asgi

    with opened(tmp_path) as app:
        answers, through = asyncio.run(run(app))
    assert [first for first, _, _ in answers] == [b"HTTP/1.1 200 OK"] * 6
    assert through == ["/v1/recommend"] * 3


def test_heads_that_are_all_different_fill_no_memory(tmp_path):
    async def run(app):
        protocol = protocol_for(30, app.direct())
        async with _Server(app, protocol).listening() as server:
            for number in range(300):
                await server.say(_post("/v1/events", [], f"X-Number: {number}"))
            await server.say(_post("/v1/events", [], f"X-Long: {'x' * 4_000}"))
            return protocol.heads

    with opened(tmp_path) as app:
        heads = asyncio.run(run(app))
    assert 0 < len(heads) <= 256
    assert max(map(len, heads)) < 2_100


def test_a_connection_that_rests_is_closed_and_one_that_asks_is_not(tmp_path):
    ask = _post("/v1/recommend", {"k": 1})

    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            (connection,) = server.state.connections
            connection.timeout_keep_alive = 0.2
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            while loop.time() < begun_s + 0.5:
                writer.write(ask)
                await asyncio.wait_for(_answer(reader), 5)
                await asyncio.sleep(0.05)
            last_s = loop.time()
            rest = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return rest, loop.time() - last_s

    with opened(tmp_path) as app:
        rest, waited_s = asyncio.run(run(app))
    assert rest == b""
    assert 0.05 < waited_s < 1.5


def test_keys_and_their_rates_count_on_the_short_way(tmp_path):
    keys = {"write": "w" * 40, "read": "r" * 40}
    requests = [
        _post("/v1/events", _click("a")),
        _post("/v1/events", _click("a"), "X-API-Key: wrong"),
        _post("/v1/events", _click("a"), f"X-API-Key: {keys['read']}"),
        _post("/v1/recommend", {"k": 2}, f"X-API-Key: {keys['read']}"),
        _post("/v1/recommend", {"k": 2}, f"X-API-Key: {keys['write']}"),
        *[_post("/v1/events", [], f"X-API-Key: {keys['write']}")] * 4,
    ]
    entries = tuple(f"{name}:{api_key_digest(keys[name])}" for name in ("read", "write"))
    (short, through, _), (long, _, _) = _both_ways(
        tmp_path, requests, api_keys=entries, rate_limit=2.0
    )

    statuses = [int(first.split()[1]) for first, _, _ in short]
    assert statuses == [int(first.split()[1]) for first, _, _ in long]
    assert statuses == [401, 401, 403, 200, 403, 200, 200, 200, 429]
    assert through == []


def test_pipelined_requests_are_answered_in_their_order(tmp_path):
    bodies = [{"session_id": "s", "k": k} for k in (1, 2, 3, 4)]

    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            sent = b"".join(_post("/v1/recommend", each) for each in bodies)
            answers = await server.say(sent, answers=4)
            return [len(json.loads(body.replace(b"{,", b"{"))["items"]) for *_, body in answers]

    with opened(tmp_path) as app:
        assert asyncio.run(run(app)) == [1, 2, 3, 4]


def test_a_body_in_pieces_goes_through_asgi_and_counts_once(tmp_path):
    whole = _post("/v1/events", _click("a"))
    cut = whole.index(b"\r\n\r\n") + 4

    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            pieces = [whole[:10], whole[10:cut], whole[cut : cut + 5], whole[cut + 5 :]]
            return await server.say(*pieces), await server.say(whole), server.through_asgi

    with opened(tmp_path) as app:
        (in_pieces,), (again,), through = asyncio.run(run(app))
    assert json.loads(in_pieces[2]) == {"accepted": 1, "duplicates": 0}
    assert json.loads(again[2]) == {"accepted": 0, "duplicates": 1}
    assert through == ["/v1/events"]


def test_a_client_that_does_not_read_waits_its_turn_in_asgi(tmp_path):
    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            (connection,) = server.state.connections
            connection.pause_writing()
            writer.write(_post("/v1/recommend", {"k": 1}))
            await asyncio.sleep(0.05)
            paused = list(server.through_asgi)
            connection.resume_writing()
            answer = await asyncio.wait_for(_answer(reader), 5)
            writer.close()
            return paused, answer[0]

    with opened(tmp_path) as app:
        assert asyncio.run(run(app)) == (["/v1/recommend"], b"HTTP/1.1 200 OK")


def test_who_is_gone_before_the_answer_has_still_clicked(tmp_path):
    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(_post("/v1/events", _click("a")))
            writer.transport.abort()
            await asyncio.sleep(0.1)
            (again,) = await server.say(_post("/v1/events", _click("a")))
            return again[2], server.through_asgi

    with opened(tmp_path) as app:
        assert asyncio.run(run(app)) == (b'{"accepted":0,"duplicates":1}', [])


def test_a_server_that_stops_answers_what_it_has_read_and_closes(tmp_path):
    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            (connection,) = server.state.connections
            # The engine settles in a later turn of the loop, so the answer is still due.
            connection.data_received(_post("/v1/recommend", {"k": 1}))
            connection.shutdown()
            answer = await asyncio.wait_for(_answer(reader), 5)
            rest = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer, rest

    with opened(tmp_path) as app:
        (first, headers, _), rest = asyncio.run(run(app))
    assert first == b"HTTP/1.1 200 OK"
    assert (b"connection", b"close") in headers
    assert rest == b""


def test_too_many_that_wait_are_refused(tmp_path):
    async def run(app):
        async with _Server(app, protocol_for(30, app.direct())).listening() as server:
            pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
            while len(server.state.connections) < len(pairs):
                await asyncio.sleep(0.01)
            for connection in list(server.state.connections):
                connection.data_received(_post("/v1/recommend", {"k": 1}))  # all in one tick
            found = [await asyncio.wait_for(_answer(reader), 5) for reader, _ in pairs]
            for _, writer in pairs:
                writer.close()
            return sorted(int(first.split()[1]) for first, *_ in found), server.through_asgi

    with opened(tmp_path, max_waiting=1) as app:
        assert asyncio.run(run(app)) == ([200, 429, 429], [])


def test_this_uvicorn_is_built_as_the_short_way_needs_it():
    assert fits(), (
        "uvicorn's HttpToolsProtocol has changed: read it beside serving/direct.py, mend _OF_BASE "
        "and DirectProtocol, or every request takes the way through ASGI"
    )
    assert issubclass(protocol_for(30, {b"/": lambda *_: None}), DirectProtocol)


def test_another_uvicorn_is_served_through_asgi(caplog):
    class Other(HttpToolsProtocol):
        def on_headers_complete(self):
            """Nothing that is known."""

    assert not fits(Other)
    found = protocol_for(7, {b"/": lambda *_: None}, fits=lambda: False)
    assert not issubclass(found, DirectProtocol)
    assert found.request_s == guarded(7).request_s
    assert "goes through ASGI" in caplog.text
