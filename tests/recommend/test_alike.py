"""Items like one item: content where visits are few, visits where they are many, and why."""

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.models.artifact import make
from momentary.recommend.alike import AlikeConfig, items_like
from momentary.recommend.content import ContentIndex
from momentary.recommend.finding import found_by_content, fused_hits
from momentary.recommend.pipeline import Recommender
from momentary.recommend.playlist import PlaylistConfig
from momentary.recommend.reasons import Reasons
from momentary.recommend.rules import Rules
from momentary.recommend.walks import Walk, walk
from momentary.types import ItemTable, Sessions

IDS = ("mug", "cup", "bowl", "sofa", "chair", "tea")


@pytest.fixture(scope="module")
def index():
    """Crockery looks alike, furniture looks alike; tea has no picture, a stool no behaviour."""
    image = np.array([[1, 0, 0], [0.9, 0.1, 0], [0.8, 0, 0.2], [0, 1, 0], [0.1, 0.9, 0], [0] * 3])
    extra = np.array([[0, 0.95, 0.05], [0.95, 0.02, 0.03]])
    brand = np.array(["a", "b", "a", "c", "c", None, "c", "a"], dtype=np.object_)
    return ContentIndex(
        [*IDS, "stool", "jug"],
        {"image": np.concatenate([image, extra]).astype(np.float32)},
        attributes={"brand": brand},
    )


def recommender(sessions):
    related = make("item_knn")
    related.fit(Sessions.from_lists(sessions), n_items=len(IDS), rng=np.random.default_rng(0))
    table = ItemTable.unknown(IDS)
    return Recommender(
        related, items=Vocabulary(IDS), table=table, reasons=Reasons(table, related=related)
    )


def ids(found):
    return [each.item_id for each in found]


def test_content_alone_answers_where_nobody_clicked(index):
    found = items_like("stool", recommender=None, index=index, facts=ItemTable.unknown, k=2)
    assert ids(found) == ["sofa", "chair"] or ids(found) == ["chair", "sofa"]
    assert "picture" in found[0].reasons[0]
    assert "same brand: c" in found[0].reasons
    assert [each.rank for each in found] == [1, 2]


def test_behaviour_takes_over_as_visits_come_in(index):
    few = recommender([[0, 5]])
    many = recommender([[0, 5]] * 200)
    assert ids(items_like("mug", recommender=few, index=index, facts=ItemTable.unknown))[0] in (
        "jug",
        "cup",
        "bowl",
    )
    found = items_like("mug", recommender=many, index=index, facts=ItemTable.unknown)
    assert found[0].item_id == "tea"
    assert found[0].reasons[0] == "often together with mug (in 200 visits)"
    assert "jug" in ids(found)  # what is new stands behind, and is there


def test_one_view_alone_leaves_out_visits_and_the_others(index):
    asked = {"recommender": recommender([[0, 5]] * 200), "index": index}
    by_looks = items_like("mug", facts=ItemTable.unknown, by="image", **asked)
    assert ids(by_looks)[0] in ("jug", "bowl", "cup")
    assert "tea" not in ids(by_looks)  # it has no picture
    assert by_looks[0].reasons[0] == "alike in picture (100 %)"
    by_tags = items_like("mug", facts=ItemTable.unknown, by="tags", **asked)
    assert set(ids(by_tags)) == {"bowl", "jug"}
    assert by_tags[0].reasons == ("alike in attributes (100 %)", "same brand: a")
    for by, item, said in (
        ("sound", "mug", "no view 'sound' here; there are image, tags"),
        ("image", "tea", "item 'tea' has no image; it has nothing"),
    ):
        with pytest.raises(DataError, match=said):
            items_like(item, facts=ItemTable.unknown, by=by, **asked)


def test_a_view_alone_counts_whatever_it_weighs_beside_others():
    rows = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.3, 0.7]], dtype=np.float32)
    both = ContentIndex(
        list("abcd"), {"image": rows, "text": rows[::-1]}, weights={"image": 0.0, "text": 1.0}
    )
    alone = ContentIndex(list("abcd"), {"image": rows}).neighbours("a", 3)
    assert both.neighbours("a", 3, by="image") == alone
    assert both.neighbours("a", 3) != alone


def test_an_item_that_only_visits_know_is_answered_by_them(index):
    found = items_like(
        "tea", recommender=recommender([[0, 5]]), index=index, facts=ItemTable.unknown
    )
    assert ids(found) == ["mug"]
    with pytest.raises(DataError, match="'ghost' is not in this model and has no content"):
        items_like("ghost", recommender=None, index=index, facts=ItemTable.unknown)


def test_rules_hold_for_items_of_both_kinds(index):
    def facts(wanted):
        table = ItemTable.unknown(wanted)
        return ItemTable(
            item_ids=table.item_ids,
            names=table.names,
            price=np.array([9.0 if each == "jug" else 1.0 for each in wanted]),
            available=np.array([each != "cup" for each in wanted]),
            attributes={},
        )

    found = items_like("mug", recommender=None, index=index, facts=facts, rules=Rules(price_max=5))
    assert "jug" not in ids(found)
    assert "cup" not in ids(found)
    assert "bowl" in ids(found)


def test_outliers_of_a_behavioural_list_can_be_left_out():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, 6)) * 0.05
    image[:, 0] += 1
    image[7] = [0, 0, 0, 0, 0, 3]
    names = [f"i{n}" for n in range(8)] + [f"o{n}" for n in range(8)]
    image = np.concatenate([image, np.eye(6)[[1, 1, 1, 1, 2, 2, 2, 2]]]).astype(np.float32)
    index = ContentIndex(names, {"image": image})
    related = make("item_knn")
    related.fit(Sessions.from_lists([list(range(8))] * 30), n_items=16, rng=rng)
    table = ItemTable.unknown(names)
    shop = Recommender(
        related, items=Vocabulary(names), table=table, reasons=Reasons(table, related=related)
    )
    facts = ItemTable.unknown
    plain = items_like("i0", recommender=shop, index=index, facts=facts, k=7)
    clean = items_like(
        "i0", recommender=shop, index=index, facts=facts, k=7, config=AlikeConfig(tolerance=2.5)
    )
    assert "i7" in ids(plain)
    assert "i7" not in ids(clean)
    assert set(ids(clean)) >= {"i1", "i2", "i3", "i4", "i5", "i6"}
    with pytest.raises(ValueError, match="half is 0"):
        AlikeConfig(half=0)


def test_a_walk_leads_from_one_to_the_other_under_the_rules(index):
    made = walk(
        index,
        Walk(start="mug", end="sofa", config=PlaylistConfig(length=5, twins=2)),
        facts=ItemTable.unknown,
    )
    assert (ids(made.items)[0], ids(made.items)[-1], len(made.items)) == ("mug", "sofa", 5)
    assert made.items[1].reasons[0].endswith("like the one before")
    with pytest.raises(DataError, match="no attribute 'artist'"):
        walk(index, Walk(start="mug", apart={"artist": 1}), facts=ItemTable.unknown)
    with pytest.raises(DataError, match="the curve is 'up'"):
        Walk(start="mug", curve=("price", "up"))


def test_a_walks_curve_and_groups_come_from_the_catalogue(index):
    prices = {"mug": 1.0, "cup": 9.0, "bowl": 5.0, "jug": 7.0, "sofa": 3.0, "chair": 4.0}

    def facts(wanted):
        table = ItemTable.unknown(wanted)
        groups = ["one" if each in ("cup", "jug") else None for each in wanted]
        return ItemTable(
            item_ids=table.item_ids,
            names=table.names,
            price=np.array([prices.get(each, np.nan) for each in wanted]),
            available=table.available,
            attributes={"group_id": np.array(groups, dtype=np.object_)},
        )

    made = walk(
        index,
        Walk(start="mug", curve=("price", "rise"), config=PlaylistConfig(length=4, twins=2)),
        facts=facts,
    )
    assert len({"cup", "jug"} & set(ids(made.items))) == 1  # variants of one group stand once
    with pytest.raises(DataError, match="no number"):
        walk(index, Walk(start="cup", curve=("group_id", "rise")), facts=facts)
    for name in ("bowl", "jug", "sofa", "chair"):
        prices[name] = np.nan
    with pytest.raises(DataError, match="1 of the 3 items that are alike have a price"):
        walk(
            index,
            Walk(start="mug", curve=("price", "rise"), config=PlaylistConfig(length=5)),
            facts=facts,
        )


def test_searches_by_meaning_and_words_are_fused_and_say_which():
    found = fused_hits(["a", "b"], [("b", 1.0), ("c", 0.4)], k=3)
    assert ids(found) == ["b", "a", "c"]
    assert found[0].reasons == ("fits by meaning", "holds the words")
    assert found[0].score == 1


def test_a_picture_finds_what_looks_like_it(index):
    query = {"image": np.array([0, 1, 0], np.float32), "colour": np.ones(3, np.float32)}
    assert ids(found_by_content(index, query, k=3))[0] in ("sofa", "stool", "chair")
    with pytest.raises(DataError, match="no item has a colour"):
        found_by_content(index, {"colour": np.ones(3, np.float32)}, k=3)
