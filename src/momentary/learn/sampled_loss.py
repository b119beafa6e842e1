"""The loss of a step over its targets and the negatives that all its lanes share.

Hidasi & Karatzoglou, CIKM 2018 (shared additional negatives, BPR-max); Hidasi & Czapp, RecSys 2023
(logQ correction). The candidates of a step are its targets, then the drawn negatives.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from momentary.learn.loss_kernels import bpr_max, cross_entropy
from momentary.learn.sampling import PopularitySampler
from momentary.types import FloatArray, IntArray

_STEPS_A_DRAW = 256


class LossSettings(Protocol):
    """The part of a configuration that says what is lost."""

    @property
    def loss(self) -> str:
        """One of "cross_entropy" and "bpr_max"."""
        ...

    @property
    def logq(self) -> float:
        """Strength of the logQ correction of the cross-entropy."""
        ...

    @property
    def elu(self) -> float:
        """Exponential linear unit on the scores of BPR-max."""
        ...

    @property
    def regularization(self) -> float:
        """Score regularisation of BPR-max."""
        ...

    @property
    def batch_size(self) -> int:
        """The loss is averaged over so many lanes."""
        ...

    @property
    def n_sample(self) -> int:
        """Negatives drawn a step."""
        ...

    @property
    def sample_alpha(self) -> float:
        """They are drawn by popularity to this power."""
        ...


class SampledLoss:
    """Draws the negatives of each step and finds its loss.

    Args:
        settings: What is lost.
        counts: How often each item was seen. Shape (items,).
        rng: The chance that draws.
    """

    def __init__(
        self, settings: LossSettings, *, counts: IntArray, rng: np.random.Generator
    ) -> None:
        self._settings = settings
        self._sampler = PopularitySampler(counts, alpha=settings.sample_alpha, rng=rng)
        # A target of the batch is offered as often as it is seen, a drawn negative as often as it
        # is drawn.
        logq = settings.logq if settings.loss == "cross_entropy" else 0.0
        self._log_q = (logq * np.log(np.maximum(counts, 1))).astype(np.float32)
        self._drawn = np.empty((0, settings.n_sample), dtype=np.int64)

    def draw(self) -> IntArray:
        """The negatives of the next step. Shape (n_sample,)."""
        if not len(self._drawn):
            drawn = self._sampler.draw(_STEPS_A_DRAW * self._settings.n_sample)
            self._drawn = drawn.reshape(_STEPS_A_DRAW, self._settings.n_sample)
        first: IntArray = self._drawn[0]
        self._drawn = self._drawn[1:]
        return first

    def __call__(
        self, scores: FloatArray, biases: FloatArray, candidates: IntArray
    ) -> tuple[float, FloatArray]:
        """The loss summed over the lanes, and its gradient by the biases, averaged over the batch.

        Args:
            scores: Without biases; its averaged gradient takes their place. Lane i wants candidate
                i. Shape (lanes, candidates).
            biases: Shape (candidates,).
            candidates: The lanes' targets, then the negatives. Shape (candidates,).
        """
        settings = self._settings
        power = np.full(len(candidates), settings.sample_alpha, dtype=np.float32)
        power[: len(scores)] = 1
        offsets = biases - power * self._log_q[candidates]
        by_biases = np.empty(len(candidates), dtype=np.float32)
        scale = 1.0 / settings.batch_size
        if settings.loss == "cross_entropy":
            return cross_entropy(scores, offsets, scale=scale, column_sums=by_biases), by_biases
        loss = bpr_max(
            scores,
            offsets,
            scale=scale,
            column_sums=by_biases,
            elu=settings.elu,
            regularization=settings.regularization,
        )
        return loss, by_biases
