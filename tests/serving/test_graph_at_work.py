"""A graph from training to answers: offline as over HTTP, counted, and missing without harm."""

import json

import pytest

from momentary.data.workspace import Workspace
from momentary.models import graphs
from momentary.models.artifact import ModelStore
from momentary.serving.startup import _Models
from momentary.settings import ServeSettings
from tests.serving.world import ask

N_ITEMS = 400


@pytest.fixture
def home(tmp_path, monkeypatch, run):
    """A shop whose settings want a graph, and a trained model."""
    monkeypatch.setenv("MOMENTARY_HOME", str(tmp_path / "home"))
    lines = ["session_id,item_id,timestamp,event_type"]
    for visit in range(300):
        for step in range(5):
            second = 1_700_000_000 + visit * 60 + step
            lines.append(f"s{visit},i{(visit * 13 + step * step) % N_ITEMS},{second},view_item")
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    assert run("import", tmp_path / "clicks.csv")[0] == 0
    (tmp_path / "home" / "momentary.toml").write_text('[serve]\nindex = "graph"\n')
    trained = run(
        *("train", "--min-item-events", "1", "--set", "epochs=1", "--set", "units=[16]"), "--json"
    )
    assert trained[0] == 0, trained
    return tmp_path / "home"


def served(home, *questions, index="graph"):
    """Answers, whether the service is ready, and its counters of searches."""
    with Workspace.open(home) as workspace:
        app = _Models(workspace, ServeSettings(index=index)).application()
        try:
            answers = [ask(app, "POST", "/v1/recommend", json=each).json() for each in questions]
            ready = ask(app, "GET", "/health/ready").json()
            counters = ask(app, "GET", "/metrics").text
        finally:
            app.close()
    searched = {
        line.partition('index="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in counters.splitlines()
        if line.startswith("momentary_searched_total")
    }
    return answers, ready, searched


@pytest.mark.parametrize("rules", [{}, {"exclude_seen": True}], ids=["plain", "seen"])
def test_lists_over_http_are_those_of_the_command(home, run, rules):
    basket = ["i3", "i17", "i20"]
    (answer,), ready, searched = served(home, {"items": basket, "k": 10, "rules": rules})
    code, out, err = run("recommend", *basket, "-k", 10, "--rules", json.dumps(rules), "--json")
    assert code == 0, err
    listed = [(each["item_id"], each["score"]) for each in json.loads(out)]
    assert [(each["item_id"], each["score"]) for each in answer["items"]] == listed
    assert (ready["search"], ready["notes"]) == ("graph", [])
    assert searched["graph"] >= 1


def test_a_damaged_graph_harms_no_service(home, monkeypatch, caplog):
    monkeypatch.setattr(graphs, "WORTH_ITEMS", 100)
    store = ModelStore(home / "models")
    (store.root / store.versions()[0] / "graph.safetensors").write_bytes(b"no graph")
    answers, ready, searched = served(home, {"items": ["i3"], "k": 5}, index="auto")
    assert len(answers[0]["items"]) == 5
    assert ready["search"] == "exact"
    assert ready["notes"] == [
        "The model's graph is not at work, so lists come from the exact search."
    ]
    assert searched["graph"] == 0 < searched["exact"]
    # The log has the file, which nobody outside is told of.
    assert "graph.safetensors" in caplog.text
    assert "models" not in ready["notes"][0]


def test_the_command_builds_a_graph_for_a_saved_model(home, run):
    store = ModelStore(home / "models")
    folder = store.root / store.versions()[0]
    (folder / "graph.safetensors").unlink()
    code, out, err = run("index", "--json")
    assert code == 0, err
    assert json.loads(out)["items"] == N_ITEMS
    assert (folder / "graph.safetensors").is_file()
    code, out, _ = run("index")
    assert code == 0
    assert "has a graph of 400 items now" in " ".join(out.split())
    assert 'serve.index = "graph" alone' in " ".join(out.split())
    code, _, err = run("index", "--model", "nothing")
    assert code != 0
    assert "There is no model 'nothing'" in " ".join(err.split())
