"""Lists from states are those from whole rows of scores, offline and online alike."""

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import make
from momentary.recommend.index import index_of, states_after
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.types import ItemTable, Sessions

N_ITEMS = 400


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, N_ITEMS - 40, size=600)
    visits = [(start + np.arange(6)).tolist() for start in starts]
    config = {"units": [32], "epochs": 4, "n_sample": 64, "batch_size": 32}
    return make("gru4rec", config).fit(Sessions.from_lists(visits), n_items=N_ITEMS, rng=rng)


def _recommenders(model):
    items = Vocabulary([f"i{number}" for number in range(N_ITEMS)])
    table = ItemTable.unknown(items.ids)
    table.available[::7] = False
    table.attributes["brand"] = np.array([f"b{number % 9}" for number in range(N_ITEMS)], object)
    quick, whole = (Recommender(model, items=items, table=table) for _ in range(2))
    whole.index = None
    return quick, whole


VISITS = Sessions.from_lists([[], [3], [10, 11, 12], [50] * 9, list(range(100, 130)), [399]])


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(exclude_seen=True, in_stock=False),
        Rules(allow={"brand": ("b1", "b2")}, exclude_items=("i1", "i11")),
        Rules(allow={"brand": ("b1",)}, exclude_seen=True),
        Rules(max_per={"brand": 2}),
    ],
    ids=["plain", "seen", "allow", "short", "capped"],
)
@pytest.mark.parametrize("k", [1, 20, 60])
def test_lists_are_those_of_whole_rows(model, rules, k):
    quick, whole = (each.recommend(VISITS, k=k, rules=rules) for each in _recommenders(model))
    for ours, theirs in zip(quick, whole, strict=True):
        assert [each.rank for each in ours] == [each.rank for each in theirs]
        scores = [[each.score for each in found] for found in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        same = sum(a.item_id == b.item_id for a, b in zip(ours, theirs, strict=True))
        # Products are rounded in another order, which may swap two that are equal to that.
        assert same >= len(theirs) - 2


def test_rules_that_need_whole_rows_say_so(model):
    quick, whole = _recommenders(model)
    assert quick.is_direct(Rules(exclude_seen=True, price_max=3.0))
    assert not quick.is_direct(Rules(max_per={"brand": 1}))
    assert not whole.is_direct(Rules())


def test_other_facts_keep_the_index(model):
    quick, _ = _recommenders(model)
    table = ItemTable.unknown(quick.items.ids)
    table.available[:] = False
    table.available[5] = True
    other = quick.with_table(table)
    assert other.index is quick.index
    assert [[each.item_id for each in row] for row in other.recommend(VISITS, k=3)] == [["i5"]] * 6


def test_what_is_no_product_or_no_number_has_no_index(model):
    assert index_of(make("popularity"), n_items=3) is None
    state = model.state()
    broken = type(model).from_state(model.config, {**state, "items": state["items"] * np.nan})
    assert index_of(broken, n_items=N_ITEMS) is None


def test_states_after_visits_are_those_that_the_model_scores(model):
    found = model.score_states(states_after(model, VISITS))
    np.testing.assert_array_equal(found, model.score(VISITS))


def test_a_model_without_states_is_refused():
    items = Vocabulary(["a"])
    plain = Recommender(make("popularity"), items=items, table=ItemTable.unknown(items.ids))
    with pytest.raises(TypeError, match="no states"):
        plain.rank_states(np.zeros((1, 1), dtype=np.float32), Sessions.from_lists([[]]))
