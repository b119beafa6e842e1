"""Reasons: every sentence is borne out by the counts it was made from."""

from dataclasses import dataclass

import numpy as np
import pytest

from momentary.recommend.reasons import Reasons, ReasonsConfig
from momentary.types import ItemTable


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


TABLE = ItemTable(
    item_ids=objects("tea", "milk", "jam", "rye", "egg"),
    names=objects("Black tea", "Milk", None, "Rye bread", "Egg"),
    price=np.full(5, np.nan),
    available=np.ones(5, dtype=bool),
    attributes={},
)


@dataclass
class Found:
    items: np.ndarray
    similarities: np.ndarray
    counts: np.ndarray


class Pairs:
    """Neighbours by hand: item -> [(neighbour, similarity, sessions with both)], best first."""

    def __init__(self, pairs):
        self.pairs = pairs

    def related(self, item, k):
        rows = self.pairs.get(item, [])[:k]
        return Found(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.float32),
            np.array([row[2] for row in rows], dtype=np.int64),
        )


PAIRS = Pairs({0: [(1, 0.9, 1132), (3, 0.2, 12)], 2: [(3, 0.6, 3), (1, 0.1, 40), (2, 1.0, 50)]})


def explain(session, listed, *, related=PAIRS, popularity=None, **config):
    reasons = Reasons(TABLE, related=related, popularity=popularity, config=ReasonsConfig(**config))
    return reasons.explain(np.array(session, dtype=np.int64), np.array(listed, dtype=np.int64))


def test_the_closest_session_item_is_named_with_its_own_count():
    assert explain([0, 2], [1, 3]) == [
        ("often together with Black tea (in 1,132 visits)",),
        ("together with jam (in 3 visits)",),
    ]


def test_one_common_session_is_singular_and_the_noun_is_the_datas():
    once = Pairs({0: [(1, 0.9, 1)]})
    assert explain([0], [1], related=once, noun="basket") == [
        ("together with Black tea (in 1 basket)",)
    ]


def test_an_item_is_never_together_with_itself():
    assert explain([2], [2]) == [("you have had it before (once)",)]


def test_seen_items_say_how_often_and_two_sentences_are_enough():
    popularity = np.array([1, 9, 1, 1, 1])
    found = explain([1, 0, 1, 1], [1], popularity=popularity, popular_top=1)
    assert found == [
        ("you have had it before (3 times)", "often together with Black tea (in 1,132 visits)")
    ]
    alone = explain([1], [1], popularity=popularity, popular_top=1)
    assert alone[0][1] == "among the 1 most popular right now"


def test_popular_means_so_however_ties_are_broken():
    popularity = np.array([9, 5, 5, 0, 0])
    found = explain([], [0, 1, 2, 3], popularity=popularity, popular_top=2)
    assert found == [("among the 2 most popular right now",), (), (), ()]
    assert explain([], [1, 3], popularity=popularity, popular_top=5) == [
        ("among the 5 most popular right now",),
        (),
    ]


def test_nothing_is_said_of_the_order_of_an_empty_visit():
    assert explain([], [4]) == [()]
    assert explain([0], [4]) == [("fits the order of this visit",)]
    assert explain([0], [4], otherwise=None) == [()]


def test_only_the_latest_items_are_evidence():
    assert explain([0, 4], [1], latest=1) == [("fits the order of this visit",)]
    assert explain([4, 0, 0], [1], latest=1)[0][0].startswith("often together with Black tea")


def test_the_evidence_is_left_alone_and_an_empty_list_is_fine():
    session = np.array([0, 2])
    Reasons(TABLE, related=PAIRS).explain(session, np.array([], dtype=np.int64))
    assert session.tolist() == [0, 2]


def test_wrong_counts_and_config_are_refused():
    with pytest.raises(ValueError, match="2 popularity counts but 5 items"):
        Reasons(TABLE, popularity=np.ones(2))
    with pytest.raises(ValueError, match="at_most is 0"):
        ReasonsConfig(at_most=0)
    with pytest.raises(ValueError, match="noun"):
        ReasonsConfig(noun=" ")


def test_another_table_changes_the_names_and_nothing_else():
    reasons = Reasons(TABLE, related=PAIRS, popularity=np.array([9, 1, 1, 1, 5]))
    renamed = reasons.with_table(ItemTable.unknown(TABLE.item_ids.tolist()))
    session, listed = np.array([0]), np.array([1, 4])
    before, after = reasons.explain(session, listed), renamed.explain(session, listed)
    assert after == [tuple(said.replace("Black tea", "tea") for said in each) for each in before]
    assert before != after


class Weighed:
    """Sources by hand: item -> shares."""

    def __init__(self, shares):
        self.shares = shares

    def sources(self, session, items):
        assert len(session), "an empty visit put nothing anywhere"
        return [self.shares[int(item)] for item in items]


def weighed(shares, session, listed, **config):
    reasons = Reasons(
        TABLE,
        related=PAIRS,
        popularity=np.array([1, 9, 1, 1, 1]),
        sources=Weighed(shares),
        config=ReasonsConfig(popular_top=1, **config),
    )
    return reasons.explain(np.array(session, dtype=np.int64), np.array(listed, dtype=np.int64))


def test_what_weighed_most_is_said_first():
    shares = {
        1: {"vstan": 0.5, "follows": 0.2, "together": 0.1, "popular": 0.2},
        3: {"gru4rec": 0.3, "attentive_rnn": 0.3, "sequential_rules": 0.4},
        0: {"seen in this visit": 0.1, "vsknn": 0.45, "vstan": 0.45},
    }
    assert weighed(shares, [0], [1, 3, 0]) == [
        ("chosen in visits like this one", "often together with Black tea (in 1,132 visits)"),
        ("fits the order of this visit", "often together with Black tea (in 12 visits)"),
        ("chosen in visits like this one", "you have had it before (once)"),
    ]


def test_a_model_that_did_little_is_not_named():
    shares = {4: {"vstan": 0.1, "gru4rec 2": 0.9}, 2: {"popular": 1.0}}
    assert weighed(shares, [0], [4]) == [("fits the order of this visit",)]
    assert weighed(shares, [0], [4], least_share=0.05, noun="basket") == [
        ("fits the order of this basket", "chosen in baskets like this one")
    ]
    # No count bears out that jam is popular: what is left is what may always be said.
    assert weighed(shares, [0], [2], otherwise="a guess") == [("a guess",)]


def test_a_visit_without_a_click_asks_no_sources():
    assert weighed({}, [], [1]) == [("among the 1 most popular right now",)]
    with pytest.raises(ValueError, match="least_share is 0"):
        ReasonsConfig(least_share=0)
