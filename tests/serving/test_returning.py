"""Returning visitors: their past stands at the door of every visit, under each of their names."""

import json
import shutil
import sys

import numpy as np
import pytest

from momentary import cli
from momentary.data.workspace import Workspace
from momentary.models.artifact import ModelStore
from momentary.serving.app import create_app
from momentary.serving.models import at_work
from momentary.settings import ServeSettings
from tests.serving.world import ask

BEGIN_S = 1_700_000_000
HOUR_S = 3_600
LATER_S = BEGIN_S + 1_000 * HOUR_S
COMMON = [f"c{n}" for n in range(3)]
TASTES = [[f"t{taste}-{n}" for n in range(6)] for taste in range(3)]
VISITORS = 30
TRAIN = (
    *("train", "-m", "hierarchical_rnn", "--set", "units=20", "--set", "user_units=20"),
    *("--set", "batch_size=8", "--set", "n_sample=16", "--set", "epochs=8"),
    *("--set", "first_click=true", "--json"),
)


def taste_of(visitor):
    return TASTES[visitor % 3]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A shop whose visitors each have a taste; a visit begins with what all click (simulated)."""
    root = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    lines = ["user_id,anonymous_id,item_id,timestamp,event_type"]
    for visit in range(6):
        for visitor in range(VISITORS):
            name = f"known{visitor}," if visitor % 5 else f",browser{visitor}"
            clicks = [COMMON[rng.integers(3)], *rng.choice(taste_of(visitor), 3).tolist()]
            second = BEGIN_S + (visit * VISITORS + visitor) * HOUR_S
            lines += [
                f"{name},{item},{second + 30 * place},view_item"
                for place, item in enumerate(clicks)
            ]
    (root / "clicks.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patched:
        for words in (("import", str(root / "clicks.csv"), "--json"), TRAIN):
            patched.setattr(sys, "argv", ["momentary", *words, "--home", str(root / "home")])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert not end.value.code
    return root / "home"


class Shop:
    """The service of a workspace at an hour that the test says."""

    def __init__(self, home, **limits):
        self.now_s = LATER_S
        self.limits = limits
        self.workspace = Workspace.open(home)
        bundle = ModelStore(self.workspace.models).load()
        self.model = bundle.scorers["main"]
        self.items = bundle.items
        recommender, fallback = at_work(
            bundle, self.workspace.catalog.table(list(bundle.items.ids))
        )
        self._made = (recommender, fallback)
        self.open()

    def open(self):
        recommender, fallback = self._made
        self.app = create_app(
            self.workspace,
            recommender,
            model_version="v1",
            settings=ServeSettings(**self.limits),
            fallback=fallback,
            clock_us=lambda: int(self.now_s * 1e6),
        )

    def click(self, item, **ids):
        self.now_s += 30
        sent = {"item_id": item, "event_type": "view_item", "timestamp": self.now_s, **ids}
        assert ask(self.app, "POST", "/v1/events", json=sent).status_code == 200

    def ask(self, **body):
        answer = ask(self.app, "POST", "/v1/recommend", json={"k": len(self.items), **body})
        assert answer.json()["variant"] == "model", answer.text
        return {each["item_id"]: each["score"] for each in answer.json()["items"]}

    def best(self, count=6, **body):
        scores = self.ask(**body)
        return sorted(scores, key=lambda item: -scores[item])[:count]

    def expected(self, *visits, visitor=""):
        """Scores after visits, of which all but the last have ended, straight from the model."""
        state = self.model.start_for(self.model.places([visitor]))
        for place, visit in enumerate(visits):
            for item in visit:
                state = self.model.advance(state, np.array([self.items.index(item)]))
            if place < len(visits) - 1:
                state = self.model.finish(state)
        return dict(zip(self.items.ids, self.model.score_states(state)[0].tolist(), strict=True))


@pytest.fixture
def shop(home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    made = Shop(tmp_path / "home")
    yield made
    made.app.close()
    made.workspace.close()


def same(found, wanted):
    assert set(found) == set(wanted)
    for item, score in wanted.items():
        assert found[item] == pytest.approx(score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("visitor", [1, 2, 3, 5, 10])
def test_a_visitor_of_the_training_is_known_at_the_door(shop, visitor):
    ids = {"user_id": f"known{visitor}"} if visitor % 5 else {"anonymous_id": f"browser{visitor}"}
    name = f"u:known{visitor}" if visitor % 5 else f"a:browser{visitor}"
    shop.click("c0", **ids)
    same(shop.ask(**ids), shop.expected(["c0"], visitor=name))
    assert len(set(shop.best(**ids)) & set(taste_of(visitor))) >= 5


def test_a_stranger_is_not(shop):
    shop.click("c0", user_id="nobody")
    same(shop.ask(user_id="nobody"), shop.expected(["c0"]))
    same(shop.ask(), shop.expected([]))


def test_a_stranger_who_comes_again_is_known_by_the_log(shop):
    first = ["c0", *TASTES[2][:3]]
    for item in first:
        shop.click(item, user_id="new")
    same(shop.ask(user_id="new"), shop.expected(first))
    shop.now_s += 24 * HOUR_S
    same(shop.ask(user_id="new"), shop.expected(first, []))
    shop.click("c1", user_id="new")
    same(shop.ask(user_id="new"), shop.expected(first, ["c1"]))
    shop.app.close()
    shop.open()
    same(shop.ask(user_id="new"), shop.expected(first, ["c1"]))


def test_what_a_known_visitor_does_after_the_training_counts_on_top(shop):
    for item in TASTES[0][:3]:
        shop.click(item, user_id="known1")
    shop.now_s += 24 * HOUR_S
    shop.click("c2", user_id="known1")
    wanted = shop.expected(TASTES[0][:3], ["c2"], visitor="u:known1")
    same(shop.ask(user_id="known1"), wanted)
    shop.app.close()
    shop.open()
    same(shop.ask(user_id="known1"), wanted)


def test_visits_that_the_model_has_learned_from_do_not_count_twice(shop):
    shop.now_s = BEGIN_S
    for item in TASTES[0][:3]:
        shop.click(item, user_id="known1")
    shop.now_s = LATER_S
    shop.click("c2", user_id="known1")
    same(shop.ask(user_id="known1"), shop.expected(["c2"], visitor="u:known1"))


@pytest.mark.parametrize("session", [{}, {"session_id": "s"}])
def test_signing_in_brings_the_clicks_before_it_together_with_the_past(shop, session):
    shop.click("c0", anonymous_id="phone", **session)
    same(shop.ask(anonymous_id="phone", **session), shop.expected(["c0"]))
    both = {"anonymous_id": "phone", "user_id": "known2", **session}
    same(shop.ask(**both), shop.expected(["c0"], visitor="u:known2"))
    shop.click("c1", **both)
    wanted = shop.expected(["c0", "c1"], visitor="u:known2")
    same(shop.ask(**both), wanted)
    same(shop.ask(**both), wanted)
    assert len(set(shop.best(**both)) & set(taste_of(2))) >= 5
    # Whoever uses the phone next without signing in is not known by that account.
    if not session:
        shop.now_s += 24 * HOUR_S
        shop.click("c0", anonymous_id="phone")
        same(shop.ask(anonymous_id="phone"), shop.expected(["c0", "c1"], ["c0"]))


def test_a_new_account_takes_over_the_browsers_past(shop):
    both = {"anonymous_id": "browser10", "user_id": "fresh"}
    shop.click("c0", **both)
    same(shop.ask(**both), shop.expected(["c0"], visitor="a:browser10"))


def test_a_named_session_starts_from_its_visitors_past(shop):
    ids = {"session_id": "s1", "user_id": "new"}
    first = [*TASTES[1][:3]]
    for item in first:
        shop.click(item, **ids)
    same(shop.ask(**ids), shop.expected(first))
    shop.now_s += HOUR_S
    same(shop.ask(**ids), shop.expected(first))
    again = {"session_id": "s2", "user_id": "new"}
    same(shop.ask(**again), shop.expected(first, []))
    shop.click("c1", **again)
    same(shop.ask(**again), shop.expected(first, ["c1"]))
    same(shop.ask(session_id="s2"), shop.expected(first, ["c1"]))


def test_processes_that_share_visits_know_their_visitors_alike(home, tmp_path, redis_server):
    redis_server.say("FLUSHALL")
    shutil.copytree(home, tmp_path / "home")
    one, two = (Shop(tmp_path / "home", state_url=redis_server.url) for _ in range(2))
    first = TASTES[0][:3]
    for item in first:
        one.click(item, user_id="known1")
    two.now_s = one.now_s = one.now_s + 24 * HOUR_S
    same(two.ask(user_id="known1"), two.expected(first, [], visitor="u:known1"))
    one.click("c2", user_id="known1", session_id="s")
    two.now_s = one.now_s
    wanted = two.expected(first, ["c2"], visitor="u:known1")
    for ids in ({"user_id": "known1"}, {"user_id": "known1", "session_id": "s"}):
        for shop in (two, one, two):
            same(shop.ask(**ids), wanted)
    kept = redis_server.say("KEYS", "*")
    for shop in (one, two):
        shop.app.close()
        shop.workspace.close()
    assert "known1" not in str(kept)


def test_a_basket_is_added_to_the_visit_of_a_known_visitor(shop):
    found = shop.ask(user_id="known1", items=["c0"])
    same(found, shop.expected(["c0"], visitor="u:known1"))
    same(shop.ask(user_id="known1"), shop.expected([], visitor="u:known1"))


def test_the_command_line_knows_a_visitor_too(home, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["momentary", *words, "--home", str(home)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr()

    said = run("recommend", "c0", "--user", "known1", "-k", "5", "--json")
    assert len({each["item_id"] for each in json.loads(said.out)} & set(taste_of(1))) >= 4
    assert "does not know nobody" in run("recommend", "c0", "--user", "nobody").err
