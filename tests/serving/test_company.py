"""What visitors choose beside new items: each event counts once, whoever recorded it and when."""

import asyncio
import threading

import pytest

from momentary.serving import company
from momentary.serving.company import CompanyBook
from momentary.serving.engine import Engine
from tests.serving.test_live_content import (  # noqa: F401
    app,
    bundle,
    event,
    looked,
    run,
)
from tests.serving.world import NOW_US


def clicks(session, *items):
    return [
        {
            "session_id": session,
            "item_id": item,
            "event_type": "view_item",
            "timestamp": NOW_US / 1e6 + step,
        }
        for step, item in enumerate(items)
    ]


async def visits(client):
    return (await client.get("/v1/items/new/content")).json()["visits"]


@pytest.mark.parametrize("reads", ["before it happens", "after it happened"])
def test_what_happens_while_the_log_is_counted_counts_once(app, monkeypatch, reads):  # noqa: F811
    logged, begun, on = Engine.logged, threading.Event(), threading.Event()

    def slowly(engine, after, **bounds):
        found = logged(engine, after, **bounds)
        if reads == "before it happens":
            found = iter(list(found))
        begun.set()
        assert on.wait(30)
        yield from found

    async def story(client):
        await client.put("/v1/items/new", json={"image": "g2"})
        await client.post("/v1/events", json=clicks("before", "g0-01", "new"))
        monkeypatch.setattr(Engine, "logged", slowly)
        counting = asyncio.create_task(app._routes._content._recount())
        assert await asyncio.to_thread(begun.wait, 30)
        await client.post("/v1/events", json=clicks("meanwhile", "g0-01", "new"))
        on.set()
        await counting
        monkeypatch.setattr(Engine, "logged", logged)
        await app._routes._content.count()
        assert await visits(client) == 2
        beside = app._routes._content._counted.book.companies["new"].beside
        assert beside == {"g0-01": 2}
        await client.post("/v1/events", json=clicks("after", "g0-01", "new"))
        await app._routes._content.count()
        assert await visits(client) == 3

    run(app, story)


def test_what_anybody_sends_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(company, "_BESIDE", 3)
    book = CompanyBook({"a"}, idle_us=60_000_000)
    for visit in range(10):
        for item in ("new", "a", f"other {visit}"):
            book.see(event(str(visit), item, visit))
    assert book.companies["new"].visits == 10
    assert book.companies["new"].beside == {"a": 10, "other 0": 1, "other 1": 1}
