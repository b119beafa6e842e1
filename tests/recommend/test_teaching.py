"""What a shop calls alike is learned from its own tags, checked on hidden ones, kept and used."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.errors import ArtifactError, DataError
from momentary.models.artifact import drop_likeness, load_likeness, save_likeness
from momentary.models.likeness import LikenessConfig
from momentary.recommend.alike import content_reasons
from momentary.recommend.content import ContentIndex
from momentary.recommend.encoded import Encoded
from momentary.recommend.learned import spread_over
from momentary.recommend.teaching import learn_likeness
from momentary.types import Item

NOW = datetime(2026, 1, 2, tzinfo=UTC)
QUICK = LikenessConfig(hidden=32, dropout=0.1)
KINDS, COLOURS = ("mug", "bowl", "vase"), ("red", "blue")


def shop(count, *, seed):
    """Pictures and texts whose loud numbers say nothing and whose quiet ones kind and colour.

    Pictures show both, texts tell the kind; the maker is on no picture and in no text.
    """
    rng = np.random.default_rng(seed)
    kind, colour = rng.integers(3, size=count), rng.integers(2, size=count)
    quiet = np.concatenate([np.eye(3)[kind], np.eye(2)[colour]], axis=1)
    image = np.concatenate(
        [1.5 * rng.normal(size=(count, 8)), 2 * quiet + 0.2 * rng.normal(size=(count, 5))], axis=1
    )
    text = np.concatenate([rng.normal(size=(count, 6)), 1.5 * np.eye(3)[kind]], axis=1)
    tags = {
        "kind": np.array([KINDS[n] for n in kind], dtype=object),
        "colour": np.array([COLOURS[n] for n in colour], dtype=object),
        "maker": np.array([f"m{n}" for n in rng.integers(4, size=count)], dtype=object),
    }
    return {"image": image.astype(np.float32), "text": text.astype(np.float32)}, tags


def encoded(views, tags, *, known=None):
    count = len(views["image"])
    hidden = np.zeros(count, bool) if known is None else np.arange(count) % known != 0
    return Encoded(
        items=tuple(Item(item_id=f"i{n:04}") for n in range(count)),
        views=views,
        attributes={name: np.where(hidden, None, each) for name, each in tags.items()},
        encoders={"image": "e/1", "text": "t/1"},
    )


@pytest.fixture(scope="module")
def taught():
    views, tags = shop(400, seed=0)
    known = encoded(views, tags)
    return known, tags, learn_likeness(known, rng=np.random.default_rng(1), config=QUICK)


def agreement(index, query, wanted, held, **how):
    best = np.argsort(-index.similarities(query, **how), axis=1)[:, :10]
    return float((held[best] == wanted[:, None]).mean())


def test_what_is_learned_finds_items_of_the_same_kind_and_leaves_out_what_nothing_tells(taught):
    known, tags, found = taught
    assert set(found.figures) == {"kind", "colour"}
    assert "content tells it of" in found.left_out["maker"]
    for each in found.figures.values():
        assert each["learned"] > max(0.8, each["plain"])
    index = known.index(learned=found.learned)
    queries, wanted = shop(100, seed=7)
    for name in ("kind", "colour"):
        learned = agreement(index, queries, wanted[name], tags[name])
        plain = agreement(index, queries, wanted[name], tags[name], plain=True)
        assert learned > max(0.8, plain)


def test_what_nothing_tells_is_left_out_where_each_value_is_as_frequent_as_the_others():
    """Beside a part of the items, the value that is rare in it is the most frequent one."""
    views, tags = shop(36, seed=2)
    turns = {"maker": np.array([f"m{n % 3}" for n in range(36)], dtype=object)}
    found = learn_likeness(encoded(views, tags | turns), rng=np.random.default_rng(3), config=QUICK)
    assert "maker" in found.left_out
    assert "the most frequent value of 33%" in found.left_out["maker"]


def test_where_tags_are_missing_what_names_say_is_learned():
    """One item in eight has its tag; of the others nine in ten say their kind by name."""
    views, tags = shop(400, seed=4)
    noise = np.array([4.0] * 8 + [1.0] * 5, dtype=np.float32)  # pictures that need many examples
    bare = encoded({"image": views["image"] * noise}, tags, known=8)
    names = [f"A {kind}" if n % 10 else "A gift" for n, kind in enumerate(tags["kind"])]
    items = [
        Item(item_id=item.item_id, name=name) for item, name in zip(bare.items, names, strict=True)
    ]
    queries, wanted = shop(200, seed=7)
    near, filled = {}, {}
    for how, shown in (("bare", bare), ("named", replace(bare, items=tuple(items)))):
        found = learn_likeness(shown, by={"kind": 1.0}, rng=np.random.default_rng(1), config=QUICK)
        index = replace(bare, attributes={}).index(learned=found.learned)
        asked = {"image": queries["image"] * noise}
        near[how] = agreement(index, asked, wanted["kind"], tags["kind"])
        filled[how] = found.figures["kind"]["named"]
        assert found.figures["kind"]["items"] == 50
    gaps = sum(n % 8 != 0 and n % 10 != 0 for n in range(400))
    assert filled == {"bare": 0, "named": gaps}
    assert near["named"] > near["bare"] + 0.05, near


def test_a_query_that_lacks_a_view_is_still_understood(taught):
    known, tags, found = taught
    index = known.index(learned=found.learned)
    queries, wanted = shop(100, seed=7)
    for name, least in (("image", 0.7), ("text", 0.85)):
        alone = {name: queries[name]}
        assert agreement(index, alone, wanted["kind"], tags["kind"]) > least
        plain = agreement(index, alone, wanted["kind"], tags["kind"], plain=True)
        assert agreement(index, alone, wanted["kind"], tags["kind"]) > plain


def test_plain_is_what_an_index_says_that_learned_nothing(taught):
    known, _, found = taught
    index, bare = known.index(learned=found.learned), known.index()
    assert index.neighbours("i0003", 5, plain=True) == bare.neighbours("i0003", 5)
    assert index.neighbours("i0003", 5) != bare.neighbours("i0003", 5)


def test_reasons_name_the_views_and_what_both_probably_are(taught):
    known, tags, found = taught
    bare = Encoded(items=known.items, views=known.views, attributes={}, encoders=known.encoders)
    index = bare.index(learned=found.learned)
    first = index.neighbours("i0003", 1)[0]
    assert {name for name, _ in first.views} == {"image", "text"}
    assert sum(share for _, share in first.views) == pytest.approx(1)
    assert (f"kind: {tags['kind'][3]}") in dict(first.likely)
    assert dict(first.likely).get(f"kind: {tags['kind'][3]}") > 0.8
    said = content_reasons(first)
    assert said[0].startswith("alike in ")
    assert any(each.startswith(f"probably same kind: {tags['kind'][3]}") for each in said)
    # A tag that both have is told as it is.
    tagged = content_reasons(known.index(learned=found.learned).neighbours("i0003", 1)[0])
    assert not any(each.startswith("probably same kind") for each in tagged)
    picture = index.search({"image": known.views["image"][3]}, 1)[0]
    assert [name for name, _ in picture.views] == ["image"]


def test_items_that_come_later_are_known_by_what_was_learned(taught):
    known, tags, found = taught
    index = known.index(learned=found.learned)
    views, labels = shop(20, seed=9)
    for n in range(20):
        index.put(f"new-{n}", {"image": views["image"][n]})
    held = np.concatenate([tags["kind"], labels["kind"]])
    rows = {item_id: row for row, item_id in enumerate(index.item_ids)}
    same = [
        held[rows[each.item_id]] == labels["kind"][n]
        for n in range(20)
        for each in index.neighbours(f"new-{n}", 10)
    ]
    assert np.mean(same) > 0.75
    index.remove("new-0")
    assert "new-0" not in {each.item_id for each in index.neighbours("new-1", 400)}
    assert index.fused(["new-1", "new-0"]).any(axis=1).tolist() == [True, False]


def test_few_labels_are_enough_and_hidden_ones_teach_nothing(taught):
    _, _, all_of_them = taught
    views, tags = shop(400, seed=0)
    some = learn_likeness(encoded(views, tags, known=3), rng=np.random.default_rng(1), config=QUICK)
    assert some.figures["kind"]["items"] < 140
    assert some.figures["kind"]["learned"] > some.figures["kind"]["plain"]
    assert all_of_them.figures["kind"]["items"] == 400


def test_labels_that_say_nothing_are_not_put_to_use():
    views, tags = shop(200, seed=0)
    noise = {"maker": tags["maker"]}
    with pytest.raises(DataError, match="content tells none of the attributes"):
        learn_likeness(encoded(views, noise), rng=np.random.default_rng(0), config=QUICK)


def test_what_is_asked_for_is_learned_and_weighs(taught):
    known, _, _ = taught
    found = learn_likeness(
        known, by={"colour": 2.0}, rng=np.random.default_rng(1), config=QUICK
    ).learned
    assert (found.kinds, found.model.config.weights) == (("colour",), {"colour": 2.0})
    assert found.values["colour"] == ("blue", "red")


def test_what_cannot_be_learned_is_refused_in_words(taught):
    known, _, _ = taught
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"no attribute 'size' groups the items.*colour, kind"):
        learn_likeness(known, by={"size": 1.0}, rng=rng)
    nothing = Encoded(items=known.items, views={}, attributes=known.attributes, encoders={})
    with pytest.raises(DataError, match="momentary encode"):
        learn_likeness(nothing, rng=rng)
    bare = Encoded(items=known.items, views=known.views, attributes={}, encoders=known.encoders)
    with pytest.raises(DataError, match="no attribute can be learned"):
        learn_likeness(bare, rng=rng)
    views, tags = shop(20, seed=0)
    with pytest.raises(DataError, match="at least 30 are needed"):
        learn_likeness(encoded(views, tags), rng=rng)


def test_it_is_kept_and_comes_back_the_same(taught, tmp_path):
    known, _, found = taught
    assert load_likeness(tmp_path) is None
    save_likeness(found.learned, tmp_path, now=NOW)
    again = load_likeness(tmp_path)
    assert (again.values, again.weights) == (found.learned.values, found.learned.weights)
    one, other = known.index(learned=found.learned), known.index(learned=again)
    assert one.neighbours("i0003", 5) == other.neighbours("i0003", 5)
    save_likeness(found.learned, tmp_path, now=NOW)
    assert len(list(tmp_path.iterdir())) == 2  # nothing of the one before is left
    assert drop_likeness(tmp_path)
    assert not drop_likeness(tmp_path)
    assert load_likeness(tmp_path) is None


def test_what_was_changed_on_the_disk_is_refused(taught, tmp_path):
    _, _, found = taught
    save_likeness(found.learned, tmp_path, now=NOW)
    file = next(tmp_path.glob("*.safetensors"))
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="changed or damaged"):
        load_likeness(tmp_path)
    file.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        load_likeness(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_likeness(tmp_path)


def test_vectors_of_another_encoder_are_not_read(taught):
    _, _, found = taught
    assert found.learned.unlike({"image": "e/1", "text": "t/1"}) == ""
    assert "encoded by e/2" in found.learned.unlike({"image": "e/2", "text": "t/1"})
    assert found.learned.unlike({"image": "e/1"}) == ""
    assert "nothing in the catalogue" in found.learned.unlike({"sound": "s/1"})


def test_what_nothing_alone_would_say_is_still_shared_out():
    assert spread_over({"text": 1.0, "likeness": 3.0}, "likeness", {"image": 0.0}) == {
        "text": 1.0,
        "image": 0.0,
    }


def test_an_index_of_nothing_known_still_answers(taught):
    _, _, found = taught
    empty = ContentIndex([], {}, learned=found.learned)
    views, _ = shop(2, seed=3)
    empty.put("a", {"image": views["image"][0]})
    empty.put("b", {"image": views["image"][1]})
    assert [each.item_id for each in empty.neighbours("a", 3)] == ["b"]
