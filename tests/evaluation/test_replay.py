"""Replay: what is asked, in which order, and that online lists are the offline ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.vocabulary import Vocabulary
from momentary.errors import LeakError
from momentary.evaluation.replay import (
    Queries,
    ReplayConfig,
    completion_queries,
    next_basket_queries,
    next_item_queries,
    replay,
)
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig, Network
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.types import ItemTable, Sessions


def rows_of(sessions):
    return [sessions.session(row).tolist() for row in range(len(sessions))]


def targets_of(queries):
    return [queries.targets(row).tolist() for row in range(len(queries))]


class Successor:
    """Expects item i to be followed by i + 1, then i + 2 and so on; notes when it was asked."""

    def __init__(self, n_items):
        self.n_items = n_items
        self.asked_us = []

    def score(self, sessions):
        self.asked_us.append(sessions.last_times_us)
        last = sessions.items[sessions.offsets[1:] - 1]
        steps = (np.arange(self.n_items)[None, :] - last[:, None] - 1) % self.n_items
        return -steps.astype(np.float32)


def test_every_prefix_asks_for_the_next_item():
    test = Sessions.from_lists([[4, 5, 6], [7], [], [8, 9]], users=[3, 1, 1, -1])
    queries = next_item_queries(test)
    assert rows_of(queries.history) == [[4], [4, 5], [8]]
    assert targets_of(queries) == [[5], [6], [9]]
    assert queries.groups.tolist() == [3, 3, 7]
    assert queries.history.times_us.tolist() == [0, 0, 1_000_000, 4_000_000]
    assert queries.history.users.tolist() == [3, 3, -1]


def test_sessions_of_unknown_visitors_are_groups_of_their_own():
    queries = next_item_queries(Sessions.from_lists([[0, 1], [0, 1, 2]]))
    assert len(set(queries.groups.tolist())) == 2
    assert queries.groups[1] == queries.groups[2]


def test_max_history_keeps_the_latest_events():
    queries = next_item_queries(Sessions.from_lists([[1, 2, 3, 4]]), max_history=2)
    assert rows_of(queries.history) == [[1], [1, 2], [2, 3]]
    assert targets_of(queries) == [[2], [3], [4]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=8),
    st.floats(0.05, 0.95),
    st.integers(0, 1000),
)
def test_completion_hides_part_of_each_basket_and_shows_the_rest(baskets, share, seed):
    test = Sessions.from_lists(baskets, users=np.arange(len(baskets)))
    large = [row for row, basket in enumerate(baskets) if len({*basket}) >= 3]
    if not large:
        with pytest.raises(ValueError, match="no queries"):
            completion_queries(test, share=share, rng=np.random.default_rng(seed), min_items=3)
        return
    queries = completion_queries(test, share=share, rng=np.random.default_rng(seed), min_items=3)
    assert queries.history.users.tolist() == large
    for row, basket in enumerate(large):
        shown, hidden = queries.history.session(row).tolist(), queries.targets(row).tolist()
        assert sorted(shown + hidden) == sorted({*baskets[basket]})
        assert len(hidden) == min(max(int(len(shown + hidden) * share), 1), len(shown + hidden) - 1)


def test_completion_draws_what_is_hidden_and_the_order_of_the_rest():
    test = Sessions.from_lists([list(range(8))] * 200)
    first, again, other = (
        completion_queries(test, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.target_items.tolist() == again.target_items.tolist()
    assert first.target_items.tolist() != other.target_items.tolist()
    hidden = np.bincount(first.target_items, minlength=8) / 200
    leading = np.bincount(first.history.items[first.history.offsets[:-1]], minlength=8) / 200
    assert np.abs(hidden - 0.5).max() < 0.15
    assert np.abs(leading - 1 / 8).max() < 0.1


def test_next_basket_joins_the_past_and_asks_for_the_first_basket_after():
    train = Sessions.from_lists([[1, 2], [5], [], [3, 3], [9]], users=[4, 7, 4, 4, -1])
    later = [[20_000_000] * 3, [30_000_000], [20_000_000] * 2, [20_000_000]]
    test = Sessions.from_lists([[6, 5, 6], [8], [0, 1], [2]], times_us=later, users=[4, 4, 8, -1])
    queries = next_basket_queries(train, test)
    assert rows_of(queries.history) == [[1, 2, 3, 3]]
    assert targets_of(queries) == [[5, 6]]
    assert queries.groups.tolist() == queries.history.users.tolist() == [4]
    short = next_basket_queries(train, test, max_history=3)
    assert rows_of(short.history) == [[2, 3, 3]]


def test_next_basket_refuses_leaks_and_disorder():
    train = Sessions.from_lists([[1], [2]], times_us=[[5], [10]], users=[0, 0])
    test = Sessions.from_lists([[3]], times_us=[[7]], users=[0])
    with pytest.raises(LeakError, match="user 0 has a test basket at 7 us"):
        next_basket_queries(train, test)
    with pytest.raises(ValueError, match="train part goes back in time for user 0"):
        next_basket_queries(train.take(np.array([1, 0])), test)
    stranger = Sessions.from_lists([[3]], times_us=[[70]], users=[1])
    with pytest.raises(ValueError, match="no user is in both parts"):
        next_basket_queries(train, stranger)


def test_replay_ranks_what_a_known_world_does():
    queries = next_item_queries(Sessions.from_lists([[0, 1, 2, 3], [5, 7, 8], [9, 0]]))
    outcome = replay(Successor(10), queries, config=ReplayConfig(keep_lists=3))
    assert outcome.ranks.tolist() == [1, 1, 1, 2, 1, 1]
    assert outcome.lists.tolist()[0] == [1, 2, 3]
    assert outcome.lists.dtype == np.int32
    assert (outcome.n_items, len(outcome), outcome.cutoffs) == (10, 6, (5, 10, 20))


def test_the_batch_size_and_the_order_of_queries_change_nothing():
    rng = np.random.default_rng(5)
    sessions = [rng.integers(30, size=size) for size in rng.integers(2, 7, size=40)]
    test = Sessions.from_lists(sessions)
    one = replay(Successor(30), next_item_queries(test), config=ReplayConfig(batch_size=7))
    whole = replay(Successor(30), next_item_queries(test))
    assert one.ranks.tolist() == whole.ranks.tolist()
    assert one.lists.tolist() == whole.lists.tolist()
    turned = next_item_queries(test.take(np.arange(len(test))[::-1]))
    scorer = Successor(30)
    back = replay(scorer, turned, config=ReplayConfig(batch_size=7))
    assert sorted(back.ranks.tolist()) == sorted(one.ranks.tolist())
    asked = np.concatenate(scorer.asked_us)
    assert (np.diff(asked) >= 0).all()


def test_multi_target_ranks_land_at_their_own_query():
    history = Sessions.from_lists([[4], [2]], times_us=[[9], [3]])
    queries = Queries(
        history=history,
        target_items=np.array([6, 5, 3]),
        target_offsets=np.array([0, 2, 3]),
        groups=np.array([0, 1]),
    )
    outcome = replay(Successor(10), queries, config=ReplayConfig(batch_size=1, keep_lists=0))
    assert outcome.ranks.tolist() == [2, 1, 1]
    assert outcome.lists.shape == (2, 0)


def test_exclusions_move_ranks_and_lists():
    queries = next_item_queries(Sessions.from_lists([[1, 0, 2], [3, 3]]))
    config = ReplayConfig(exclude_history=True, keep_lists=2)
    outcome = replay(Successor(5), queries, config=config)
    assert outcome.ranks.tolist() == [4, 1, 6]
    assert outcome.lists.tolist() == [[2, 3], [2, 3], [4, 0]]
    allowed = np.array([True, True, False, True, True])
    outcome = replay(Successor(5), queries, allowed=allowed, config=ReplayConfig(keep_lists=2))
    assert outcome.ranks.tolist() == [3, 6, 4]
    assert outcome.lists.tolist() == [[3, 4], [1, 3], [4, 0]]


def test_online_lists_are_the_offline_lists():
    ids = [f"item {number}" for number in range(30)]
    names = np.array([None] * 30, dtype=object)
    table = ItemTable(
        item_ids=np.array(ids, dtype=object),
        names=names,
        price=np.full(30, np.nan),
        available=np.arange(30) % 7 != 0,
        attributes={},
    )
    rng = np.random.default_rng(6)
    queries = next_item_queries(Sessions.from_lists(list(rng.integers(30, size=(12, 5)))))
    config = ReplayConfig(exclude_history=True, keep_lists=10)
    outcome = replay(Successor(30), queries, config=config, allowed=table.available)
    recommender = Recommender(Successor(30), items=Vocabulary(ids), table=table)
    online = recommender.recommend(queries.history, k=10, rules=Rules(exclude_seen=True))
    offline = [[ids[item] for item in row if item >= 0] for row in outcome.lists.tolist()]
    assert [[each.item_id for each in answer] for answer in online] == offline
    for row, answer in enumerate(online):
        places = {each.item_id: each.rank for each in answer}
        target = ids[int(queries.targets(row)[0])]
        rank = int(outcome.ranks[row])
        assert places.get(target, 0) == (rank if rank <= 10 else 0)


def test_score_time_and_progress_are_reported():
    ticks = iter(np.arange(0, 100, 0.25).tolist())
    told = []
    queries = next_item_queries(Sessions.from_lists([[0, 1, 2, 3]]))
    outcome = replay(
        Successor(5),
        queries,
        config=ReplayConfig(batch_size=2),
        progress=lambda done, total, note="": told.append((done, total, note)),
        cpu_seconds=lambda: next(ticks),
    )
    assert outcome.score_seconds == 0.5
    assert told == [(2, 3, "queries"), (3, 3, "queries")]


def test_bad_questions_are_refused():
    with pytest.raises(ValueError, match="no queries"):
        next_item_queries(Sessions.from_lists([[1], []]))
    with pytest.raises(ValueError, match="max_history is 0"):
        next_item_queries(Sessions.from_lists([[1, 2]]), max_history=0)
    with pytest.raises(ValueError, match="share is 1"):
        completion_queries(Sessions.from_lists([[1, 2]]), share=1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="query 0 has no target"):
        Queries(
            history=Sessions.from_lists([[1]]),
            target_items=np.array([], dtype=np.int64),
            target_offsets=np.array([0, 0]),
            groups=np.array([0]),
        )
    with pytest.raises(ValueError, match="run from 1 to 5 but the model has 4"):
        replay(Successor(4), next_item_queries(Sessions.from_lists([[0, 5, 1]])))
    with pytest.raises(ValueError, match="cutoffs"):
        ReplayConfig(cutoffs=(10, 5))


class Dense:
    """A model of which only the whole rows of scores are known."""

    def __init__(self, model):
        self.score = model.score


def network(n_items, *, unseen=(), units=(12,)):
    """A GRU4Rec of random weights, rounded so coarsely that scores tie and sums are exact."""
    config = GRU4RecConfig(units=units)
    rng = np.random.default_rng(0)
    made = Network.random(config, n_items=n_items, rng=rng)
    tables = {name: np.round(table * 8) / 4 for name, table in made.tables.items()}
    tables["biases"] = rng.integers(-2, 3, size=(n_items, 1)).astype(np.float32)
    tables["items"][5] = tables["items"][6]
    tables["biases"][5] = tables["biases"][6]
    state = {**tables, **made.dense(), "unseen": np.array(unseen, dtype=np.int64)}
    return GRU4Rec.from_state(config, state)


@pytest.mark.parametrize("unseen", [(), (0, 17, 39)])
@pytest.mark.parametrize("keep_lists", [0, 10])
def test_a_factored_model_is_ranked_as_its_scores_are(unseen, keep_lists):
    model = network(40, unseen=unseen, units=(6, 12))
    rng = np.random.default_rng(1)
    test = Sessions.from_lists([rng.integers(40, size=size) for size in rng.integers(2, 9, 300)])
    queries = next_item_queries(test, max_history=5)
    told = []
    config = ReplayConfig(keep_lists=keep_lists, batch_size=100)
    fast = replay(model, queries, config=config, progress=lambda *args: told.append(args))
    slow = replay(Dense(model), queries, config=config)
    same = fast.ranks == slow.ranks
    assert same.mean() > 0.999  # the memory itself is rounded by the size of its batch
    assert np.abs(fast.ranks - slow.ranks).max() <= 1
    if keep_lists:
        assert (fast.lists == slow.lists).mean() > 0.999
    assert fast.lists.shape == slow.lists.shape
    assert fast.n_items == 40
    assert told[-1][:2] == (len(queries), len(queries))
    if unseen:
        lost = np.isin(queries.target_items, unseen)
        assert lost.any()
        assert (fast.ranks[lost] == 40).all()


class Exact:
    """Factored scores in whole numbers: every tie is one, and nothing is rounded."""

    def __init__(self, n_items, *, unseen=()):
        rng = np.random.default_rng(3)
        self.vectors = rng.integers(-2, 3, size=(n_items, 3)).astype(np.float32)
        self.biases = rng.integers(-1, 2, size=n_items).astype(np.float32)
        self.unseen = np.array(unseen, dtype=np.int64)

    def start(self, count):
        return np.zeros((count, 3), dtype=np.float32)

    def advance(self, states, items):
        return np.roll(states, 1, axis=1) * -1 + self.vectors[items]

    def queries(self, states):
        return states

    def item_vectors(self):
        biases = self.biases.copy()
        biases[self.unseen] = -np.inf
        return self.vectors, biases

    def score_states(self, states):
        scores = states @ self.vectors.T + self.biases
        if len(self.unseen):
            scores[:, self.unseen] = np.inf
            scores[:, self.unseen] = scores.min(axis=1, keepdims=True)
        return scores

    def score(self, sessions):
        states = np.concatenate([self.start(1)] * len(sessions))
        for row in range(len(sessions)):
            for item in sessions.session(row):
                states[row] = self.advance(states[row : row + 1], np.array([item]))[0]
        return self.score_states(states)


@pytest.mark.parametrize("unseen", [(), (3, 11)])
@pytest.mark.parametrize("keep_lists", [0, 6])
def test_ties_and_items_never_trained_rank_the_same_without_scores(unseen, keep_lists):
    model = Exact(25, unseen=unseen)
    rng = np.random.default_rng(4)
    test = Sessions.from_lists([rng.integers(25, size=size) for size in rng.integers(2, 6, 200)])
    queries = next_item_queries(test)
    config = ReplayConfig(keep_lists=keep_lists, batch_size=64)
    fast, slow = (replay(each, queries, config=config) for each in (model, Dense(model)))
    np.testing.assert_array_equal(fast.ranks, slow.ranks)
    np.testing.assert_array_equal(fast.lists, slow.lists)


def test_a_factored_model_refuses_targets_it_does_not_know():
    with pytest.raises(ValueError, match="run from 1 to 9 but the model has 4"):
        replay(Exact(4), next_item_queries(Sessions.from_lists([[0, 9, 1]])))


def test_a_factored_model_is_asked_whole_where_rules_limit_it():
    model = Exact(25)
    queries = next_item_queries(Sessions.from_lists([[1, 2, 3, 1], [4, 2, 9]]))
    config = ReplayConfig(exclude_history=True, keep_lists=4)
    allowed = np.arange(25) % 2 == 0
    for rules in ({"config": config}, {"allowed": allowed}):
        fast, slow = (replay(each, queries, **rules) for each in (model, Dense(model)))
        np.testing.assert_array_equal(fast.ranks, slow.ranks)
        np.testing.assert_array_equal(fast.lists, slow.lists)
