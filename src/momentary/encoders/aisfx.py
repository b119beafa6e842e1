"""Sound effects to vectors: aiSFX, with the weights that its package holds.

Ma & Lerch, "Representation learning for the automatic indexing of sound effects libraries", ISMIR
2022, arXiv 2208.09096; the weights are theirs, under CC BY 4.0. Four blocks of two 3x3 convolutions
(64 to 512 channels), each followed by a maximum over 2x2, read two seconds of log-mel spectrogram;
the vector is the mean over frequency and the maximum over time.

    pip install --no-deps aisfx==0.1.2

The package asks for versions of librosa and NumPy that no longer install; only its weights are
read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from momentary.encoders.audio import Sound, log_mels, mean_over_excerpts
from momentary.encoders.installed import package_folder, require_digest
from momentary.encoders.spectrogram import MelConfig
from momentary.learn.bounds import require_choices
from momentary.learn.crops import spread_crops
from momentary.types import FloatArray

_SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
_BLOCKS = 4
_DIM = 512
_FRAMES = 100
_OVERLAP = 0.5
_WINDOWS_AT_ONCE = 2
"""More need buffers that the system hands out and takes back each time, which is slower."""
_EPSILON = 1e-5
_LOUDEST = 9.457798957824707
"""The largest value of the spectrograms that the network learned from, which it saw as 1."""

_MEL = MelConfig(
    rate_hz=44_100,
    window=2048,
    hop=1024,
    bands=96,
    high_hz=22_050.0,
    scale="htk",
    weights="sum",
)


class AiSFX:
    """What a sound is to a network that learned the categories of sound effects.

    Args:
        over_time: "mean" of the windows; "all" adds their maximum and their deviation, which tell
            a single bark in silence from rain.

    Raises:
        SettingsError: If the package is not installed, or its weights were changed.
    """

    def __init__(self, over_time: Literal["mean", "all"] = "mean") -> None:
        self.over_time = over_time
        require_choices(self, {"over_time": ("mean", "all")})
        self.version = "aisfx/1" if over_time == "mean" else "aisfx-all/1"
        self._convolutions = _convolutions(_read_weights())

    def encode(self, contents: Sequence[Sound]) -> FloatArray:
        """One vector a sound. Shape (sounds, 512), or (sounds, 1536) for "all"."""
        if self.over_time == "mean":
            return mean_over_excerpts(contents, self._describe, dim=_DIM)
        vectors = np.empty((len(contents), 3 * _DIM), dtype=np.float32)
        for row, sound in enumerate(contents):
            windows = self._describe(sound)
            pooled = [windows.mean(axis=0), windows.max(axis=0), windows.std(axis=0)]
            vectors[row] = np.concatenate(pooled)
        return vectors

    def _describe(self, sound: Sound) -> FloatArray:
        mels = (mel / np.float32(_LOUDEST) for mel in log_mels(sound, _MEL))
        pieces = [spread_crops(mel, _FRAMES, overlap=_OVERLAP) for mel in mels]
        windows = torch.split(torch.from_numpy(np.concatenate(pieces)), _WINDOWS_AT_ONCE)
        with torch.inference_mode():
            return torch.cat([self._embed(batch) for batch in windows]).numpy()

    def _embed(self, mel: Tensor) -> Tensor:
        """Shapes (windows, frames, bands), (windows, 512)."""
        x = mel[:, None].contiguous(memory_format=torch.channels_last)
        for number, (weight, bias) in enumerate(self._convolutions, start=1):
            x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
            if number % 2 == 0 and number < 2 * _BLOCKS:
                x = functional.max_pool2d(x, 2)
        return x.mean(3).amax(2)


def _convolutions(weights: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution, its batch normalisation folded in."""
    folded = []
    for block in range(1, _BLOCKS + 1):
        for layer in (1, 2):
            name = f"embedding_net.conv_block{block}"
            gamma, beta, mean, variance = (
                weights[f"{name}.bn{layer}.{part}"]
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma * torch.rsqrt(variance + _EPSILON)
            weight = weights[f"{name}.conv{layer}.weight"] * scale[:, None, None, None]
            folded.append((weight, beta - mean * scale))
    return folded


def _read_weights() -> Mapping[str, Tensor]:
    file = package_folder("aisfx", "0.1.2") / "models" / "checkpoint.pth"
    require_digest(file, _SHA256)
    # weights_only: tensors, and the numbers of a table beside them, but nothing that runs; the
    # digest has vouched for them, too.
    scalar = cast("Callable[..., Any]", np.int64(0).__reduce__()[0])
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    with torch.serialization.safe_globals(allowed):
        weights: Mapping[str, Tensor]
        weights, _ = torch.load(file, map_location="cpu", weights_only=True)
    return weights
