r"""Matrix factorization of implicit feedback, for visitors that training never saw.

Hu, Koren & Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008). With
r(u, i) the number of times that u chose i, confidence c = 1 + alpha r and preference p = [r > 0],
alternating least squares minimises

    sum over u, i of c(u, i) (p(u, i) - x_u . y_i)^2 + lambda (sum |x_u|^2 + sum |y_i|^2).

A session s is scored by folding it in: its own factors are the ridge solution given Y,

    x_s = (Y'Y + Y'(C_s - I)Y + lambda I)^-1 Y' C_s p_s,    score(i | s) = x_s . y_i,

where an event of s counts decay^(steps from the end). Where `event_weights` says what events count,
r sums them, and an event of s counts as much more. The alternation itself is the `implicit`
library's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from momentary.learn.counts import (
    relative_popularity,
    require_items_below,
    session_rows,
    steps_from_end,
)
from momentary.learn.event_weights import EventWeights, counted, require_event_weights
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

POPULARITY_SHARE = 1e-6
"""Weight of popularity: it orders only what the factors do not tell apart."""

SESSIONS_AT_ONCE = 256
"""Sessions whose ridge systems are held in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorizationConfig:
    """How factors are learned and sessions folded in.

    Attributes:
        factors: Numbers that describe an item.
        regularization: Weight of the squared factors (lambda).
        alpha: Confidence gained by one event.
        iterations: Alternations.
        decay: Weight of an event of the session relative to the one after it; 1 is no decay.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    factors: int = 128
    regularization: float = 1.0
    alpha: float = 200.0
    iterations: int = 6
    decay: float = 0.5
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        for name in ("factors", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("regularization", "alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, finite.")
        if not 0 < self.decay <= 1:
            raise ValueError(
                f"decay is {self.decay}; it must be above 0 and at most 1. Use 1 for no decay."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What `fit` found.

    Attributes:
        factors: Of the items (Y). Shape (items, factors).
        popularity: Of the items, the most popular at 1. Shape (items,).
        gram: Y'Y + lambda I, which follows from the factors. Shape (factors, factors).
    """

    factors: FloatArray
    popularity: FloatArray
    gram: NDArray[np.float64]


class Factorization:
    """Score an item by its factors' product with those of the session."""

    kind: ClassVar[str] = "factorization"

    def __init__(self, config: FactorizationConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._learned: _Learned | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Factorize visitors by items; a session whose visitor is unknown stands for itself.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        order = first_appearance(told.items, n_items=n_items)
        internal = inverse(order)
        gained = np.full(len(told.items), self.config.alpha, dtype=np.float32)
        if each is not None:
            gained *= each
        confidence = _confidence(told, internal, gained)
        with _one_blas_thread():
            solver = AlternatingLeastSquares(
                factors=self.config.factors,
                regularization=self.config.regularization,
                iterations=self.config.iterations,
                num_threads=1,
                random_state=int(rng.integers(2**31)),
            )
            solver.fit(
                confidence,
                show_progress=False,
                callback=lambda done, *_: progress(done + 1, self.config.iterations),
            )
        factors = np.asarray(solver.item_factors, dtype=np.float32)[internal]
        self._learn(factors, popularity)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Fold each session in and score every item. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.popularity))
        backoff = learned.popularity * np.float32(POPULARITY_SHARE)
        scores = np.empty((len(sessions), len(backoff)), dtype=np.float32)
        with _one_blas_thread():
            for start in range(0, len(sessions), SESSIONS_AT_ONCE):
                rows = np.arange(start, min(start + SESSIONS_AT_ONCE, len(sessions)))
                folded = self._fold_in(sessions.take(rows), learned)
                np.matmul(folded, learned.factors.T, out=scores[rows[0] : rows[-1] + 1])
        scores += backoff
        return scores

    def _learn(self, factors: FloatArray, popularity: FloatArray) -> None:
        gram = factors.T.astype(np.float64) @ factors
        gram += self.config.regularization * np.eye(len(gram))
        self._learned = _Learned(factors=factors, popularity=popularity, gram=gram)

    def _fold_in(self, sessions: Sessions, learned: _Learned) -> FloatArray:
        """The factors of each session. Shape (sessions, factors)."""
        sessions, each = counted(sessions, self.config.event_weights)
        weights = self.config.decay ** steps_from_end(sessions)
        if each is not None:
            weights = weights * each
        systems = np.tile(learned.gram, (len(sessions), 1, 1))  # (sessions, factors, factors)
        targets = np.zeros((len(sessions), len(learned.gram), 1))
        for row in range(len(sessions)):
            events = slice(sessions.offsets[row], sessions.offsets[row + 1])
            chosen, place = np.unique(sessions.items[events], return_inverse=True)
            gained = self.config.alpha * np.bincount(place, weights=weights[events])  # c - 1
            y = learned.factors[chosen].astype(np.float64)
            systems[row] += (y.T * gained) @ y
            targets[row, :, 0] = (1.0 + gained) @ y
        return np.linalg.solve(systems, targets)[:, :, 0].astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """The items' factors and the back-off."""
        learned = require_fitted(self._learned, self)
        return {"factors": learned.factors, "popularity": learned.popularity}

    @classmethod
    def from_state(cls, config: FactorizationConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        model._learn(state["factors"], state["popularity"])
        return model


def _confidence(
    sessions: Sessions, internal: IntArray, gained: FloatArray
) -> scipy.sparse.csr_array:
    """1 + what all events gained. Shape (visitors, items), items in internal order."""
    own_row = sessions.users.max(initial=-1) + 1 + np.arange(len(sessions))
    visitors = np.where(sessions.users >= 0, sessions.users, own_row)
    known, rows = np.unique(visitors, return_inverse=True)
    rows = inverse(first_appearance(rows, n_items=len(known)))[rows]  # no matter their names
    pairs = (rows[session_rows(sessions)], internal[sessions.items])
    confidence = scipy.sparse.csr_matrix(
        (gained, pairs),
        shape=(len(known), len(internal)),
    )
    confidence.data += np.float32(1.0)
    return confidence


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through every loaded library, so once is enough


def _one_blas_thread() -> AbstractContextManager[object]:
    """These products are small: more threads wait for each other longer than they work."""
    return _blas().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]
