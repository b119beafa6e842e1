"""From the pictures and sounds that `momentary encode` kept to p-RNN, by commands and HTTP."""

import json
import sys
from itertools import product

import numpy as np
import pytest

from momentary import cli
from momentary.data.sessions import workspace_sessions
from momentary.data.workspace import Workspace
from momentary.errors import SettingsError
from momentary.models.artifact import ModelStore
from momentary.recommend.descriptions import described_share, features_of, with_new_items
from momentary.serving.app import create_app
from momentary.serving.models import at_work
from tests.serving.world import ask
from tests.test_cli_content import picture, tone

# Either kind of content alone tells two of the four kinds apart, both together all of them.
KINDS = tuple(product(((220, 40, 40), (30, 60, 220)), (220, 2_000)))
PER_KIND = 8
BEGIN_S = 1_700_000_000
SMALL = (
    *("--set", "units=16", "--set", "batch_size=8", "--set", "n_sample=32", "--set", "epochs=4"),
    *("--set", "output=content", "--set", "training=simultaneous", "--set", "dropout_items=0.3"),
)


def item_ids(kind):
    """The last of a kind is new."""
    return [f"k{kind}-{number}" for number in range(PER_KIND + 1)]


NEW = [item_ids(kind)[-1] for kind in range(len(KINDS))]


def run(home, *words):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["momentary", *map(str, words), "--home", str(home)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Visits that stay with one of four kinds (simulated); no item has a word."""
    root = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    lines = ["session_id,item_id,timestamp,event_type"]
    for visit in range(400):
        for place, item in enumerate(rng.choice(item_ids(visit % 4)[:-1], 4)):
            lines.append(f"v{visit},{item},{BEGIN_S + visit * 3600 + place * 60},view_item")
    (root / "clicks.csv").write_text("\n".join(lines) + "\n")
    items = []
    for kind, (colour, hz) in enumerate(KINDS):
        for number, item in enumerate(item_ids(kind)):
            (root / f"{item}.png").write_bytes(picture(colour, 10 * kind + number))
            (root / f"{item}.wav").write_bytes(tone(hz + 3 * number))
            items.append({"item_id": item, "image": f"{item}.png", "audio": f"{item}.wav"})
    (root / "items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    run(root / "home", "import", root / "clicks.csv", root / "items.jsonl", "--json")
    with pytest.MonkeyPatch.context() as patched:

        def missing(*_args, **_kw):
            raise SettingsError("no weights here")

        for name in ("image.EfficientNetLite", "musicnn.Musicnn", "aisfx.AiSFX"):
            patched.setattr(f"momentary.encoders.{name}", missing)
        run(root / "home", "encode", root, "--only", "image", "--only", "audio", "--json")
    return root / "home"


def test_streams_are_the_views_that_are_asked_for(home):
    ids = [NEW[0], "nobody's", "k1-0"]
    with Workspace.open(home) as workspace:
        everything = features_of(workspace, ids, content="encoded")
        one = features_of(workspace, ids, content="timbre")
        log = workspace_sessions(workspace)
        whole = with_new_items(workspace, log, content="timbre,colour")
        assert features_of(workspace, ids, content="words") == {}
        assert with_new_items(workspace, log).items.ids == log.items.ids
    assert set(everything) == {"colour", "timbre"}
    assert list(one) == ["timbre"]
    np.testing.assert_array_equal(one["timbre"], everything["timbre"])
    assert described_share(everything) == pytest.approx(2 / 3)
    assert whole.items.ids == (*log.items.ids, *NEW)


def test_new_items_are_recommended_by_sight_and_sound_on_the_command_line_and_over_http(
    home, capsys
):
    capsys.readouterr()
    run(home, "train", "-m", "feature_rnn", "--content", "encoded", *SMALL, "--json")
    assert json.loads(capsys.readouterr().out)["items"] == len(KINDS) * (PER_KIND + 1)
    for kind in range(len(KINDS)):
        run(home, "recommend", *item_ids(kind)[:2], "-k", 10, "--json")
        found = [each["item_id"] for each in json.loads(capsys.readouterr().out)]
        assert NEW[kind] in found
        assert not (set(NEW) - {NEW[kind]}) & set(found[:7])
    with Workspace.open(home) as workspace:
        bundle = ModelStore(workspace.models).load()
        recommender, fallback = at_work(bundle, workspace.catalog.table(list(bundle.items.ids)))
        app = create_app(workspace, recommender, model_version="v1", fallback=fallback)
        body = {"items": item_ids(3)[:2], "k": 10}
        answer = ask(app, "POST", "/v1/recommend", json=body).json()
        app.close()
    run(home, "recommend", *item_ids(3)[:2], "-k", 10, "--json")
    offline = [each["item_id"] for each in json.loads(capsys.readouterr().out)]
    assert [each["item_id"] for each in answer["items"]] == offline


def test_evaluate_reads_the_views(home, capsys):
    capsys.readouterr()
    run(
        home, "evaluate", "-m", "feature_rnn", "--content", "colour,timbre", *SMALL, "--days", 3,
        "--json",
    )  # fmt: skip
    said = capsys.readouterr()
    row = json.loads(said.out.splitlines()[-1])["boards"]["next_item"]["rows"][0]
    assert row["metrics"]["recall@10"]["value"] > 0.9
    assert "ids alone" not in said.err


def test_a_view_that_nobody_encoded_is_refused_with_those_that_there_are(home):
    with (
        Workspace.open(home) as workspace,
        pytest.raises(SettingsError, match=r"'film'.*colour, timbre"),
    ):
        features_of(workspace, ["k1-0"], content="colour,film")
