"""Metrics against numbers worked out by hand from their formulas."""

from math import log2

import numpy as np
import pytest

from momentary.evaluation import metrics

# Three queries: one target at rank 2; targets at ranks 1, 4 and 9; one target never found.
RANKS = np.array([2, 9, 1, 4, 101])
OFFSETS = np.array([0, 1, 4, 5])


def golden(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_recall_and_its_truncated_form():
    golden(metrics.recall(RANKS, OFFSETS, k=5), [1, 2 / 3, 0])
    golden(metrics.recall(RANKS, OFFSETS, k=1), [0, 1 / 3, 0])
    golden(metrics.truncated_recall(RANKS, OFFSETS, k=1), [0, 1, 0])
    golden(metrics.truncated_recall(RANKS, OFFSETS, k=2), [1, 1 / 2, 0])
    golden(metrics.truncated_recall(RANKS, OFFSETS, k=10), [1, 1, 0])


def test_hit_rate_and_precision():
    golden(metrics.hit_rate(RANKS, OFFSETS, k=1), [0, 1, 0])
    golden(metrics.hit_rate(RANKS, OFFSETS, k=2), [1, 1, 0])
    golden(metrics.precision(RANKS, OFFSETS, k=5), [1 / 5, 2 / 5, 0])


def test_mrr_takes_the_best_target_and_ends_at_k():
    golden(metrics.mrr(RANKS, OFFSETS, k=5), [1 / 2, 1, 0])
    golden(metrics.mrr(RANKS, OFFSETS, k=1), [0, 1, 0])


def test_ndcg():
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    gained = 1 + 1 / log2(5)
    golden(metrics.ndcg(RANKS, OFFSETS, k=5), [1 / log2(3), gained / ideal, 0])
    golden(metrics.ndcg(RANKS, OFFSETS, k=2), [1 / log2(3), 1 / (1 + 1 / log2(3)), 0])


def test_average_precision_orders_a_querys_ranks_itself():
    golden(metrics.average_precision(RANKS, OFFSETS, k=5), [1 / 2, (1 + 2 / 4) / 3, 0])
    golden(metrics.average_precision(RANKS, OFFSETS, k=10), [1 / 2, (1 + 2 / 4 + 3 / 9) / 3, 0])
    golden(metrics.average_precision(RANKS, OFFSETS, k=2), [1 / 2, 1 / 2, 0])


def test_a_perfect_list_scores_one_everywhere():
    ranks, offsets = np.array([1, 3, 2, 1]), np.array([0, 3, 4])
    for metric in (
        metrics.recall,
        metrics.truncated_recall,
        metrics.hit_rate,
        metrics.mrr,
        metrics.ndcg,
        metrics.average_precision,
    ):
        golden(metric(ranks, offsets, k=5), [1, 1])


def test_serendipity_counts_hits_that_are_not_popular():
    targets = np.array([0, 1, 2, 3, 4])
    found = metrics.serendipity(RANKS, OFFSETS, targets, popular=np.array([0, 3]), k=5)
    golden(found, [0, 1 / 5, 0])


# Five items with 6, 2, 2, 0 and 0 events.
POPULARITY = np.array([6, 2, 2, 0, 0])
LISTS = np.array([[0, 1, 3], [0, 2, -1], [-1, -1, -1]], dtype=np.int32)


def test_novelty_in_bits_with_one_added_to_every_count():
    bits = [-log2(7 / 15), -log2(3 / 15), -log2(3 / 15), -log2(1 / 15)]
    golden(
        metrics.novelty(LISTS, POPULARITY, k=3),
        [(bits[0] + bits[1] + bits[3]) / 3, (bits[0] + bits[2]) / 2, 0],
    )
    golden(metrics.novelty(LISTS, POPULARITY, k=1), [bits[0], bits[0], 0])


def test_popularity_bias_is_a_mean_percentile_with_half_the_ties():
    # Percentiles: item 0 (4 + .5)/5, items 1 and 2 (2 + 1)/5, items 3 and 4 (0 + 1)/5.
    golden(
        metrics.popularity_bias(LISTS, POPULARITY, k=3), [(0.9 + 0.6 + 0.2) / 3, (0.9 + 0.6) / 2, 0]
    )
    everything = np.arange(5)[None, :]
    golden(metrics.popularity_bias(everything, POPULARITY, k=5), [0.5])


def test_attribute_diversity_leaves_out_pairs_with_an_unknown_value():
    codes = np.array([0, 0, 1, -1, 2])
    lists = np.array([[0, 1, 2, 4], [0, 1, 3, -1], [0, 3, -1, -1]])
    golden(metrics.attribute_diversity(lists, codes, k=4), [5 / 6, 0, 0])
    golden(metrics.attribute_diversity(lists, codes, k=2), [0, 0, 0])


def test_vector_diversity_is_one_less_the_mean_cosine():
    vectors = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0], [0.0, 0.0]])
    lists = np.array([[0, 1, 2], [0, 2, -1], [0, -1, -1], [0, 3, -1]])
    half = np.sqrt(0.5)
    golden(
        metrics.vector_diversity(lists, vectors, k=3), [1 - (0 + half + half) / 3, 1 - half, 0, 1]
    )


def test_coverage_gini_and_exposure():
    assert metrics.exposure(LISTS, n_items=5, k=3).tolist() == [2, 1, 1, 1, 0]
    assert metrics.coverage(LISTS, n_items=5, k=3) == 4 / 5
    assert metrics.coverage(LISTS, n_items=5, k=1) == 1 / 5
    # Ascending 0 1 1 1 2 with weights -4 -2 0 2 4: (-2 + 0 + 2 + 8) / (5 * 5).
    assert metrics.gini(LISTS, n_items=5, k=3) == pytest.approx(8 / 25)
    assert metrics.gini(np.arange(5)[:, None], n_items=5, k=1) == 0
    assert metrics.gini(LISTS, n_items=5, k=1) == pytest.approx(4 / 5)
    assert metrics.gini(np.full((2, 3), -1), n_items=5, k=3) == 0


def test_most_popular_breaks_ties_by_index():
    assert metrics.most_popular(POPULARITY, k=4).tolist() == [0, 1, 2, 3]


def test_questions_without_an_answer_are_refused():
    with pytest.raises(ValueError, match="query 1 has no target"):
        metrics.recall(np.array([1]), np.array([0, 1, 1]), k=5)
    with pytest.raises(ValueError, match="k is 0"):
        metrics.mrr(RANKS, OFFSETS, k=0)
    with pytest.raises(ValueError, match="k is 4 but the lists have 3 places"):
        metrics.coverage(LISTS, n_items=5, k=4)
