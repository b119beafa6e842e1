r"""Popularity, of everybody and of one visitor: the first baselines to beat.

- Popularity: score(i) = sum over the events e of i of 2^(-age(e) / half_life), ages counted from
  the newest training event. Ji, Sun, Zhang & Li, "A re-visit of the popularity baseline in
  recommender systems" (SIGIR 2020, arXiv 2005.13829) show how much counting recent events gains.
- PersonalPopularity: score(i | s) = sum over the events e of i in s of 2^(-age(e) / half_life)
  + b * popularity(i), ages counted from the session's own last event. People buy what they
  bought: Hu, He, Gao & Zhang, "Modeling personalized item frequency information for next-basket
  recommendation" (SIGIR 2020, arXiv 2006.00556); Li et al., "A next basket recommendation reality
  check" (TOIS 2023, arXiv 2109.14233).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from momentary.learn.counts import (
    US_PER_DAY,
    relative_popularity,
    require_items_below,
    session_rows,
)
from momentary.learn.event_weights import EventWeights, counted, require_event_weights
from momentary.learn.fitted import require_fitted
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class PopularityConfig:
    """How popularity is counted.

    Attributes:
        half_life_days: Age in days at which an event counts half. Infinity means no decay.
        window_days: Only events younger than this count, in days; None counts all.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    half_life_days: float = 30.0
    window_days: float | None = None
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        _check_half_life(self.half_life_days)
        if self.window_days is not None and not self.window_days > 0:
            raise ValueError(
                f"window_days is {self.window_days}; it must be above 0. Use None to count all."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalPopularityConfig:
    """How a visitor's own counts are made.

    Attributes:
        half_life_days: Age in days at which an event counts half. Infinity means no decay.
        backoff: Score of the most popular item of all for somebody who never chose it.
        event_weights: How much events count, by type (`learn.event_weights`); those of weight 0
            are left out.
    """

    half_life_days: float = math.inf
    backoff: float = 1e-3
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
        _check_half_life(self.half_life_days)
        if not 0 <= self.backoff < math.inf:
            raise ValueError(
                f"backoff is {self.backoff}; it must be 0 or more, and finite. "
                "A small one, such as 0.001, orders only what the visitor never chose."
            )


def _check_half_life(half_life_days: float) -> None:
    if not half_life_days > 0:
        raise ValueError(
            f"half_life_days is {half_life_days}; it must be above 0. "
            "Use float('inf') to count every event the same."
        )


def _decay(ages_us: IntArray, half_life_days: float) -> FloatArray:
    return np.exp2(-ages_us / (half_life_days * US_PER_DAY)).astype(np.float32)


class Popularity:
    """Score an item by how often it was seen lately, the same for everybody."""

    kind: ClassVar[str] = "popularity"

    def __init__(self, config: PopularityConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._counts: FloatArray | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing here is left to chance
        progress: Progress = silent,
    ) -> Self:
        """Count events, each by its age.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        require_items_below(sessions.items, n_items)
        told, each = counted(sessions, self.config.event_weights)
        ages_us = told.times_us.max(initial=0) - told.times_us
        weights = _decay(ages_us, self.config.half_life_days)
        if each is not None:
            weights *= each
        if self.config.window_days is not None:
            weights = weights * (ages_us < self.config.window_days * US_PER_DAY)
        counts = np.bincount(told.items, weights=weights, minlength=n_items)
        self._counts = counts.astype(np.float32)
        progress(1, 1)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Give every session the same counts. Shape (sessions, items)."""
        return np.tile(require_fitted(self._counts, self), (len(sessions), 1))

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        return {"counts": require_fitted(self._counts, self)}

    @classmethod
    def from_state(cls, config: PopularityConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        model._counts = state["counts"]
        return model


class PersonalPopularity:
    """Score an item by how often it stands in the session, then by its popularity."""

    kind: ClassVar[str] = "personal_popularity"

    def __init__(self, config: PersonalPopularityConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._popularity: FloatArray | None = None

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing here is left to chance
        progress: Progress = silent,
    ) -> Self:
        """Count events for the back-off.

        Raises:
            DataError: If an item index is not below `n_items`.
        """
        told, each = counted(sessions, self.config.event_weights)
        self._popularity = relative_popularity(told.items, n_items=n_items, weights=each)
        progress(1, 1)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Count each session's own events. Shape (sessions, items)."""
        popularity = require_fitted(self._popularity, self)
        require_items_below(sessions.items, len(popularity))
        scores = np.tile(popularity * np.float32(self.config.backoff), (len(sessions), 1))
        told, each = counted(sessions, self.config.event_weights)
        rows = session_rows(told)
        ages_us = told.last_times_us[rows] - told.times_us
        weights = _decay(ages_us, self.config.half_life_days)
        np.add.at(scores, (rows, told.items), weights if each is None else weights * each)
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """The back-off."""
        return {"popularity": require_fitted(self._popularity, self)}

    @classmethod
    def from_state(
        cls, config: PersonalPopularityConfig, state: Mapping[str, NDArray[Any]]
    ) -> Self:
        """The model that gave `state`, ready to score."""
        model = cls(config)
        model._popularity = state["popularity"]
        return model
