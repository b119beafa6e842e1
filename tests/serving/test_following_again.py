"""What could not be followed, because the database went away in between, is followed later."""

import base64

import pytest

from momentary.errors import DataError, StorageError
from momentary.recommend.assortment import Assortment
from momentary.serving.content import LiveContent
from tests.serving.test_following import listed, shop, told  # noqa: F401 - a fixture
from tests.serving.test_live_content import bundle  # noqa: F401 - a fixture

SENT = base64.b64encode(b"g2").decode()


def away(*_given, **_named):
    raise StorageError("nobody is there")


@pytest.mark.parametrize(("owner", "method"), [(LiveContent, "_store"), (Assortment, "extended")])
def test_an_item_that_another_machine_saw_is_taken_in_once_the_database_is_back(
    shop,  # noqa: F811
    monkeypatch,
    owner,
    method,
):
    async def story(first, second, look):
        await look()
        for item in ("new", "newer"):
            put = await first.put(f"/v1/items/{item}", json={"image_data": SENT})
            assert put.status_code == 201
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, away)
            await look()
            await look()
        assert "new" not in await listed(second, "g2-01", "g2-05")
        await look()
        found = await listed(second, "g2-01", "g2-05")
        assert {"new", "newer"} <= found.keys()

    told(shop, story)


def test_an_item_that_cannot_be_placed_stands_in_nobodys_way(shop, monkeypatch, caplog):  # noqa: F811
    put = Assortment.put

    def picky(assortment, item, views, row):
        if item.item_id == "bad":
            raise DataError("its vector has another width")
        return put(assortment, item, views, row)

    async def story(first, second, look):
        await look()
        for item in ("bad", "good"):
            await first.put(f"/v1/items/{item}", json={"image_data": SENT})
        with monkeypatch.context() as patch:
            patch.setattr(Assortment, "put", picky)
            await look()
            await look()
        assert "good" in await listed(second, "g2-01", "g2-05")
        assert caplog.text.count("item 'bad' of another machine cannot be placed") == 1

    told(shop, story)


def test_many_that_another_machine_deletes_are_like_nothing_here(shop):  # noqa: F811
    async def story(first, second, look):
        await first.put("/v1/items/new", json={"image_data": SENT})
        await look()
        assert (await second.get("/v1/items/new/similar")).status_code == 200
        for number in range(60):
            shop[0][0].catalog.delete(f"other-{number}")
        shop[0][0].catalog.delete("new")
        await look()
        assert (await second.get("/v1/items/new/similar")).status_code == 404
        assert (await second.get("/v1/items/g2-03/similar")).status_code == 200

    told(shop, story)


def test_whom_one_machine_erases_the_others_forget(shop):  # noqa: F811
    click = {"item_id": "g2-01", "event_type": "view_item", "timestamp": 1_700_000_000}

    async def story(first, second, look):
        await look()
        visits = shop[1][1].engine._visits
        for person in ("ada", "bob"):
            event = {**click, "user_id": person, "event_id": person}
            asked = {"user_id": person, "event": event, "k": 3}
            assert (await second.post("/v1/recommend", json=asked)).status_code == 200
        await look()
        assert ("user_id", "ada") in visits
        receipt = (await first.delete("/v1/users/ada")).json()
        assert receipt["events"] == 1
        await look()
        assert len(visits) == 0
        # The others' visits are read from the log again, and once is enough.
        await second.post("/v1/recommend", json={"user_id": "bob", "k": 3})
        assert len(visits.get(("user_id", "bob")).items) == 1
        await look()
        assert ("user_id", "bob") in visits

    told(shop, story)


def test_what_another_worker_has_stored_is_not_taken_for_known_here(shop):  # noqa: F811
    async def story(first, second, look):
        assert (await first.put("/v1/items/new", json={"image_data": SENT})).status_code == 201
        # As if this one had been read before the other stored it, and started after.
        assortment = shop[1][1]._routes._content._assortment
        assortment.revision, assortment.lacking = 1_000_000, {"new"}
        await look()
        assert "new" in await listed(second, "g2-01", "g2-05")

    told(shop, story)
