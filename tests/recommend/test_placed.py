"""Items that nobody touched stand where their content puts them, and move as clicks arrive."""

from datetime import UTC, datetime

import numpy as np
import pytest

import momentary.recommend.placing as placing
from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
from momentary.models.placement import Placement, PlacementConfig, calibrate
from momentary.recommend.assortment import Assortment
from momentary.recommend.encoded import Encoded
from momentary.recommend.newcomers import newcomers
from momentary.recommend.placed import Company
from momentary.recommend.placing import learn_placement
from momentary.recommend.rules import Diversity, Rules
from momentary.types import Item, ItemTable, Sessions

GROUPS, SIZE, NEW = 4, 12, 2
KNOWN = GROUPS * SIZE


def group_of(item_id):
    return int(item_id.split("-")[0][1:])


def catalogue():
    """Twelve known and two new items a group, with pictures near their group's middle."""
    rng = np.random.default_rng(3)
    middles = rng.normal(size=(GROUPS, 12))
    ids = [f"g{g}-{n:02d}" for g in range(GROUPS) for n in range(SIZE + NEW)]
    views = {
        "image": np.stack(
            [middles[group_of(each)] + 0.25 * rng.normal(size=12) for each in ids]
        ).astype(np.float32)
    }
    kinds = np.array([f"kind {group_of(each)}" for each in ids], dtype=np.object_)
    items = tuple(
        Item(item_id=each, name=each.upper(), category=kind)
        for each, kind in zip(ids, kinds, strict=True)
    )
    return Encoded(
        items=items, views=views, attributes={"category": kinds}, encoders={"image": "e/1"}
    )


def is_new(item_id):
    return int(item_id.split("-")[1]) >= SIZE


@pytest.fixture(scope="module")
def world():
    encoded = catalogue()
    items = Vocabulary([each for each in encoded.item_ids if not is_new(each)])
    rng = np.random.default_rng(1)
    groups = rng.integers(GROUPS, size=(700, 1))
    rows = (groups * SIZE + rng.integers(SIZE, size=(700, 5))).tolist()
    return encoded, items, Sessions.from_lists(rows)


SETTINGS = {
    "gru4rec": {"units": (24,), "epochs": 8, "batch_size": 16, "n_sample": 32},
    "vstan": {},
}


@pytest.fixture(scope="module", params=["gru4rec", "vstan"])
def bundle(request, world):
    encoded, items, sessions = world
    rng = np.random.default_rng(0)
    scorers = {
        "main": make(request.param, SETTINGS[request.param]),
        "related": make("item_knn"),
        "fallback": make("popularity"),
    }
    for scorer in scorers.values():
        scorer.fit(sessions, n_items=len(items), rng=rng)
    bare = Bundle(scorers=scorers, items=items, facts={})
    placement = learn_placement(bare, sessions, encoded, rng=rng)
    return Bundle(scorers=scorers, items=items, facts={}, placement=placement)


def recommender_of(assortment):
    extended = assortment.extended()
    return assortment.recommender(ItemTable.unknown(extended.items.ids), bundle=extended)


def test_new_items_are_recommended_in_visits_about_their_like(bundle, world):
    encoded, items, _ = world
    assortment = Assortment(bundle, encoded)
    recommender = recommender_of(assortment)
    assert len(recommender.items) == KNOWN + GROUPS * NEW
    hits = []
    for group in range(GROUPS):
        clicked = [items.index(f"g{group}-{n:02d}") for n in (1, 5, 7)]
        (found,) = recommender.recommend(Sessions.from_lists([clicked]), k=SIZE + NEW)
        new = [each for each in found if is_new(each.item_id)]
        hits += [group_of(each.item_id) == group for each in new]
        assert any("new here; like g" in reason for each in new for reason in each.reasons)
        assert any(f"same category: kind {group}" in each.reasons[0] for each in new)
    assert len(hits) >= 6  # of the eight new ones
    assert np.mean(hits) > 0.9


def test_known_items_score_as_before(bundle, world):
    encoded, items, sessions = world
    extended = Assortment(bundle, encoded).extended()
    some = sessions.take(np.arange(20))
    before = bundle.scorers["main"].score(some)
    after = extended.scorers["main"].score(some)
    np.testing.assert_allclose(after[:, :KNOWN], before, rtol=1e-5, atol=1e-6)
    assert extended.items.ids[:KNOWN] == items.ids


def test_a_click_on_a_new_item_is_one_on_its_like(bundle, world):
    encoded, items, _ = world
    extended = Assortment(bundle, encoded).extended()
    clicked = extended.items.index("g2-12")
    assert clicked >= KNOWN
    scores = extended.scorers["main"].score(Sessions.from_lists([[clicked]]))[0, :KNOWN]
    best = np.argsort(-scores)[:6]
    assert np.mean([group_of(items.ids[each]) == 2 for each in best]) > 0.6


def test_behaviour_takes_over_as_clicks_arrive(bundle, world):
    encoded, items, _ = world
    assortment = Assortment(bundle, encoded)
    clicked = Sessions.from_lists([[items.index(f"g1-{n:02d}") for n in (2, 3, 4)]])

    def standing(visits):
        company = Company(visits=visits, beside={f"g1-{n:02d}": visits for n in range(6)})
        assortment.set_company({"g3-12": company})
        extended = assortment.extended()
        scores = extended.scorers["main"].score(clicked)[0]
        own = scores[extended.items.index("g3-12")]
        return float(own), int((scores >= own).sum())

    scores, ranks = zip(*(standing(visits) for visits in (0, 2, 20, 400)), strict=True)
    assert scores[0] < scores[1] < scores[2] < scores[3]
    assert ranks[3] < min(SIZE, ranks[0])


def test_what_stands_beside_a_new_item_is_related_to_it_both_ways(bundle, world):
    encoded, items, _ = world
    assortment = Assortment(bundle, encoded)
    assortment.set_company({"g3-12": Company(visits=3, beside={"g1-00": 3, "g1-01": 1, "x": 9})})
    recommender = recommender_of(assortment)
    found = recommender.similar("g3-12", k=5)
    assert [each.item_id for each in found] == ["g1-00", "g1-01"]
    assert "together with" in found[0].reasons[0]
    assert "g3-12" in [each.item_id for each in recommender.similar("g1-00", k=40)]
    (listed,) = recommender.recommend(Sessions.from_lists([[items.index("g1-00")]]), k=40)
    row = next(each for each in listed if each.item_id == "g3-12")
    assert any("in 3 visits" in reason for reason in row.reasons)


def test_the_fallback_knows_new_items_by_their_visits(bundle, world):
    encoded, _, _ = world
    assortment = Assortment(bundle, encoded)
    assortment.set_company({"g3-12": Company(visits=10**6)})
    extended = assortment.extended()
    fallback = assortment.recommender(
        ItemTable.unknown(extended.items.ids), bundle=extended, role="fallback"
    )
    (found,) = fallback.recommend(Sessions.from_lists([[]]), k=1)
    assert found[0].item_id == "g3-12"


def test_lists_vary_by_content(bundle, world):
    encoded, items, _ = world
    recommender = recommender_of(Assortment(bundle, encoded))
    visit = Sessions.from_lists([[items.index("g0-00")]])
    rules = Rules(diversity=Diversity(by="content", strength=0.9))
    (plain,) = recommender.recommend(visit, k=6)
    (varied,) = recommender.recommend(visit, k=6, rules=rules)
    assert len({group_of(each.item_id) for each in varied}) > len(
        {group_of(each.item_id) for each in plain}
    )


def test_items_come_one_by_one_and_go(bundle, world):
    encoded, _, _ = world
    assortment = Assortment(bundle, encoded)
    view = {"image": encoded.views["image"][encoded.item_ids.index("g2-03")] + 0.01}
    item = Item(item_id="fresh", category="kind 2")
    row = ItemTable.unknown(["fresh"])
    assert assortment.put(item, view, row)
    assert "fresh" in assortment.extended().items
    assert not assortment.put(Item(item_id="g2-03"), view, ItemTable.unknown(["g2-03"]))
    assert assortment.index.neighbours("fresh", 1)[0].item_id.startswith("g2")
    assortment.remove("fresh")
    assert "fresh" not in assortment.index


def test_a_saved_bundle_places_as_the_one_that_was_trained(bundle, world, tmp_path):
    encoded, _, sessions = world
    store = ModelStore(tmp_path)
    version = store.add(bundle, now=datetime(2026, 1, 1, tzinfo=UTC))
    loaded = store.load(version)
    assert loaded.placement.config == bundle.placement.config
    some = sessions.take(np.arange(10))
    scores = [
        Assortment(each, encoded).extended().scorers["main"].score(some)
        for each in (bundle, loaded)
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-5)


def test_newcomers_say_what_they_are_like_and_where_they_stand(bundle, world):
    encoded, _, _ = world
    assortment = Assortment(bundle, encoded)
    found = newcomers(assortment, recommender_of(assortment), k=5)
    assert len(found) == 5
    assert all(group_of(each.like) == group_of(each.item_id) for each in found)
    assert all(0 < each.confidence <= 1 for each in found)
    assert np.mean([each.rank_after for each in found]) < 2 * SIZE
    assert found[0].confidence >= found[-1].confidence


def test_vectors_of_another_encoder_place_nothing(bundle, world):
    encoded, items, _ = world
    other = Encoded(
        items=encoded.items,
        views=encoded.views,
        attributes=encoded.attributes,
        encoders={"image": "e/2"},
    )
    assortment = Assortment(bundle, other)
    assert assortment.unlike() == {"image": "e/2"}
    assert assortment.extended().items == items
    assert assortment.index is not None


def test_without_content_or_with_too_few_items_there_is_no_placement(bundle, world):
    encoded, _, sessions = world
    bare = Encoded(items=(), views={}, attributes={}, encoders={})
    assert learn_placement(bundle, sessions, bare, rng=np.random.default_rng(0)) is None
    assortment = Assortment(bundle, bare)
    assert assortment.extended() is bundle
    assert newcomers(assortment, recommender_of(assortment), k=3) == []
    few = Encoded(
        items=encoded.items[:10],
        views={"image": encoded.views["image"][:10]},
        attributes={},
        encoders=encoded.encoders,
    )
    assert learn_placement(bundle, sessions, few, rng=np.random.default_rng(0)) is None


@pytest.mark.parametrize("kind", ["tied", "separate", "one_hot"])
def test_placed_rows_score_as_learned_ones(kind, world):
    _, items, sessions = world
    model = GRU4Rec(GRU4RecConfig(units=(6,), input=kind, embedding=5, epochs=1))
    model.fit(sessions.take(np.arange(60)), n_items=len(items) + 1, rng=np.random.default_rng(0))
    rows, trained = model.item_rows()
    assert trained.tolist() == [True] * len(items) + [False]
    again = model.with_items(rows[:3])
    asked = sessions.take(np.arange(5))
    scores = again.score(asked)
    np.testing.assert_allclose(scores[:, : len(rows)], model.score(asked), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores[:, len(rows) :], scores[:, :3], rtol=1e-5)
    tuned = model.with_items(model.tuned(rows[:3], scale=2.0, offset=-1.0)).score(asked)
    np.testing.assert_allclose(tuned[:, len(rows) :], 2 * scores[:, :3] - 1, rtol=1e-4, atol=1e-5)
    clicks = Sessions.from_lists([[len(rows) + 1], [1]])
    one, other = again.score(clicks)
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_scores_that_are_off_are_tuned_until_new_items_have_their_share():
    rng = np.random.default_rng(0)
    true = 2 * rng.normal(size=(2_000, 60)).astype(np.float32)
    chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    targets = np.array([rng.choice(60, p=row / row.sum()) for row in chances])
    own, new = true[:, :45], true[:, 45:]
    found = calibrate(own, new * 0.5 + 6, targets=targets)
    assert found.scale == 2
    assert found.scale * 6 + found.offset(level=found.level) == pytest.approx(0, abs=0.6)
    figures = found.figures
    assert figures["share_of_places"] == pytest.approx(figures["share_of_clicks"], abs=0.01)
    assert figures["share_of_clicks"] == pytest.approx(0.25, abs=0.03)
    noise = rng.normal(size=new.shape).astype(np.float32)
    useless = calibrate(own, noise + 100, targets=targets)
    assert useless.figures["share_of_places"] == pytest.approx(0.25, abs=0.03)
    assert useless.gain < found.gain
    assert useless.figures["recall_of_others_alone"] == figures["recall_of_others_alone"]


def test_hardly_any_question_about_new_items_tunes_nothing():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(50, 30)).astype(np.float32)
    new = rng.normal(size=(50, 5)).astype(np.float32)
    found = calibrate(own, new, targets=np.arange(50) % 31)
    assert (found.scale, found.moved) == (1, 0)


def test_a_large_catalogue_has_the_factors_of_a_small_one(monkeypatch, world):
    _, items, sessions = world
    monkeypatch.setattr(placing, "_FACTORS", 40)
    small = placing._factors(sessions, n_items=len(items))
    monkeypatch.setattr(placing, "_GRAM", 0)
    large = placing._factors(sessions, n_items=len(items))
    np.testing.assert_allclose(large @ large.T, small @ small.T, atol=1e-3)


def test_the_figures_say_whether_the_visits_were_unseen(bundle):
    figures = bundle.placement.config.figures
    assert figures["unseen"] == 1
    assert figures["share_of_places"] == pytest.approx(figures["share_of_clicks"], abs=0.05)
    assert figures["recall_of_new"] > 0.8


def test_a_placement_is_one_of_two_kinds(bundle):
    factors = bundle.placement.factors
    with pytest.raises(ValueError, match="neighbours need the factors"):
        Placement(PlacementConfig(way="neighbours"), factors)
    by_rows = Placement(PlacementConfig(way="rows"), factors)
    with pytest.raises(ValueError, match="has no neighbours"):
        by_rows.near({})
    others = Placement(PlacementConfig(way="neighbours"), factors, np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="predicts no rows"):
        others.rows({})
