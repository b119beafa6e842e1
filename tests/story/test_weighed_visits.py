"""What an event counts, from the command line to the service: the live visit weighs as offline."""

import contextlib
import json

import numpy as np
import pytest

from momentary.data.sessions import renumber_items, workspace_sessions
from momentary.data.workspace import Workspace
from momentary.models.artifact import ModelStore
from momentary.serving.app import create_app
from momentary.serving.models import assortment_at_work, last_good
from momentary.settings import ServeSettings
from tests.serving.world import ask

ITEMS = [f"sku/{n}" for n in range(20)]
BEGIN_S = 1_700_000_000
LATER_S = BEGIN_S + 300 * 9_000
WEIGHTS = {"view_item": 0.25, "purchase": 6, "select_item": 0}
CLICKS = [
    ("sku/3", "add_to_cart"),
    ("sku/9", "view_item"),
    ("sku/14", "select_item"),  # counts nothing
    ("sku/4", "purchase"),
    ("sku/6", "view_item"),
    ("sku/7", "view_cart"),  # says nothing of an interest
]
SETTINGS = {
    "vstan": ("neighbours=20", "repeat=1"),
    "item_knn": ("shrinkage=1", "decay=0.9"),
    "slist": ("regularization=1", "reach=5"),
    "personal_popularity": ("half_life_days=5",),
    "gru4rec": ("units=[8]", "epochs=1", "n_sample=8", "batch_size=8"),
}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """Visits of two tastes; some items are put into carts and bought (simulated)."""
    rng = np.random.default_rng(3)
    lines = ["user_id,item_id,timestamp,event_type"]
    for visit in range(200):
        for place in range(int(rng.integers(2, 7))):
            item = 2 * int(rng.integers(10)) + visit % 2
            kind = rng.choice(["view_item", "view_item", "select_item", "add_to_cart", "purchase"])
            second = BEGIN_S + visit * 9_000 + place * 30
            lines.append(f"u{visit % 40},{ITEMS[item]},{second},{kind}")
    file = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def home(clicks, tmp_path, run, monkeypatch):
    monkeypatch.setenv("MOMENTARY_HOME", str(tmp_path / "home"))
    assert run("import", clicks)[0] == 0
    return tmp_path / "home"


def trained(run, kind, weights):
    settings = [f"--set={each}" for each in SETTINGS[kind]]
    given = f"--set=event_weights={json.dumps(weights)}"
    code, _, err = run("train", "-m", kind, *settings, given, "--min-item-events", 1, "--json")
    assert code == 0, err


@contextlib.contextmanager
def service(home, **limits):
    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(Workspace.open(home))
        bundle = last_good(ModelStore(workspace.models))
        assortment, recommender, fallback = assortment_at_work(bundle, workspace)
        app = create_app(
            workspace,
            recommender,
            model_version=bundle.version,
            settings=ServeSettings(**limits),
            fallback=fallback,
            assortment=assortment,
            clock_us=lambda: (LATER_S + 600) * 1_000_000,
        )
        stack.callback(app.close)
        yield app


def live(app, user, clicks=(), *, begin_s=LATER_S):
    """Send clicks one by one; then what is recommended, with the scores."""
    for place, (item, kind) in enumerate(clicks):
        event = {"user_id": user, "item_id": item, "event_type": kind}
        answer = ask(app, "POST", "/v1/events", json={**event, "timestamp": begin_s + 20 * place})
        assert answer.status_code in {200, 202}, answer.text
    answer = ask(app, "POST", "/v1/recommend", json={"user_id": user, "k": 10})
    assert answer.status_code == 200, answer.text
    assert answer.json()["variant"] == "model"
    return {each["item_id"]: each["score"] for each in answer.json()["items"]}


def offline(home, user):
    """The same of the visit as the log has it, by the saved model."""
    with Workspace.open(home) as workspace:
        bundle = last_good(ModelStore(workspace.models))
        log = workspace_sessions(workspace)
        known = bundle.items.indices(log.items.ids)
        rows = np.flatnonzero(log.sessions.users == log.visitors.index(f"u:{user}"))
        visit = renumber_items(log.sessions.take(rows[-1:]), known)
        scores = bundle.scorers["main"].score(visit)[0]
    best = np.argsort(-scores, kind="stable")[:10]
    return {bundle.items.ids[item]: float(scores[item]) for item in best}


def same(one, other):
    assert list(one) == list(other)
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-4)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_live_visit_weighs_as_it_does_offline(kind, home, run):
    trained(run, kind, WEIGHTS)
    with service(home) as app:
        told = live(app, "zoe", CLICKS)
        views = live(app, "max", [(item, "view_item") for item, _ in CLICKS[:5]])
    same(told, offline(home, "zoe"))
    same(views, offline(home, "max"))
    if kind != "gru4rec":  # a network reads all clicks alike
        assert told != views
    with service(home) as app:  # the visit is read from the log again
        same(live(app, "zoe"), told)


def test_two_processes_weigh_a_visit_alike_over_redis(home, run, redis_server):
    redis_server.say("FLUSHALL")
    trained(run, "vstan", WEIGHTS)
    with (
        service(home, state_url=redis_server.url) as one,
        service(home, state_url=redis_server.url) as two,
    ):
        live(one, "zoe", CLICKS[:3])
        live(two, "zoe", CLICKS[3:], begin_s=LATER_S + 60)
        told = live(two, "zoe")
        same(live(one, "zoe"), told)
    same(told, offline(home, "zoe"))


def test_the_command_line_weighs_what_it_is_told(home, run):
    trained(run, "item_knn", WEIGHTS)
    items = [item for item, _ in CLICKS[:5]]
    types = ",".join(kind for _, kind in CLICKS[:5])

    def listed(*more):
        code, out, err = run("recommend", *items, "-k", 10, "--json", *more)
        assert code == 0, err
        return {each["item_id"]: each["score"] for each in json.loads(out)}

    with service(home) as app:
        same(listed("--event-types", types), live(app, "zoe", CLICKS))
        alike = ask(app, "POST", "/v1/recommend", json={"items": items, "k": 10}).json()["items"]
    same(listed(), {each["item_id"]: each["score"] for each in alike})
    assert listed() != listed("--event-types", types)
    code, _, err = run("recommend", *items, "--event-types", "view_item,purchase")
    assert (code, "does not fit 5 items" in err) == (2, True)
    code, _, err = run("recommend", "sku/3", "--event-types", "view_cart")
    assert (code, "does not fit 1 items" in err) == (2, True)


@pytest.mark.usefixtures("home")
def test_evaluate_asks_for_some_types_alone(run):
    asked = ("evaluate", "-m", "vstan", "-m", "popularity", "--days", 4, "--json")

    def queries(*more):
        code, out, err = run(*asked, *more)
        assert code == 0, err
        return json.loads(out)["boards"]["next_item"]["queries"]

    both = queries("--target-type", "purchase", "--target-type", "add_to_cart")
    assert 0 < queries("--target-type", "purchase") < both < queries()
    _, out, _ = run(*asked[:-1], "--target-type", "purchase")
    assert "Asked for: purchase, and nothing else." in " ".join(out.split())
    code, _, err = run(*asked, "--target-type", "buy")
    assert (code, "target_types names buy" in err) == (2, True)
    code, _, err = run(*asked, "--task", "completion", "--target-type", "purchase")
    assert (code, "whole baskets" in err) == (2, True)


@pytest.mark.usefixtures("home")
def test_a_search_weighs_the_types_that_the_log_has(run, tmp_path):
    found = tmp_path / "found.toml"
    search = ("tune", "-m", "popularity", "--trials", 6, "--days", 3, "--validation-days", 3)
    code, out, err = run(*search, "--target-type", "purchase", "--write", found, "--json")
    assert code == 0, err
    tried = [each["settings"] for each in json.loads(out)["tried"]]
    assert set(tried[0]["event_weights"].values()) == {1.0}  # as without weights
    assert {*tried[0]["event_weights"]} == {"select_item", "add_to_cart", "purchase"}
    assert len({json.dumps(each) for each in tried}) > 1
    assert "event_weights = {" in found.read_text()
    code, _, err = run("train", "-m", "popularity", "--config", found, "--json")
    assert code == 0, err


@pytest.mark.usefixtures("home")
def test_a_model_that_cannot_weigh_says_so(run):
    code, _, err = run("train", "-m", "hierarchical_rnn", "--set", 'event_weights={"purchase": 2}')
    assert (code, "has no setting 'event_weights'" in err) == (2, True)
    code, _, err = run("train", "-m", "vstan", "--set", 'event_weights={"buy": 2}')
    assert (code, "models learn from view_item" in err) == (2, True)
    code, _, err = run("train", "-m", "vstan", "--set", "event_weights={buy}")
    assert (code, "nor a table" in err) == (2, True)
