"""Rules over HTTP: what they do, what is refused and where, and that nothing is recorded then."""

import json

import numpy as np
import pytest

from momentary.errors import SettingsError
from momentary.recommend.rules import Rules, read_rules
from momentary.recommend.scenarios import PRESETS, alike, merged, read_scenarios
from momentary.serving.rulebook import RuleBook
from momentary.settings import ServeSettings, api_key_digest, load_settings
from momentary.types import Sessions
from tests.serving.world import ITEMS, NOW_US, ask, event, make_home, make_recommender, opened

pytestmark = pytest.mark.usefixtures("over_both")


def _ids(answer):
    assert answer.status_code == 200, answer.text
    return [each["item_id"] for each in answer.json()["items"]]


def _post(app, **body):
    return ask(app, "POST", "/v1/recommend", json=body)


def _describe(app, **items):
    for item, fields in items.items():
        assert ask(app, "PUT", f"/v1/items/{item}", json=fields).status_code == 201


@pytest.mark.parametrize(
    ("rules", "field", "line", "column"),
    [
        ({"allow": 'brand = "red"'}, "rules.allow", 1, 7),
        ({"deny": 'brand == "red" and\nprise < 3'}, "rules.deny", 2, 1),
        ({"allow": "properties.nobody"}, "rules.allow", 1, 12),
        ({"boosts": [{"when": "available"}, {"when": "price <"}]}, "rules.boosts[1].when", 1, 8),
        ({"deny": ["available", "not"]}, "rules.deny[1]", 1, 4),
    ],
)
def test_a_condition_that_cannot_be_followed_is_refused_where_it_is_wrong(
    tmp_path, rules, field, line, column
):
    clicked = event("s", "i1")
    with opened(tmp_path) as app:
        for more in ({}, {"scenario": "home"}):
            answer = _post(app, rules=rules, event=clicked, **more)
            assert answer.status_code == 422
            problem = answer.json()
            found = (problem["field"], problem["line"], problem["column"])
            assert found == (field, line, column)
        assert app.engine._log.count() == 0
        assert list(app.engine._log.exposures()) == []


def test_what_http_answers_is_what_the_library_answers(tmp_path):
    rules = {
        "deny": 'brand == "blue" and price > 6',
        "boosts": [{"when": "price < 4", "add": 0.7}],
        "pins": [{"item_id": "i3", "rank": 2}],
        "diversity": {"by": "brand", "strength": 0.5},
        "max_per": {"brand": 4},
        "exclude_seen": True,
    }
    with opened(tmp_path) as app:
        answer = _post(app, items=["i1", "i2"], k=8, rules=rules, explain=True)
    shop = make_recommender()
    visit = Sessions.from_lists([shop.items.indices(["i1", "i2"]).tolist()])
    expected = shop.recommend(visit, k=8, rules=read_rules(json.dumps(rules)))[0]
    assert _ids(answer) == [each.item_id for each in expected]
    for sent, known in zip(answer.json()["items"], expected, strict=True):
        assert sent["score"] == pytest.approx(known.score, rel=1e-6)
        assert sent["reasons"] == list(known.reasons)


def test_rules_in_a_query_string(tmp_path):
    with opened(tmp_path) as app:
        path = "/v1/sessions/s/recommend"
        shown = _ids(ask(app, "GET", path, params={"allow": "price >= 3", "price_max": "6"}))
        assert sorted(shown) == ["..", "a?b#c", "i0", "x%2Fy"]
        similar = ask(app, "GET", "/v1/items/i1/similar", params={"deny": 'brand == "red"'})
        assert {ITEMS.index(each) % 2 for each in _ids(similar)} == {1}
        for query in ({"price_max": "x"}, {"price_min": "nan"}, {"allow": "x"}, {"in_stock": "?"}):
            for where in (path, "/v1/items/i1/similar", "/v1/popular", "/v1/trending"):
                assert ask(app, "GET", where, params=query).status_code == 422


def test_popular_items_obey_the_rules_and_boosts_make_nothing_popular(tmp_path):
    with opened(tmp_path) as app:
        before = {"timestamp": NOW_US / 1e6 - 60}
        counts = {"i1": 5, "i2": 4, "i3": 4}
        clicks = [
            event(f"{n}", item, **before) for item, most in counts.items() for n in range(most)
        ]
        ask(app, "POST", "/v1/events", json=clicks)
        assert _ids(ask(app, "GET", "/v1/popular")) == ["i1", "i2", "i3"]
        cheap = {"allow": "price < 9"}
        assert _ids(ask(app, "GET", "/v1/popular", params=cheap)) == ["i1", "i2"]
        lifted = {"boosts": [{"when": "price >= 8", "multiply": 2, "add": 3}]}
        ask(app, "PUT", "/v1/rules/lifted", json=lifted)
        found = ask(app, "GET", "/v1/popular?rule_sets=lifted")
        assert _ids(found) == ["i2", "i3", "i1"]
        assert [each["rank"] for each in found.json()["items"]] == [1, 2, 3]


def test_named_rules_are_stored_and_obeyed_at_once(tmp_path):
    with opened(tmp_path) as app:
        stored = ask(app, "PUT", "/v1/rules/cheap", json={"allow": "price < 3"})
        assert (stored.status_code, stored.json()["items"]) == (201, 3)
        again = ask(app, "PUT", "/v1/rules/cheap", json={"allow": "price < 2"})
        assert (again.status_code, again.json()["items"]) == (200, 2)
        assert len(_ids(_post(app, rule_sets=["cheap"]))) == 2
        assert len(_ids(ask(app, "GET", "/v1/sessions/s/recommend?rule_sets=cheap"))) == 2
        listed = ask(app, "GET", "/v1/rules").json()["rule_sets"]
        assert [each["name"] for each in listed] == ["cheap"]
        lines = app._routes._audit.entries()
        assert [(each.action, each.target) for each in lines] == [("put_rules", "cheap")] * 2
    with opened(tmp_path) as app:
        assert len(_ids(_post(app, rule_sets=["cheap"]))) == 2
        assert ask(app, "DELETE", "/v1/rules/cheap").status_code == 204
        assert ask(app, "DELETE", "/v1/rules/cheap").status_code == 404
        assert ask(app, "GET", "/v1/rules/cheap").status_code == 404
        gone = _post(app, rule_sets=["cheap"])
        assert (gone.status_code, gone.json()["field"]) == (422, "rule_sets")


def test_rules_that_cannot_be_followed_are_not_stored(tmp_path):
    bodies = [
        b'{"allow": "price <"}',
        b'{"allow": "properties.nobody"}',
        b'{"max_per": {"nobody": 1}}',
        b'{"diversity": {"by": "content"}}',
        b'{"surprise": 1}',
        b"[]",
        b"{",
        b'{"unknown": "empty", "price_min": 3, "price_max": 2}',
    ]
    header = {"content-type": "application/json"}
    with opened(tmp_path) as app:
        for body in bodies:
            answer = ask(app, "PUT", "/v1/rules/x", content=body, headers=header)
            assert answer.status_code in (400, 422), body
        for name in ("a b", "%2F", "-x", "x" * 101, "%C3%A4"):
            assert ask(app, "PUT", f"/v1/rules/{name}", json={}).status_code in (404, 422)
        assert ask(app, "GET", "/v1/rules").json() == {"rule_sets": []}
        assert app._routes._audit.entries() == []


def test_a_stored_rule_goes_on_when_the_last_item_with_a_property_goes(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "PUT", "/v1/items/i1", json={"properties": {"alcohol": True}})
        assert (
            ask(app, "PUT", "/v1/rules/dry", json={"deny": "properties.alcohol"}).status_code == 201
        )
        assert "i1" not in _ids(_post(app, rule_sets=["dry"]))
        ask(app, "PUT", "/v1/items/i1", json={})
        assert "i1" in _ids(_post(app, rule_sets=["dry"]))
        assert _post(app, rules={"deny": "properties.alcohol"}).status_code == 422


def test_rules_and_scenarios_of_the_settings(tmp_path):
    file = tmp_path / "momentary.toml"
    file.write_text(
        "[serve.rules.dry]\ndeny = 'category == \"alcohol\"'\n"
        "[serve.scenarios.home]\nk = 3\nrule_sets = ['dry']\n"
        "[serve.scenarios.checkout]\nscorer = 'popular'\n"
        "[serve.scenarios.checkout.rules]\nprice_max = 4\n"
    )
    limits = load_settings(file, environ={}).serve
    with opened(tmp_path, rules=limits.rules, scenarios=limits.scenarios) as app:
        _describe(app, new={"category": "alcohol"})
        assert len(_ids(_post(app, scenario="home"))) == 3
        assert len(_ids(_post(app, scenario="home", k=5))) == 5
        assert len(_ids(_post(app, scenario="checkout"))) == 5
        assert ask(app, "PUT", "/v1/rules/dry", json={}).status_code == 409
        assert ask(app, "DELETE", "/v1/rules/dry").status_code == 409
        shown = ask(app, "GET", "/v1/scenarios").json()["scenarios"]
        assert [each["name"] for each in shown] == ["basket", "checkout", "home", "mail", "product"]
    for bad in (
        {"rules": {"x": {"deny": "price <"}}},
        {"scenarios": {"home": {"k": 0}}},
        {"scenarios": {"home": {"rules": {"allow": "?"}}}},
        {"scenarios": {"home": {"rule_sets": ["nobody"]}}},
        {"scenarios": {"home": {"colour": "red"}}},
    ):
        with make_home(tmp_path) as home, pytest.raises(SettingsError, match=r"serve\."):
            RuleBook(ServeSettings(**bad), home.rule_sets)


def test_each_preset_does_what_it_says(tmp_path):
    with opened(tmp_path) as app:
        for name in ITEMS:
            path = name.replace("%", "%25").replace("/", "%2F").replace("?", "%3F")
            path = path.replace("#", "%23").replace(".", "%2E")
            fields = {"category": "a" if ITEMS.index(name) % 3 else "b", "group_id": f"g{name[:1]}"}
            ask(app, "PUT", f"/v1/items/{path}", json=fields)
        kinds = {name: "a" if ITEMS.index(name) % 3 else "b" for name in ITEMS}
        home = _post(app, items=["i1"], scenario="home")
        assert len(_ids(home)) == len(ITEMS)
        plain = _ids(_post(app, items=["i1"], k=len(ITEMS)))
        assert _ids(home) != plain
        assert set(_ids(home)) == set(plain)
        basket = _ids(_post(app, items=["i1", "i2"], scenario="basket"))
        assert not {"i1", "i2"} & set(basket)
        assert max(sum(kinds[each] == kind for each in basket) for kind in "ab") == 2
        mail = _ids(_post(app, user_id="u", scenario="mail"))
        assert sorted(kinds[each] for each in mail) == ["a", "b"]
        product = _post(app, items=["i1"], scenario="product", explain=False)
        assert sum(each.startswith("i") for each in _ids(product)) == 1


def test_what_a_request_says_wins_and_no_condition_is_lost():
    rules = merged(
        [
            {"deny": "price > 9", "max_per": {"brand": 2, "category": 1}, "exclude_seen": True},
            {"deny": {"brand": ["A"]}, "pins": [{"item_id": "a", "rank": 1}]},
            {
                "exclude_seen": False,
                "max_per": {"brand": 5},
                "pins": [{"item_id": "a", "rank": 3}, {"item_id": "b", "rank": 1}],
                "boosts": [{"when": "available"}],
            },
        ]
    )
    assert rules.deny == ("price > 9", {"brand": ("A",)})
    assert rules.max_per == {"brand": 5, "category": 1}
    assert rules.exclude_seen is False
    assert [(pin.item_id, pin.rank) for pin in rules.pins] == [("a", 3), ("b", 1)]
    assert len(rules.boosts) == 1
    assert merged([]) == Rules()


def test_rules_that_cannot_hold_together_are_refused(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "PUT", "/v1/rules/cheap", json={"price_max": 3})
        answer = _post(app, rule_sets=["cheap"], rules={"price_min": 4}, event=event("s", "i1"))
        assert (answer.status_code, answer.json()["field"]) == (422, "rules")
        assert "price_min is 4" in answer.json()["detail"]
        assert app.engine._log.count() == 0


def test_explored_places_are_recorded_with_their_chance(tmp_path):
    explore = {"explore": {"share": 0.6, "pool": 4}}
    with opened(tmp_path) as app:
        certain = _post(app, items=["i1"]).json()["recommendation_id"]
        assert app.engine.exposure(certain).propensities is None
        answers = [_post(app, items=["i1"], k=5, rules=explore).json() for _ in range(40)]
        shown = {each.recommendation_id: each for each in app.engine._log.exposures()}
    for answer in answers:
        chances = [each.get("propensity", 1.0) for each in answer["items"]]
        exposure = shown[answer["recommendation_id"]]
        assert exposure.items == tuple(each["item_id"] for each in answer["items"])
        assert exposure.propensities == pytest.approx(chances)
        assert exposure.propensity == pytest.approx(np.prod(chances))
    assert len({tuple(each["item_id"] for each in answer["items"]) for answer in answers}) > 5


def test_only_an_admin_changes_rules(tmp_path):
    keys = tuple(f"{scope}:{api_key_digest(scope)}" for scope in ("write", "read", "admin"))
    may = {
        ("GET", "/v1/rules"): {"read", "admin"},
        ("GET", "/v1/rules/x"): {"read", "admin"},
        ("GET", "/v1/scenarios"): {"read", "admin"},
        ("PUT", "/v1/rules/x"): {"admin"},
        ("DELETE", "/v1/rules/x"): {"admin"},
    }
    with opened(tmp_path, api_keys=keys) as app:
        for (method, path), who in may.items():
            for scope in ("write", "read", "admin"):
                body = {"json": {}} if method == "PUT" else {}
                status = ask(app, method, path, headers={"x-api-key": scope}, **body).status_code
                assert (status != 403) == (scope in who), (method, path, scope)


class Together:
    """Item 2 goes with item 0, a little; nothing with others."""

    def related(self, item, _k):
        class Near:
            items = np.array([2, 3] if item == 0 else [], dtype=np.int64)
            similarities = np.array([0.4, 0.1] if item == 0 else [])
            counts = np.array([3, 1] if item == 0 else [])

        return Near


def test_similar_items_come_first_and_the_model_fills_up():
    scores = np.array([[9, 8, -5, 1, 2]] * 3, dtype=np.float32)
    sessions = Sessions.from_lists([[1, 0], [], [1]])
    found = alike(scores, sessions, Together())
    assert np.argsort(-found[0]).tolist() == [2, 3, 1, 4, 0]
    assert found[1].tolist() == scores[1].tolist()
    assert np.argsort(-found[2]).tolist() == [0, 4, 3, 2, 1]
    assert alike(scores, sessions, None) is scores
    assert scores[0].tolist() == [9, 8, -5, 1, 2]


def test_presets_are_rules_that_can_be_followed():
    assert set(read_scenarios({})) == set(PRESETS) == {"home", "product", "basket", "mail"}
    for scenario in PRESETS.values():
        merged([scenario.rules])
