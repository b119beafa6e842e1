"""Lists that are being made while something changes: none is of two minds."""

import asyncio
import threading

import httpx
import pytest

from momentary.recommend.search import TextIndex
from momentary.serving import discovery
from momentary.serving.engine import Engine
from momentary.types import Item
from tests.serving.world import ITEMS, ask, event, make_recommender, opened


class Held:
    """A piece of work that stops half-way until it is let go on."""

    def __init__(self, work):
        self._work = work
        self.calls = 0
        self.begun, self.on = threading.Event(), threading.Event()

    def __call__(self, *given, **named):
        found = self._work(*given, **named)
        self.calls += 1
        self.begun.set()
        assert self.on.wait(30)
        return found


def told(app, held, path, meanwhile):
    """The answer to a question during which something happens."""

    async def run():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = asyncio.create_task(client.get(path))
            assert await asyncio.to_thread(held.begun.wait, 30)
            await meanwhile(client)
            held.on.set()
            return await asked

    return [each["item_id"] for each in asyncio.run(run()).json()["items"]]


@pytest.fixture
def held(monkeypatch):
    held = Held(TextIndex)
    monkeypatch.setattr(discovery, "TextIndex", held)
    return held


def test_what_is_put_while_the_search_reads_the_catalogue_is_found(tmp_path, held):
    async def change(client):
        for item in ("new", "gone"):
            body = {"name": f"Curious {item}"}
            assert (await client.put(f"/v1/items/{item}", json=body)).status_code == 201
        assert (await client.delete("/v1/items/gone")).status_code == 204

    with opened(tmp_path) as app:
        assert told(app, held, "/v1/search?q=curious", change) == ["new"]
        assert len(ask(app, "GET", "/v1/search?q=curious").json()["items"]) == 1
    assert held.calls == 1


def test_a_catalogue_that_changes_as_a_whole_is_read_again(tmp_path, held):
    with opened(tmp_path) as app:

        async def change(_client):
            app._routes._catalog.upsert([Item(item_id="new", name="Curious")])
            app._routes._discovery.changed_much()

        assert told(app, held, "/v1/search?q=curious", change) == ["new"]
    assert held.calls == 2


@pytest.mark.parametrize("name", ["popular", "trending"])
def test_a_trend_is_of_the_model_that_is_at_work_when_it_is_told(tmp_path, monkeypatch, name):
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/events", json=[event("s", "i1"), event("t", "i1"), event("t", "i2")])
        held = Held(app.engine.counts)
        monkeypatch.setattr(Engine, "counts", lambda _, *range_us: held(*range_us))

        async def swap(_client):
            app.engine.swap(make_recommender(ids=ITEMS[::-1]), model_version="v2")

        # The clock of the shop stands still, and what happens now is not before now.
        later = app.engine.now_us() + 1
        monkeypatch.setattr(Engine, "now_us", lambda _: later)
        assert told(app, held, f"/v1/{name}?k=2", swap) == ["i1", "i2"]
        # What was counted is not counted again for yet another model.
        app.engine.swap(make_recommender(ids=ITEMS[1:]), model_version="v3")
        calls = held.calls
        again = ask(app, "GET", f"/v1/{name}?k=2").json()
        assert [each["item_id"] for each in again["items"]] == ["i1", "i2"]
        assert (again["model_version"], held.calls) == ("v3", calls)
