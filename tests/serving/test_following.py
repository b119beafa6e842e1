"""Two services of one shop, over one SQLite folder and over PostgreSQL with a folder each."""

import asyncio
import base64
import contextlib
import logging
import shutil
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from momentary.data.workspace import Workspace
from momentary.encoders.store import FILE, VectorStore
from momentary.models.artifact import Bundle, ModelStore
from momentary.models.promotion import promote, seen
from momentary.recommend.assortment import Assortment
from momentary.serving.app import create_app
from momentary.serving.looking import Looker
from momentary.settings import ServeSettings
from momentary.types import Item
from tests.recommend.test_placed import catalogue, is_new
from tests.serving.test_live_content import bundle, looked, settled  # noqa: F401 - a fixture
from tests.serving.world import event

JSON = {"content-type": "application/json"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def opened_machine(root, storage, trained):
    """A workspace and a service over it, whose content is that of the catalogue."""
    workspace = Workspace.open(root, create=True, storage=storage)
    with VectorStore(workspace.root / FILE) as store:
        store.use("image", "e/1")
    encoded = catalogue()
    assortment = Assortment(trained, encoded)
    whole = assortment.extended()
    table = workspace.catalog.table(whole.items.ids)
    app = create_app(
        workspace,
        assortment.recommender(table, bundle=whole),
        model_version="v1",
        settings=ServeSettings(),
        fallback=assortment.recommender(table, bundle=whole, role="fallback"),
        assortment=assortment,
    )
    return workspace, app


@pytest.fixture
def shop(bundle, tmp_path, storage, monkeypatch):  # noqa: F811
    """Two machines; with PostgreSQL each has a folder of its own."""
    monkeypatch.setattr(Looker, "look", looked)
    roots = [tmp_path / "a", tmp_path / ("a" if storage.database_url is None else "b")]
    with Workspace.open(roots[0], create=True, storage=storage) as workspace:
        workspace.catalog.upsert(catalogue().items)
    machines = [opened_machine(root, storage, bundle) for root in roots]
    yield machines
    for workspace, app in machines:
        app.close()
        workspace.close()


def told(shop, story):
    """Let a story talk to both services; the second follows when it is told to look."""

    async def go():
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(
                        transport=httpx.ASGITransport(app=app), base_url="http://localhost"
                    )
                )
                for _, app in shop
            ]
            await story(*clients, shop[1][1]._routes._following.look)

    asyncio.run(go())


async def listed(client, *clicks, k=16):
    answer = await client.post("/v1/recommend", json={"items": list(clicks), "k": k})
    return {each["item_id"]: each for each in answer.json()["items"]}


def test_an_item_with_media_is_placed_on_the_other_machine(shop):
    async def story(first, second, look):
        await look()
        sent = base64.b64encode(b"g2").decode()
        body = {"name": "New", "category": "kind 2", "image_data": sent}
        assert (await first.put("/v1/items/new", json=body)).status_code == 201
        assert "new" in await listed(first, "g2-01", "g2-05")
        assert "new" not in await listed(second, "g2-01", "g2-05")
        await look()
        found = await listed(second, "g2-01", "g2-05")
        assert found["new"]["name"] == "New"
        assert found["new"]["score"] == (await listed(first, "g2-01", "g2-05"))["new"]["score"]
        similar = await second.get("/v1/items/new/similar?k=5")
        assert all(each["item_id"].startswith("g2") for each in similar.json()["items"])
        # It looks otherwise now, and then it is gone.
        sent = base64.b64encode(b"g0").decode()
        await first.put("/v1/items/new", json={**body, "image_data": sent})
        await look()
        assert "new" in await listed(second, "g0-01", "g0-05")
        assert (await first.delete("/v1/items/new")).status_code == 204
        await look()
        assert "new" not in await listed(second, "g0-01", "g0-05")
        assert (await second.get("/v1/items/new/similar")).status_code == 404

    told(shop, story)


def test_a_machine_that_starts_later_knows_what_was_put(shop, bundle, tmp_path, storage):  # noqa: F811
    async def put(first, _second, _look):
        sent = base64.b64encode(b"g2").decode()
        await first.put("/v1/items/new", json={"name": "New", "image_data": sent})

    told(shop, put)
    workspace, app = (
        opened_machine(tmp_path / "late", storage, bundle)
        if (storage.database_url)
        else opened_machine(tmp_path / "a", storage, bundle)
    )

    async def story(_first, late, look):
        await look()
        assert "new" in await listed(late, "g2-01", "g2-05")

    with contextlib.closing(app), workspace:
        told([shop[0], (workspace, app)], story)


def test_facts_travel_and_search_finds_what_is_new(shop):
    async def story(first, second, look):
        found = await second.get("/v1/search?q=curious")
        assert found.json()["items"] == []
        hidden = {"name": "Other", "available": False}
        await first.put("/v1/items/g2-03", json=hidden)
        await first.put("/v1/items/elsewhere", json={"name": "A curious thing"})
        assert "g2-03" in await listed(second, "g2-01", "g2-05", k=40)
        await look()
        assert "g2-03" not in await listed(second, "g2-01", "g2-05", k=40)
        found = await second.get("/v1/search?q=curious")
        assert [each["item_id"] for each in found.json()["items"]] == ["elsewhere"]
        await first.put("/v1/items/g2-03", json={"name": "Renamed"})
        await look()
        assert (await listed(second, "g2-01", "g2-05", k=40))["g2-03"]["name"] == "Renamed"

    told(shop, story)


def test_an_import_is_followed_as_a_whole(shop):
    async def story(_first, second, look):
        await second.get("/v1/search?q=anything")
        many = [Item(item_id=f"more-{number}", name="Bulk") for number in range(60)]
        many.append(Item(item_id="g2-03", name="Imported"))
        shop[0][0].catalog.upsert(many)
        await look()
        assert (await listed(second, "g2-01", "g2-05", k=40))["g2-03"]["name"] == "Imported"
        found = await second.get("/v1/search?q=bulk&k=3")
        assert len(found.json()["items"]) == 3

    told(shop, story)


def test_facts_that_are_known_cost_nothing(shop, monkeypatch):
    async def story(first, _second, _look):
        own = shop[0][1]
        await own._routes._following.look()
        await first.put("/v1/items/g2-03", json={"name": "Mine"})
        refreshed = []
        monkeypatch.setattr(type(own.engine), "refresh", lambda _, row: refreshed.append(row))
        await own._routes._following.look()
        assert refreshed == []

    told(shop, story)


def test_both_machines_move_a_new_item_by_the_clicks_of_either(shop):
    async def story(first, second, look):
        sent = base64.b64encode(b"g2").decode()
        await first.put("/v1/items/new", json={"name": "New", "image_data": sent})
        await look()
        for visit in range(40):
            client = (first, second)[visit % 2]
            for item in (f"g0-{visit % 9:02d}", "new"):
                click = event(f"c{visit}", item, timestamp=time.time())
                assert (await client.post("/v1/events", json=click)).status_code == 200

        async def counted():
            for _, app in shop:
                await app._routes._following.look()
            seen = [await client.get("/v1/items/new/content") for client in (first, second)]
            lists = [await listed(client, "g0-01", "g0-05") for client in (first, second)]
            scores = [each["new"]["score"] for each in lists if "new" in each]
            return (
                [each.json()["visits"] for each in seen] == [40, 40]
                and len(scores) == 2
                and scores[0] == pytest.approx(scores[1], rel=1e-5)
            )

        # The first may be at it already when it is told to look.
        await settled(counted)

    told(shop, story)


@pytest.fixture
def versions(shop, bundle):  # noqa: F811
    """Two models in the first machine's folder."""
    bare = Bundle(scorers=bundle.scorers, items=bundle.items, facts={})
    store = ModelStore(shop[0][0].models)
    return [store.add(bare, now=NOW.replace(day=day)) for day in (1, 2)]


def copied(shop, version):
    """Let the second machine have a model, if its folder is another."""
    source, target = (workspace.models / version for workspace, _ in shop)
    if source != target:
        shutil.copytree(source, target)


def test_a_promotion_is_followed_where_the_model_is(shop, versions):
    for version in versions:
        copied(shop, version)

    async def story(first, second, look):
        async def at_work():
            return (await second.get("/health/ready")).json()

        for version in versions:
            await first.put("/v1/models/prod", json={"version": version})
            await look()
            assert (await at_work())["model_version"] == version
        await first.put("/v1/models/prod", json={"version": "previous"})
        await look()
        ready = await at_work()
        assert (ready["model_version"], ready["notes"]) == (versions[0], [])
        await listed(second, "g2-01")

    told(shop, story)
    for workspace, _ in shop:
        store = ModelStore(workspace.models)
        assert store.aliases() == {"prod": versions[0], "previous": versions[1]}
        assert seen(store) == workspace.model_aliases.read()[0]


def test_a_model_that_is_not_here_leaves_the_last_good_one(shop, versions, caplog):
    if shop[0][0].models == shop[1][0].models:
        shutil.move(shop[0][0].models / versions[1], shop[0][0].root / "away")
        shop[0][0].model_aliases.write({"prod": versions[1]})

    async def story(first, second, look):
        if shop[0][0].models != shop[1][0].models:
            await first.put("/v1/models/prod", json={"version": versions[1]})
        await look()
        await look()
        ready = (await second.get("/health/ready")).json()
        assert ready["model_version"] == "v1"
        assert ready["notes"] == [
            f"Model {versions[1]} was promoted and cannot be loaded here; the one before answers."
        ]
        assert caplog.text.count("is not taken") == 1
        assert "g2-02" in await listed(second, "g2-01", "g2-05")
        # It comes to work as soon as it is there.
        if (shop[0][0].root / "away").exists():
            shutil.move(shop[0][0].root / "away", shop[0][0].models / versions[1])
        else:
            copied(shop, versions[1])
        await look()
        ready = (await second.get("/health/ready")).json()
        assert (ready["model_version"], ready["notes"]) == (versions[1], [])

    told(shop, story)


def test_what_a_script_promotes_in_a_folder_is_not_taken_back(shop, versions):
    store, shared = ModelStore(shop[0][0].models), shop[0][0].model_aliases
    promote(store, versions[0], shared)
    store.promote(versions[1])

    async def story(_first, _second, _look):
        await shop[0][1]._routes._following.look()

    told(shop, story)
    assert store.aliases()["prod"] == versions[1] == shared.read()[1]["prod"]
    assert shop[0][1].engine.model_version == versions[1]


class Between:
    """Lets something happen right after the next time that the aliases are read."""

    def __init__(self, shared, happens):
        self._shared, self._happens = shared, [happens]

    def read(self):
        found = self._shared.read()
        if self._happens:
            self._happens.pop()()
        return found

    def write(self, aliases, *, known=None):
        return self._shared.write(aliases, known=known)


def test_what_is_promoted_while_another_looks_is_not_taken_back(shop, versions, monkeypatch):
    for version in versions:
        copied(shop, version)
    second_store = ModelStore(shop[1][0].models)
    shared = shop[0][0].model_aliases

    async def story(first, _second, look):
        await first.put("/v1/models/prod", json={"version": versions[0]})
        await look()
        models = shop[1][1]._routes._following._models
        # Another process of the second machine promotes.
        between = Between(shared, lambda: promote(second_store, versions[1], shared))
        monkeypatch.setattr(shop[1][0], "model_aliases", between)
        await models.catch_up()
        assert second_store.aliases()["prod"] == versions[1] == shared.read()[1]["prod"]
        await models.catch_up()
        assert shop[1][1].engine.model_version == versions[1]

    told(shop, story)
    assert second_store.aliases() == {"prod": versions[1], "previous": versions[0]}


def test_who_looks_waits_for_a_promotion_of_its_own_process(shop, versions):
    shared = shop[0][0].model_aliases
    promote(ModelStore(shop[0][0].models), versions[0], shared)

    async def story(first, _second, _look):
        models = shop[0][1]._routes._following._models
        await models.catch_up()
        brought = []
        bring = models._bring

        async def slowly(version):
            looks.append(asyncio.create_task(models.catch_up()))
            await asyncio.sleep(0.05)
            await bring(version)
            brought.append(version)

        looks = []
        models._bring = slowly
        answer = await first.put("/v1/models/prod", json={"version": versions[1]})
        assert answer.status_code == 200
        await asyncio.gather(*looks)
        assert brought == [versions[1]]
        assert shop[0][1].engine.model_version == versions[1]

    told(shop, story)


def test_a_silent_database_stops_nothing_and_is_named_once(shop, monkeypatch, caplog):
    async def story(first, second, look):
        await look()
        engine = shop[1][0].catalog.engine
        broken = sa.create_engine("sqlite:////nowhere/there.sqlite")
        monkeypatch.setattr(shop[1][0].catalog, "engine", broken)
        began = time.monotonic()
        with caplog.at_level(logging.WARNING):
            await look()
            await look()
        assert caplog.text.count("not followed") == 1
        assert await listed(second, "g2-01")
        assert time.monotonic() - began < 10
        await first.put("/v1/items/g2-03", json={"name": "Later"})
        monkeypatch.setattr(shop[1][0].catalog, "engine", engine)
        await look()
        assert (await listed(second, "g2-01", "g2-05", k=40))["g2-03"]["name"] == "Later"

    told(shop, story)


def test_changes_arrive_within_a_second(shop):
    async def story(first, second, _look):
        shop[1][1].start()
        await first.put("/v1/items/g2-03", json={"name": "Soon"})
        for _ in range(100):
            if (await listed(second, "g2-01", "g2-05", k=40))["g2-03"]["name"] == "Soon":
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("it was not followed")

    told(shop, story)


def test_the_catalogue_is_what_the_tests_think(bundle):  # noqa: F811
    assert not any(is_new(each) for each in bundle.items.ids)
    assert np.all([each.startswith("g") for each in bundle.items.ids])
