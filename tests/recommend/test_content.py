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


def shop(*, unknown, seed=0, items=1_200, tags=("kind", "fit")):
    """Items of 12 kinds: pictures and texts that tell the kind with noise, and tags.

    The tag "kind" names it, "fit" says nothing; a share of the items has no tags. Returns the
    index, the kinds, and which items have none.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(12, size=items)
    centers = rng.normal(size=(12, 16))
    image = centers[kinds] + rng.normal(size=(items, 16)) * 1.2
    text = rng.normal(size=(12, 16))[kinds] + rng.normal(size=(items, 16)) * 1.2
    missing = rng.random(items) < unknown
    kind = np.array([str(each) for each in kinds], dtype=np.object_)
    kind[missing] = None
    fit = np.array([str(each) for each in rng.integers(3, size=items)], dtype=np.object_)
    fit[missing] = None
    views = {"image": image.astype(np.float32), "text": text.astype(np.float32)}
    ids = [str(row) for row in range(items)]
    attributes = {name: {"kind": kind, "fit": fit}[name] for name in tags}
    return ContentIndex(ids, views, attributes=attributes), kinds, missing


def best_of(index, rows, k=10):
    scores = np.stack([index.likeness(str(row)) for row in rows])
    return np.argsort(-scores, axis=1)[:, :k]


def test_items_without_tags_that_tell_nothing_are_neither_favoured_nor_punished():
    index, _, missing = shop(unknown=0.5, tags=("fit",))
    for asked in (np.flatnonzero(~missing)[:150], np.flatnonzero(missing)[:150]):
        among_the_best = missing[best_of(index, asked)].mean()
        assert 0.4 < among_the_best < 0.6


def test_lost_tags_leave_what_content_alone_tells_and_kept_ones_add_to_it():
    rows = np.arange(150)

    def right(unknown, **weights):
        index, kinds, _ = shop(unknown=unknown)
        index.weights.update(weights)
        return (kinds[best_of(index, rows)] == kinds[rows, None]).mean()

    content, all_tags = right(0.0, tags=0.0), right(0.0)
    assert all_tags > 1.05 * content
    assert right(0.3) > 1.02 * content
    for unknown in (0.6, 0.9, 1.0):
        assert right(unknown) >= 0.98 * content


def test_an_item_with_one_view_is_found_beside_those_with_both():
    index, kinds, _ = shop(unknown=1.0)
    rng = np.random.default_rng(5)
    bare = rng.permutation(1_200)[:400]
    views = {name: view.unit.copy() for name, view in index._views.items()}
    views["text"][bare] = 0
    lacking = ContentIndex(list(index.item_ids), views)
    asked = np.setdiff1d(np.arange(1_200), bare)[:200]
    best = best_of(lacking, asked)
    assert 0.4 < 3 * np.isin(best, bare).mean() < 1.2
    assert (kinds[best] == kinds[asked, None]).mean() > 0.8 * (
        (kinds[best_of(index, asked)] == kinds[asked, None]).mean()
    )


def test_a_query_may_name_attributes_and_a_value_that_nobody_has_agrees_with_none():
    index, kinds, _ = shop(unknown=0.0)
    nothing = {"image": np.zeros((1, 16), np.float32)}
    named = index.similarities(nothing, attributes={"kind": np.array(["3"], np.object_)})[0]
    assert named[kinds == 3].min() > 0 > named[kinds != 3].max()
    other = index.similarities(nothing, attributes={"kind": np.array(["none"], np.object_)})[0]
    assert np.ptp(other) == 0
    unknown = index.similarities(nothing, attributes={"kind": np.array([None], np.object_)})[0]
    assert unknown.max() == unknown.min() == -1e9


def test_likeness_is_in_standard_deviations():
    index, _, _ = shop(unknown=0.0)
    scores = np.stack([index.likeness(str(row)) for row in range(100)])
    assert scores[np.isfinite(scores)].std() == pytest.approx(1, abs=0.1)
    assert scores[np.isfinite(scores)].mean() == pytest.approx(0, abs=0.1)
