"""Ranks and lists against brute force, and the laws of the one place that ranks."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.recommend.pipeline import Recommender, ranks, top
from momentary.recommend.reasons import Reasons
from momentary.recommend.rules import Rules
from momentary.types import ItemTable, Sessions


def naive_ranks(row, targets, allowed):
    """Sort all items: score down, others before targets, then index."""
    order = sorted(
        np.flatnonzero(allowed).tolist(), key=lambda item: (-row[item], item in targets, item)
    )
    return [order.index(target) + 1 if allowed[target] else len(row) + 1 for target in targets]


def naive_top(row, k, allowed):
    return sorted(np.flatnonzero(allowed).tolist(), key=lambda item: (-row[item], item))[:k]


@st.composite
def problems(draw):
    """Scores with many ties and infinities, distinct targets, a mask and exclusions."""
    queries = draw(st.integers(1, 4))
    n_items = draw(st.integers(1, 300))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 2, 5, 10_000]))
    scores = rng.integers(levels, size=(queries, n_items)).astype(np.float32)
    if draw(st.booleans()):
        scores[rng.random(scores.shape) < 0.2] = -np.inf
        scores[rng.random(scores.shape) < 0.05] = np.inf
    sizes = rng.integers(1, min(n_items, 5) + 1, size=queries)
    targets = [rng.choice(n_items, size, replace=False) for size in sizes]
    allowed = rng.random(n_items) < draw(st.sampled_from([0.05, 0.6, 1.0]))
    seen = [rng.integers(n_items, size=rng.integers(0, 6)) for _ in range(queries)]
    return scores, targets, allowed if draw(st.booleans()) else None, seen


def joined(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.concatenate(rows).astype(np.int64), offsets


def masks(allowed, seen, n_items):
    for items in seen:
        mask = np.ones(n_items, dtype=bool) if allowed is None else allowed.copy()
        mask[items] = False
        yield mask


@settings(max_examples=150, deadline=None)
@given(problems())
def test_ranks_are_those_of_a_full_sort(problem):
    scores, targets, allowed, seen = problem
    before = scores.copy()
    flat, offsets = joined(targets)
    n_items = scores.shape[1]
    everywhere = np.ones(n_items, dtype=bool) if allowed is None else allowed
    expected = [naive_ranks(*each, everywhere) for each in zip(scores, targets, strict=True)]
    assert ranks(scores, flat, offsets, allowed=allowed).tolist() == list(chain(*expected))
    expected = [
        naive_ranks(*each)
        for each in zip(scores, targets, masks(allowed, seen, n_items), strict=True)
    ]
    found = ranks(scores, flat, offsets, allowed=allowed, per_row_excluded=joined(seen))
    assert found.tolist() == list(chain(*expected))
    np.testing.assert_array_equal(scores, before)


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(1, 320))
def test_top_is_the_head_of_a_full_sort(problem, k):
    scores, _, allowed, seen = problem
    before, mask_before = scores.copy(), None if allowed is None else allowed.copy()
    indices, values = top(scores, k, allowed=allowed, per_row_excluded=joined(seen))
    assert indices.shape == values.shape == (len(scores), k)
    for query, mask in enumerate(masks(allowed, seen, scores.shape[1])):
        expected = naive_top(scores[query], k, mask)
        assert indices[query, : len(expected)].tolist() == expected
        assert (indices[query, len(expected) :] == -1).all()
        np.testing.assert_array_equal(values[query, : len(expected)], scores[query][expected])
    np.testing.assert_array_equal(scores, before)
    if allowed is not None:
        np.testing.assert_array_equal(allowed, mask_before)


@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_top_of_a_large_catalogue_is_that_of_a_stable_sort(levels):
    rng = np.random.default_rng(1)
    scores = rng.integers(levels, size=(6, 20_011)).astype(np.float32)
    allowed = rng.random(20_011) < np.array(0.3)
    for k in (1, 20, 700):
        masked = np.where(allowed, scores, -1)
        expected = np.argsort(-masked, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top(scores, k, allowed=allowed)[0], expected)
        unlimited = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top(scores, k)[0], unlimited)


def test_a_target_on_the_list_has_its_place_as_rank_when_scores_differ():
    rng = np.random.default_rng(2)
    scores = rng.permuted(np.tile(np.arange(500, dtype=np.float32), (8, 1)), axis=1)
    indices, _ = top(scores, 10)
    for place in range(10):
        found = ranks(scores, indices[:, place], np.arange(9))
        assert (found == place + 1).all()


def test_nan_and_wrong_targets_are_refused():
    scores = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="query 1 has target 2 twice"):
        ranks(scores, np.array([0, 2, 2]), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="run from -1 to 0"):
        ranks(scores, np.array([0, -1]), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="run from 0 to 3"):
        ranks(scores, np.array([0, 3]), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="need 3, from 0 to 2"):
        ranks(scores, np.array([0, 1]), np.array([0, 2]))
    with pytest.raises(ValueError, match="k is 0"):
        top(scores, 0)
    with pytest.raises(ValueError, match="one entry an item"):
        top(scores, 1, allowed=np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="2: one row"):
        top(scores[0], 1)
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="query 1 has 1 NaN"):
        top(scores, 1, allowed=np.array([True, True, False]))
    with pytest.raises(ValueError, match="query 1 has 1 NaN"):
        ranks(scores, np.array([0, 0]), np.array([0, 1, 2]))


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


class Distance:
    """Scores an item by how near its index is to the session's last item."""

    def __init__(self, n_items):
        self.n_items = n_items

    def score(self, sessions):
        last = [session[-1] if len(session) else 0 for session in rows_of(sessions)]
        gaps = np.abs(np.arange(self.n_items)[None, :] - np.array(last)[:, None])
        return (-gaps).astype(np.float32)


class Pairs:
    """Neighbours by hand: item -> [(neighbour, similarity, sessions with both)], best first."""

    def __init__(self, pairs):
        self.pairs = pairs

    def related(self, item, k):
        columns = np.array(self.pairs.get(item, [])[:k]).reshape(-1, 3).T
        return SimpleNamespace(
            items=columns[0].astype(np.int64),
            similarities=columns[1].astype(np.float32),
            counts=columns[2].astype(np.int64),
        )


def rows_of(sessions):
    return [sessions.session(row) for row in range(len(sessions))]


N = 40
IDS = [f"item/{number} ü" for number in range(N)]
TABLE = ItemTable(
    item_ids=objects(IDS),
    names=objects([None] * N),
    price=np.arange(N, dtype=float),
    available=np.arange(N) != 11,
    attributes={
        "brand": objects([None if number % 4 == 3 else f"b{number % 4}" for number in range(N)]),
        "shelf": objects([f"s{number // 10}" for number in range(N)]),
    },
)


def make(reasons=None, scorer=None):
    return Recommender(
        Distance(N) if scorer is None else scorer,
        items=Vocabulary(IDS),
        table=TABLE,
        reasons=reasons,
    )


def indices_of(answer):
    return [IDS.index(each.item_id) for each in answer]


def test_recommend_ranks_from_one_with_scores_and_without_what_is_out_of_stock():
    (answer,) = make().recommend(Sessions.from_lists([[3, 10]]), k=4)
    assert indices_of(answer) == [10, 9, 8, 12]
    assert [each.rank for each in answer] == [1, 2, 3, 4]
    assert [each.score for each in answer] == [0.0, -1.0, -2.0, -2.0]
    assert answer[0].reasons == ()


def test_scores_made_elsewhere_give_the_same_lists_and_stay_as_they_were():
    sessions = Sessions.from_lists([[3, 10], [], [39, 0, 20]])
    scores = Distance(N).score(sessions)
    before = scores.copy()
    rules = Rules(exclude_seen=True, max_per={"brand": 2}, exclude_items=(IDS[1], "gone"))
    recommender = make()
    assert recommender.recommend(sessions, k=7, rules=rules) == recommender.rank_scores(
        scores, sessions, k=7, rules=rules
    )
    np.testing.assert_array_equal(scores, before)


def test_a_batch_gives_what_each_session_gets_alone_and_k_only_cuts():
    sessions = [[3, 10], [0], [39, 0, 20], []]
    rules = Rules(exclude_seen=True, max_per={"shelf": 3})
    recommender = make()
    together = recommender.recommend(Sessions.from_lists(sessions), k=12, rules=rules)
    for session, answer in zip(sessions, together, strict=True):
        alone = recommender.recommend(Sessions.from_lists([session]), k=12, rules=rules)[0]
        assert alone == answer
        shorter = recommender.recommend(Sessions.from_lists([session]), k=5, rules=rules)[0]
        assert shorter == answer[:5]


def test_fewer_allowed_than_k_give_a_shorter_list():
    rules = Rules(allow={"shelf": ("s1",)}, price_max=12.0)
    (answer,) = make().recommend(Sessions.from_lists([[0]]), k=9, rules=rules)
    assert indices_of(answer) == [10, 12]
    (none,) = make().recommend(Sessions.from_lists([[0]]), rules=Rules(price_min=1000.0))
    assert none == []


@pytest.mark.parametrize("k", [1, 5, 12, 100])
def test_max_per_keeps_the_best_that_fit_and_never_limits_unknown_values(k):
    caps = {"brand": 2, "shelf": 4}
    (answer,) = make().recommend(Sessions.from_lists([[25]]), k=k, rules=Rules(max_per=caps))
    (everything,) = make().recommend(Sessions.from_lists([[25]]), k=N)
    expected, used = [], {}
    for item in indices_of(everything):
        keys = [(name, TABLE.attributes[name][item]) for name in caps]
        keys = [key for key in keys if key[1] is not None]
        if len(expected) < k and all(used.get(key, 0) < caps[key[0]] for key in keys):
            expected.append(item)
            for key in keys:
                used[key] = used.get(key, 0) + 1
    assert indices_of(answer) == expected
    unbranded = sum(TABLE.attributes["brand"][item] is None for item in expected)
    assert k < 12 or unbranded > 2


def test_rules_are_remembered_without_being_mixed_up():
    recommender = make()
    sessions = Sessions.from_lists([[10]])
    for _ in range(2):
        cheap = recommender.recommend(sessions, k=1, rules=Rules(price_max=3.0))[0]
        assert indices_of(cheap) == [3]
        without = recommender.recommend(sessions, k=1, rules=Rules(exclude_items=(IDS[10],)))[0]
        assert indices_of(without) == [9]
        assert indices_of(recommender.recommend(sessions, k=1)[0]) == [10]
    for price in range(300):
        rules = Rules(price_min=float(price % N))
        assert recommender.recommend(sessions, k=1, rules=rules)[0]


def test_reasons_come_along_unless_not_wanted():
    reasons = Reasons(TABLE, related=Pairs({10: [(9, 0.5, 30)]}))
    recommender = make(reasons)
    sessions = Sessions.from_lists([[10]])
    (answer,) = recommender.recommend(sessions, k=2)
    assert answer[0].reasons == ("you have had it before (once)",)
    assert answer[1].reasons == ("often together with item/10 ü (in 30 visits)",)
    (bare,) = recommender.recommend(sessions, k=2, explain=False)
    assert [each.reasons for each in bare] == [(), ()]


def test_similar_follows_the_counts_or_asks_the_scorer():
    pairs = Pairs({10: [(30, 0.5, 30), (9, 0.4, 2), (11, 0.3, 9), (10, 0.2, 1)]})
    answer = make(Reasons(TABLE, related=pairs)).similar(IDS[10], k=5)
    assert indices_of(answer) == [30, 9]
    assert answer[0].reasons == ("often together with item/10 ü (in 30 visits)",)
    assert indices_of(make().similar(IDS[10], k=3)) == [9, 8, 12]
    with pytest.raises(DataError, match="'nothing' is not in this model"):
        make().similar("nothing")


def test_wrong_shapes_and_tables_are_refused():
    with pytest.raises(ValueError, match=r"need \(1, 40\)"):
        make().rank_scores(np.zeros((1, 3), dtype=np.float32), Sessions.from_lists([[0]]))
    with pytest.raises(ValueError, match="order the table"):
        Recommender(Distance(N), items=Vocabulary(IDS[::-1]), table=TABLE)
    with pytest.raises(DataError, match="brand, shelf"):
        make().recommend(Sessions.from_lists([[0]]), rules=Rules(max_per={"colour": 1}))


def test_other_facts_of_the_items_count_at_once_and_leave_the_first_table_alone():
    first = make()
    session = Sessions.from_lists([[10]])
    rules = Rules(price_max=10.0)
    before = first.recommend(session, k=3, rules=rules)
    row = ItemTable(
        item_ids=objects([IDS[10]]),
        names=objects(["Ten"]),
        price=np.array([99.0]),
        available=np.ones(1, dtype=bool),
        attributes={"brand": objects(["b2"]), "shelf": objects(["s1"]), "new": objects(["yes"])},
    )
    second = first.with_table(TABLE.with_row(10, row))
    assert indices_of(before[0]) == [10, 9, 8]
    assert indices_of(second.recommend(session, k=3, rules=rules)[0]) == [9, 8, 7]
    marked = Rules(allow={"new": ("yes",)})
    assert indices_of(second.recommend(session, rules=marked)[0]) == [10]
    with pytest.raises(DataError, match="no attribute 'new'"):
        first.recommend(session, rules=marked)
    assert first.recommend(session, k=3, rules=rules) == before
    assert TABLE.price[10] == 10.0


def test_what_is_hidden_is_on_no_list_whatever_the_rules_say():
    gone = ItemTable(
        item_ids=objects([IDS[10]]),
        names=objects([None]),
        price=np.array([np.nan]),
        available=np.zeros(1, dtype=bool),
        attributes={},
        hidden=np.ones(1, dtype=bool),
    )
    recommender = make().with_table(TABLE.with_row(10, gone))
    everything = Rules(in_stock=False)
    (answer,) = recommender.recommend(Sessions.from_lists([[10]]), k=N, rules=everything)
    assert set(indices_of(answer)) == set(range(N)) - {10}
    assert 10 not in indices_of(recommender.similar(IDS[11], k=N, rules=everything))


def test_items_of_which_nothing_is_known_can_be_recommended():
    recommender = make().with_table(ItemTable.unknown(IDS))
    (answer,) = recommender.recommend(Sessions.from_lists([[10]]), k=3)
    assert indices_of(answer) == [10, 9, 11]
