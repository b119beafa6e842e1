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

    Attributes:
        limit: A number is dropped where 16 random bits are below it.
        bits: Drawn and not used yet.
    """

    def __init__(self, share: float, *, rng: np.random.Generator) -> None:
        self.share = share
        self.limit = round(share * 2**16)
        self._rng = rng
        self.bits = np.empty(0, dtype=np.uint16)

    def fill(self, mask: FloatArray) -> None:
        """Write a new mask: 0, or 1 / (1 - share)."""
        fill_mask(mask.reshape(-1), self.take(mask.size, ahead=_STEPS_A_DRAW), self.limit)

    def take(self, count: int, *, ahead: int = 1) -> NDArray[np.uint16]:
        """Random bits for as many numbers, which are used up; none if nothing is dropped.

        Args:
            count: How many.
            ahead: Bits for so many calls are drawn at once.
        """
        if self.limit == 0:
            return self.bits
        if len(self.bits) < count:
            words = -(-count // 4) * ahead
            drawn = self._rng.integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True)
            self.bits = drawn.view(np.uint16)
        taken, self.bits = self.bits[:count], self.bits[count:]
        return taken


@kernel
def fill_mask(mask: FloatArray, bits: NDArray[np.uint16], limit: int) -> None:
    """Write 0 where the bits are below `limit`, else what keeps the mean."""
    kept = np.float32(65536.0 / (65536.0 - limit))
    if limit == 0:
        mask[:] = kept
        return
    threshold = np.uint16(limit)
    for i in range(len(mask)):
        mask[i] = kept if bits[i] >= threshold else np.float32(0)
