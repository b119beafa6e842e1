"""What is sent to be looked at takes bounded room, and what is refused was not written."""

import asyncio

import pytest

from momentary.serving import content
from momentary.serving.looking import Looker, Seen
from tests.serving.test_live_content import (  # noqa: F401
    app,
    bundle,
    looked,
    run,
    sent,
    settled,
)

LOOK = Looker.look


def test_an_item_that_is_refused_while_many_are_looked_at_was_not_written(
    app,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(content, "_MOST_WAITING", 2)
    monkeypatch.setattr(content, "_WAIT_S", 0)

    async def story(client):
        for item in ("one", "two"):
            put = await client.put(f"/v1/items/{item}", json={"image": "slow"})
            assert put.status_code == 201
        refused = await client.put("/v1/items/three", json={"image": "slow"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await client.get("/v1/items/three")).status_code == 404
        actions = app._routes._audit.entries()
        assert [each.target for each in actions] == ["one", "two"]
        for task in list(app._routes._content._tasks):
            task.cancel()
        await asyncio.sleep(0)
        assert (await client.put("/v1/items/three", json={})).status_code == 201

    run(app, story)


def test_items_that_come_at_once_are_counted_before_they_are_looked_at(
    app,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(content, "_MOST_WAITING", 2)
    monkeypatch.setattr(content, "_WAIT_S", 0)

    async def story(client):
        puts = (client.put(f"/v1/items/n{n}", json={"image": "slow"}) for n in range(5))
        answers = await asyncio.gather(*puts)
        assert sorted(each.status_code for each in answers) == [201, 201, 429, 429, 429]

    run(app, story)


def test_texts_wait_for_no_picture(app, monkeypatch):  # noqa: F811
    begun = asyncio.Event()

    async def look(_looker, modality, _source):
        if modality == "image":
            begun.set()
            await asyncio.sleep(60)
        return Seen(reason="nothing to see.")

    # The one turn of each looker is real.
    monkeypatch.setattr(Looker, "look", LOOK)
    monkeypatch.setattr(Looker, "_look", look)
    monkeypatch.setattr(content, "_WAIT_S", 0)

    async def story(client):
        await client.put("/v1/items/slow", json={"image": "slow"})
        await begun.wait()
        await client.put("/v1/items/words", json={"name": "Words"})

        async def read():
            return (await client.get("/v1/items/words/content")).json()["state"] == "ready"

        await settled(read)
        assert (await client.get("/v1/items/slow/content")).json()["state"] == "pending"

    run(app, story)


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", "/v1/search/picture", "picture"),
        ("POST", "/v1/search/sound", "sound"),
        ("PUT", "/v1/items/new", "image_data"),
    ],
)
def test_pictures_and_sounds_that_wait_fill_no_memory(
    app,  # noqa: F811
    monkeypatch,
    method,
    path,
    field,
):
    monkeypatch.setattr(content, "MOST_SENT_BYTES", 10)
    go, held = asyncio.Event(), []

    async def held_up(looker, modality, source):
        held.append(source)
        await go.wait()
        return await looked(looker, modality, source)

    monkeypatch.setattr(Looker, "look", held_up)

    async def story(client):
        # One that is larger than everything may wait where nothing else does.
        first = asyncio.create_task(
            client.post("/v1/search/picture", json={"picture": sent("g3 and more than ten")})
        )
        while not held:
            await asyncio.sleep(0.01)
        refused = await client.request(method, path, json={field: sent("g1")})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["field"] == field
        assert len(held) == 1
        go.set()
        assert (await first).status_code == 200
        again = await client.request(method, path, json={field: sent("g1")})
        assert again.status_code in (200, 201)

    run(app, story)
