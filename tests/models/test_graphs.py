"""A graph in a model's folder: built when asked for, checked when read, never a reason to fail."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.sessions import SessionLog
from momentary.data.vocabulary import Vocabulary
from momentary.errors import ArtifactError, SettingsError
from momentary.models import graphs
from momentary.models.artifact import (
    ModelStore,
    add_graph,
    graph_state,
    load,
    make,
    read_manifest,
    save,
)
from momentary.models.graphs import built, with_new_graph, with_saved_graph
from momentary.models.training import train
from momentary.types import Sessions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
N_ITEMS = 300


def bundle(kind="gru4rec"):
    rng = np.random.default_rng(0)
    starts = rng.integers(0, N_ITEMS - 8, size=200)
    log = SessionLog(
        sessions=Sessions.from_lists([(start + np.arange(6)).tolist() for start in starts]),
        items=Vocabulary([f"i{number}" for number in range(N_ITEMS)]),
        visitors=Vocabulary(["u:1"]),
    )
    config = {"units": [8], "epochs": 1, "n_sample": 16} if kind == "gru4rec" else {}
    return train(log, make(kind, config), rng=rng)


@pytest.fixture(scope="module")
def plain():
    return bundle()


@pytest.fixture(scope="module")
def graphed(plain):
    return with_new_graph(plain, "graph")


@pytest.fixture
def folder(graphed, tmp_path):
    save(graphed, tmp_path / "m", now=NOW)
    return tmp_path / "m"


def near(found):
    queries = np.random.default_rng(3).standard_normal((9, 8)).astype(np.float32)
    return found.graph.near(queries, 20).tolist()


def test_a_saved_graph_comes_back(graphed, folder):
    found = with_saved_graph(load(folder), folder, "graph")
    assert near(found) == near(graphed)
    assert found.graph_note == ""
    assert read_manifest(folder).graph.config == {"items": N_ITEMS}


def test_a_bundle_without_a_graph_says_nothing_of_one(plain, tmp_path):
    save(plain, tmp_path / "m", now=NOW)
    assert "graph" not in json.loads((tmp_path / "m" / "manifest.json").read_bytes())
    assert graph_state(tmp_path / "m") is None


@pytest.mark.parametrize("choice", ["exact", "auto"])
def test_a_small_model_is_searched_exactly(plain, folder, choice):
    assert with_new_graph(plain, choice).graph is None
    found = with_saved_graph(load(folder), folder, choice)
    assert (found.graph, found.graph_note) == (None, "")


def test_a_large_model_has_a_graph_by_itself(plain, folder, monkeypatch):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", N_ITEMS)
    assert with_new_graph(plain, "auto").graph is not None
    assert with_saved_graph(load(folder), folder, "auto").graph is not None
    assert with_saved_graph(load(folder), folder, "exact").graph is None


@pytest.mark.parametrize("harm", ["change", "truncate", "remove"])
def test_a_damaged_graph_is_refused_and_the_exact_search_goes_on(folder, monkeypatch, caplog, harm):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", N_ITEMS)
    file = folder / "graph.safetensors"
    content = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-3] + (b"" if harm == "truncate" else b"abc"))
    with pytest.raises(ArtifactError, match=r"graph\.safetensors .*momentary index"):
        graph_state(folder)
    found = with_saved_graph(load(folder), folder, "auto")
    assert found.graph is None
    assert "momentary index" in found.graph_note
    assert "exact search" in caplog.text
    assert with_saved_graph(load(folder), folder, "graph").graph is not None


def test_the_graph_of_another_model_is_refused(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", 1)
    smaller = train(
        SessionLog(
            sessions=Sessions.from_lists([[0, 1, 2], [1, 2, 3]] * 9),
            items=Vocabulary(["a", "b", "c", "d"]),
            visitors=Vocabulary(["u:1"]),
        ),
        make("gru4rec", {"units": [8], "epochs": 1}),
        rng=np.random.default_rng(0),
    )
    save(smaller, tmp_path / "small", now=NOW)
    add_graph(tmp_path / "small", built(plain))
    found = with_saved_graph(load(tmp_path / "small"), tmp_path / "small", "auto")
    assert found.graph is None
    assert "not those of the model's items" in found.graph_note


def test_a_graph_is_added_to_a_model_that_was_saved_without(plain, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", N_ITEMS)
    store = ModelStore(tmp_path)
    version = store.add(plain, now=NOW)
    missing = with_saved_graph(store.load(version), tmp_path / version, "auto")
    assert "saved without a graph" in missing.graph_note
    assert caplog.text.count("exact search") == 1
    add_graph(tmp_path / version, built(plain))
    found = with_saved_graph(store.load(version), tmp_path / version, "auto")
    assert (found.graph is None, found.graph_note) == (False, "")
    assert sorted(file.name for file in (tmp_path / version).iterdir()) == [
        *("fallback.safetensors", "graph.safetensors", "items.json"),
        *("main.safetensors", "manifest.json", "related.safetensors"),
    ]


def test_without_the_extra_auto_is_exact_and_says_so_and_graph_is_refused(
    plain, folder, monkeypatch, caplog
):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", N_ITEMS)
    monkeypatch.setattr(graphs, "is_there", lambda: False)
    assert "pip install" in with_new_graph(plain, "auto").graph_note
    found = with_saved_graph(load(folder), folder, "auto")
    assert found.graph is None
    assert "momentary[graph]" in found.graph_note
    assert "momentary[graph]" in caplog.text
    with pytest.raises(SettingsError, match=r"pip install 'momentary\[graph\]'"):
        with_saved_graph(load(folder), folder, "graph")


def test_a_model_without_item_vectors_has_no_graph():
    found = bundle("item_knn")
    assert with_new_graph(found, "graph") == found
    with pytest.raises(SettingsError, match="item_knn scores by no product"):
        built(found)


def test_saving_keeps_the_graph_that_a_bundle_has(graphed, tmp_path):
    save(replace(graphed, version="x"), tmp_path / "again", now=NOW)
    assert near(with_saved_graph(load(tmp_path / "again"), tmp_path / "again", "graph")) == near(
        graphed
    )
