"""What one machine encoded another machine of the shop knows, through their database."""

import numpy as np
import pytest

from momentary.data.item_vectors import Kept
from momentary.data.workspace import Workspace
from momentary.encoders.store import FILE, VectorStore
from momentary.recommend.encoded import read_encoded
from momentary.recommend.sharing import give, is_shared, receive
from momentary.types import Item

IDS = ["a", "b", "ö"]


@pytest.fixture
def workspace(tmp_path, storage):
    with Workspace.open(tmp_path / "shop", create=True, storage=storage) as workspace:
        workspace.catalog.upsert(Item(item_id=each) for each in IDS)
        yield workspace


def encoded(file, encoder, vectors):
    with VectorStore(file) as store:
        store.use("image", encoder)
        rows = {bytes([n]): np.array(each, np.float32) for n, each in enumerate(vectors.values())}
        store.put(encoder, vectors=rows, names=zip(vectors, rows, strict=True))


def read(file):
    with VectorStore(file) as store:
        encoder = store.views()["image"]
        vectors, there = store.read(encoder, IDS)
    return encoder, {
        name: row.tolist() for name, row, on in zip(IDS, vectors, there, strict=True) if on
    }


def test_vectors_travel_and_only_what_is_new(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("momentary.recommend.sharing._AT_ONCE", 2)
    one, two = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    vectors = workspace.item_vectors
    assert receive(vectors, two) == 0
    assert not two.exists()
    encoded(one, "e/1", {"a": [1, 2], "b": [3, 4], "ö": [5, 6]})
    assert give(vectors, one, IDS) == 3
    assert give(vectors, one, IDS) == 0
    assert receive(vectors, one) == 0
    assert receive(vectors, two) == 3
    assert read(two) == ("e/1", {"a": [1, 2], "b": [3, 4], "ö": [5, 6]})
    assert receive(vectors, two) == 0
    encoded(two, "e/1", {"b": [9, 9]})
    with VectorStore(two) as store:  # another picture of the same item
        store.put("e/1", vectors={b"new": np.array([7, 7], np.float32)}, names=[("b", b"new")])
    assert give(vectors, two, IDS) == 1
    assert receive(vectors, one) == 1
    assert read(one) == ("e/1", {"a": [1, 2], "b": [7, 7], "ö": [5, 6]})


def test_a_catalogue_encoded_by_another_model_is_taken_as_a_whole(workspace, tmp_path):
    one, two = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    vectors = workspace.item_vectors
    encoded(one, "e/1", {"a": [1, 2], "b": [3, 4]})
    give(vectors, one, IDS)
    receive(vectors, two)
    encoded(one, "e/2", {"a": [1, 2, 3]})
    assert give(vectors, one, IDS) == 1
    assert receive(vectors, two) == 1
    assert read(two) == ("e/2", {"a": [1, 2, 3]})


def test_running_services_follow_what_was_put_and_not_what_was_encoded(workspace, tmp_path):
    one = tmp_path / "one.sqlite"
    vectors = workspace.item_vectors
    first = vectors.put("a", {"image": Kept("e/1", b"sent", np.zeros(2, "<f4").tobytes())})
    vectors.put("b", {})
    encoded(one, "e/1", {"a": [1, 2], "b": [3, 4], "ö": [5, 6]})
    assert give(vectors, one, IDS) == 3
    assert vectors.since(-1) == vectors.since(0) == {"a": first}
    assert vectors.of("a")[1]["image"].content == b"\0"
    assert vectors.of("b") == (0, {"image": Kept("e/1", b"\1", np.array([3, 4], "<f4").tobytes())})
    assert workspace.catalog.revisions()["vectors"] == 2
    assert vectors.contents() == {"a": [("image", "e/1", b"\0")]}


def test_a_machine_reads_what_another_encoded_where_they_share_a_database(workspace, tmp_path):
    one = tmp_path / "one.sqlite"
    encoded(one, "e/1", {"a": [1, 2], "b": [3, 4]})
    give(workspace.item_vectors, one, IDS)
    found = read_encoded(workspace.catalog, workspace.root / FILE)
    if is_shared(workspace.engine):
        assert found.views["image"].tolist() == [[1, 2], [3, 4], [0, 0]]
        assert found.encoders == {"image": "e/1"}
    else:
        assert found.views == {}
