"""What changed since when: items, vectors of new items, aliases of models."""

import numpy as np
import pytest

from momentary.data import model_aliases
from momentary.data.item_vectors import Kept
from momentary.data.model_aliases import ModelAliases
from momentary.data.workspace import Workspace
from momentary.types import Item


@pytest.fixture
def workspace(tmp_path, storage):
    with Workspace.open(tmp_path, create=True, storage=storage) as workspace:
        yield workspace


def test_items_say_what_changed_after_a_revision(workspace):
    catalog = workspace.catalog
    assert (catalog.revisions(), catalog.table(["a"]).revision) == ({}, 0)
    catalog.upsert([Item(item_id="a"), Item(item_id="b")])
    catalog.upsert([])
    catalog.upsert([Item(item_id="c", properties={"size": 3})])
    catalog.delete("a")
    assert catalog.revisions() == {"items": 3}
    assert catalog.table(["b"]).revision == 3
    everything = catalog.changes(0, most=9)
    assert everything == (
        3,
        {"b": Item(item_id="b"), "c": Item(item_id="c", properties={"size": 3}), "a": None},
        False,
    )
    assert list(everything.items) == ["b", "c", "a"]
    assert catalog.changes(2, most=9) == (3, {"a": None}, False)
    assert catalog.changes(3, most=9) == (3, {}, False)
    assert catalog.changes(0, most=2).more
    assert len(catalog.changes(0, most=2).items) == 2


def test_a_change_that_fails_has_no_number(workspace):
    with pytest.raises(RuntimeError, match="planted"):
        workspace.catalog.upsert(_failing())
    assert workspace.catalog.changes(0, most=9) == (0, {}, False)


def _failing():
    yield Item(item_id="a")
    raise RuntimeError("planted")


def test_vectors_are_replaced_as_a_whole_and_their_end_is_known(workspace):
    vectors = workspace.item_vectors
    picture = Kept("e/1", b"hash", np.arange(3, dtype="<f4").tobytes())
    first = vectors.put("a/ö", {"image": picture, "text": Kept("t/1", b"other", b"")})
    second = vectors.put("b", {"image": picture})
    assert vectors.of("a/ö") == (
        first,
        {"image": picture, "text": Kept("t/1", b"other", b"")},
    )
    assert vectors.since(0) == {"a/ö": first, "b": second}
    third = vectors.put("a/ö", {})
    assert vectors.of("a/ö") == (third, {})
    assert vectors.since(second) == {"a/ö": third}
    vectors.delete("b")
    assert vectors.of("b") == (0, {})
    assert workspace.catalog.revisions() == {"vectors": 3}


def test_aliases_have_a_new_number_only_where_they_change(workspace):
    aliases = workspace.model_aliases
    assert aliases.read() == (0, {})
    assert aliases.write({"prod": "m1"}) == 1
    assert aliases.write({"prod": "m1"}) == 1
    assert aliases.write({"prod": "m2", "previous": "m1"}) == 2
    # Whoever knows of the first promotion alone takes nothing back.
    assert aliases.write({"prod": "m3"}, known=1) == 1
    assert aliases.read() == (2, {"prod": "m2", "previous": "m1"})
    assert aliases.write({"prod": "m2", "previous": "m1"}, known=2) == 2
    assert aliases.read() == (2, {"prod": "m2", "previous": "m1"})


def test_what_another_machine_promotes_meanwhile_is_not_taken_for_known(workspace, monkeypatch):
    aliases, read, meanwhile = workspace.model_aliases, model_aliases._read, []
    aliases.write({"prod": "m1"})

    def read_slowly(connection):
        found = read(connection)
        if not meanwhile:
            meanwhile.append("m2")
            ModelAliases(workspace.engine).write({"prod": "m2"})
        return found

    monkeypatch.setattr(model_aliases, "_read", read_slowly)
    assert aliases.write({"prod": "m1"}) == 1
    assert aliases.read() == (2, {"prod": "m2"})


def test_a_table_tells_whether_it_holds_a_row(workspace):
    items = [
        Item(item_id="a", name="A", price=2.0, brand="x"),
        Item(item_id="b"),
        Item(item_id="c", hidden=True),
    ]
    workspace.catalog.upsert(items)
    table = workspace.catalog.table(["a", "b", "c"])
    for place, each in enumerate(items):
        assert table.holds(place, workspace.catalog.table([each.item_id]))
    for change in (
        {"name": "B"},
        {"price": 3.0},
        {"price": None},
        {"available": False},
        {"hidden": True},
        {"brand": None},
        {"properties": {"size": 1}},
    ):
        fields = {"name": "A", "price": 2.0, "brand": "x", **change}
        workspace.catalog.upsert([Item(item_id="a", **fields)])
        assert not table.holds(0, workspace.catalog.table(["a"])), change
    workspace.catalog.delete("b")
    assert not table.holds(1, workspace.catalog.table(["b"]))
