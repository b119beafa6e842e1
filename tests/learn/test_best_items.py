"""The best items of a batch are those of a full sort, whatever the vectors and the limits are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.learn.best_items import BestItems
from momentary.learn.block_bounds import has_pairs

WAYS = [False, True] if has_pairs() else [False]
"""Leading parts as numbers, and as integers where the processor can."""


def _rows(lists):
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
    return np.concatenate([np.zeros(0), *lists]).astype(np.int64), offsets


def _expected(vectors, biases, query, k, allowed):
    scores = vectors.astype(np.float64) @ query.astype(np.float64) + biases
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order]) & allowed[order]][:k]
    return scores[order]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 700),
    st.integers(1, 70),
    st.integers(1, 30),
    st.integers(0, 9),
    st.sampled_from([1e-6, 1.0, 1e4]),
    st.sampled_from([None, 1, 16, 1000]),
    st.sampled_from(WAYS),
)
def test_the_best_that_are_allowed_are_found(seed, n_items, width, k, count, size, leading, packed):
    rng = np.random.default_rng(seed)
    decay = 0.8 ** np.arange(width)
    vectors = (rng.standard_t(2, size=(n_items, width)) * size * decay).astype(np.float32)
    biases = (rng.normal(size=n_items) * size).astype(np.float32)
    biases[rng.random(n_items) < 0.05] = -np.inf
    queries = (rng.standard_t(2, size=(count, width)) * decay).astype(np.float32)
    allowed = rng.random(n_items) < rng.choice([0.1, 0.7, 1.0])
    held = [rng.integers(n_items, size=rng.integers(0, 6)) for _ in range(count)]
    samples = rng.normal(size=(5, width)).astype(np.float32)

    best = BestItems(vectors, biases, samples=samples, leading=leading, packed=packed)
    items, scores = best.best(queries, k, allowed=allowed, excluded=_rows(held))

    for row in range(count):
        free = allowed.copy()
        free[held[row]] = False
        true = _expected(vectors, biases, queries[row], k, free)
        found = items[row][items[row] >= 0]
        assert len(found) == len(true) == len(set(found.tolist()))
        assert free[found].all()
        reach = np.abs(vectors).astype(np.float64) @ np.abs(queries[row]) + np.abs(biases)
        slack = 1e-5 * reach[np.isfinite(reach)].max(initial=1e-30)
        # float32 may swap what is equal to its rounding, so scores are compared place by place.
        np.testing.assert_allclose(scores[row][: len(true)], true, rtol=0, atol=slack)
        exact = vectors[found].astype(np.float64) @ queries[row] + biases[found]
        np.testing.assert_allclose(exact, true, rtol=0, atol=slack)
        assert (items[row][len(true) :] == -1).all()
        assert (scores[row][len(true) :] == -np.inf).all()


def test_a_query_alone_is_given_what_it_is_given_among_others_to_the_last_bit():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3_000, 48)).astype(np.float32)
    queries = rng.normal(size=(11, 48)).astype(np.float32)
    best = BestItems(vectors, np.zeros(3_000, dtype=np.float32), samples=queries, leading=16)
    allowed = np.ones(3_000, dtype=np.bool_)
    items, scores = best.best(queries, 20, allowed=allowed)
    for row in range(11):
        alone = best.best(queries[row : row + 1], 20, allowed=allowed)
        np.testing.assert_array_equal(alone[0][0], items[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])
        shorter = best.best(queries[row : row + 1], 7, allowed=allowed)
        np.testing.assert_array_equal(shorter[0][0], items[row][:7])


def test_ties_go_to_the_lower_index():
    vectors = np.ones((300, 4), dtype=np.float32)
    ones = np.ones((2, 4), dtype=np.float32)
    best = BestItems(vectors, np.zeros(300, dtype=np.float32), samples=ones)
    allowed = np.ones(300, dtype=np.bool_)
    allowed[1] = False
    for query in (ones[:1], 0 * ones[:1]):
        assert best.best(query, 5, allowed=allowed)[0].tolist() == [[0, 2, 3, 4, 5]]


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_few_leading_columns_do_where_queries_have_a_shape(share):
    rng = np.random.default_rng(1)
    shape = 0.9 ** np.arange(96)
    vectors = (rng.normal(size=(5_000, 96)) * shape).astype(np.float32)
    queries = (rng.normal(size=(40, 96)) * shape).astype(np.float32)
    best = BestItems(vectors, np.zeros(5_000, dtype=np.float32), samples=queries)
    assert best.leading < 96
    even = rng.normal(size=(5_000, 96)).astype(np.float32)
    asked = rng.normal(size=(500, 96)).astype(np.float32)
    assert BestItems(even, np.zeros(5_000, dtype=np.float32), samples=asked).leading == 96
    allowed = rng.random(5_000) < share
    items, _ = best.best(queries, 10, allowed=allowed)
    true = np.where(allowed, queries @ vectors.T, -np.inf).argsort(axis=1)[:, ::-1][:, :10]
    assert (items == true).mean() > 0.99


def test_what_cannot_be_ranked_is_refused():
    ones = np.ones((3, 2), dtype=np.float32)
    zeros = np.zeros(3, dtype=np.float32)
    best = BestItems(ones, zeros, samples=ones)
    allowed = np.ones(3, dtype=np.bool_)
    with pytest.raises(ValueError, match="k is 0"):
        best.best(ones, 0, allowed=allowed)
    with pytest.raises(ValueError, match="NaN"):
        best.best(np.array([[np.nan, 1]], dtype=np.float32), 1, allowed=allowed)
    for wrong in (ones * np.float32("nan"), ones * np.float32("inf")):
        with pytest.raises(ValueError, match="exploded"):
            BestItems(wrong, zeros, samples=ones)
    with pytest.raises(ValueError, match="exploded"):
        BestItems(ones, zeros * np.float32("nan"), samples=ones)
