"""What the catalogue is told, the very next answer knows, and so does the next start."""

import contextlib
import sqlite3
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from momentary.data.catalog import Catalog
from momentary.data.vocabulary import Vocabulary
from momentary.recommend.pipeline import Recommender
from momentary.serving.app import create_app
from momentary.types import Item
from tests.serving.world import (
    ITEMS,
    BrokenScorer,
    LiveEchoScorer,
    ask,
    ask_together,
    event,
    make_home,
    make_recommender,
    opened,
)

pytestmark = pytest.mark.usefixtures("over_both")


def _ids(app, **body):
    answer = ask(app, "POST", "/v1/recommend", json={"k": 100, **body})
    assert answer.status_code == 200, answer.text
    return [each["item_id"] for each in answer.json()["items"]]


def _path(item_id, end=""):
    return f"/v1/items/{quote(item_id, safe='')}{end}"


def _put(app, item_id, **fields):
    assert ask(app, "PUT", _path(item_id), json=fields).status_code in (200, 201)


@contextlib.contextmanager
def _from_catalog(root, *, scorer=None):
    """A server whose table is that of its catalogue, as at a real start."""
    with make_home(root) as home:
        items = Vocabulary(ITEMS)
        recommender = Recommender(
            scorer or LiveEchoScorer(), items=items, table=home.catalog.table(items.ids)
        )
        app = create_app(home, recommender, model_version="v1")
        try:
            yield app
        finally:
            app.close()


@pytest.mark.parametrize("fields", [{"available": False}, {"hidden": True}])
def test_an_item_that_goes_out_of_stock_is_on_no_list_from_then_on(tmp_path, fields):
    with opened(tmp_path) as app:
        before = _ids(app, event=event("s", "i1"))
        _put(app, "tea/green", **fields)
        without = _ids(app, session_id="s")
        shown = _ids(app, session_id="s", rules={"in_stock": False})
        _put(app, "tea/green")
        again = _ids(app, session_id="s")

    assert without == [each for each in before if each != "tea/green"]
    assert shown == (without if "hidden" in fields else before)
    assert again == before


def test_price_brand_name_and_a_new_attribute_count_at_once(tmp_path):
    with opened(tmp_path) as app:
        assert "i3" in _ids(app, rules={"deny": {"brand": ["green"]}, "price_min": 1})
        _put(app, "i3", name="Three", brand="green", price=0.5, properties={"size": 4})
        denied = _ids(app, rules={"deny": {"brand": ["green"]}})
        cheap = _ids(app, rules={"price_max": 0.5})
        sized = ask(app, "POST", "/v1/recommend", json={"rules": {"allow": {"size": ["4"]}}})

    assert set(denied) == set(ITEMS) - {"i3"}
    assert set(cheap) == {ITEMS[0], "i3"}
    assert [(each["item_id"], each["name"]) for each in sized.json()["items"]] == [("i3", "Three")]


def test_a_deleted_item_stays_away_until_it_is_put_again_even_over_a_restart(tmp_path):
    with opened(tmp_path) as app:
        # The catalogue has never heard of i1; the model knows it from events alone.
        assert ask(app, "GET", _path("i1", "/similar")).status_code == 200
        assert ask(app, "DELETE", _path("i1")).status_code == 204
        assert "i1" not in _ids(app)
        assert ask(app, "DELETE", _path("i1")).status_code == 404
        assert ask(app, "DELETE", _path("never seen")).status_code == 404
    with _from_catalog(tmp_path) as app:
        assert set(_ids(app, rules={"in_stock": False})) == set(ITEMS) - {"i1"}
        for end in ("", "/similar"):
            assert ask(app, "GET", _path("i1", end)).status_code == 404
        near = ask(app, "GET", _path("i2", "/similar?k=100")).json()["items"]
        assert "i1" not in {each["item_id"] for each in near}
        _put(app, "i1", name="One")
        assert set(_ids(app)) == set(ITEMS)
        assert ask(app, "GET", _path("i1", "/similar")).status_code == 200
    with _from_catalog(tmp_path) as app:
        assert set(_ids(app)) == set(ITEMS)


def test_the_fallback_knows_of_changes_too(tmp_path):
    with opened(tmp_path, BrokenScorer(), fallback=make_recommender()) as app:
        ask(app, "DELETE", _path("i2"))
        assert set(_ids(app)) == set(ITEMS) - {"i2"}


def test_an_item_that_the_model_does_not_know_changes_no_list(tmp_path):
    with opened(tmp_path) as app:
        before = _ids(app)
        _put(app, "coffee", name="Coffee")
        assert _ids(app) == before
        assert ask(app, "GET", _path("coffee")).json()["name"] == "Coffee"
        assert ask(app, "DELETE", _path("coffee")).status_code == 204


def test_changes_at_once_end_as_the_catalogue_has_them(tmp_path):
    with _from_catalog(tmp_path) as app:
        changes = [("PUT", _path("i1"), {"json": {"price": n}}) for n in range(6)]
        changes += [("DELETE", _path("i2"), {}), ("PUT", _path("i2"), {"json": {}})]
        assert {each.status_code for each in ask_together(app, changes)} <= {200, 201, 204}
        table = app.engine.recommender.table
    with _from_catalog(tmp_path) as app:
        stored = app.engine.recommender.table
    at = ITEMS.index("i1")
    assert table.price[at] == stored.price[at]
    assert table.available.tolist() == stored.available.tolist()


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_catalogue_that_is_held_is_a_503_changes_nothing_and_stops_nobody(tmp_path, monkeypatch):
    impatient = sa.create_engine(
        f"sqlite:///{tmp_path / 'workspace.sqlite'}", connect_args={"timeout": 0.2}
    )
    with opened(tmp_path) as app:
        for change in ("upsert", "delete"):
            monkeypatch.setattr(app.engine, "refresh", lambda _: pytest.fail("nothing has changed"))
            monkeypatch.setattr(Catalog, change, _through(impatient, change))
        with contextlib.closing(sqlite3.connect(tmp_path / "workspace.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            put, click, deleted = ask_together(
                app,
                [
                    ("PUT", _path("i1"), {"json": {"available": False}}),
                    ("POST", "/v1/recommend", {"json": {"event": event("s", "i1"), "k": 100}}),
                    ("DELETE", _path("i1"), {}),
                ],
            )
            other.execute("ROLLBACK")
    impatient.dispose()

    assert (put.status_code, deleted.status_code) == (503, 503)
    assert put.headers["retry-after"] == "1"
    assert "Nothing was changed" in put.json()["detail"]
    assert len(click.json()["items"]) == len(ITEMS)


def _through(engine, change):
    do = getattr(Catalog, change)
    return lambda _, value: do(Catalog(engine), value)


def test_a_catalogue_with_content_is_what_a_start_shows(tmp_path):
    with make_home(tmp_path) as home:
        home.catalog.upsert([Item(item_id="i4", hidden=True), Item(item_id="i5", available=False)])
        home.catalog.delete("i6")
    with _from_catalog(tmp_path) as app:
        assert set(_ids(app)) == set(ITEMS) - {"i4", "i5", "i6"}
        assert set(_ids(app, rules={"in_stock": False})) == set(ITEMS) - {"i4", "i6"}
