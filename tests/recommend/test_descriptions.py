"""From the catalogue's texts to p-RNN, by every command and by the service."""

import json
import sys

import numpy as np
import pytest

from momentary import cli
from momentary.data.sessions import workspace_sessions
from momentary.data.workspace import Workspace
from momentary.encoders.store import VectorStore
from momentary.errors import SettingsError
from momentary.evaluation import tuning
from momentary.models.artifact import ModelStore
from momentary.recommend import descriptions
from momentary.recommend.descriptions import described_share, features_of, with_new_items
from momentary.serving.app import create_app
from momentary.serving.models import at_work
from tests.serving.world import ask

KINDS = ("oolong tea leaf", "garden hose reel", "copper frying pan", "wool knitting yarn")
COLOURS = ("red", "blue", "green", "black", "white", "pink", "grey", "brown")
NEW = [f"{kind.split()[-1]}-new" for kind in KINDS]
BEGIN_S = 1_700_000_000
SMALL = (
    *("--set", "units=16", "--set", "batch_size=8", "--set", "n_sample=32", "--set", "epochs=4"),
    *("--set", "output=content", "--set", "training=simultaneous", "--set", "dropout_items=0.3"),
)


def item_ids(kind):
    return [f"{KINDS[kind].split()[-1]}-{colour}" for colour in COLOURS]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Visits that stay with one of four kinds; of each kind one item is new (simulated)."""
    root = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    lines = ["session_id,item_id,timestamp,event_type"]
    for visit in range(400):
        for place, item in enumerate(rng.choice(item_ids(visit % 4), 4)):
            lines.append(f"v{visit},{item},{BEGIN_S + visit * 3600 + place * 60},view_item")
    (root / "clicks.csv").write_text("\n".join(lines) + "\n")
    items = [
        {"item_id": item, "name": f"{colour} {words}", "description": f"A {words}."}
        for kind, words in enumerate(KINDS)
        for item, colour in zip([*item_ids(kind), NEW[kind]], [*COLOURS, "violet"], strict=True)
    ]
    (root / "items.jsonl").write_text("\n".join(json.dumps(each) for each in items) + "\n")
    run(root, "import", root / "clicks.csv", root / "items.jsonl", "--json")
    return root / "home"


def run(root, *words):
    home = root if root.name == "home" else root / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["momentary", *map(str, words), "--home", str(home)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code


def test_features_stand_in_the_order_of_the_items(home):
    with Workspace.open(home) as workspace:
        ids = ["leaf-red", "nobody's", "leaf-new", "reel-red"]
        (stream,) = features_of(workspace, ids)
        vectors = features_of(workspace, ids)[stream]
        log = workspace_sessions(workspace)
        whole = with_new_items(workspace, log)
    assert stream == "text"
    assert not vectors[1].any()
    assert described_share({stream: vectors}) == 0.75
    unit = vectors[[0, 2, 3]] / np.linalg.norm(vectors[[0, 2, 3]], axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.3
    assert whole.items.ids == (*log.items.ids, *sorted(NEW))
    assert whole.sessions is log.sessions


def test_a_new_item_is_recommended_by_its_text_on_the_command_line_and_over_http(home, capsys):
    capsys.readouterr()
    run(home, "train", "-m", "feature_rnn", *SMALL, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["items"] == 36
    for kind in range(4):
        run(home, "recommend", *item_ids(kind)[:2], "-k", 12, "--json")
        found = [each["item_id"] for each in json.loads(capsys.readouterr().out)]
        assert NEW[kind] in found
        assert not set(NEW) - {NEW[kind]} & set(found[:6])
    # A click on a new item is understood, too.
    run(home, "recommend", NEW[2], "-k", 8, "--json")
    found = {each["item_id"] for each in json.loads(capsys.readouterr().out)}
    assert len(found & {*item_ids(2), NEW[2]}) >= 7
    with Workspace.open(home) as workspace:
        bundle = ModelStore(workspace.models).load()
        recommender, fallback = at_work(bundle, workspace.catalog.table(list(bundle.items.ids)))
        app = create_app(workspace, recommender, model_version="v1", fallback=fallback)
        body = {"items": item_ids(1)[:2], "k": 12}
        answer = ask(app, "POST", "/v1/recommend", json=body).json()
        app.close()
    assert answer["variant"] == "model"
    run(home, "recommend", *item_ids(1)[:2], "-k", 12, "--json")
    offline = [each["item_id"] for each in json.loads(capsys.readouterr().out)]
    assert [each["item_id"] for each in answer["items"]] == offline
    assert NEW[1] in offline


def test_evaluate_and_tune_read_the_catalogue(home, capsys, monkeypatch):
    told = []
    made = descriptions.features_of

    def note(workspace, ids, **rest):
        told.append(len(ids))
        return made(workspace, ids, **rest)

    monkeypatch.setattr(descriptions, "features_of", note)
    run(home, "evaluate", "-m", "feature_rnn", *SMALL, "--days", 3, "--json")
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["boards"]["next_item"]["rows"][0]
    assert row["metrics"]["recall@10"]["value"] > 0.9
    small = {"units": tuning.Choice((8,)), "epochs": tuning.Choice((1,))}
    monkeypatch.setitem(tuning.SPACES, "feature_rnn", small)
    run(home, "tune", "-m", "feature_rnn", "--trials", 1, "--days", 3, "--validation-days", 3)
    assert "[feature_rnn]" in capsys.readouterr().out
    assert told == [32, 32]


def test_without_texts_the_ids_are_read_alone(tmp_path, capsys):
    lines = ["session_id,item_id,timestamp,event_type"]
    lines += [
        f"v{n},i{n * step % 7},{BEGIN_S + 60 * n},view_item" for n in range(40) for step in (1, 2)
    ]
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    run(tmp_path, "import", tmp_path / "clicks.csv", "--json")
    capsys.readouterr()
    run(tmp_path, "train", "-m", "feature_rnn", *SMALL, "--json")
    said = capsys.readouterr()
    assert "feature_rnn reads ids alone" in said.err
    assert json.loads(said.out)["items"] == 7


class FourNumbers:
    """Stands in for the sentence encoder, which is an extra."""

    version = "four/1"
    encoded = 0

    def encode(self, contents):
        FourNumbers.encoded += len(contents)
        return np.array([[len(text), 1, 2, 3] for text in contents], dtype=np.float32)


def test_sentences_are_encoded_once_and_kept(home, monkeypatch):
    monkeypatch.setattr(descriptions, "SentenceEncoder", FourNumbers)
    with Workspace.open(home) as workspace:
        ids = ["leaf-red", "nobody's", "leaf-new"]
        found = features_of(workspace, ids, content="sentences")["text"]
        assert found.shape == (3, 4)
        assert found[:, 1].tolist() == [1, 0, 1]
        features_of(workspace, ids, content="sentences")
        assert FourNumbers.encoded == 2
        with VectorStore(workspace.root / "vectors.sqlite") as store:
            assert store.read("four/1", ids)[1].tolist() == [True, False, True]


def test_an_unknown_way_to_read_is_refused(home, monkeypatch):
    words = ["momentary", "train", "-m", "feature_rnn", "--content", "runes", "--debug"]
    monkeypatch.setattr(sys, "argv", [*words, "--home", str(home)])
    with pytest.raises(SettingsError, match=r"names .runes.*run: momentary encode"):
        cli.main()


def test_content_for_a_model_that_reads_none_is_refused(home, monkeypatch):
    words = ["momentary", "train", "-m", "item_knn", "--content", "words", "--debug"]
    monkeypatch.setattr(sys, "argv", [*words, "--home", str(home)])
    with pytest.raises(SettingsError, match=r"--content words: no model here reads content"):
        cli.main()
