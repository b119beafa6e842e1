"""A model that comes to work knows the items that were looked at while it was read."""

import asyncio
import threading

from momentary.data.item_vectors import Kept
from momentary.encoders.store import FILE, VectorStore
from momentary.recommend.assortment import Assortment
from tests.recommend.test_placed import catalogue
from tests.serving.test_live_content import app, ask, bundle, ids, looked, run, sent  # noqa: F401
from tests.serving.world import make_home


def swapped(app, other):  # noqa: F811
    """What `Models` does once a model is read."""
    whole = other.extended()
    table = app._routes._catalog.table(whole.items.ids)
    app.engine.swap(
        other.recommender(table, bundle=whole),
        model_version="v2",
        fallback=other.recommender(table, bundle=whole, role="fallback"),
    )
    app._routes._content.adopt(other)


def test_an_item_that_was_put_while_another_model_was_read_is_placed_by_it(app, bundle):  # noqa: F811
    other = Assortment(bundle, catalogue())

    async def story(client):
        await app._routes._following.look()
        put = await client.put("/v1/items/new", json={"image_data": sent("g2")})
        assert put.status_code == 201
        assert "new" in ids(await ask(client, "g2-01", "g2-05"))
        swapped(app, other)
        assert "new" not in ids(await ask(client, "g2-01", "g2-05"))
        await app._routes._following.look()
        assert "new" in ids(await ask(client, "g2-01", "g2-05"))

    run(app, story)


def test_an_item_that_is_taken_in_when_another_model_comes_is_placed_by_that_one(
    app,  # noqa: F811
    bundle,  # noqa: F811
    monkeypatch,
):
    put, other, came = Assortment.put, Assortment(bundle, catalogue()), threading.Event()

    async def story(client):
        loop = asyncio.get_running_loop()

        def come():
            swapped(app, other)
            came.set()

        def slowly(assortment, *given):
            if not came.is_set():
                loop.call_soon_threadsafe(come)
                assert came.wait(30)
            return put(assortment, *given)

        monkeypatch.setattr(Assortment, "put", slowly)
        assert (await client.put("/v1/items/new", json={"image_data": sent("g2")})).is_success
        assert "new" in other.placed
        assert "new" in ids(await ask(client, "g2-01", "g2-05"))

    run(app, story)


def test_what_the_file_lacked_when_it_was_read_is_known(bundle, tmp_path):  # noqa: F811
    vector = bytes(48)
    with make_home(tmp_path) as home:
        for item in ("there", "other", "missing", "foreign", "nothing"):
            encoder = "f/2" if item == "foreign" else "e/1"
            kept = {} if item == "nothing" else {"image": Kept(encoder, b"1", vector)}
            home.item_vectors.put(item, kept)
        with VectorStore(home.root / FILE) as store:
            store.use("image", "e/1")
            store.put("e/1", vectors={b"1": [0] * 12}, names=[("there", b"1")])
            store.put("e/1", vectors={b"2": [0] * 12}, names=[("other", b"2")])
        found = Assortment.read(bundle, home.catalog, home.root / FILE)
    assert found.revision == 5
    assert found.lacking == {"other", "missing"}
    assert found.knew("there", revision=5)
    assert not found.knew("there", revision=6)
    assert not found.knew("missing", revision=3)
