"""Rules beyond stock and price, through the one place that ranks."""

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.recommend.pipeline import Recommender
from momentary.recommend.reasons import Reasons
from momentary.recommend.rules import boosted, read_rules
from momentary.types import ItemTable, Sessions

IDS = tuple(f"i{number}" for number in range(8))
ONE_VISIT = Sessions.from_lists([[7]])


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


class Fixed:
    def __init__(self, *scores):
        self.scores = np.array(scores or range(8, 0, -1), dtype=np.float32)

    def score(self, sessions):
        return np.tile(self.scores, (len(sessions), 1))


def recommender(*scores, vectors=None):
    table = ItemTable(
        item_ids=objects(*IDS),
        names=objects(*IDS),
        price=np.arange(8, dtype=np.float64),
        available=np.array([True] * 7 + [False]),
        attributes={
            "brand": objects("A", "A", "A", "B", "B", "C", None, "A"),
            "fragile": objects("true", *[None] * 7),
        },
    )
    return Recommender(
        Fixed(*scores),
        items=Vocabulary(IDS),
        table=table,
        reasons=Reasons(table),
        vectors=vectors,
    )


def listed(rules, k=8, *, of=None, rng=None):
    found = (of or recommender()).recommend(ONE_VISIT, k=k, rules=read_rules(rules), rng=rng)[0]
    assert [each.rank for each in found] == list(range(1, len(found) + 1))
    return found


def ids(rules, k=8, **rest):
    return " ".join(each.item_id for each in listed(rules, k, **rest))


def test_conditions_allow_and_deny():
    assert ids('{"allow": "brand == \\"A\\" and not properties.fragile"}') == "i1 i2"
    assert ids('{"deny": "brand == \\"A\\" or price > 4"}') == "i3 i4"
    assert ids('{"allow": "", "deny": ""}', 2) == "i0 i1"
    both = '{"allow": {"brand": ["A", "B"]}, "deny": "properties.fragile"}'
    assert ids(both) == "i1 i2 i3 i4"


def test_boosts_lift_whatever_the_sign_of_the_scores():
    half = '{"boosts": [{"when": "brand == \\"B\\"", "multiply": 2}]}'
    assert ids(half, 3) == "i3 i0 i4"
    below = recommender(*range(-1, -9, -1))
    assert ids(half, 3, of=below) == "i0 i1 i3"
    lowered = '{"boosts": [{"when": "brand == \\"A\\"", "multiply": 0.1}]}'
    assert ids(lowered, 3, of=below) == "i3 i4 i5"
    scores = np.arange(8, 0, -1, dtype=np.float32)
    added = '{"boosts": [{"when": "item_id == \\"i5\\"", "add": 1}]}'
    found = {each.item_id: each.score for each in listed(added)}
    assert found["i5"] == pytest.approx(3 + scores.std(), rel=1e-6)
    assert found["i0"] == 8


def test_boosts_of_several_rules_add_up_and_a_boosted_item_says_so():
    rules = (
        '{"boosts": [{"when": "brand == \\"B\\"", "multiply": 1.5},'
        ' {"when": "price == 4", "multiply": 2}]}'
    )
    found = {each.item_id: each for each in listed(rules)}
    assert found["i3"].score == 7.5
    assert found["i4"].score == 12
    assert found["i4"].reasons[0] == "put forward by the shop"
    assert "put forward by the shop" not in found["i0"].reasons


def test_infinite_scores_survive_boosts():
    scores = np.array([[np.inf, -np.inf, 1.0, -2.0]], dtype=np.float32)
    rules = read_rules('{"boosts": [{"when": "available", "multiply": 2, "add": 1}]}')
    ones = np.ones(4, dtype=np.float32)
    after = boosted(rules, scores, lift=2 * ones, raised=ones)
    assert after[0, :2].tolist() == [np.inf, -np.inf]
    assert after[0, 2:].tolist() == [2 + 1.5, -1 + 1.5]


def test_pins_obey_what_may_be_shown():
    pins = '"pins": [{"item_id": "i5", "rank": 1}, {"item_id": "i7", "rank": 2}]'
    found = listed("{" + pins + "}", 3)
    assert [each.item_id for each in found] == ["i5", "i0", "i1"]
    assert found[0].reasons[0] == "placed here by the shop"
    assert ids("{" + pins + ', "deny": "brand == \\"C\\""}', 3) == "i0 i1 i2"
    assert ids('{"pins": [{"item_id": "nobody knows", "rank": 1}]}', 2) == "i0 i1"


def test_diversity_by_attribute_and_by_content():
    assert ids('{"diversity": {"by": "brand", "strength": 0.6}}', 3) == "i0 i3 i5"
    vectors = np.eye(8, dtype=np.float32)
    vectors[1:4] = vectors[0]
    by_content = '{"diversity": {"by": "content", "strength": 0.6}}'
    assert ids(by_content, 3, of=recommender(vectors=vectors)) == "i0 i4 i5"
    with pytest.raises(DataError, match="needs vectors"):
        ids(by_content)
    with pytest.raises(DataError, match="no attribute 'colour'"):
        ids('{"diversity": {"by": "colour"}}')


def test_exploration_tells_the_chance_of_every_place():
    rules = '{"explore": {"share": 0.5, "pool": 4}}'
    found = listed(rules, 5, rng=np.random.default_rng(1))
    for each in found:
        explored = any("find out" in reason for reason in each.reasons)
        assert each.propensity in (
            0.125,
            0.625,
            pytest.approx(0.5 / 3),
            pytest.approx(0.5 + 0.5 / 3),
        )
        assert explored or each.propensity > 0.5
    assert any("find out" in reason for each in found for reason in each.reasons)
    again = listed(rules, 5, rng=np.random.default_rng(1))
    assert again == found
    with pytest.raises(ValueError, match="give an rng"):
        listed(rules)
    assert ids('{"explore": {"share": 0}}', 2) == "i0 i1"


def test_a_name_that_no_item_has_is_refused_unless_it_may_be_empty():
    typo = '{"deny": "properties.fragil"}'
    with pytest.raises(DataError, match=r"deny, line 1, column 12: .*did you mean fragile"):
        ids(typo)
    assert ids('{"unknown": "empty", "deny": "properties.fragil"}', 2) == "i0 i1"
    empty = '{"unknown": "empty", "allow": {"colour": ["red"]}, "max_per": {"size": 1}}'
    assert ids(empty) == ""
    boost = '{"boosts": [{"when": "price > 1"}, {"when": "properties.x"}]}'
    with pytest.raises(DataError, match=r"boosts\[1\].when, line 1, column 12"):
        ids(boost)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('{"allow": "price <"}', r"allow, line 1, column 8: the condition ends too early"),
        ('{"boosts": [{"when": ""}]}', r"boosts\[0\].when, line 1, column 1"),
        ('{"boosts": [{"when": "available", "multiply": 0}]}', ">= 0.01"),
        ('{"pins": [{"item_id": "a", "rank": 1}, {"item_id": "b", "rank": 1}]}', "rank 1 twice"),
        (
            '{"pins": [{"item_id": "a", "rank": 1}, {"item_id": "a", "rank": 2}]}',
            "item_id 'a' twice",
        ),
        ('{"pins": [{"item_id": "a", "rank": 0}]}', ">= 1"),
        ('{"explore": {"share": 1.1}}', "<= 1"),
        ('{"diversity": {"strength": 2}}', "<= 1"),
        ('{"unknown": "whatever"}', "Invalid enum value"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules, message):
    with pytest.raises(Exception, match=message):
        read_rules(rules)


def test_similar_items_obey_the_same_rules():
    rules = read_rules('{"deny": "brand == \\"A\\"", "pins": [{"item_id": "i6", "rank": 1}]}')
    found = recommender().similar("i3", k=3, rules=rules)
    assert [each.item_id for each in found] == ["i6", "i4", "i5"]


def test_the_lists_of_a_batch_are_those_of_each_alone():
    shop = recommender()
    rules = read_rules(
        '{"exclude_seen": true, "in_stock": false, "diversity": {"by": "brand"},'
        ' "boosts": [{"when": "price > 2", "add": 0.2}], "max_per": {"brand": 2}}'
    )
    visits = [[0], [], [3, 4], [7, 1]]
    together = shop.recommend(Sessions.from_lists(visits), k=4, rules=rules)
    alone = [shop.recommend(Sessions.from_lists([visit]), k=4, rules=rules)[0] for visit in visits]
    assert together == alone
    for visit, found in zip(visits, together, strict=True):
        assert not {IDS[item] for item in visit} & {each.item_id for each in found}


def test_a_change_of_an_item_changes_what_the_rules_let_through():
    shop = recommender()
    rules = read_rules('{"allow": "brand == \\"B\\" and price < 4"}')
    assert [each.item_id for each in shop.recommend(ONE_VISIT, rules=rules)[0]] == ["i3"]
    row = ItemTable(
        item_ids=objects("i0"),
        names=objects("i0"),
        price=np.array([1.0]),
        available=np.array([True]),
        attributes={"brand": objects("B"), "fragile": objects(None)},
    )
    after = shop.with_table(shop.table.with_row(0, row))
    assert [each.item_id for each in after.recommend(ONE_VISIT, rules=rules)[0]] == ["i0", "i3"]
    assert [each.item_id for each in shop.recommend(ONE_VISIT, rules=rules)[0]] == ["i3"]
