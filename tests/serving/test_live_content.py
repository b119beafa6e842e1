"""The content routes in one process: what is put is placed, compared and moved by clicks."""

import asyncio
import base64
import contextlib
import os
import signal
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.encoders.store import FILE, VectorStore
from momentary.models.artifact import Bundle, make
from momentary.models.likeness import LikenessConfig
from momentary.recommend.assortment import Assortment
from momentary.recommend.placed import Company
from momentary.recommend.placing import learn_placement
from momentary.recommend.teaching import learn_likeness
from momentary.serving.app import create_app
from momentary.serving.company import CompanyBook, CountedLog
from momentary.serving.looking import Looker, Seen
from momentary.settings import ServeSettings
from momentary.types import Event, ItemTable, Sessions
from tests.recommend.test_placed import GROUPS, SIZE, catalogue, is_new
from tests.serving.world import NOW_US, make_home

MIDDLES = np.random.default_rng(3).normal(size=(GROUPS, 12))


async def looked(_self, modality, source):
    """Stands in for the other process: "g2" looks as group 2 does, "slow" takes its time."""
    content = source if isinstance(source, bytes) else source.encode()
    if modality == "text":
        return Seen(reason="no text encoder here.")
    if content == b"slow":
        await asyncio.sleep(60)
    if not content.startswith(b"g"):
        return Seen(reason="it holds no picture.")
    vector = (MIDDLES[int(content[1:2])] + 0.01).astype(np.float32)
    return Seen(digest=content.ljust(32), vectors={"image": ("e/1", vector)})


@pytest.fixture(scope="module")
def bundle():
    encoded = catalogue()
    items = Vocabulary([each for each in encoded.item_ids if not is_new(each)])
    rng = np.random.default_rng(1)
    groups = rng.integers(GROUPS, size=(300, 1))
    sessions = Sessions.from_lists((groups * SIZE + rng.integers(SIZE, size=(300, 5))).tolist())
    scorers = {"main": make("vstan"), "related": make("item_knn"), "fallback": make("popularity")}
    for scorer in scorers.values():
        scorer.fit(sessions, n_items=len(items), rng=rng)
    bare = Bundle(scorers=scorers, items=items, facts={})
    placement = learn_placement(bare, sessions, encoded, rng=rng)
    return Bundle(scorers=scorers, items=items, facts={}, placement=placement)


@pytest.fixture
def app(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(Looker, "look", looked)
    with _serving(bundle, catalogue(), tmp_path) as app:
        yield app


@contextlib.contextmanager
def _serving(bundle, encoded, folder):
    home = make_home(folder)
    home.catalog.upsert(encoded.items)
    with VectorStore(home.root / FILE) as store:
        store.use("image", "e/1")
    assortment = Assortment(bundle, encoded)
    whole = assortment.extended()
    table = home.catalog.table(whole.items.ids)
    app = create_app(
        home,
        assortment.recommender(table, bundle=whole),
        model_version="v1",
        settings=ServeSettings(),
        fallback=assortment.recommender(table, bundle=whole, role="fallback"),
        assortment=assortment,
        clock_us=lambda: NOW_US,
    )
    with contextlib.closing(app):
        yield app


def run(app, story):
    """Let a story talk to the service on one event loop."""

    async def go():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await story(client)

    return asyncio.run(go())


def sent(text):
    return base64.b64encode(text.encode()).decode()


def ids(answer):
    return [each["item_id"] for each in answer.json()["items"]]


async def ask(client, *clicks, k=16):
    body = {"items": list(clicks), "k": k, "explain": True}
    return await client.post("/v1/recommend", json=body)


async def settled(holds):
    end_s = time.monotonic() + 30  # for a machine that is busy with other things
    while time.monotonic() < end_s:
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to hold")


def test_an_item_that_is_put_is_recommended_at_once(app):
    async def story(client):
        body = {"name": "New", "category": "kind 2", "image_data": sent("g2")}
        put = await client.put("/v1/items/new", json=body)
        assert put.status_code == 201
        assert "image_data" not in put.json()
        answer = await ask(client, "g2-01", "g2-05")
        row = next(each for each in answer.json()["items"] if each["item_id"] == "new")
        assert row["name"] == "New"
        assert "new here; like" in row["reasons"][0]
        assert "new" not in ids(await ask(client, "g0-01", "g0-05", k=12))
        similar = await client.get("/v1/items/new/similar?k=5")
        assert all(each.startswith("g2") for each in ids(similar))
        assert "same category: kind 2" in similar.json()["items"][0]["reasons"]
        seen = (await client.get("/v1/items/new/content")).json()
        assert (seen["placed"], seen["views"]) == (True, ["image"])
        assert seen["set_aside"] == {"text": "no text encoder here."}
        gone = await client.delete("/v1/items/new")
        assert gone.status_code == 204
        assert "new" not in ids(await ask(client, "g2-01", "g2-05"))
        assert (await client.get("/v1/items/new/similar")).status_code == 404
        assert (await client.get("/v1/items/new/content")).status_code == 404
        await client.put("/v1/items/new", json={"image": "g0"})
        assert "new" in ids(await ask(client, "g0-01", "g0-05"))

    run(app, story)


def test_facts_of_a_placed_item_count_at_once(app):
    async def story(client):
        await client.put("/v1/items/new", json={"image": "g2", "available": False})
        assert "new" not in ids(await ask(client, "g2-01"))
        assert "new" not in ids(await client.get("/v1/items/g2-01/similar?k=40"))
        await client.put("/v1/items/new", json={"image": "g2", "name": "Better"})
        found = (await ask(client, "g2-01")).json()["items"]
        assert "Better" in [each.get("name") for each in found]

    run(app, story)


def test_clicks_move_a_new_item(app):
    async def story(client):
        await client.put("/v1/items/new", json={"image": "g2"})
        for visit in range(40):
            events = [
                {
                    "session_id": f"c{visit}",
                    "item_id": item,
                    "event_type": "view_item",
                    "timestamp": NOW_US / 1e6 + step,
                }
                for step, item in enumerate((f"g0-{visit % 9:02d}", "new"))
            ]
            assert (await client.post("/v1/events", json=events)).status_code == 200

        async def moved():
            return "new" in ids(await ask(client, "g0-01", "g0-05", k=12))

        async def counted():
            found = (await client.get("/v1/items/new/content")).json()
            return found["visits"] == 40

        await settled(moved)
        await settled(counted)
        similar = await client.get("/v1/items/new/similar?k=3")
        assert any(each.startswith("g0") for each in ids(similar))
        assert "together with" in similar.text
        # A visitor's events are gone from the counts, too, once they are erased.
        await client.delete("/v1/users/nobody")
        await settled(counted)
        # Another model knows no more of the new item, so its clicks still count.
        content = app._routes._content
        content.adopt(content._assortment)
        await content.count()
        assert await counted()

    run(app, story)


def test_what_cannot_be_used_is_refused_and_changes_nothing(app):
    async def story(client):
        refused = await client.put("/v1/items/bad", json={"image_data": sent("x")})
        assert refused.status_code == 422
        assert refused.json()["field"] == "image_data"
        assert "it holds no picture" in refused.json()["detail"]
        assert (await client.get("/v1/items/bad")).status_code == 404
        kept = await client.put("/v1/items/later", json={"image": "elsewhere.png"})
        assert kept.status_code == 201
        seen = (await client.get("/v1/items/later/content")).json()
        assert (seen["placed"], seen["set_aside"]["image"]) == (False, "it holds no picture.")
        for body in ({"picture": "%%"}, {"picture": sent("x")}, {"picture": sent("g1"), "k": 0}):
            found = await client.post("/v1/search/picture", json=body)
            assert found.status_code == 422, body
            assert found.headers["content-type"] == "application/problem+json"
        large = await client.post("/v1/search/picture", json={"picture": "A" * 30_000_000})
        assert large.status_code == 413

    run(app, story)


def test_similar_by_one_view_alone(app):
    async def story(client):
        found = await client.get("/v1/items/g2-01/similar?k=5&by=image")
        assert all(each.startswith("g2") for each in ids(found))
        assert found.json()["items"][0]["reasons"][0] == "alike in picture (100 %)"
        assert found.json()["likeness"] == "plain"
        tags = await client.get("/v1/items/g2-01/similar?k=5&by=tags")
        assert tags.json()["items"][0]["reasons"][0] == "alike in attributes (100 %)"
        for query, field, said in (
            ("by=looks", "by", "by is 'looks'; use image, colour"),
            ("by=sound", "by", "Item 'g2-01' has no sound; it has image, tags."),
            ("by=image&likeness=learned", "likeness", "One view alone leaves out"),
        ):
            refused = await client.get(f"/v1/items/g2-01/similar?{query}")
            assert (refused.status_code, refused.json()["field"]) == (422, field), query
            assert said in refused.json()["detail"]

    run(app, story)


def test_a_slow_file_holds_nothing_up(app):
    async def story(client):
        loop = asyncio.get_running_loop()
        started = loop.time()
        slow = asyncio.create_task(client.put("/v1/items/slow", json={"image": "slow"}))

        async def being_looked_at():
            found = await client.get("/v1/items/slow/content")
            return found.status_code == 200 and found.json()["state"] == "pending"

        await settled(being_looked_at)
        assert (await ask(client, "g1-01")).status_code == 200
        assert (await slow).status_code == 201
        assert loop.time() - started < 60

    run(app, story)


def test_pictures_find_items_and_playlists_are_made(app):
    async def story(client):
        found = await client.post("/v1/search/picture", json={"picture": sent("g3"), "k": 6})
        assert all(each.startswith("g3") for each in ids(found))
        assert [each["rank"] for each in found.json()["items"]] == list(range(1, 7))
        body = {"start": "g0-00", "end": "g1-03", "length": 6}
        made = await client.post("/v1/playlists", json=body)
        assert (ids(made)[0], ids(made)[-1], len(ids(made))) == ("g0-00", "g1-03", 6)
        assert 0 < made.json()["smoothness"] <= 1
        for wrong in (
            {"start": "nobody"},
            {"start": "g0-00", "apart": {"artist": 1}},
            {"start": "g0-00", "curve": {"of": "price", "shape": "up"}},
            {"start": "g0-00", "length": 0},
            {},
        ):
            assert (await client.post("/v1/playlists", json=wrong)).status_code == 422, wrong
        ghost = await client.post("/v1/playlists", json={"start": "g0-00", "end": "ghost"})
        assert ghost.json()["field"] == "end"
        assert "'ghost' has no content here" in ghost.json()["detail"]

    run(app, story)


def test_pictures_and_playlists_obey_rules_and_those_that_have_a_name(app):
    async def story(client):
        plain = ids(await client.post("/v1/search/picture", json={"picture": sent("g3"), "k": 6}))
        stored = await client.put("/v1/rules/some", json={"exclude_items": plain[:2]})
        assert stored.status_code == 201
        rules = {"deny": f'item_id == "{plain[2]}"', "pins": [{"item_id": plain[5], "rank": 1}]}
        body = {"picture": sent("g3"), "k": 3, "rules": rules, "rule_sets": ["some"]}
        ruled = await client.post("/v1/search/picture", json=body)
        assert ids(ruled) == [plain[5], plain[3], plain[4]]
        assert [each["rank"] for each in ruled.json()["items"]] == [1, 2, 3]
        nobody = await client.post(
            "/v1/search/picture", json={"picture": sent("g3"), "rule_sets": ["nobody"]}
        )
        assert (nobody.status_code, nobody.json()["field"]) == (422, "rule_sets")
        wrong = {"picture": sent("g3"), "rules": {"allow": "price <"}}
        refused = (await client.post("/v1/search/picture", json=wrong)).json()
        found = (refused["status"], refused["field"], refused["line"], refused["column"])
        assert found == (422, "rules.allow", 1, 8)

        way = {"start": "g0-00", "end": "g1-03", "length": 6}
        free = ids(await client.post("/v1/playlists", json=way))
        await client.put("/v1/rules/other", json={"exclude_items": [free[2]]})
        led = ids(await client.post("/v1/playlists", json={**way, "rule_sets": ["other"]}))
        assert (led[0], led[-1], len(led)) == ("g0-00", "g1-03", 6)
        assert free[2] not in led

    run(app, story)


def test_a_service_without_content_says_how_to_get_it(tmp_path):
    from tests.serving.world import opened

    with opened(tmp_path) as app:

        async def story(client):
            found = await client.post("/v1/search/picture", json={"picture": sent("g3")})
            assert found.status_code == 422
            assert "momentary encode" in found.json()["detail"]
            made = await client.post("/v1/playlists", json={"start": "i1"})
            assert "momentary encode" in made.json()["detail"]
            put = await client.put("/v1/items/i1", json={"image_data": sent("g1")})
            assert put.status_code == 422
            plain = await client.put("/v1/items/i1", json={"name": "One"})
            assert plain.status_code == 201
            content = (await client.get("/v1/items/i1/content")).json()
            assert content["views"] == []

        run(app, story)


def event(session_id, item_id, second, **more):
    return Event(
        item_id=item_id,
        event_type=more.get("event_type", "view_item"),
        timestamp_us=second * 1_000_000,
        event_id=f"{session_id}{item_id}{second}",
        session_id=session_id,
        user_id=more.get("user_id"),
    )


def test_company_is_counted_by_visit_both_ways():
    book = CompanyBook({"a", "b"}, idle_us=60_000_000)
    assert not book.see(event("1", "a", 0))
    assert book.see(event("1", "new", 1))
    assert not book.see(event("1", "new", 2))  # the same visit counts once
    assert book.see(event("1", "b", 3))
    assert not book.see(event("1", "b", 4, event_type="view_item_list"))
    book.see(event("2", "new", 5))
    assert book.companies == {"new": Company(visits=2, beside={"a": 1, "b": 1})}
    for second in (100, 500):
        book.see(event(None, "a" if second == 100 else "other", second, user_id="u"))
    assert book.companies["other"].beside == {}  # silence ended the visit


class Rows:
    """A log whose rows may appear late; it remembers what it was asked for."""

    def __init__(self):
        self.rows, self.asked = {}, []

    def __call__(self, after):
        self.asked.append(after)
        return iter([(n, self.rows[n]) for n in sorted(self.rows) if n > after])


@pytest.mark.parametrize("ordered", [True, False])
def test_each_row_of_the_log_counts_once(ordered):
    log = Rows()
    counted = CountedLog(CompanyBook({"a"}, idle_us=60_000_000), log, ordered=ordered)
    for number in range(1, 3001):
        log.rows[number] = event(f"s{number}", "new", number)
    late = log.rows.pop(2500)
    assert counted.count(counted.news(), until=3000)
    assert not counted.count(counted.news(), until=3000)
    log.rows |= {2500: late, 3001: event("s3001", "new", 3001)}
    assert counted.count(counted.news(), until=3001)
    assert not counted.count(counted.news(), until=3005)  # others were too old to be read
    assert counted.read == 3005
    assert log.asked == ([0, 3000, 3000, 3001] if ordered else [0, 1000, 1000, 1001])
    assert counted.book.companies["new"].visits == (3000 if ordered else 3001)


def test_another_process_looks_and_survives_what_kills_it(tmp_path):
    from PIL import Image

    from momentary.encoders.media import MediaLimits

    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    looker = Looker(MediaLimits(folders=(tmp_path,)))

    async def story():
        seen = await looker.look("image", "a.png")
        assert "colour" in seen.vectors
        assert len(seen.digest) == 32
        assert "no such file" in (await looker.look("image", "b.png")).reason
        processes = list(looker._pool._processes.values())
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)  # so that it is not done before it is killed
        waiting = asyncio.create_task(looker.look("image", "a.png"))
        await asyncio.sleep(0.01)
        for process in processes:
            process.kill()
        assert (await waiting).reason == "its decoder broke down."
        assert (await looker.look("image", "a.png")).digest == seen.digest
        quick = Looker(MediaLimits(), most_s=0.001)
        assert "longer than" in (await quick.look("text", b"tea")).reason

    try:
        asyncio.run(story())
    finally:
        looker.close()


def test_tables_are_joined_with_what_one_lacks_unknown():
    from momentary.recommend.tables import joined

    one = ItemTable.unknown(["a"])
    two = ItemTable(
        item_ids=np.array(["b"], dtype=object),
        names=np.array(["B"], dtype=object),
        price=np.array([2.0]),
        available=np.array([False]),
        attributes={"brand": np.array(["x"], dtype=object)},
        hidden=np.array([True]),
    )
    both = joined(one, two)
    assert both.attributes["brand"].tolist() == [None, "x"]
    assert both.hidden.tolist() == [False, True]
    assert both.deleted is None


@pytest.fixture
def learned_app(bundle, tmp_path, monkeypatch):
    """The same shop, where what `category` says was learned from the pictures."""
    monkeypatch.setattr(Looker, "look", looked)
    encoded = catalogue()
    config = LikenessConfig(hidden=16, dropout=0.1)
    taught = learn_likeness(encoded, rng=np.random.default_rng(0), config=config)
    assert taught.learned is not None
    with _serving(bundle, replace(encoded, learned=taught.learned), tmp_path) as app:
        yield app


def test_answers_say_whether_what_was_learned_was_used(learned_app):
    async def story(client):
        put = await client.put("/v1/items/new", json={"name": "New", "image_data": sent("g2")})
        assert put.status_code == 201
        answer = await client.get("/v1/items/new/similar?k=5")
        assert answer.json()["likeness"] == "learned"
        assert all(each.startswith("g2") for each in ids(answer))
        reasons = answer.json()["items"][0]["reasons"]
        assert reasons[0] == "alike in picture (100 %)"
        assert reasons[1].startswith("probably same category: kind 2 (")
        plain = await client.get("/v1/items/new/similar?k=5&likeness=plain")
        assert plain.json()["likeness"] == "plain"
        assert "probably" not in plain.text
        found = await client.post("/v1/search/picture", json={"picture": sent("g1"), "k": 4})
        assert found.json()["likeness"] == "learned"
        assert "new" not in ids(found)
        assert "probably same category: kind 1" in found.text
        body = {"picture": sent("g2"), "likeness": "plain", "k": 40}
        found = await client.post("/v1/search/picture", json=body)
        assert found.json()["likeness"] == "plain"
        assert "new" in ids(found)
        assert "probably" not in found.text
        words = await client.get("/v1/search?q=new")
        assert words.json()["likeness"] is None
        popular = await client.get("/v1/popular")
        assert popular.json()["likeness"] is None

    run(learned_app, story)


def test_a_likeness_that_cannot_be_used_is_refused_in_words(app, learned_app):
    async def nothing(client):
        answer = await client.get("/v1/items/g1-01/similar?likeness=learned")
        assert (answer.status_code, answer.json()["field"]) == (422, "likeness")
        assert "momentary train-likeness" in answer.json()["detail"]
        assert (await client.get("/v1/items/g1-01/similar")).json()["likeness"] == "plain"
        answer = await client.get("/v1/items/g1-01/similar?likeness=best")
        assert (answer.status_code, answer.json()["field"]) == (422, "likeness")
        assert "use auto, learned, plain" in answer.json()["detail"]
        body = {"picture": sent("g1"), "likeness": "best"}
        assert (await client.post("/v1/search/picture", json=body)).status_code == 422

    async def words(client):
        answer = await client.get("/v1/search?q=g1&likeness=learned")
        assert (answer.status_code, answer.json()["field"]) == (422, "likeness")
        assert "reads image, not this" in answer.json()["detail"]

    run(app, nothing)
    run(learned_app, words)
