"""Which items are visited close to each other: counts and vectors.

With w(d) = 1 / d for two different items d events apart in one session, at most `window` apart,
F[i, j] sums w over all places where j comes after i.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from momentary.learn.counts import session_rows
from momentary.types import FloatArray, Sessions

_EXTRA = 10
_POWER_ITERATIONS = 3
_SMALLEST = 1e-4
_CONTEXT_POWER = 0.75


def session_weights(count: int, *, half_life: float) -> NDArray[np.float64]:
    """What each of `count` sessions counts: the last one 1, one `half_life` before it a half.

    >>> session_weights(3, half_life=1).tolist()
    [0.25, 0.5, 1.0]
    """
    return np.exp2((np.arange(count) - (count - 1)) / half_life)


def followers(
    sessions: Sessions, *, weights: NDArray[np.float64], n_items: int, window: int
) -> sparse.csr_matrix:
    """F: how much each item (column) follows each item (row). Shape (items, items).

    `weights` says what each session counts, shape (sessions,).

    >>> sessions = Sessions.from_lists([[0, 1, 2]])
    >>> followers(sessions, weights=np.ones(1), n_items=3, window=2).toarray().tolist()
    [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    rows, items = session_rows(sessions), sessions.items
    first, then, parts = [], [], []
    for distance in range(1, window + 1):
        here, there = items[:-distance], items[distance:]
        pairs = (rows[:-distance] == rows[distance:]) & (here != there)
        first.append(here[pairs])
        then.append(there[pairs])
        parts.append(weights[rows[distance:][pairs]] / distance)
    counted = sparse.coo_matrix(
        (np.concatenate(parts), (np.concatenate(first), np.concatenate(then))),
        shape=(n_items, n_items),
    ).tocsr()
    counted.sort_indices()
    return counted


def association_vectors(
    counts: sparse.csr_matrix, *, width: int, rng: np.random.Generator
) -> FloatArray:
    """Unit vectors of items, near for items visited together. Shape (items, width).

    The left singular vectors of the positive pointwise mutual information, each times the root
    of its singular value (Levy & Goldberg, NIPS 2014; context counts to the power 0.75 after
    Levy, Goldberg & Dagan, TACL 2015), by randomised subspace iteration (Halko, Martinsson &
    Tropp, SIAM Review 2011), turned at random so that no coordinate carries more than another.
    An item without neighbours has a random vector.
    """
    both = (counts + counts.T).tocoo()
    n_items = both.shape[0]
    sums = np.asarray(both.sum(axis=1)).ravel()
    context = sums**_CONTEXT_POWER
    share = both.data / (sums[both.row] * context[both.col] / max(context.sum(), 1e-12))
    information = np.maximum(np.log(share), 0).astype(np.float32)
    matrix = sparse.csr_matrix((information, (both.row, both.col)), shape=both.shape)

    rank = min(width, n_items)
    sketch = matrix @ rng.standard_normal((n_items, min(rank + _EXTRA, n_items)), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(sketch)[0]
        sketch = matrix @ (matrix.T @ basis)
    basis = np.linalg.qr(sketch)[0]
    left, strengths, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    vectors = np.zeros((n_items, width), dtype=np.float32)
    vectors[:, :rank] = (basis @ left)[:, :rank] * np.sqrt(strengths[:rank])
    alone = np.linalg.norm(vectors, axis=1) < _SMALLEST
    vectors[alone] = rng.standard_normal((int(alone.sum()), width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    turned: FloatArray = (vectors @ turn).astype(np.float32)
    return turned
