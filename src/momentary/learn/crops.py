"""Pieces of one length, cut from spectrograms of any length."""

from __future__ import annotations

import math

import numpy as np

from momentary.types import FloatArray


def spread_crops(spectrogram: FloatArray, frames: int, *, overlap: float = 0.0) -> FloatArray:
    """The fewest evenly spread pieces that cover a spectrogram. Shape (pieces, frames, bands).

    Args:
        spectrogram: Shape (any, bands), at least one frame; a short one is repeated.
        frames: Length of a piece.
        overlap: Share of a piece that its neighbour holds, too, at least.

    >>> spread_crops(np.arange(5, dtype=np.float32)[:, None], 3)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    whole = at_least(spectrogram, frames)
    spare = len(whole) - frames
    pieces = 1 + math.ceil(spare / (frames * (1.0 - overlap)))
    starts = np.linspace(0, spare, pieces).round().astype(np.int64)
    return np.stack([whole[start : start + frames] for start in starts])


def random_crop(spectrogram: FloatArray, frames: int, rng: np.random.Generator) -> FloatArray:
    """A piece from anywhere. Shape (frames, bands)."""
    whole = at_least(spectrogram, frames)
    start = int(rng.integers(len(whole) - frames + 1))
    return whole[start : start + frames]


def at_least(spectrogram: FloatArray, frames: int) -> FloatArray:
    """The spectrogram, repeated until it has so many frames. Shape (frames or more, bands)."""
    if not len(spectrogram):
        raise ValueError("the spectrogram has no frames; a sound has at least one.")
    times = -(-frames // len(spectrogram))
    return np.tile(spectrogram, (times, 1)) if times > 1 else spectrogram
