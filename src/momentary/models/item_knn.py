r"""Item kNN: what shares sessions with the items at hand ("bought together").

Sarwar, Karypis, Konstan & Riedl, "Item-based collaborative filtering recommendation algorithms"
(WWW 2001); the regularised form is the baseline of Hidasi et al. (ICLR 2016, arXiv 1511.06939).
With n(i) sessions that hold i, and n(i, j) that hold both,

    similarity(i, j) = n(i, j) / sqrt((n(i) + h) (n(j) + h))
    score(j | s)     = sum over the events i of s of decay^(steps of i from the end)
                       * similarity(i, j), where similarity(j, j) is `self_similarity`,

h being `shrinkage`: it pulls down similarities that rest on few sessions. Only each item's
strongest `neighbours` are kept. Where `event_weights` says what events count, a session holds i to
the degree m(i) of its strongest event with i: n(i, j) sums m(i) m(j), n(i) sums m(i)^2, and each
event of s counts as much in the score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.learn.counts import (
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
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

if TYPE_CHECKING:
    from scipy.sparse import csr_array

POPULARITY_SHARE = 1e-6
"""Weight of popularity: below any similarity, so that it only orders what has none."""

PAIRS_AT_ONCE = 10_000_000
"""Most co-occurrences counted in one sparse product; it limits the memory of `fit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKNNConfig:
    """How items become neighbours.

    Attributes:
        neighbours: Strongest neighbours kept for each item.
        shrinkage: Sessions added to every item's count in the similarity; 0 is plain cosine.
        decay: Weight of an item relative to the one after it in the session; 1 is no decay.
        self_similarity: How similar an item is to itself when a session is scored; above 0,
            items of the session may be recommended again.
        max_session: Only this many last events of a longer session are counted.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    neighbours: int = 200
    shrinkage: float = 20.0
    decay: float = 0.5
    self_similarity: float = 0.3
    max_session: int = 100
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        for name in ("neighbours", "max_session"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("shrinkage", "self_similarity"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more, finite.")
        if not 0 < self.decay <= 1:
            raise ValueError(
                f"decay is {self.decay}; it must be above 0 and at most 1. Use 1 for no decay."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """What goes with one item, most similar first.

    Attributes:
        items: Item indices. Shape (related,).
        similarities: Between 0 and 1. Shape (related,).
        counts: Sessions that hold both items. Shape (related,).
    """

    items: IntArray
    similarities: FloatArray
    counts: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """The neighbours of item i are entries `indptr[i]` to `indptr[i + 1]`.

    Attributes:
        indptr: Shape (items + 1,).
        neighbours: Items. Shape (entries,).
        similarities: Shape (entries,).
        counts: Sessions that hold both items. Shape (entries,).
        popularity: Of the items, the most popular at 1. Shape (items,).
    """

    indptr: IntArray
    neighbours: NDArray[np.int32]
    similarities: FloatArray
    counts: NDArray[np.int32]
    popularity: FloatArray


class ItemKNN:
    """Score an item by how often it shared sessions with the session's items."""

    kind: ClassVar[str] = "item_knn"

    def __init__(self, config: ItemKNNConfig) -> None:
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
        """Count which items share sessions and keep the strongest pairs.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        rank = inverse(first_appearance(told.items, n_items=n_items))
        held = _held(last_events(told, self.config.max_session), self.config, n_items=n_items)
        squares = None if held.degrees is None else held.degrees.data**2
        holders = np.bincount(held.incidence.indices, weights=squares, minlength=n_items)
        supports = holders + self.config.shrinkage
        lengths, parts = [], []
        for rows, counts, shared in _co_occurrences(held):
            norms = np.sqrt(np.repeat(supports[rows], np.diff(counts.indptr)))
            similarities = (shared / (norms * np.sqrt(supports[counts.indices]))).astype("f4")
            kept = strongest_per_row(
                similarities,
                counts.indptr,
                counts.indices,
                limit=self.config.neighbours,
                rank=rank,
            )
            lengths.append(np.diff(np.searchsorted(kept, counts.indptr)))
            parts.append((counts.indices[kept], similarities[kept], counts.data[kept]))
            progress(rows.stop, n_items)
        neighbours, strengths, together = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        self._learned = _Learned(
            indptr=np.concatenate([[0], *lengths]).cumsum().astype(np.int64),
            neighbours=neighbours.astype(np.int32),
            similarities=strengths,
            counts=together.astype(np.int32),
            popularity=popularity,
        )
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Add up the similarities to each session's items. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.popularity))
        told, each = counted(sessions, self.config.event_weights)
        weights = self.config.decay ** steps_from_end(told).astype(np.float32)
        if each is not None:
            weights *= each
        scores = np.tile(learned.popularity * np.float32(POPULARITY_SHARE), (len(sessions), 1))
        # Copies, because a read-only array would have the kernel compiled once more.
        queries = (np.array(told.items), np.array(told.offsets), weights)
        add_rows(queries, (learned.indptr, learned.neighbours, learned.similarities), scores)
        own = weights * np.float32(self.config.self_similarity)
        np.add.at(scores, (session_rows(told), told.items), own)
        return scores

    def related(self, item: int, k: int) -> Related:
        """What most often shares sessions with `item`, at most `k`, best first.

        Equally similar items are in the order of their indices.

        Raises:
            DataError: If `item` is not an item index, or `k` is below 1.
        """
        learned = require_fitted(self._learned, self)
        if not 0 <= item < len(learned.popularity):
            raise DataError(
                f"item is {item}; it must be an index from 0 to {len(learned.popularity) - 1}."
            )
        if k < 1:
            raise DataError(f"k is {k}; it must be 1 or more.")
        row = slice(learned.indptr[item], learned.indptr[item + 1])
        best = np.lexsort((learned.neighbours[row], -learned.similarities[row]))[:k]
        return Related(
            items=learned.neighbours[row][best].astype(np.int64),
            similarities=learned.similarities[row][best],
            counts=learned.counts[row][best].astype(np.int64),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """The neighbours of every item, their similarities and counts, and the back-off."""
        learned = require_fitted(self._learned, self)
        return {name: getattr(learned, name) for name in _Learned.__slots__}

    @classmethod
    def from_state(cls, config: ItemKNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        arrays = {name: np.require(array, None, ["C", "W"]) for name, array in state.items()}
        model._learned = _Learned(**arrays)
        return model


class _Held(NamedTuple):
    """What sessions hold.

    Attributes:
        incidence: 1 where a session holds an item, however often. Shape (sessions, items).
        degrees: To what degree, in the same places; None: 1 everywhere. Shape (sessions, items).
    """

    incidence: csr_array
    degrees: csr_array | None


def _held(sessions: Sessions, config: ItemKNNConfig, *, n_items: int) -> _Held:
    # Only training pays for SciPy; a service that starts need not.
    from scipy.sparse import csr_array

    def summed(values: NDArray[Any]) -> csr_array:
        found = csr_array(
            (values, sessions.items.copy(), sessions.offsets.copy()),
            shape=(len(sessions), n_items),
        )
        found.sum_duplicates()
        return found

    incidence = summed(np.ones(len(sessions.items), np.int32))
    weights = counted(sessions, config.event_weights)[1]
    degrees = None
    if weights is not None:
        degrees = summed(strongest(sessions, weights).astype(np.float64))
        degrees.data /= incidence.data  # what a session holds twice was added twice
    incidence.data[:] = 1
    return _Held(incidence, degrees)


def _co_occurrences(held: _Held) -> Iterator[tuple[slice, csr_array, NDArray[Any]]]:
    """Sessions that hold both items, and to what degree in all, some rows at a time.

    An item's count with itself is left out.
    """
    incidence, degrees = held
    by_item = incidence.T.tocsr()  # (items, sessions)
    by_degree = None if degrees is None else degrees.T.tocsr()
    pairs = np.cumsum(by_item @ np.diff(incidence.indptr))  # (items,)
    start = 0
    while start < by_item.shape[0]:
        before = pairs[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(pairs, before + PAIRS_AT_ONCE, side="right")))
        counts = (by_item[start:stop] @ incidence).tocoo()
        apart = counts.row + start != counts.col
        places = (counts.row[apart], counts.col[apart])
        matrix = type(incidence)((counts.data[apart], places), shape=counts.shape)
        shared = matrix.data
        if degrees is not None and by_degree is not None:
            # Weights are above 0, so this product has its entries where the other one has.
            sums = (by_degree[start:stop] @ degrees).tocoo()
            shared = type(incidence)((sums.data[apart], places), shape=counts.shape).data
        yield slice(start, stop), matrix, shared
        start = stop
