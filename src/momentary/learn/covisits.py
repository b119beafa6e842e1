"""Which items are visited close to each other: counts, transitions, vectors.

With w(d) = 1 / d for two different items d events apart in one session, at most `window` apart,
F[i, j] sums w over all places where j comes after i.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from momentary.learn.counts import session_rows
from momentary.learn.windows import Windows
from momentary.types import FloatArray, IntArray, Sessions

_Counts = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]
"""A growing matrix of known places: row starts, columns, entries, sums of the rows."""

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


def transitions(counts: sparse.csr_matrix, *, shrinkage: float) -> sparse.csr_matrix:
    """Each row over its sum plus `shrinkage`, so that a rare item promises little."""
    sums = np.asarray(counts.sum(axis=1)).ravel() + shrinkage
    scaled = counts.copy()
    scaled.data = counts.data / np.repeat(sums, np.diff(counts.indptr))
    return scaled


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


class PastTransitions:
    """For every prefix in training: how likely its items led to the next one, as known then.

    A model that trusts counted transitions must learn how far from what the counts held before
    the session that it is asked about: counted from all sessions they would hold its own answer
    and its future, and promise more in training than they keep afterwards (Dawid, "The
    prequential approach", JRSS A 1984).

    Args:
        windows: The sessions in training, in the order of time.
        weights: What each window's session counts; later ones more. Shape (windows,).
        counts: `followers` of the same sessions; only the places of its entries are read.
        window: As for `followers`.
        shrinkage: As for `transitions`, in sessions of the weight at the time.
    """

    def __init__(
        self,
        windows: Windows,
        weights: NDArray[np.float64],
        *,
        counts: sparse.csr_matrix,
        window: int,
        shrinkage: float,
    ) -> None:
        self._inputs = windows.inputs
        self._offsets = np.concatenate([[0], np.cumsum(self._inputs**2)])
        self._shares = np.zeros((int(self._offsets[-1]), 2), dtype=np.float32)
        behind = counts.T.tocsr()
        behind.sort_indices()
        for side, matrix in enumerate((counts, behind)):
            _walk(
                (windows.items, windows.starts, windows.ends, windows.first_asked),
                weights,
                (matrix.indptr, matrix.indices, np.zeros(matrix.nnz), np.zeros(matrix.shape[0])),
                window=window,
                shrinkage=shrinkage,
                ahead=side == 0,
                offsets=self._offsets,
                shares=self._shares[:, side],
            )

    def padded(self, rows: IntArray) -> FloatArray:
        """The share that the item at place j gives to the item after place t.

        Shape (windows, t, j, 2): as a follower of j's item, and as one that it follows.
        """
        longest = int(self._inputs[rows].max())
        found = np.zeros((len(rows), longest, longest, 2), dtype=np.float32)
        _fill(rows, self._inputs, self._offsets, self._shares, found)
        return found


@numba.njit(cache=True, nogil=True)
def _fill(  # noqa: PLR0917 - kernels are called by position
    rows: IntArray, inputs: IntArray, offsets: IntArray, shares: FloatArray, found: FloatArray
) -> None:
    for i in range(len(rows)):
        count = inputs[rows[i]]
        at = offsets[rows[i]]
        for t in range(count):
            found[i, t, :count] = shares[at + t * count : at + (t + 1) * count]


@numba.njit(cache=True, nogil=True)
def _walk(  # noqa: PLR0913, PLR0917 - kernels are called by position
    windows: tuple[IntArray, IntArray, IntArray, IntArray],
    weights: NDArray[np.float64],
    counts: _Counts,
    window: int,
    shrinkage: float,
    ahead: bool,  # noqa: FBT001
    offsets: IntArray,
    shares: FloatArray,
) -> None:
    """Go through time: read what is known, then add what the session shows."""
    items, starts, ends, first_asked = windows
    sums = counts[3]
    for row in range(len(starts)):
        session = items[starts[row] : ends[row]]
        inputs = len(session) - 1
        for j in range(inputs):
            total = sums[session[j]] + shrinkage * weights[row]
            for t in range(j, inputs):
                known = _known(counts, session[j], session[t + 1])
                shares[offsets[row] + t * inputs + j] = known / total
        for then in range(first_asked[row] + 1, len(session)):
            for first in range(max(0, then - window), then):
                weight = weights[row] / (then - first)
                if ahead:
                    _add(counts, session[first], session[then], weight)
                else:
                    _add(counts, session[then], session[first], weight)


@numba.njit(cache=True, nogil=True)
def _known(counts: _Counts, row: int, column: int) -> float:
    place = _place(counts, row, column)
    return counts[2][place] if place >= 0 else 0.0


@numba.njit(cache=True, nogil=True)
def _add(  # noqa: PLR0917 - kernels are called by position
    counts: _Counts, row: int, column: int, weight: float
) -> None:
    place = _place(counts, row, column)
    if place >= 0:
        counts[2][place] += weight
        counts[3][row] += weight


@numba.njit(cache=True, nogil=True)
def _place(counts: _Counts, row: int, column: int) -> int:
    """Where an entry stands, -1 where there is none; an item does not lead to itself."""
    indptr, indices = counts[0], counts[1]
    low, high = indptr[row], indptr[row + 1]
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < column:
            low = middle + 1
        else:
            high = middle
    return low if low < indptr[row + 1] and indices[low] == column else -1
