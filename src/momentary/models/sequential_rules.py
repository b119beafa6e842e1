r"""Sequential rules: what was chosen soon after the item that was chosen last.

Ludewig & Jannach, "Evaluation of session-based recommendation algorithms" (UMUAI 2018, arXiv
1803.09587), model SR. Over all training sessions p, with positions x < y at most `steps` apart,

    weight(a, b) = sum of 1 / (y - x) over p, x, y with p_x = a and p_y = b
    score(b | s) = weight(a, b) / sum over c of weight(a, c),   a being the last item of s.

Where `event_weights` says what events count, a term counts as much as its two events multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from momentary.learn.counts import relative_popularity, require_items_below, session_rows
from momentary.learn.event_weights import EventWeights, counted, require_event_weights
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.learn.pruning import strongest_per_row
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

POPULARITY_SHARE = 1e-6
"""Weight of popularity: below any rule, so that it only orders what no rule names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialRulesConfig:
    """How rules are made.

    Attributes:
        steps: Most steps from an item to one that follows it.
        rules_per_item: Strongest rules kept for each item.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    steps: int = 10
    rules_per_item: int = 200
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        for name in ("steps", "rules_per_item"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """Row a of a sparse matrix in CSR form holds what follows item a."""

    indptr: IntArray
    consequents: NDArray[np.int32]
    weights: FloatArray
    popularity: FloatArray


class SequentialRules:
    """Score an item by how often it followed the last one."""

    kind: ClassVar[str] = "sequential_rules"

    def __init__(self, config: SequentialRulesConfig) -> None:
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
        """Count what follows what and keep the strongest rules.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        rows = session_rows(told)
        rules = scipy.sparse.csr_array((n_items, n_items), dtype=np.float64)
        for step in range(1, self.config.steps + 1):
            within = rows[step:] == rows[:-step]
            pair = (told.items[:-step][within], told.items[step:][within])
            weights = np.full(len(pair[0]), 1.0 / step)
            if each is not None:
                weights *= each[:-step][within] * each[step:][within]
            rules = rules + scipy.sparse.csr_array((weights, pair), shape=rules.shape)
            progress(step, self.config.steps)
        totals = np.repeat(rules.sum(axis=1), np.diff(rules.indptr))  # (rules,)
        shares = (rules.data / totals).astype(np.float32)
        rank = inverse(first_appearance(told.items, n_items=n_items))
        kept = strongest_per_row(
            shares, rules.indptr, rules.indices, limit=self.config.rules_per_item, rank=rank
        )
        self._learned = _Learned(
            indptr=np.searchsorted(kept, rules.indptr).astype(np.int64),
            consequents=rules.indices[kept].astype(np.int32),
            weights=shares[kept],
            popularity=popularity,
        )
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Look up the rules of each session's last item. Shape (sessions, items)."""
        learned = require_fitted(self._learned, self)
        require_items_below(sessions.items, len(learned.popularity))
        scores = np.tile(learned.popularity * np.float32(POPULARITY_SHARE), (len(sessions), 1))
        told, _ = counted(sessions, self.config.event_weights)
        for row in np.flatnonzero(told.lengths):
            last = told.items[told.offsets[row + 1] - 1]
            rules = slice(learned.indptr[last], learned.indptr[last + 1])
            scores[row, learned.consequents[rules]] += learned.weights[rules]
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """The rules of every item, their weights, and the back-off."""
        learned = require_fitted(self._learned, self)
        return {name: getattr(learned, name) for name in _Learned.__slots__}

    @classmethod
    def from_state(cls, config: SequentialRulesConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        model._learned = _Learned(**state)
        return model
