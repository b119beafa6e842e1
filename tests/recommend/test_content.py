"""Items alike by content, with what made them alike."""

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.recommend.content import ContentIndex, learn_weights


@pytest.fixture
def index():
    image = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0, 0]], dtype=np.float32)
    text = np.array([[0, 1], [0, 0], [1, 0.1], [0.9, 0], [0.1, 1]], dtype=np.float32)
    brand = np.array(["a", "a", "b", None, "a"], dtype=np.object_)
    return ContentIndex(list("vwxyz"), {"image": image, "text": text}, attributes={"brand": brand})


def test_neighbours_are_alike_and_say_why(index):
    first = index.neighbours("v", 2)[0]
    assert first.item_id in ("w", "z")
    assert first.shared == ("brand: a",)
    assert sum(share for _, share in first.views) == pytest.approx(1)
    assert [each.item_id for each in index.neighbours("x", 1)] == ["y"]
    assert index.neighbours("x", 1)[0].shared == ()


def test_what_one_of_two_lacks_does_not_count(index):
    picture = index.search({"image": np.array([1, 0], dtype=np.float32)}, 5)
    assert {each.item_id for each in picture[:2]} == {"v", "w"}
    assert "z" not in {each.item_id for each in picture}  # it has no picture


def test_unknown_items_and_views_are_refused(index):
    with pytest.raises(DataError, match="'q' has no content"):
        index.neighbours("q", 1)
    with pytest.raises(DataError, match="no view 'sound'"):
        index.search({"sound": np.ones(2, np.float32)}, 1)
    with pytest.raises(DataError, match="has 1 rows"):
        ContentIndex(["a", "b"], {"text": np.ones((1, 2), np.float32)})


def test_weights_follow_the_view_that_knows_the_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=(300, 1))
    knows = (np.eye(4)[labels[:, 0]] + rng.normal(size=(300, 4)) * 0.2).astype(np.float32)
    noise = rng.normal(size=(300, 4)).astype(np.float32)
    index = ContentIndex([str(i) for i in range(200)], {"a": knows[:200], "b": noise[:200]})
    query = {"a": knows[200:], "b": noise[200:]}
    weights = learn_weights(index, query, labels=labels[200:], item_labels=labels[:200])
    assert weights["a"] > 2 * weights["b"]


def test_items_come_and_go_one_by_one(index):
    index.put(
        "new",
        {"image": np.array([0.95, 0], np.float32), "sound": np.ones(4, np.float32)},
        attributes={"brand": "a", "size": "L"},
    )
    assert index.neighbours("new", 2)[0].item_id in ("v", "w")
    assert index.neighbours("new", 5)[0].shared == ("brand: a",)
    assert "new" in [each.item_id for each in index.neighbours("w", 2)]
    for n in range(200):  # more than there was room for
        index.put(f"n{n}", {"image": np.array([0, 1 + n], np.float32)})
    assert len(index) == 206
    assert index.views == ("image", "text", "sound")
    index.put("new", {"image": np.array([0, 1], np.float32)})
    first = {each.item_id for each in index.search({"image": np.array([1, 0], np.float32)}, 2)}
    assert first == {"v", "w"}
    index.remove("v")
    index.remove("v")
    assert "v" not in index
    assert "v" not in [each.item_id for each in index.neighbours("w", 300)]
    assert index.likeness("w").shape == (206,)
    index.put("v", {"image": np.array([1, 0], np.float32)})
    assert "v" in [each.item_id for each in index.neighbours("w", 2)]
    with pytest.raises(DataError, match="width 2, the vector 3"):
        index.put("x", {"image": np.ones(3, np.float32)})


def test_compare_says_how_one_is_like_given_others(index):
    found = index.compare("v", ["x", "nobody", "w"])
    assert [each.item_id for each in found] == ["x", "w"]
    assert found[1].similarity > found[0].similarity
    assert found[1].shared == ("brand: a",)


def test_fused_vectors_order_as_the_views_do(index):
    fused = index.fused(["v", "w", "x", "nobody"])
    np.testing.assert_allclose(np.linalg.norm(fused[:3], axis=1), 1, rtol=1e-5)
    assert fused[0] @ fused[1] > fused[0] @ fused[2]
    assert not fused[3].any()
