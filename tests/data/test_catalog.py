"""The catalogue: what is put in comes out, and tables line up with ids."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.catalog import ITEMS, Catalog, upsert_rows
from momentary.data.workspace import Workspace
from momentary.errors import DataError
from momentary.types import Item


@pytest.fixture
def catalog(tmp_path, storage):
    with Workspace.open(tmp_path / "home", create=True, storage=storage) as workspace:
        yield workspace.catalog


def test_an_item_comes_back_as_it_was_put(catalog):
    item = Item(
        item_id="a/b ü'\"",
        group_id="g",
        name="Näme",
        price=1.25,
        available=False,
        hidden=True,
        properties={"colours": ["red"], "size": 4, "deep": {"x": None}},
    )
    assert catalog.upsert([item]) == 1
    assert catalog.get(item.item_id) == item
    assert catalog.get("other") is None


def test_upsert_replaces_and_the_last_of_two_counts(catalog):
    catalog.upsert([Item(item_id="a", name="one", brand="x")])
    assert catalog.upsert([Item(item_id="a", name="two"), Item(item_id="a", name="three")]) == 2
    assert catalog.get("a") == Item(item_id="a", name="three")
    assert catalog.count() == 1


def test_delete_says_whether_it_was_there(catalog):
    catalog.upsert([Item(item_id="a")])
    assert catalog.delete("a")
    assert not catalog.delete("a")
    assert catalog.count() == 0


def test_a_deleted_item_is_seen_nowhere_but_stays_deleted(catalog):
    catalog.upsert([Item(item_id="a", name="A", properties={"size": 4}), Item(item_id="b")])
    assert catalog.delete("a")
    assert not catalog.delete("never there")
    assert catalog.get("a") is None
    assert [item.item_id for item in catalog.items()] == ["b"]
    assert catalog.count() == 1
    table = catalog.table(["a", "b", "never there", "unknown"])
    assert table.names.tolist() == [None] * 4
    assert table.available.tolist() == [False, True, False, True]
    assert table.hidden.tolist() == table.deleted.tolist() == [True, False, True, False]
    assert "size" not in table.attributes


def test_a_deleted_item_comes_back_when_it_is_put_or_imported(catalog):
    catalog.upsert([Item(item_id="a"), Item(item_id="b", hidden=True)])
    for item_id in ("a", "b"):
        catalog.delete(item_id)
    catalog.upsert([Item(item_id="a", name="again")])
    with catalog.engine.begin() as connection:
        own = ("deleted", "revision")
        row = {column: None for column in ITEMS.columns.keys() if column not in own}  # noqa: SIM118
        upsert_rows(connection, [{**row, "item_id": "b", "available": True, "hidden": False}])
    assert list(catalog.items()) == [Item(item_id="a", name="again"), Item(item_id="b")]
    assert catalog.table(["a", "b"]).available.all()


def test_items_of_an_older_workspace_are_there_after_the_migration(tmp_path):
    config = Config()
    config.set_main_option("script_location", "momentary.data:migrations")
    config.set_main_option("path_separator", "os")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'workspace.sqlite'}")

    def migrate(direction, revision):
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            direction(config, revision)
            connection.commit()

    migrate(command.upgrade, "0001")
    with engine.begin() as connection:
        columns = "item_id, name, available, hidden"
        connection.exec_driver_sql(f"INSERT INTO items ({columns}) VALUES ('a', 'A', 1, 0)")
    migrate(command.upgrade, "head")
    catalog = Catalog(engine)
    assert list(catalog.items()) == [Item(item_id="a", name="A")]
    catalog.upsert([Item(item_id="b")])
    catalog.delete("a")
    migrate(command.downgrade, "0001")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT item_id FROM items").fetchall() == [("b",)]
    engine.dispose()


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_catalogue_that_is_held_refuses_to_be_written(catalog):
    held = sa.create_engine(catalog.engine.url, connect_args={"timeout": 0.01})
    with closing(sqlite3.connect(catalog.engine.url.database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for change in (
            lambda: Catalog(held).upsert([Item(item_id="a")]),
            lambda: Catalog(held).delete("a"),
        ):
            with pytest.raises(DataError, match="try again later"):
                change()
        connection.execute("ROLLBACK")
    held.dispose()
    assert catalog.count() == 0


def test_items_come_by_id(catalog):
    catalog.upsert([Item(item_id=name) for name in "cabAÄ-"])
    assert [item.item_id for item in catalog.items()] == sorted("cabAÄ-")


@pytest.mark.parametrize("padding", [0, 600])
def test_table_lines_up_with_ids(catalog, padding):
    catalog.upsert(
        [
            Item(item_id="a", name="A", price=2.0, brand="x", properties={"size": 4, "new": True}),
            Item(item_id="b", hidden=True, category="c", properties={"list": [1], "brand": "no"}),
            Item(item_id="c", available=False, group_id="g", properties={"size": "4.5"}),
        ]
    )
    ids = ["c", "unknown", "a", "b", *(f"p{i}" for i in range(padding))]
    table = catalog.table(ids)
    assert len(table) == 4 + padding
    assert table.item_ids.tolist() == ids
    assert table.names.tolist()[:4] == [None, None, "A", None]
    assert table.available.tolist()[:4] == [False, True, True, False]
    np.testing.assert_array_equal(table.price[:4], [np.nan, np.nan, 2.0, np.nan])
    assert {name: column.tolist()[:4] for name, column in table.attributes.items()} == {
        "brand": [None, None, "x", None],
        "category": [None, None, None, "c"],
        "group_id": ["g", None, None, None],
        "size": ["4.5", None, "4", None],
        "new": [None, None, "true", None],
    }


def test_a_table_of_nothing(catalog):
    assert len(catalog.table([])) == 0


_items = st.builds(
    Item,
    item_id=st.sampled_from("abc"),
    name=st.sampled_from([None, "one", "two"]),
    brand=st.sampled_from([None, "x"]),
    price=st.sampled_from([None, 1.0, 2.5]),
    available=st.booleans(),
    hidden=st.booleans(),
    properties=st.none() | st.dictionaries(st.sampled_from(["size", "new"]), st.integers(0, 2)),
)


@settings(max_examples=20, deadline=None)
@given(changes=st.lists(_items | st.sampled_from("abcd"), min_size=2, max_size=5))
def test_a_table_with_a_changed_row_is_the_table_read_again(workspace_of_this_module, changes):
    catalog = workspace_of_this_module.catalog
    with catalog.engine.begin() as connection:
        connection.execute(sa.delete(ITEMS))
    ids = ["b", "d", "a", "c"]
    table = catalog.table(ids)
    for change in changes:
        before = _plain(table)
        if isinstance(change, str):
            item_id = change
            catalog.delete(item_id)
        else:
            item_id = change.item_id
            catalog.upsert([change])
        changed = table.with_row(ids.index(item_id), catalog.table([item_id]))
        assert _plain(table) == before
        assert _plain(changed) == _plain(catalog.table(ids))
        table = changed


@pytest.fixture(scope="module")
def workspace_of_this_module(tmp_path_factory):
    with Workspace.open(tmp_path_factory.mktemp("home"), create=True) as workspace:
        yield workspace


def _plain(table):
    attributes = {name: column.tolist() for name, column in table.attributes.items()}
    columns = (table.item_ids, table.names, table.available, table.hidden, table.deleted)
    prices = [None if np.isnan(price) else price for price in table.price]
    return ([column.tolist() for column in columns], prices, attributes)


def test_a_row_of_another_item_is_refused(catalog):
    table = catalog.table(["a", "b"])
    with pytest.raises(ValueError, match="give 'a' alone"):
        table.with_row(0, catalog.table(["b"]))
    with pytest.raises(ValueError, match="give 'a' alone"):
        table.with_row(0, table)
    with pytest.raises(ValueError, match="index is -1"):
        table.with_row(-1, catalog.table(["b"]))
