"""Dropout (Srivastava et al., JMLR 2014): what is left out of one step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from momentary.learn.arithmetic import kernel
from momentary.types import FloatArray

_STEPS_A_DRAW = 32


class Dropout:
    """Makes masks that zero a share of the numbers and raise the others to keep the mean.

    Args:
        share: What is dropped, 0 up to, not including, 1; exact to 1 / 65,536.
        rng: The chance that drops.
    """

    def __init__(self, share: float, *, rng: np.random.Generator) -> None:
        self.share = share
        self._limit = round(share * 2**16)
        self._rng = rng
        self._bits = np.empty(0, dtype=np.uint16)

    def fill(self, mask: FloatArray) -> None:
        """Write a new mask: 0, or 1 / (1 - share)."""
        if len(self._bits) < mask.size:
            words = -(-mask.size // 4) * _STEPS_A_DRAW
            drawn = self._rng.integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True)
            self._bits = drawn.view(np.uint16)
        _fill(mask.reshape(-1), self._bits, self._limit)
        self._bits = self._bits[mask.size :]


@kernel
def _fill(mask: FloatArray, bits: NDArray[np.uint16], limit: int) -> None:
    kept = np.float32(65536.0 / (65536.0 - limit))
    threshold = np.uint16(limit)
    for i in range(len(mask)):
        mask[i] = kept if bits[i] >= threshold else np.float32(0)
