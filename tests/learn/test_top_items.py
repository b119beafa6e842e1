"""The best items from bytes are the best items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.learn.top_items import TopItems


def expected(vectors, biases, query, k):
    scores = (vectors.astype(np.float64) @ query.astype(np.float64)) + biases
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])][:k]
    return order, scores[order]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 400),
    st.integers(1, 70),
    st.integers(1, 30),
    st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_the_best_are_found_whatever_the_vectors_are(seed, n_items, width, k, size):
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_t(2, size=(n_items, width)) * size).astype(np.float32)
    biases = (rng.normal(size=n_items) * size).astype(np.float32)
    biases[rng.random(n_items) < 0.05] = -np.inf
    query = rng.standard_t(2, size=width).astype(np.float32)
    items, scores = TopItems(vectors, biases).best(query, k)
    order, true = expected(vectors, biases, query, k)
    assert len(items) == len(order)
    reach = np.abs(vectors).astype(np.float64) @ np.abs(query) + np.abs(biases)
    slack = 1e-5 * reach[np.isfinite(reach)].max(initial=1e-30)
    # float32 may swap what is equal to its rounding, so the scores are compared place by place.
    np.testing.assert_allclose(scores, true, rtol=0, atol=slack)
    np.testing.assert_allclose(
        (vectors[items].astype(np.float64) @ query) + biases[items], true, rtol=0, atol=slack
    )
    assert len(set(items.tolist())) == len(items)


def test_scores_that_lie_closer_than_a_byte_can_tell_are_told_apart():
    rng = np.random.default_rng(0)
    base = rng.normal(size=96).astype(np.float32)
    vectors = np.tile(base, (5000, 1))
    vectors[:, 3] += rng.permutation(5000).astype(np.float32) * 1e-4
    query = np.ones(96, dtype=np.float32)
    items, _ = TopItems(vectors, np.zeros(5000, dtype=np.float32)).best(query, 20)
    np.testing.assert_array_equal(items, np.argsort(-vectors[:, 3])[:20])


def test_ties_go_to_the_lower_index():
    vectors = np.ones((300, 4), dtype=np.float32)
    top = TopItems(vectors, np.zeros(300, dtype=np.float32))
    assert top.best(np.ones(4, dtype=np.float32), 5)[0].tolist() == [0, 1, 2, 3, 4]
    assert top.best(np.zeros(4, dtype=np.float32), 3)[0].tolist() == [0, 1, 2]


def test_what_cannot_be_ranked_is_refused():
    top = TopItems(np.ones((3, 2), dtype=np.float32), np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="k is 0"):
        top.best(np.ones(2, dtype=np.float32), 0)
    with pytest.raises(ValueError, match="NaN"):
        top.best(np.array([np.nan, 1], dtype=np.float32), 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 40))
def test_all_scores_are_near_and_the_best_are_exact(seed, n_items, exact):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_items, 24)).astype(np.float32)
    query = rng.normal(size=24).astype(np.float32)
    biases = rng.normal(size=n_items).astype(np.float32)
    biases[rng.random(n_items) < 0.1] = -np.inf
    scores = TopItems(vectors, np.zeros(n_items, dtype=np.float32)).scores(
        query, exact=exact, biases=biases
    )
    order, true = expected(vectors, biases, query, exact)
    np.testing.assert_allclose(scores[order], true, rtol=0, atol=1e-5)
    whole = vectors @ query + biases
    np.testing.assert_array_equal(np.isinf(scores), np.isinf(whole))
    seen = np.isfinite(whole)
    error = np.abs(vectors).max() / 127 * np.abs(query).sum()
    np.testing.assert_allclose(scores[seen], whole[seen], rtol=0, atol=error)
    assert set(np.argsort(-scores, kind="stable")[: len(order)]) == set(order)


def test_named_items_are_exact_too():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    query = rng.normal(size=16).astype(np.float32)
    also = np.array([3, 77, 150])
    scores = TopItems(vectors, np.zeros(200, dtype=np.float32)).scores(query, exact=1, also=also)
    np.testing.assert_allclose(scores[also], vectors[also] @ query, rtol=1e-5, atol=1e-5)
