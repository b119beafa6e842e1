import numpy as np
import pytest

from tests.serving.world import ITEMS, NOW_US, ask, event, make_recommender, opened

pytestmark = pytest.mark.usefixtures("over_both")

DAY_S = 86_400


def _views(counts, *, days_ago):
    when = NOW_US / 1e6 - days_ago * DAY_S
    return [
        event(f"{days_ago}-{item}-{number}", item, timestamp=when)
        for item, count in counts.items()
        for number in range(count)
    ]


def _ids(answer):
    assert answer.status_code == 200, answer.text
    return [each["item_id"] for each in answer.json()["items"]]


class _Learned:
    """Scores that do not depend on the visit."""

    def score(self, sessions):
        return np.tile(np.arange(1, len(ITEMS) + 1, dtype=np.float32), (len(sessions), 1))


def test_popular_counts_the_week_and_trending_the_day_against_it(tmp_path):
    with opened(tmp_path) as app:
        for counts, ago in (({"i1": 30, "i2": 2}, 3), ({"i1": 4, "i2": 6, "i3": 1}, 0.5)):
            ask(app, "POST", "/v1/events", json=_views(counts, days_ago=ago))
        ask(app, "POST", "/v1/events", json=_views({"i4": 50}, days_ago=20))
        popular = _ids(ask(app, "GET", "/v1/popular?k=3"))
        trending = _ids(ask(app, "GET", "/v1/trending?k=3"))

    assert popular == ["i1", "i2", "i3"]
    assert trending[0] == "i2"
    assert "i1" not in trending


def test_a_trend_says_how_often_an_item_was_wanted(tmp_path):
    with opened(tmp_path) as app:
        for counts, ago in (({"i1": 3}, 3), ({"i2": 2, "i3": 1}, 0.5)):
            ask(app, "POST", "/v1/events", json=_views(counts, days_ago=ago))
        popular = ask(app, "GET", "/v1/popular?explain=true").json()["items"]
        trending = ask(app, "GET", "/v1/trending?explain=true").json()["items"]
        plain = ask(app, "GET", "/v1/popular").json()["items"]
    assert popular[0]["reasons"] == ["wanted 3 times in the last 7 days"]
    assert {each["item_id"]: each["reasons"] for each in trending} == {
        "i2": ["wanted 2 times in the last day"],
        "i3": ["wanted once in the last day"],
    }
    assert all(each["reasons"] == [] for each in plain)


def test_where_nothing_happened_yet_a_popular_item_says_what_made_it_one(tmp_path):
    with opened(tmp_path, fallback=make_recommender(_Learned())) as app:
        listed = ask(app, "GET", "/v1/popular?k=3&explain=true").json()["items"]
    assert listed
    assert {tuple(each["reasons"]) for each in listed} == {
        ("popular in what the model learned from",)
    }


def test_a_shop_without_events_shows_what_its_model_holds_for_popular(tmp_path):
    with opened(tmp_path) as app:
        assert len(_ids(ask(app, "GET", "/v1/popular?k=4"))) <= 4
        assert _ids(ask(app, "GET", "/v1/trending")) == []


def test_what_is_bought_together_leaves_out_what_is_gone(tmp_path):
    bought = [
        event(None, item, user_id=f"u{n}", event_type="purchase")
        for n in range(3)
        for item in ("i1", "i2", "i3", "not in the model")
    ]
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/events", json=bought)
        ask(app, "PUT", "/v1/items/i3", json={"available": False})
        answer = ask(app, "GET", "/v1/items/i1/together")

    assert _ids(answer) == ["i2", "not in the model"]
    first, last = answer.json()["items"]
    assert first["reasons"] == ["bought together in 3 baskets"]
    assert first["name"] == "Name of i2"
    assert "name" not in last


def test_search_knows_items_as_they_are_now(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "PUT", "/v1/items/new", json={"name": "Grüner Tee", "brand": "Momo"})
        assert _ids(ask(app, "GET", "/v1/search?q=gruner")) == ["new"]
        ask(app, "PUT", "/v1/items/other", json={"name": "Grüne Kanne"})
        assert set(_ids(ask(app, "GET", "/v1/search?q=grun"))) == {"new", "other"}
        ask(app, "PUT", "/v1/items/other", json={"name": "Grüne Kanne", "hidden": True})
        ask(app, "DELETE", "/v1/items/new")
        assert _ids(ask(app, "GET", "/v1/search?q=grun")) == []


def test_rules_hold_for_a_search_and_for_what_is_bought_together(tmp_path):
    kept = {"a": ("Momo", 3), "b": ("Momo", 9), "c": ("Other", 5), "d": ("Momo", 4)}
    with opened(tmp_path) as app:
        for item, (brand, price) in kept.items():
            ask(
                app,
                "PUT",
                f"/v1/items/{item}",
                json={"name": f"Tea {item}", "brand": brand, "price": price},
            )
        bought = [
            event(None, item, user_id=f"u{n}", event_type="purchase")
            for n in range(3)
            for item in ("i1", *kept)
        ]
        ask(app, "POST", "/v1/events", json=bought)
        ask(app, "PUT", "/v1/items/d", json={"name": "Tea d", "available": False})
        capped = {"allow": 'brand == "Momo" or brand == "Other"', "max_per": {"brand": 1}}
        ask(app, "PUT", "/v1/rules/one-a-brand", json={**capped, "unknown": "empty"})
        for path in ("/v1/search?q=tea", "/v1/items/i1/together?k=20"):
            assert set(_ids(ask(app, "GET", path))) == {"a", "b", "c"}
            assert set(_ids(ask(app, "GET", f"{path}&in_stock=false"))) == {"a", "b", "c", "d"}
            assert set(_ids(ask(app, "GET", f"{path}&price_max=5"))) == {"a", "c"}
            assert _ids(ask(app, "GET", f"{path}&deny=brand%20%3D%3D%20%22Momo%22")) == ["c"]
            listed = _ids(ask(app, "GET", f"{path}&rule_sets=one-a-brand"))
            assert len(listed) == 2
            assert "c" in listed
            refused = ask(app, "GET", f"{path}&deny=brand%20%3D%3D")
            assert refused.status_code == 422
            assert ask(app, "GET", f"{path}&rule_sets=unknown").status_code == 422


@pytest.mark.parametrize("query", ["", "?q=", "?q=%20", f"?q={'x' * 201}", "?q=a&p=1", "?q=a&k=0"])
def test_a_search_for_nothing_is_refused(tmp_path, query):
    with opened(tmp_path) as app:
        assert ask(app, "GET", f"/v1/search{query}").status_code == 422


def test_every_item_of_the_world_is_an_item(tmp_path):
    with opened(tmp_path) as app:
        answer = ask(app, "GET", "/v1/popular?k=100")
    assert set(_ids(answer)) <= set(ITEMS)
