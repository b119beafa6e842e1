r"""SLIST: linear item-item weights, in closed form, for what a visit holds and what comes next.

Choi, Kim, Lee, Shim & Lee, "Session-aware linear item-item models for session-based
recommendation" (WWW 2021, arXiv 2103.16104). With X the sessions (1 where one holds an item),
and for every place t of every session the past S_t and the future T_t, events fading with their
distance from t by exp(-steps / past) and exp(-steps / future), all rows of a session weighted by
w = exp(-age / recency), B minimises

    alpha |X - X B|^2 + (1 - alpha) |T - S B|^2 + lambda |B|^2   with b_jj <= xi for every item j.

With A = alpha X'wX + (1 - alpha) S'wS + lambda I and C = alpha X'wX + (1 - alpha) S'wT, column j is

    b_j = A^-1 C_j - max(0, (A^-1 C_j)_j - xi) / (A^-1)_jj * (A^-1)_j.

The paper inverts A, which takes items^2 numbers and items^3 operations. Here each column is solved
over the item itself and, of the items that precede it or share sessions with it, the
`neighbours` - 1 that predict it best one by one, C_ij / sqrt(A_ii); the others are held at 0 (as
fsSLIM does; Ning & Karypis, ICDM 2011). That is the paper's solution where these are all items,
else an approximation.

    score(j | s) = max(0, sum over the events i of s of exp(-steps from the end / reach) * b_ij)

Where `event_weights` says what events count, S, T and the sum over s take them so many times, and X
holds the strongest of an item's events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numba
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from momentary.learn.bounds import require_ranges
from momentary.learn.counts import (
    US_PER_DAY,
    last_events,
    relative_popularity,
    require_items_below,
    session_rows,
    steps_from_end,
)
from momentary.learn.event_weights import (
    EventWeights,
    counted,
    require_event_weights,
    strongest,
)
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.learn.pruning import strongest_per_row
from momentary.learn.sparse_sums import add_rows
from momentary.learn.threads import one_blas_thread
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

POPULARITY_SHARE = 1e-6
"""Weight of popularity: below any weight that counts, so that it only orders what has none."""

_NUMBERS_AT_ONCE = 4_000_000
_LEAST_WEIGHT = 1e-4  # smaller ones are left out of B


@dataclass(frozen=True, slots=True, kw_only=True)
class SLISTConfig:
    """How the weights are found and added up; infinity turns a decay off.

    Attributes:
        alpha: Share of the first term, items that share sessions; the rest is for what follows.
        regularization: lambda: what keeps weights that rest on few sessions small.
        diagonal: xi: the most that an item may promise itself.
        past: Steps over which an event before a place fades to 1/e.
        future: Steps over which an event after a place fades to 1/e.
        reach: Steps over which an event fades to 1/e when a session is scored.
        recency_days: Age in days over which a past session's weight falls to 1/e.
        neighbours: Items that each item is predicted from, itself among them.
        max_session: Only this many last events of a longer session are counted.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    alpha: float = 0.2
    regularization: float = 20.0
    diagonal: float = 0.3
    past: float = 1.5
    future: float = 1.0
    reach: float = 2.0
    recency_days: float = 80.0
    neighbours: int = 150
    max_session: int = 20
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        require_ranges(self, _RANGES)


_RANGES: dict[str, tuple[float, float]] = {
    "alpha": (0, 1),
    "regularization": (1e-6, 1e9),
    "diagonal": (0, math.inf),
    "past": (1e-3, math.inf),
    "future": (1e-3, math.inf),
    "reach": (1e-3, math.inf),
    "recency_days": (1e-3, math.inf),
    "neighbours": (1, 10_000),
    "max_session": (2, 10_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """Row i of B is entries `indptr[i]` to `indptr[i + 1]`.

    Attributes:
        indptr: Shape (items + 1,).
        columns: Items. Shape (entries,).
        weights: Shape (entries,).
        popularity: Of the items, the most popular at 1. Shape (items,).
    """

    indptr: IntArray
    columns: NDArray[np.int32]
    weights: FloatArray
    popularity: FloatArray


class _Equations(NamedTuple):
    """A without lambda, and the transpose of C, with its diagonal even where that is 0."""

    a: scipy.sparse.csr_array
    c: scipy.sparse.csr_array


class SLIST:
    """Score an item by the weights of the session's items for it."""

    kind: ClassVar[str] = "slist"

    def __init__(self, config: SLISTConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._learned: _Learned | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing here is left to chance
        progress: Progress = silent,
    ) -> Self:
        """Solve for the weights of every item.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        rank = inverse(first_appearance(told.items, n_items=n_items))
        kept = last_events(told, self.config.max_session)
        equations = _equations(self.config, kept, n_items=n_items)
        chosen = _neighbours(equations, rank=rank, config=self.config)
        with one_blas_thread():
            weights = _solve(equations, chosen, self.config, progress=progress)
        by_item = scipy.sparse.csr_array(
            (weights, chosen.indices, chosen.indptr), shape=chosen.shape
        )
        by_item.data[np.abs(by_item.data) < _LEAST_WEIGHT] = 0
        by_item.eliminate_zeros()
        rows = by_item.T.tocsr()
        rows.sort_indices()
        self._learned = _Learned(
            indptr=rows.indptr.astype(np.int64),
            columns=rows.indices.astype(np.int32),
            weights=rows.data.astype(np.float32),
            popularity=popularity,
        )
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Add up the weights of each session's items. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.popularity))
        told, each = counted(sessions, self.config.event_weights)
        fading = np.exp(-steps_from_end(told) / self.config.reach).astype(np.float32)
        if each is not None:
            fading *= each
        scores = np.zeros((len(sessions), len(learned.popularity)), dtype=np.float32)
        # Copies, because a read-only array would have the kernel compiled once more.
        queries = (np.array(told.items), np.array(told.offsets), fading)
        add_rows(queries, (learned.indptr, learned.columns, learned.weights), scores)
        np.maximum(scores, 0, out=scores)
        scores += learned.popularity * np.float32(POPULARITY_SHARE)
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """The weights, and the back-off."""
        learned = require_fitted(self._learned, self)
        return {name: getattr(learned, name) for name in _Learned.__slots__}

    @classmethod
    def from_state(cls, config: SLISTConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        arrays = {name: np.require(array, None, ["C", "W"]) for name, array in state.items()}
        model._learned = _Learned(**arrays)
        return model


def _equations(config: SLISTConfig, sessions: Sessions, *, n_items: int) -> _Equations:
    times_us = sessions.last_times_us
    age_us = times_us.max(initial=0) - times_us
    weights = np.exp(-age_us / (config.recency_days * US_PER_DAY))  # (sessions,)
    together = config.alpha * _sharing(config, sessions, weights, n_items=n_items)
    past, following = _near(config, sessions, (1 - config.alpha) * weights, n_items=n_items)
    c = (together + following.T).tocoo()
    own = np.arange(n_items)
    with_own = (np.r_[c.row, own], np.r_[c.col, own])
    return _Equations(
        (together + past).tocsr(),
        scipy.sparse.csr_array((np.r_[c.data, np.zeros(n_items)], with_own), shape=c.shape),
    )


def _sharing(
    config: SLISTConfig, sessions: Sessions, weights: NDArray[np.float64], *, n_items: int
) -> scipy.sparse.csr_array:
    """X'wX: an item counts once in a session, however often it was seen."""
    places = (session_rows(sessions), sessions.items)
    held = scipy.sparse.csr_array(
        (np.ones(len(sessions.items)), places), shape=(len(sessions), n_items)
    )
    each = counted(sessions, config.event_weights)[1]
    if each is None:
        held.data[:] = 1.0
    else:
        # What a session holds twice is added twice.
        sums = scipy.sparse.csr_array((strongest(sessions, each), places), shape=held.shape)
        held.data = sums.data / held.data
    weighted = held.copy()
    weighted.data *= np.repeat(weights, np.diff(held.indptr))
    return held.T.tocsr() @ weighted


def _near(
    config: SLISTConfig, sessions: Sessions, weights: NDArray[np.float64], *, n_items: int
) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """S'wS and S'wT, pair by pair of events; what the places of a session add up to is known.

    Two events d apart, the later one with m events after it, are in the past of the m places from
    the later one on, which give exp(-d / past) * (1 + r + ... + r^(m - 1)) with
    r = exp(-2 / past). The places between them have the first in the past and the other in the
    future: exp(-k / past) * exp(-(d - 1 - k) / future), summed over k from 0 to d - 1.
    """
    items, rows = sessions.items, session_rows(sessions)
    each = counted(sessions, config.event_weights)[1]
    after = steps_from_end(sessions)
    longest = int(sessions.lengths.max(initial=1))
    steps = np.arange(longest)
    fading = np.exp(-steps / config.past), np.exp(-steps / config.future)
    places = np.r_[0, np.cumsum(np.exp(-2 * steps / config.past))]  # (longest + 1,) by m
    between = np.r_[0, np.convolve(*fading)[:longest]]  # (longest + 1,) by d
    both = scipy.sparse.csr_array((n_items, n_items))
    following = scipy.sparse.csr_array((n_items, n_items))
    for distance in range(longest):
        earlier = np.flatnonzero(rows[: len(rows) - distance] == rows[distance:])
        later = earlier + distance
        pair, weight = (items[earlier], items[later]), weights[rows[earlier]]
        if each is not None:
            weight = weight * each[earlier] * each[later]
        shared = weight * fading[0][distance] * places[after[later]]
        part = scipy.sparse.csr_array((shared, pair), shape=both.shape)
        both = both + (part + part.T if distance else part)
        if distance:
            ahead = weight * between[distance]
            following = following + scipy.sparse.csr_array((ahead, pair), shape=both.shape)
    return both, following


def _neighbours(
    equations: _Equations, *, rank: IntArray, config: SLISTConfig
) -> scipy.sparse.csr_array:
    """The items that predict each item (row), itself first of all. Shape (items, items)."""
    spread = np.sqrt(equations.a.diagonal() + config.regularization)
    c = equations.c
    rows = np.repeat(np.arange(c.shape[0]), np.diff(c.indptr))
    strength = c.data / spread[c.indices]
    own = rows == c.indices
    strength[own] = np.inf
    kept = strongest_per_row(
        strength.astype(np.float32), c.indptr, c.indices, limit=config.neighbours, rank=rank
    )
    indptr = np.searchsorted(kept, c.indptr)
    return scipy.sparse.csr_array((c.data[kept], c.indices[kept], indptr), shape=c.shape)


def _solve(
    equations: _Equations,
    chosen: scipy.sparse.csr_array,
    config: SLISTConfig,
    *,
    progress: Progress,
) -> NDArray[np.float64]:
    """The weights of the chosen neighbours, in their places. Shape (entries,)."""
    weights = np.zeros(len(chosen.data))
    counts = np.diff(chosen.indptr)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    slot = np.full(chosen.shape[0], -1, dtype=np.int64)
    a = equations.a
    done = 0
    while done < len(order):
        # The widths ascend, so those of a batch are alike, and the last is the largest.
        widths = counts[order[done:]].astype(np.int64)
        fitting = np.arange(1, len(widths) + 1) * widths**2 <= _NUMBERS_AT_ONCE
        batch = order[done : done + max(int(fitting.sum()), 1)]
        width = int(counts[batch[-1]])
        left = np.zeros((len(batch), width, width))
        right = np.zeros((len(batch), width, 2))
        _fill(
            batch,
            (chosen.indptr, chosen.indices, chosen.data),
            (a.indptr, a.indices, a.data),
            slot,
            left,
            right,
        )
        left[:, np.arange(width), np.arange(width)] += config.regularization
        solved = np.linalg.solve(left, right)  # (batch, width, 2): A^-1 C_j and (A^-1)_j
        own = right[:, :, 1] == 1  # (batch, width)
        free, unit = solved[:, :, 0], solved[:, :, 1]
        over = np.maximum(free[own] - config.diagonal, 0) / unit[own]
        found = free - over[:, None] * unit
        for row, item in enumerate(batch):
            weights[chosen.indptr[item] : chosen.indptr[item + 1]] = found[row, : counts[item]]
        done += len(batch)
        progress(done, len(order))
    return weights


@numba.njit(cache=True, nogil=True)
def _fill(  # noqa: PLR0917 - kernels are called by position
    batch: IntArray,
    chosen: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]],
    a: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]],
    slot: IntArray,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
) -> None:
    """Write A over each item's neighbours, and C_j and e_j beside each other."""
    starts, neighbours, values = chosen
    indptr, columns, numbers = a
    for row in range(len(batch)):
        item = batch[row]
        first, end = starts[item], starts[item + 1]
        for entry in range(first, end):
            slot[neighbours[entry]] = entry - first
            right[row, entry - first, 0] = values[entry]
            if neighbours[entry] == item:
                right[row, entry - first, 1] = 1.0
        for entry in range(first, end):
            for other in range(indptr[neighbours[entry]], indptr[neighbours[entry] + 1]):
                if slot[columns[other]] >= 0:
                    left[row, entry - first, slot[columns[other]]] = numbers[other]
        for entry in range(first, end):
            slot[neighbours[entry]] = -1
