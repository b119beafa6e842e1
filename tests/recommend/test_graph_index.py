"""Lists along a graph: nearly those of the exact search, with its scores, and every rule holds."""

from dataclasses import replace

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.learn.graph import Graph
from momentary.models.artifact import make
from momentary.recommend.index import Index
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.types import ItemTable, Sessions

N_ITEMS = 3_000


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, N_ITEMS - 40, size=3_000)
    visits = [(start + rng.integers(0, 12, size=6)).tolist() for start in starts]
    config = {"units": [32], "epochs": 2, "n_sample": 256, "batch_size": 64}
    return make("gru4rec", config).fit(Sessions.from_lists(visits), n_items=N_ITEMS, rng=rng)


@pytest.fixture(scope="module")
def graph(model):
    return Graph(*model.item_vectors())


@pytest.fixture(scope="module")
def visits():
    rng = np.random.default_rng(4)
    starts = rng.integers(0, N_ITEMS - 40, size=120)
    own = [
        (start + rng.integers(0, 12, size=length)).tolist() for length, start in enumerate(starts)
    ]
    return Sessions.from_lists([[], *own])


def recommender(model, graph, *, n_items=N_ITEMS):
    items = Vocabulary([f"i{number}" for number in range(n_items)])
    table = ItemTable.unknown(items.ids)
    table.available[::7] = False
    table.attributes["half"] = np.array([f"h{number % 2}" for number in range(n_items)], object)
    table.attributes["tenth"] = np.array([f"t{number % 10}" for number in range(n_items)], object)
    return Recommender(model, items=items, table=table, graph=graph)


def compared(model, graph, visits, rules, *, k=20):
    """Recall beside the exact search, the lists, and how many came from where."""
    walked, exact = recommender(model, graph), recommender(model, None)
    ours, theirs = (each.recommend(visits, k=k, rules=rules) for each in (walked, exact))
    hits = 0
    for found, right in zip(ours, theirs, strict=True):
        scores = {each.item_id: each.score for each in right}
        same = [each for each in found if each.item_id in scores]
        assert [each.score for each in same] == [scores[each.item_id] for each in same]
        hits += len(same)
        assert len(found) == len(right)
    return hits / sum(map(len, theirs)), ours, walked.index.taken()


@pytest.mark.parametrize(
    ("rules", "least"),
    [
        (Rules(), 0.99),
        (Rules(exclude_seen=True), 0.99),
        (Rules(allow={"half": ("h1",)}, exclude_seen=True), 0.99),
    ],
    ids=["plain", "seen", "half"],
)
def test_lists_are_nearly_the_exact_ones_and_rules_hold(model, graph, visits, rules, least):
    recall, found, (walked, scanned) = compared(model, graph, visits, rules)
    assert recall >= least
    assert walked > 0.5 * len(visits)
    assert walked + scanned == len(visits)
    for query, items in enumerate(found):
        numbers = [int(each.item_id[1:]) for each in items]
        assert all(number % 7 for number in numbers)
        if rules.exclude_seen:
            assert not set(numbers) & set(visits.session(query).tolist())
        if rules.allow:
            assert all(number % 2 for number in numbers)


def test_what_rules_leave_too_little_of_is_searched_exactly(model, graph, visits):
    recall, _, (walked, scanned) = compared(model, graph, visits, Rules(allow={"tenth": ("t1",)}))
    assert (recall, walked, scanned) == (1, 0, len(visits))


def test_a_walk_that_finds_too_few_is_followed_by_the_exact_search(model, graph):
    index, exact = (Index(model, n_items=N_ITEMS, graph=each) for each in (graph, None))
    states = index.states(Sessions.from_lists([[2_700, 2_701, 2_702], [100, 101]]))
    everything = np.ones(N_ITEMS, dtype=np.bool_)
    best, _ = exact.best(states[:1], 400, allowed=everything, excluded=None)
    # Most of the catalogue is allowed, but nothing that a walk for the first visit comes by.
    allowed = everything.copy()
    allowed[best[0]] = False
    found, scores = index.best(states, 20, allowed=allowed, excluded=None)
    right = exact.best(states, 20, allowed=allowed, excluded=None)
    assert found[0].tolist() == right[0][0].tolist()
    assert scores[0].tolist() == right[1][0].tolist()
    assert allowed[found].all()
    assert index.taken() == (1, 1)


def test_long_histories_are_searched_exactly(model, graph):
    visits = Sessions.from_lists([list(range(500)), [3, 4]])
    _, _, counts = compared(model, graph, visits, Rules(exclude_seen=True))
    assert counts == (1, 1)


def test_a_question_alone_is_answered_as_among_others(model, graph, visits):
    index = Index(model, n_items=N_ITEMS, graph=graph)
    states, allowed = index.states(visits), np.ones(N_ITEMS, dtype=np.bool_)
    many = index.best(states, 20, allowed=allowed, excluded=(visits.items, visits.offsets))
    for row in (0, 7, 90):
        one = visits.take(np.array([row]))
        alone = index.best(
            states[row : row + 1], 20, allowed=allowed, excluded=(one.items, one.offsets)
        )
        np.testing.assert_array_equal(alone[0][0], many[0][row])
        np.testing.assert_array_equal(alone[1][0], many[1][row])


def test_items_placed_since_are_found_beside_the_graph(model, graph):
    own, _ = model.item_rows()
    bigger = model.with_items(own[[5, 5, 2_000]])
    quick = recommender(bigger, graph, n_items=N_ITEMS + 3)
    exact = recommender(bigger, None, n_items=N_ITEMS + 3)
    visits = Sessions.from_lists([[4], [1_999, N_ITEMS + 2], []])
    ours, theirs = (each.recommend(visits, k=30) for each in (quick, exact))
    for found, right in zip(ours, theirs, strict=True):
        same = {each.item_id for each in found} & {each.item_id for each in right}
        assert len(same) >= 28
    listed = {each.item_id for found in ours for each in found}
    assert {f"i{N_ITEMS}", f"i{N_ITEMS + 2}"} & listed
    assert quick.index.taken() == (2, 1)  # a stranger's list is found exactly
    hidden = replace(quick.table, available=np.arange(N_ITEMS + 3) < N_ITEMS)
    kept = quick.with_table(hidden).recommend(visits, k=30)
    assert not {f"i{N_ITEMS + new}" for new in range(3)} & {
        each.item_id for found in kept for each in found
    }


def test_other_facts_keep_the_graph(model, graph):
    quick = recommender(model, graph)
    other = quick.with_table(ItemTable.unknown(quick.items.ids))
    assert other.index is quick.index
    assert (other.search, recommender(model, None).search) == ("graph", "exact")


def test_counts_are_taken_once(model, graph, visits):
    index = Index(model, n_items=N_ITEMS, graph=graph)
    everything = np.ones(N_ITEMS, dtype=np.bool_)
    index.best(index.states(visits), 5, allowed=everything, excluded=None)
    strangers = int((visits.lengths == 0).sum())
    assert index.taken() == (len(visits) - strangers, strangers)
    assert index.taken() == (0, 0)
