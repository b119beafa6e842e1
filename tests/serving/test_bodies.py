"""Many who send large bodies slowly fill no memory: those over the limit come again."""

import asyncio

import pytest

from momentary.serving import http
from momentary.serving.http import ON_THE_WAY, read_body
from momentary.serving.problems import Problem
from tests.serving.world import opened

SCOPE = {"type": "http", "headers": []}


class Sender:
    """Sends parts when it is told to."""

    def __init__(self):
        self.parts = asyncio.Queue()

    def send(self, size, *, more=True):
        self.parts.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})

    def leave(self):
        self.parts.put_nowait({"type": "http.disconnect"})


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(http, "MOST_ON_THE_WAY", 1_000)
    assert ON_THE_WAY.held_bytes == 0
    yield
    assert ON_THE_WAY.held_bytes == 0


def _reads(sender):
    return asyncio.ensure_future(read_body(SCOPE, sender.parts.get, limit_bytes=2_000))


async def _settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_would_fill_the_memory_comes_again_and_the_others_go_on():
    async def run():
        senders = [Sender() for _ in range(3)]
        reads = [_reads(each) for each in senders]
        for each in senders[:2]:
            each.send(400)
        await _settle()
        assert ON_THE_WAY.held_bytes == 800
        senders[2].send(300)
        await _settle()
        with pytest.raises(Problem) as refused:
            await reads[2]
        assert (refused.value.status, refused.value.headers[0]) == (429, (b"retry-after", b"1"))
        senders[0].send(100, more=False)
        assert len(await reads[0]) == 500
        again = Sender()
        again.send(300)
        read = _reads(again)
        await _settle()
        again.send(10, more=False)
        assert len(await read) == 310
        senders[1].leave()
        with pytest.raises(Problem, match="closed before"):
            await reads[1]

    asyncio.run(run())


def test_a_body_that_comes_at_once_is_never_on_its_way():
    async def run():
        sender = Sender()
        sender.send(1_500, more=False)
        return await _reads(sender)

    assert len(asyncio.run(run())) == 1_500


def test_a_body_that_is_too_large_or_given_up_holds_nothing():
    async def run():
        large, given_up = Sender(), Sender()
        large.send(900)
        large.send(1_200)
        with pytest.raises(Problem) as refused:
            await _reads(large)
        assert refused.value.status == 413
        given_up.send(900)
        read = _reads(given_up)
        await _settle()
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommend", "/v1/items/i1"])
def test_every_route_with_a_body_is_guarded(tmp_path, path):
    method = "PUT" if "items" in path else "POST"
    sent = []

    async def run(app):
        sender = Sender()
        sender.send(600)
        sender.send(600)
        scope = {
            **{"type": "http", "method": method, "path": path, "raw_path": path.encode()},
            **{"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"},
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }

        async def send(message):
            sent.append(message)

        await app(scope, sender.parts.get, send)

    with opened(tmp_path) as app:
        asyncio.run(run(app))
        assert app.engine._log.count() == 0
    assert sent[0]["status"] == 429
