"""How good is a list? One function a metric; nearly all give one value a query.

A query's value depends on that query alone, so the mean over queries is the metric and a
bootstrap may resample them. `ranks` are conservative ranks from 1 (`recommend.pipeline.ranks`) and
`offsets` say which belong to one query. `lists` are item indices, best first, padded with -1.
Sums below run over the first k places; [condition] is 1 if it holds and 0 if not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentary.types import IntArray

Values = NDArray[np.float64]


def recall(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """Recall@k = hits / targets. Shape (queries,).

    With a single target it equals the hit rate. A query with more than k targets cannot reach 1;
    `truncated_recall` forgives that.
    """
    return _sums(ranks <= k, offsets) / _targets(offsets, k)


def truncated_recall(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """Truncated Recall@k = hits / min(k, targets). Shape (queries,).

    Liang et al., WWW 2018 (arXiv 1802.05814), section 4.2.
    """
    return _sums(ranks <= k, offsets) / np.minimum(k, _targets(offsets, k))


def hit_rate(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """HitRate@k = [any target is among the first k]. Shape (queries,).

    Deshpande & Karypis, TOIS 2004.
    """
    return (_best(ranks, offsets, k) <= k).astype(np.float64)


def precision(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """Precision@k = hits / k. Shape (queries,)."""
    _targets(offsets, k)
    return _sums(ranks <= k, offsets) / k


def mrr(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """MRR@k = 1 / rank of the best target, 0 beyond k. Shape (queries,).

    Voorhees, TREC-8 1999; cut at k as in Hidasi et al., ICLR 2016.
    """
    best = _best(ranks, offsets, k)
    return np.where(best <= k, 1.0 / best, 0.0)


def ndcg(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """NDCG@k = sum over hits 1 / log2(1 + rank) / the most it could be. Shape (queries,).

    The most is the sum of 1 / log2(1 + i) for i = 1 .. min(k, targets): binary relevance in
    Järvelin & Kekäläinen, TOIS 2002.
    """
    targets = _targets(offsets, k)
    gains = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    ideal: Values = np.cumsum(1.0 / np.log2(1.0 + np.arange(1, k + 1)))
    most: Values = ideal[np.minimum(k, targets) - 1]
    return _sums(gains, offsets) / most


def average_precision(ranks: IntArray, offsets: IntArray, *, k: int) -> Values:
    """MAP@k = sum over hits (hits up to here / rank) / min(k, targets). Shape (queries,).

    Manning, Raghavan & Schütze 2008, section 8.4, cut at k.
    """
    targets = _targets(offsets, k)
    query = _queries(offsets)
    ordered = ranks[np.lexsort((ranks, query))]
    place = np.arange(len(ranks)) - offsets[query] + 1
    terms = np.where(ordered <= k, place / ordered, 0.0)
    return _sums(terms, offsets) / np.minimum(k, targets)


def serendipity(
    ranks: IntArray, offsets: IntArray, targets: IntArray, *, popular: IntArray, k: int
) -> Values:
    """Serendipity@k = hits that the popularity list would not have shown / k. Shape (queries,).

    |useful and not in the primitive model's list| / |list|: Ge, Delgado-Battenfeld & Jannach,
    RecSys 2010, with the `popular` items, the k most popular, as the primitive model.
    """
    _targets(offsets, k)
    return _sums((ranks <= k) & ~np.isin(targets, popular), offsets) / k


def novelty(lists: NDArray[np.integer[Any]], popularity: NDArray[Any], *, k: int) -> Values:
    """Novelty@k = mean of -log2 p(item), in bits; 0 for an empty list. Shape (queries,).

    p = (count + 1) / (all counts + items), so that an item without events is finite. Mean
    self-information: Zhou et al., PNAS 2010; Vargas & Castells, RecSys 2011.
    """
    share = (popularity + 1.0) / (popularity.sum() + len(popularity))
    return _list_means(lists, -np.log2(share), k)


def popularity_bias(lists: NDArray[np.integer[Any]], popularity: NDArray[Any], *, k: int) -> Values:
    """Mean popularity percentile of the listed items, 0 .. 1; 0 for an empty list.

    A percentile is (items with fewer events + half of those with as many) / items: a uniform
    choice from the catalogue gives .5. The average recommendation popularity of Yin et al., VLDB
    2012 and Abdollahpouri et al., RMSE 2019, on a scale that does not depend on the data.

    Returns:
        Shape (queries,).
    """
    ascending = np.sort(popularity)
    fewer = np.searchsorted(ascending, popularity, side="left")
    up_to = np.searchsorted(ascending, popularity, side="right")
    return _list_means(lists, (fewer + up_to) / (2.0 * len(popularity)), k)


def attribute_diversity(
    lists: NDArray[np.integer[Any]], codes: NDArray[np.integer[Any]], *, k: int
) -> Values:
    """Intra-list diversity@k = share of the list's pairs whose attribute differs.

    1 - similarity of Smyth & McClave, ICCBR 2001 and Ziegler et al., WWW 2005, the similarity
    being [same brand], [same category] or whatever `codes` number. Pairs in which a value is
    unknown (code -1) do not count; a list without a pair has diversity 0.

    Returns:
        Shape (queries,).
    """
    _check_k(lists, k)
    shown = lists[:, :k]
    values = np.where(shown >= 0, codes[shown], -1)
    differing = np.zeros(len(shown), dtype=np.float64)
    pairs = np.zeros(len(shown), dtype=np.float64)
    for apart in range(1, k):
        first, second = values[:, :-apart], values[:, apart:]
        known = (first >= 0) & (second >= 0)
        pairs += known.sum(axis=1)
        differing += (known & (first != second)).sum(axis=1)
    return differing / np.maximum(pairs, 1.0)


def vector_diversity(
    lists: NDArray[np.integer[Any]], vectors: NDArray[np.floating[Any]], *, k: int
) -> Values:
    """Intra-list diversity@k = mean of 1 - cosine over the list's pairs. Shape (queries,).

    Of n unit vectors with sum s the mean cosine of the pairs is (|s|^2 - n) / (n (n - 1)). A list
    without a pair has diversity 0; a zero vector is at distance 1 from all others.
    """
    _check_k(lists, k)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1.0)
    sums = np.zeros((len(lists), vectors.shape[1]), dtype=np.float64)
    squares = np.zeros(len(lists))
    for place in range(k):
        items = lists[:, place]
        there = items >= 0
        sums[there] += units[items[there]]
        squares[there] += norms[items[there], 0] > 0
    count = (lists[:, :k] >= 0).sum(axis=1)
    pairs = count * (count - 1.0)
    cosine = ((sums**2).sum(axis=1) - squares) / np.maximum(pairs, 1.0)
    diversity: Values = np.where(pairs > 0, 1.0 - cosine, 0.0)
    return diversity


def coverage(lists: NDArray[np.integer[Any]], *, n_items: int, k: int) -> float:
    """Catalogue coverage@k = items on any list / items.

    Ge, Delgado-Battenfeld & Jannach, RecSys 2010.
    """
    return float(np.count_nonzero(exposure(lists, n_items=n_items, k=k)) / n_items)


def gini(lists: NDArray[np.integer[Any]], *, n_items: int, k: int) -> float:
    """Gini index of exposure@k: 0 if all items are shown alike, towards 1 if one is shown always.

    sum_i (2 i - n - 1) x_i / (n sum x) over the n items of the catalogue, x ascending: Fleder &
    Hosanagar, Management Science 2009. Without any exposure it is 0.
    """
    shown = np.sort(exposure(lists, n_items=n_items, k=k)).astype(np.float64)
    total = shown.sum()
    if total == 0:
        return 0.0
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ shown / (n_items * total))


def exposure(lists: NDArray[np.integer[Any]], *, n_items: int, k: int) -> IntArray:
    """How many of the lists show each item among the first k. Shape (items,)."""
    _check_k(lists, k)
    shown = lists[:, :k]
    return np.bincount(shown[shown >= 0], minlength=n_items)


def most_popular(popularity: NDArray[Any], *, k: int) -> IntArray:
    """The k items with the most events, ties by lower index. Shape (k,)."""
    return np.argsort(-popularity, kind="stable")[:k]


def _sums(values: NDArray[Any], offsets: IntArray) -> Values:
    query = _queries(offsets)
    sums = np.bincount(query, weights=values, minlength=len(offsets) - 1)
    return sums.astype(np.float64)


def _queries(offsets: IntArray) -> IntArray:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _best(ranks: IntArray, offsets: IntArray, k: int) -> IntArray:
    _targets(offsets, k)
    if len(ranks) == 0:
        return ranks
    return np.minimum.reduceat(ranks, offsets[:-1])


def _targets(offsets: IntArray, k: int) -> IntArray:
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least 1 item.")
    targets = np.diff(offsets)
    if (targets < 1).any():
        raise ValueError(
            f"query {int(np.argmax(targets < 1))} has no target, so nothing can be hit; "
            "leave such queries out."
        )
    return targets


def _list_means(lists: NDArray[np.integer[Any]], values: Values, k: int) -> Values:
    _check_k(lists, k)
    shown = lists[:, :k]
    there = shown >= 0
    means: Values = np.where(there, values[shown], 0.0).sum(axis=1) / np.maximum(
        there.sum(axis=1), 1
    )
    return means


def _check_k(lists: NDArray[np.integer[Any]], k: int) -> None:
    if not 1 <= k <= lists.shape[1]:
        raise ValueError(
            f"k is {k} but the lists have {lists.shape[1]} places; keep longer lists "
            "(keep_lists) or ask for a smaller k."
        )
