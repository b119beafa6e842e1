"""A shop whose blend looks at pictures: from the catalogue to answers over HTTP, and a new item.

Simulated, with small generated pictures: visits keep to one of three colours, and each of the many
items is clicked a few times only, so that the pictures tell more than the clicks do.
"""

import contextlib
import json
import random
import time

import pytest

from momentary.data.workspace import Workspace
from momentary.models.artifact import ModelStore
from tests.story.test_new_item import ids, put, visit
from tests.story.test_story import BEGIN_S, Shop
from tests.test_cli_content import COLOURS, picture

KINDS = tuple(COLOURS)
SIZE, VISITS = 40, 150
SMALL = """
[hybrid]
holdout = 0.3
parts = [{ kind = "item_knn", candidates = 20 }, { kind = "popularity", candidates = 10 }]
[hybrid.content]
kind = "content_knn"
scale = "softmax"
candidates = 40
[hybrid.stack]
hidden = [16]
epochs = 15
batch_size = 32
learning_rate = 0.01
least_questions = 20
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("colours"), stack)
        folder = shop.folder / "media"
        folder.mkdir()
        items = []
        for kind in KINDS:
            for n in range(SIZE):
                (folder / f"{kind}-{n}.png").write_bytes(picture(COLOURS[kind], n))
                items.append({"item_id": f"{kind}-{n}", "image": f"{kind}-{n}.png"})
        lines = "\n".join(json.dumps(item) for item in items)
        (shop.folder / "products.jsonl").write_text(lines + "\n", encoding="utf-8")
        rng = random.Random(0)
        rows = ["session_id,item_id,timestamp"]
        for number in range(VISITS):
            for step, n in enumerate(rng.sample(range(SIZE), 4)):
                at = BEGIN_S + 3600 * number + 60 * step
                rows.append(f"v{number},{KINDS[number % 3]}-{n},{at}")
        (shop.folder / "clicks.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (shop.folder / "small.toml").write_text(SMALL, encoding="utf-8")
        shop._environ["MOMENTARY_SERVE_MEDIA_FOLDERS"] = str(folder)
        shop.run("import", "clicks.csv", "products.jsonl")
        shop.run("encode", "media")
        yield shop


def recall(shop, content):
    """What a blend reaches on the last day with that content."""
    words = ("--config", "small.toml", "--days", "1", "--min-item-events", "1")
    board = shop.run("evaluate", "-m", "hybrid", "--content", content, *words)["boards"]
    return board["next_item"]["rows"][0]["metrics"]["recall@20"]["value"]


def test_evaluation_shows_what_content_gains(shop):
    # Twenty of the forty items of the right colour.
    told = recall(shop, "auto")
    assert told > 0.4
    assert told > recall(shop, "none") + 0.1


def test_the_blend_reads_what_was_encoded_and_places_new_items(shop):
    words = ("--config", "small.toml", "--min-item-events", "1")
    trained = shop.run("train", "-m", "hybrid", *words)
    assert trained["items"] == 3 * SIZE
    with Workspace.open(shop.folder / "home") as workspace:
        bundle = ModelStore(workspace.models).load()
    assert "colour" in bundle.scorers["main"].features
    assert bundle.placement.config.figures["unseen"] == 1

    offline = shop.run("recommend", "blue-1", "blue-4", "-k", "30")
    assert sum(each["item_id"].startswith("blue") for each in offline) >= 27
    shop.serve()
    online = shop.call("POST", "/v1/recommend", {"items": ["blue-1", "blue-4"], "k": 30})
    assert ids(online) == [each["item_id"] for each in offline]
    explained = {"items": ["blue-1", "blue-4"], "k": 30, "explain": True}
    listed = shop.call("POST", "/v1/recommend", explained)["items"]
    said = [reason for each in listed for reason in each["reasons"]]
    alike = [each for each in said if each.startswith(("like blue-1: ", "like blue-4: "))]
    assert len(alike) >= 5
    assert all("alike in " in each for each in alike)

    shop.call("PUT", "/v1/items/new", put("blue", 77, "picture"))
    end = time.monotonic() + 120
    while "new" not in ids(visit(shop, "look", ["blue-1", "blue-4"], k=100)):
        assert time.monotonic() < end
        time.sleep(0.1)
    listed = visit(shop, "look", ["blue-2"], k=100, explain=True)["items"]
    place = [each["item_id"] for each in listed].index("new")
    assert place < 2 * SIZE
    assert any("new here; like blue" in each for each in listed[place]["reasons"])
