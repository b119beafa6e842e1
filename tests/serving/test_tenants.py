"""Tenants: what one has, another can neither read, nor infer, nor erase."""

import asyncio
import json
import re
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import numpy as np
import pytest
import sqlalchemy as sa
from scipy.stats import mannwhitneyu

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.errors import SettingsError
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.serving import startup
from momentary.serving.dispatch import Dispatcher
from momentary.serving.tenants import add_tenant, list_tenants, remove_tenant
from momentary.settings import ServeSettings, Settings, api_key_digest
from momentary.types import Item, Sessions
from tests.serving.world import ask, event

SECRETS = ("northern", "northish", "northward", "both")
OWN = ("s-1", "s-2", "s-3", "both")
NOBODY = "no-such-thing-1"


def _fill(tenant, ids, *, day):
    with Workspace.open(tenant.settings.home, storage=tenant.settings.storage) as workspace:
        workspace.catalog.upsert(Item(item_id=each, name=f"Name of {each}") for each in ids)
        sessions = Sessions.from_lists([[0, 1], [0, 2], [1, 0], [0, 1, 2, 3]])
        rng = np.random.default_rng(0)
        roles = {"main": "item_knn", "related": "item_knn", "fallback": "popularity"}
        scorers = {
            role: make(kind).fit(sessions, n_items=len(ids), rng=rng)
            for role, kind in roles.items()
        }
        store = ModelStore(workspace.models)
        bundle = Bundle(scorers=scorers, items=Vocabulary(ids), facts={})
        store.promote(store.add(bundle, now=datetime(2026, 1, day, tzinfo=UTC)))


@pytest.fixture
def server(tmp_path, storage, request):
    limits = ServeSettings()
    if storage.database_url is not None:
        redis_server = request.getfixturevalue("redis_server")
        limits = ServeSettings(state_url=redis_server.url)
    made = Settings(home=tmp_path, storage=storage, serve=limits)
    yield made
    for each in list_tenants(made):
        remove_tenant(made, each.name)


@pytest.fixture
def keys(server):
    found = {name: add_tenant(server, name) for name in ("north", "south")}
    north, south = list_tenants(server)
    _fill(north, SECRETS, day=1)
    _fill(south, OWN, day=2)
    return found


@pytest.fixture
def served(server, keys):  # noqa: ARG001 - there must be tenants
    with ExitStack() as stack:
        apps = [stack.enter_context(startup._served(each)) for each in list_tenants(server)]
        app = Dispatcher(apps)
        stack.callback(app.close)
        yield app


@pytest.fixture
def asks(served, keys):
    def asked(name, method, path, **rest):
        headers = {"x-api-key": keys.get(name, name), **rest.pop("headers", {})}
        return ask(served, method, path, headers=headers, **rest)

    return asked


@pytest.fixture
def shown(asks):
    """What north's people did; the id of an answer that one of them got."""
    clicks = [event("visit-n", each, user_id="person-n") for each in SECRETS]
    assert asks("north", "POST", "/v1/events", json=clicks).json()["accepted"] == 4
    buys = [event("v", each, user_id="both", event_type="purchase") for each in SECRETS]
    asks("north", "POST", "/v1/events", json=buys)
    body = {"user_id": "person-n", "k": 3}
    return asks("north", "POST", "/v1/recommend", json=body).json()["recommendation_id"]


def _requests(*, item, person, visit, answer, model):
    """Every way to ask about something by its name."""
    path, person_path = quote(item, safe=""), quote(person, safe="")
    return [
        ("GET", f"/v1/items/{path}", None),
        ("GET", f"/v1/items/{path}/similar", None),
        ("GET", f"/v1/items/{path}/together", None),
        ("DELETE", f"/v1/items/{path}", None),
        ("GET", f"/v1/search?q={path}", None),
        ("GET", f"/v1/sessions/{visit}/recommend?explain=true", None),
        ("POST", "/v1/recommend", {"user_id": person, "explain": True}),
        ("POST", "/v1/recommend", {"items": [item, "s-1"], "explain": True}),
        ("POST", "/v1/recommend", {"rules": {"exclude_items": [item]}}),
        ("POST", "/v1/feedback", {"recommendation_id": answer, "item_id": item}),
        ("PUT", "/v1/models/prod", {"version": model}),
        ("DELETE", f"/v1/users/{person_path}", None),
    ]


def _plain(response, names):
    """An answer without what differs between any two answers, and without the names asked for."""
    text = response.text
    for name in names:
        text = text.replace(name, "NAME")
    text = re.sub(r'"(recommendation_id|receipt_id)":"[0-9a-f]+"', "", text)
    text = re.sub(r'"(erased_us|retrain_by_us)":\d+', "", text)
    kept = {k: v for k, v in response.headers.items() if k != "content-length"}
    return response.status_code, kept, text


def test_names_of_another_tenant_are_answered_as_names_of_nothing(asks, served, shown):
    model = served._tenants[0].app.engine.model_version
    theirs = {
        "item": "northern",
        "person": "person-n",
        "visit": "visit-n",
        "answer": shown,
        "model": model,
    }
    nothing = {name: f"{NOBODY}{place}" for place, name in enumerate(theirs)}
    nothing["answer"] = "0" * len(shown)
    for one, other in zip(_requests(**theirs), _requests(**nothing), strict=True):
        method, path, body = one
        found = asks("south", method, path, json=body)
        told = _plain(found, theirs.values())
        method, path, body = other
        assert told == _plain(asks("south", method, path, json=body), nothing.values()), one
        for secret in SECRETS[:3]:
            assert found.text.replace(theirs["item"], "").find(secret) < 0, one


@pytest.mark.usefixtures("shown")
def test_lists_and_counters_tell_of_their_own_tenant_alone(asks, served):
    north, south = (each.app.engine.model_version for each in served._tenants)
    assert north != south
    for path in ("/v1/popular", "/v1/trending", "/v1/models", "/metrics", "/v1/search?q=name"):
        text = asks("south", "GET", path).text
        assert north not in text, path
        assert not [each for each in SECRETS[:3] if each in text], path
    taken = 'momentary_events_total{outcome="accepted"} 8.0'
    assert taken in asks("north", "GET", "/metrics").text
    assert taken not in asks("south", "GET", "/metrics").text


@pytest.mark.usefixtures("shown")
def test_what_one_does_changes_nothing_for_the_other(asks, served, server):
    def state():
        app = served._tenants[0].app
        home = list_tenants(server)[0].settings
        with Workspace.open(home.home, storage=home.storage) as workspace:
            items = list(workspace.catalog.items())
        answers = [
            asks("north", "GET", "/v1/sessions/visit-n/recommend").json()["items"],
            asks("north", "GET", "/v1/items/both").json(),
            asks("north", "GET", "/v1/items/northern/similar").json(),
        ]
        return app.engine._log.count(), items, answers, app.engine.model_version

    before = state()
    asks("south", "PUT", "/v1/items/both", json={"name": "Mine now", "hidden": True})
    asks("south", "PUT", "/v1/items/northern", json={"available": False})
    asks("south", "POST", "/v1/events", json=[event("visit-n", "both", user_id="person-n")])
    receipt = asks("south", "DELETE", "/v1/users/person-n").json()
    assert receipt["events"] == 1
    asks("south", "DELETE", "/v1/users/both")
    asks("south", "DELETE", "/v1/items/both")
    asks("south", "DELETE", "/v1/items/northern")
    assert state() == before
    assert asks("north", "DELETE", "/v1/users/person-n").json()["events"] == 4


def test_one_event_id_counts_once_for_each_tenant(asks):
    click = event("s", "both", event_id="same", user_id="u")
    assert asks("north", "POST", "/v1/events", json=click).json()["accepted"] == 1
    assert asks("south", "POST", "/v1/events", json=click).json()["accepted"] == 1
    assert asks("south", "POST", "/v1/events", json=click).json()["accepted"] == 0


def test_each_tenant_follows_its_own_rules_and_knows_no_others(asks, served, server):
    """What goes on beside the requests goes on for every tenant, and for each in its own data."""
    put = asks("south", "PUT", "/v1/rules/own", json={"exclude_items": ["s-1"]})
    assert put.status_code == 201

    async def serve():
        arriving = asyncio.Queue()
        arriving.put_nowait({"type": "lifespan.startup"})
        told = asyncio.Queue()
        life = asyncio.ensure_future(served({"type": "lifespan"}, arriving.get, told.put))
        await told.get()
        (north, _south) = list_tenants(server)
        storage = north.settings.storage
        with Workspace.open(north.settings.home, storage=storage) as elsewhere:
            elsewhere.rule_sets.put("secret", "{}", most=9)
        own = served._tenants[0].app._routes._rules._book
        end_s = time.monotonic() + 30
        while "secret" not in own.names() and time.monotonic() < end_s:
            await asyncio.sleep(0.02)
        arriving.put_nowait({"type": "lifespan.shutdown"})
        await life
        return list(own.names())

    assert asyncio.run(serve()) == ["secret"]
    assert asks("south", "GET", "/v1/rules/secret").status_code == 404
    other = served._tenants[1].app._routes._rules._book
    other.look()
    assert list(other.names()) == ["own"]


def test_no_request_of_one_tenant_touches_what_another_has(asks, served, shown, monkeypatch):
    theirs = served._tenants[0].app

    def touched(*_args, **_rest):
        pytest.fail("another tenant's store was touched")

    for name in ("append", "known", "history", "exposure", "counts", "erase", "fetch"):
        if hasattr(theirs.engine._log, name):
            monkeypatch.setattr(theirs.engine._log, name, touched)
    sa.event.listen(theirs._routes._catalog.engine, "before_cursor_execute", touched)
    names = {"item": "northern", "person": "person-n", "visit": "visit-n", "answer": shown}
    for method, path, body in _requests(**names, model=theirs.engine.model_version):
        asks("south", method, path, json=body)
    sa.event.remove(theirs._routes._catalog.engine, "before_cursor_execute", touched)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "path", ["/v1/items/{}", "/v1/items/{}/similar", "/v1/sessions/{}/recommend"]
)
@pytest.mark.usefixtures("shown")
def test_answers_take_as_long_whether_another_tenant_knows_the_name_or_not(asks, path):
    def chance():
        times = {"northern": [], "northless": []}
        for turn in range(160):
            # In turns, and in both orders, so that a busy machine slows both alike.
            for name in sorted(times, reverse=bool(turn % 2)):
                start_s = time.perf_counter()
                asks("south", "GET", path.format(name))
                times[name].append(time.perf_counter() - start_s)
        return mannwhitneyu(times["northern"][10:], times["northless"][10:]).pvalue

    # With no difference, less than this comes once in ten thousand times: twice in a row, never.
    assert chance() > 1e-4 or chance() > 1e-4


def test_the_key_chooses_and_nothing_else_does(asks, served, keys):
    named = {"x-tenant": "north", "host": "north", "x-forwarded-host": "north"}
    answer = asks("south", "GET", "/v1/items/northern", headers=named)
    assert answer.status_code == 404
    assert asks("south", "GET", "/v1/items/northern?tenant=north").status_code == 404
    assert asks("south", "GET", "/tenants/north/v1/items/northern").status_code == 404
    assert asks("north", "GET", "/v1/items/northern").status_code == 200
    wrong = asks("mk_wrong", "GET", "/v1/items/northern")
    none = ask(served, "GET", "/v1/items/northern")
    assert wrong.status_code == none.status_code == 401
    assert wrong.json() == none.json()
    twice = [("x-api-key", keys["south"]), ("x-api-key", keys["north"])]
    assert ask(served, "GET", "/v1/items/northern", headers=twice).status_code == 404


def test_what_needs_no_key_tells_of_no_tenant(served):
    assert ask(served, "GET", "/health/ready").json() == {"status": "ready"}
    assert ask(served, "GET", "/health/live").json() == {"status": "live"}
    assert ask(served, "GET", "/").status_code == 307
    assert ask(served, "GET", "/nothing").status_code == 404
    for path in ("/docs", "/openapi.json", "/tracker.js"):
        answer = ask(served, "GET", path)
        assert answer.status_code == 200
        assert "north" not in answer.text


def test_a_tenant_that_asks_too_often_slows_no_other(server, keys):
    north, south = list_tenants(server)
    with ExitStack() as stack:
        limited = replace(
            south,
            settings=replace(south.settings, serve=replace(south.settings.serve, rate_limit=0.001)),
        )
        app = Dispatcher([stack.enter_context(startup._served(each)) for each in (north, limited)])
        stack.callback(app.close)
        path = "/v1/popular"
        statuses = [
            ask(app, "GET", path, headers={"x-api-key": keys["south"]}).status_code
            for _ in range(3)
        ]
        free = [
            ask(app, "GET", path, headers={"x-api-key": keys["north"]}).status_code
            for _ in range(3)
        ]
    assert statuses == [200, 429, 429]
    assert free == [200, 200, 200]


def test_pages_of_one_tenants_site_cannot_use_anothers_key(server, keys):
    site = "https://north.example"
    own = list_tenants(server)[0].settings.home / "momentary.toml"
    text = own.read_text().replace("[serve]", f'[serve]\ncors_origins = ["{site}"]')
    own.write_text(text)
    with ExitStack() as stack:
        app = Dispatcher([stack.enter_context(startup._served(e)) for e in list_tenants(server)])
        stack.callback(app.close)
        first = {"access-control-request-method": "POST", "origin": "https://anyone.example"}
        before = ask(app, "OPTIONS", "/v1/popular", headers=first)
        good = {"x-api-key": keys["north"], "origin": site}
        foreign = {"x-api-key": keys["south"], "origin": site}
        same = {"x-api-key": keys["south"], "origin": "http://localhost"}
        allowed = ask(app, "GET", "/v1/popular", headers=good)
        refused = ask(app, "GET", "/v1/popular", headers=foreign)
        docs = ask(app, "GET", "/v1/popular", headers=same)
    assert before.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == site
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    assert docs.status_code == 200


@pytest.mark.parametrize("name", ["", "Big", "a_b", "../x", "1a", "a" * 41])
def test_names_that_cannot_be_folders_or_schemas_are_refused(tmp_path, name):
    with pytest.raises(SettingsError, match="cannot name a tenant"):
        add_tenant(Settings(home=tmp_path), name)


def test_a_tenant_is_added_once_and_its_key_is_kept_nowhere(tmp_path):
    server = Settings(home=tmp_path)
    key = add_tenant(server, "north")
    with pytest.raises(SettingsError, match="there is a tenant north already"):
        add_tenant(server, "north")
    folder = tmp_path / "tenants" / "north"
    for path in folder.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "momentary.toml").stat().st_mode & 0o077 == 0
    (tenant,) = list_tenants(server)
    assert tenant.settings.serve.api_keys == (f"admin:{api_key_digest(key)}",)
    remove_tenant(server, "north")
    assert list_tenants(server) == []
    assert list((tmp_path / "tenants").iterdir()) == []
    with pytest.raises(SettingsError, match="there is no tenant north"):
        remove_tenant(server, "north")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\n", "no serve.api_keys"),
        (f'[serve]\nport = 1\napi_keys = ["admin:{"0" * 64}"]\n', "sets serve.port"),
        (f'[serve]\nprot = 1\napi_keys = ["admin:{"0" * 64}"]\n', "did you mean serve.port"),
    ],
)
def test_a_tenants_settings_may_not_be_the_servers(tmp_path, text, said):
    server = Settings(home=tmp_path)
    add_tenant(server, "north")
    (tmp_path / "tenants" / "north" / "momentary.toml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        list_tenants(server)


def test_a_schema_that_is_somebody_elses_is_left_alone(tmp_path, postgres_storage):
    one, other = (Settings(home=tmp_path / name, storage=postgres_storage) for name in "ab")
    add_tenant(one, "north")
    try:
        with pytest.raises(SettingsError, match="schema tenant_north holds a shop already"):
            add_tenant(other, "north")
        assert list_tenants(other) == []
    finally:
        remove_tenant(one, "north")
    add_tenant(other, "north")
    remove_tenant(other, "north")


def test_two_tenants_may_not_share_a_key(tmp_path):
    server = Settings(home=tmp_path)
    add_tenant(server, "north")
    add_tenant(server, "south")
    folder = tmp_path / "tenants"
    (folder / "south" / "momentary.toml").write_text(
        (folder / "north" / "momentary.toml").read_text()
    )
    with pytest.raises(SettingsError, match="north and south have a key in common"):
        list_tenants(server)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("keys")
def test_a_tenant_without_a_model_stops_no_other(server, monkeypatch, caplog):
    add_tenant(server, "empty")
    said, served = [], []

    def look(app, settings, *, on_ready, **_rest):
        served.append((app, settings))
        on_ready()
        app.close()

    monkeypatch.setattr(startup, "serve", look)
    startup.start_tenants(server.home, environ={}, port=8398, announce=said.append)
    ((app, settings),) = served
    assert len(app._tenants) == 2
    assert "tenant empty is not served" in caplog.text
    assert said == ["momentary serves 2 of 3 tenants at http://127.0.0.1:8398"]
    assert len(settings.api_keys) == 3
    for name in ("north", "south"):
        remove_tenant(server, name)
    with pytest.raises(SettingsError, match="no tenant that can be served"):
        startup.start_tenants(server.home, environ={}, port=8398)


def test_the_commands_make_name_and_delete_tenants(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from momentary.cli import app

    monkeypatch.setenv("MOMENTARY_HOME", str(tmp_path))
    run = CliRunner().invoke
    made = run(app, ["tenant", "add", "north"])
    assert made.exit_code == 0, made.output
    assert re.search(r"mk_[\w-]{43}", made.output)
    listed = run(app, ["tenant", "list", "--json"])
    assert json.loads(listed.output) == [{"name": "north", "items": 0, "models": 0, "keys": 1}]
    assert "Delete north" in run(app, ["tenant", "remove", "north"], input="n\n").output
    assert run(app, ["tenant", "remove", "north", "--yes"]).exit_code == 0
    assert "There is no tenant" in run(app, ["tenant", "list"]).output
