"""Every model of the registry, from the command line to the service; a new one is in by itself."""

import contextlib
import json

import pytest

from momentary.data.workspace import Workspace
from momentary.models.artifact import KINDS, ModelStore
from momentary.serving.app import create_app
from momentary.serving.models import assortment_at_work, last_good
from momentary.settings import ServeSettings
from tests.serving.world import ask

ITEMS = [f"sku/{n}" for n in range(24)]
SMALL = {
    "factorization": {"factors": 8},
    "gru4rec": {"units": [8], "epochs": 1},
    "feature_rnn": {"units": 8, "epochs": 1},
    "hierarchical_rnn": {"units": 8, "user_units": 8, "epochs": 1},
    "attentive_rnn": {"units": 8, "epochs": 1, "n_sample": 16},
}
"""Settings that make a network quick; a model that is not named keeps its defaults."""
SMALL_PARTS = """
[[hybrid.parts]]
kind = "attentive_rnn"
settings = { units = 8, epochs = 1, n_sample = 16 }
[[hybrid.parts]]
kind = "item_knn"
[hybrid.stack]
least_questions = 20
epochs = 1
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Visits of six visitors who walk up the shelf, and what stands on it; simulated."""
    folder = tmp_path_factory.mktemp("shelf")
    lines = ["user_id,item_id,timestamp,event_type"]
    for visit in range(90):
        for step in range(4):
            second = 1_700_000_000 + visit * 15_000 + step * 60
            lines.append(f"u{visit % 6},{ITEMS[(visit * 5 + step) % 24]},{second},view_item")
    (folder / "clicks.csv").write_text("\n".join(lines) + "\n")
    items = [{"item_id": item, "name": f"Thing {item}", "price": 1} for item in ITEMS]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder


@pytest.fixture
def settings(tmp_path):
    """A file with small settings of every model that has some."""
    tables = [
        f"[{kind}]\n" + "".join(f"{name} = {json.dumps(each)}\n" for name, each in values.items())
        for kind, values in SMALL.items()
    ]
    file = tmp_path / "small.toml"
    file.write_text("\n".join(tables) + SMALL_PARTS)
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_works_in_every_command(kind, files, settings, tmp_path, run, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("MOMENTARY_HOME", str(home))
    assert run("import", files / "clicks.csv", files / "items.jsonl")[0] == 0
    code, out, err = run("train", "-m", kind, "--config", settings, "--json")
    assert code == 0, err
    assert json.loads(out)["items"] == len(ITEMS)

    code, out, err = run("evaluate", "-m", kind, "--config", settings, "--days", 3, "--json")
    assert code == 0, err
    (row,) = json.loads(out)["boards"]["next_item"]["rows"]
    assert row["model"] == kind
    mrr, recall = (row["metrics"][name]["value"] for name in ("mrr@20", "recall@20"))
    assert 0 <= mrr <= recall <= 1

    code, out, err = run("recommend", "sku/3", "sku/4", "-k", 5, "--json")
    assert code == 0, err
    offline = [each["item_id"] for each in json.loads(out)]
    assert len(set(offline)) == 5

    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(Workspace.open(home))
        bundle = last_good(ModelStore(workspace.models))
        assert bundle.scorers["main"].kind == kind
        assortment, recommender, fallback = assortment_at_work(bundle, workspace)
        app = create_app(
            workspace,
            recommender,
            model_version=bundle.version,
            settings=ServeSettings(),
            fallback=fallback,
            assortment=assortment,
        )
        stack.callback(app.close)
        answer = ask(app, "POST", "/v1/recommend", json={"items": ["sku/3", "sku/4"], "k": 5})
        assert answer.status_code == 200, answer.text
        assert [each["item_id"] for each in answer.json()["items"]] == offline
        assert answer.json()["model_version"] == bundle.version
