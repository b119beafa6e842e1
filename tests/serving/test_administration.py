import asyncio
import json
import time
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.events import EventLog
from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.errors import ArtifactError
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.serving.audit import AuditLog
from momentary.serving.models import Models, last_good
from momentary.settings import api_key_digest
from momentary.types import Item, Sessions
from tests.serving.world import NOW_US, ask, ask_together, event, opened

pytestmark = pytest.mark.usefixtures("over_both")

SECRET = "person-77/ü"
PATH = "/v1/users/person-77%2F%C3%BC"


def _bundle(ids=("a", "b", "c"), seed=0):
    sessions = Sessions.from_lists([[0, 1], [0, 2], [1, 0], [0, 1, 2]])
    rng = np.random.default_rng(seed)
    roles = {"main": "item_knn", "related": "item_knn", "fallback": "popularity"}
    scorers = {
        role: make(kind).fit(sessions, n_items=len(ids), rng=rng) for role, kind in roles.items()
    }
    return Bundle(scorers=scorers, items=Vocabulary(ids), facts={"events": 9})


@pytest.fixture
def store(tmp_path):
    found = ModelStore(tmp_path / "models")
    for day, ids in ((1, ("a", "b", "c")), (2, ("x", "y", "z"))):
        found.add(_bundle(ids), now=datetime(2026, 1, day, tzinfo=UTC))
    return found


def _put(app, alias, version):
    return ask(app, "PUT", f"/v1/models/{alias}", json={"version": version})


def _listed(app):
    return [each["item_id"] for each in ask(app, "GET", "/v1/popular").json()["items"]]


def test_a_model_comes_to_work_and_is_taken_back(tmp_path, store):
    first, second = store.versions()
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/recommend", json={"event": event("s", "a")})
        found = _put(app, "prod", first).json()["models"]
        assert [(each["version"], each["at_work"]) for each in found] == [
            (first, True),
            (second, False),
        ]
        assert set(_listed(app)) == {"a", "b", "c"}
        # The visit goes on under the new model's items.
        answer = ask(app, "GET", "/v1/sessions/s/recommend").json()
        assert answer["model_version"] == first
        assert {each["item_id"] for each in answer["items"]} <= {"a", "b", "c"}
        _put(app, "prod", second)
        assert set(_listed(app)) == {"x", "y", "z"}
        back = _put(app, "prod", "previous").json()["models"]
        assert set(_listed(app)) == {"a", "b", "c"}

    assert back[0]["aliases"] == ["prod"]
    assert back[1]["aliases"] == ["previous"]
    assert store.aliases() == {"prod": first, "previous": second}


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_workers_read_a_model_again_that_was_put_to_work_again(tmp_path, store):
    first, second = store.versions()
    adopted = []
    with opened(tmp_path) as app, Workspace.open(tmp_path) as workspace:
        writing = asyncio.Lock()
        models = Models(
            store, app.engine, workspace=workspace, writing=writing, adopt=adopted.append
        )
        store.promote(second)
        asyncio.run(models.follow("prod"))
        assert (app.engine.model_version, len(adopted)) == (second, 1)
        # What stands beside the model, such as a likeness, may be new.
        asyncio.run(models.follow("prod"))
        assert (app.engine.model_version, len(adopted)) == (second, 2)
        store.promote(first, alias="candidate")
        asyncio.run(models.follow("candidate"))
        assert (app.engine.model_version, len(adopted)) == (second, 2)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_facts_that_change_while_a_model_comes_to_work_count(tmp_path, store, monkeypatch):
    first = store.versions()[0]
    with opened(tmp_path) as app, Workspace.open(tmp_path) as workspace:
        routes = app._routes
        models = routes._models
        table, reads = models._workspace.catalog.table, []

        def slowly(ids):
            found = table(ids)
            reads.append(ids)
            time.sleep(0.1)
            return found

        async def story():
            monkeypatch.setattr(models._workspace.catalog, "table", slowly)
            coming = asyncio.create_task(models._bring(first))
            while len(reads) < 2:  # what the model was tried with, and the latest
                await asyncio.sleep(0.001)
            async with routes._changing("a"):
                workspace.catalog.upsert([Item(item_id="a", name="Newer")])
            await coming
            assert app.engine.recommender.table.names[0] == "Newer"

        asyncio.run(story())


def test_a_candidate_waits(tmp_path, store):
    with opened(tmp_path) as app:
        answer = _put(app, "candidate", store.versions()[1])
        assert answer.json()["models"][1]["aliases"] == ["candidate"]
        assert app.engine.model_version == "v1"
        assert _put(app, "prod", "candidate").status_code == 200
        assert app.engine.model_version == store.versions()[1]


def test_a_damaged_or_unknown_model_changes_nothing(tmp_path, store):
    first, second = store.versions()
    (store.root / second / "main.safetensors").write_bytes(b"no model")
    with opened(tmp_path) as app:
        _put(app, "prod", first)
        damaged = _put(app, "prod", second)
        unknown = _put(app, "prod", "nothing")
        nowhere = _put(app, "best", first)
        wrong = ask(app, "PUT", "/v1/models/prod", json={"name": first})
        assert app.engine.model_version == first

    assert damaged.status_code == 409
    assert "goes on answering" in damaged.json()["detail"]
    assert [each.status_code for each in (unknown, nowhere, wrong)] == [404, 404, 422]
    assert store.aliases() == {"prod": first}


def test_no_answer_mixes_two_models(tmp_path, store):
    first, second = store.versions()
    asks = [("POST", "/v1/recommend", {"json": {"session_id": f"s{n}"}}) for n in range(40)]
    with opened(tmp_path) as app:
        _put(app, "prod", first)
        swap = ("PUT", "/v1/models/prod", {"json": {"version": second}})
        answers = ask_together(app, [*asks[:20], swap, *asks[20:]])

    items = {first: {"a", "b", "c"}, second: {"x", "y", "z"}}
    for answer in answers[:20] + answers[21:]:
        assert answer.status_code == 200
        body = answer.json()
        assert {each["item_id"] for each in body["items"]} <= items[body["model_version"]]


def test_a_damaged_model_leaves_the_last_good_one_at_the_start(store, caplog):
    first, second = store.versions()
    store.promote(second)
    assert last_good(store).version == second
    (store.root / second / "main.safetensors").write_bytes(b"no model")
    assert last_good(store).version == first
    assert f"model {first} answers instead" in caplog.text
    (store.root / first / "items.json").unlink()
    with pytest.raises(ArtifactError, match=second):
        last_good(store)


def test_a_person_is_forgotten_while_the_service_answers(tmp_path):
    clicks = [event("s", item, user_id=SECRET) for item in ("tea/green", "brötchen")]
    question = ("POST", "/v1/recommend", {"json": {"user_id": SECRET}})
    with opened(tmp_path) as app:
        stranger = ask(app, "POST", "/v1/recommend", json={"user_id": "nobody"}).json()["items"]
        ask(app, "POST", "/v1/events", json=[*clicks, event("other", "i1", user_id="other")])
        known = ask(app, *question[:2], **question[2]).json()["items"]
        receipt = ask(app, "DELETE", PATH).json()
        after = ask(app, *question[:2], **question[2]).json()["items"]
        again = ask(app, "DELETE", PATH).json()
        assert app.engine._log.count() == 1

    assert known != stranger
    assert after == stranger
    assert (receipt["events"], receipt["exposures"]) == (2, 1)
    assert receipt["erased_us"] == NOW_US
    # The answer in between was one more exposure.
    assert (again["events"], again["exposures"]) == (0, 1)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert "person-77" not in path.read_bytes().decode("utf-8", "replace"), path


def test_what_admins_do_is_written_down_without_the_person(tmp_path):
    key = f"admin:{api_key_digest('k')}"
    headers = {"x-api-key": "k"}
    with opened(tmp_path, api_keys=(key,)) as app:
        ask(app, "PUT", "/v1/items/x", json={}, headers=headers)
        ask(app, "DELETE", "/v1/items/x", headers=headers)
        receipt = ask(app, "DELETE", PATH, headers=headers).json()
    entries = AuditLog(tmp_path / "audit.jsonl").entries()

    assert [(each.action, each.target) for each in entries] == [
        ("put_item", "x"),
        ("delete_item", "x"),
        ("erase", receipt["receipt_id"]),
    ]
    assert {each.key for each in entries} == {api_key_digest("k")[:8]}
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_the_counters_count(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/events", json=[event("s", "i1", event_id="e")])
        ask(app, "POST", "/v1/events", json=[event("s", "i1", event_id="e")])
        ask(app, "POST", "/v1/recommend", json={"session_id": "s", "k": 4})
        ask(app, "POST", "/v1/recommend", json={"k": 0})
        ask(app, "GET", "/secret-path-7")
        text = ask(app, "GET", "/metrics").text

    for line in (
        'momentary_requests_total{route="recommend",status="200"} 1.0',
        'momentary_requests_total{route="recommend",status="422"} 1.0',
        'momentary_requests_total{route="other",status="404"} 1.0',
        'momentary_events_total{outcome="accepted"} 1.0',
        'momentary_events_total{outcome="duplicate"} 1.0',
        'momentary_answers_total{variant="model"} 1.0',
        "momentary_shown_items_total 4.0",
        'momentary_model{version="v1"} 1.0',
    ):
        assert line in text
    assert "secret-path" not in text


def test_feedback_knows_whom_and_where(tmp_path):
    with opened(tmp_path) as app:
        shown = ask(app, "POST", "/v1/recommend", json={"session_id": "s", "k": 3}).json()
        third = shown["items"][2]["item_id"]
        body = {"recommendation_id": shown["recommendation_id"], "item_id": third}
        assert ask(app, "POST", "/v1/feedback", json=body).json()["accepted"] == 1
        unknown = ask(app, "POST", "/v1/feedback", json={**body, "recommendation_id": "r"})
        foreign = ask(app, "POST", "/v1/feedback", json={**body, "item_id": "not shown"})
        (stored,) = app.engine._log.read()

    assert (stored.session_id, stored.position, stored.event_type) == ("s", 2, "select_item")
    assert stored.recommendation_id == shown["recommendation_id"]
    assert (unknown.status_code, foreign.status_code) == (404, 404)


def test_other_trackers_send_as_they_are_used_to(tmp_path):
    ga4 = {
        "client_id": "b-1",
        "timestamp_micros": NOW_US,
        "events": [
            {"name": "page_view", "params": {}},
            {"name": "add_to_cart", "params": {"items": [{"item_id": "i1"}, {"item_id": "i2"}]}},
        ],
    }
    segment = {
        "batch": [
            {
                "type": "track",
                "messageId": "m1",
                "userId": "u",
                "event": "Product Viewed",
                "timestamp": "2026-01-31T12:00:00Z",
                "properties": {"product_id": "i3", "price": 2.5},
            },
            {"type": "page", "messageId": "m2", "userId": "u"},
        ]
    }
    with opened(tmp_path) as app:
        assert ask(app, "POST", "/v1/events/ga4", json=ga4).json()["accepted"] == 2
        assert ask(app, "POST", "/v1/events/segment", json=segment).json()["accepted"] == 1
        again = ask(app, "POST", "/v1/events/segment", json=segment).json()
        ga4_again = ask(app, "POST", "/v1/events/ga4", json=ga4).json()
        bad = ask(app, "POST", "/v1/events/segment", json=["text"])
        stored = list(app.engine._log.read())

    assert again == {"accepted": 0, "duplicates": 1}
    assert ga4_again == {"accepted": 0, "duplicates": 2}
    assert bad.status_code == 422
    assert {(each.item_id, each.event_type) for each in stored} == {
        ("i1", "add_to_cart"),
        ("i2", "add_to_cart"),
        ("i3", "view_item"),
    }
    assert {each.timestamp_us for each in stored if each.anonymous_id == "b-1"} == {NOW_US}


def test_too_many_at_once_are_asked_to_come_again(tmp_path):
    asks = [("POST", "/v1/recommend", {"json": {"event": event("s", "i1")}})] * 5
    with opened(tmp_path, max_waiting=3) as app:
        answers = ask_together(app, asks)
        recorded = app.engine._log.count()

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 200, 429, 429]
    assert recorded == 3
    assert all(each.headers["retry-after"] for each in answers if each.status_code == 429)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_an_erasure_that_was_cut_off_is_finished_at_the_start(tmp_path, store):
    from momentary.serving import startup

    store.promote(store.versions()[0])
    with (
        Workspace.open(tmp_path, create=True) as workspace,
        closing(EventLog(workspace.log_path)) as log,
    ):
        ids = {"event_id": "e", "item_id": "a", "event_type": "view_item", "timestamp_us": 1}
        from momentary.types import Event

        log.append([Event(user_id=SECRET, **ids)])
    pending = tmp_path / "erasure.pending"
    pending.write_text(json.dumps({"user_ids": [SECRET]}), encoding="utf-8")
    seen = []

    def look(app, *_args, **_rest):
        seen.append(app.engine._log.count())
        app.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(startup, "serve", look)
        startup.start(tmp_path, environ={}, port=8399)
    assert seen == [0]
    assert not pending.exists()
