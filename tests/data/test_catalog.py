"""The catalogue: what is put in comes out, and tables line up with ids."""

import numpy as np
import pytest

from momentary.data.workspace import Workspace
from momentary.types import Item


@pytest.fixture
def catalog(tmp_path):
    with Workspace.open(tmp_path / "home", create=True) as workspace:
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


def test_items_come_by_id(catalog):
    catalog.upsert([Item(item_id=name) for name in "cab"])
    assert [item.item_id for item in catalog.items()] == ["a", "b", "c"]


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
