"""Music to vectors: musicnn, with the weights that its package holds.

Pons & Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", ISMIR
late-breaking demo 2019, arXiv 1909.06654. On the log-mel spectrogram of three seconds, wide filters
listen to timbre (7 frames of .4 and .7 of the bands, the maximum over where they fit) and long ones
to rhythm (32, 64 and 128 frames of one band); three layers along time follow, each added to the one
before; mean and maximum over time enter a dense layer of 200 units.

    pip install --no-deps musicnn==0.1.0

The package asks for TensorFlow and an old NumPy; only its weights are read, so neither is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from momentary.encoders.audio import Sound, log_mels, mean_over_excerpts
from momentary.encoders.installed import package_folder
from momentary.encoders.spectrogram import MelConfig
from momentary.encoders.tensorflow_checkpoint import read_checkpoint
from momentary.learn.bounds import require_choices
from momentary.learn.crops import spread_crops
from momentary.types import FloatArray

_EPSILON = 1e-3
_FRAMES = 187
_WINDOWS_AT_ONCE = 1
"""More need buffers that the system hands out and takes back each time, which is slower."""
_MEL = MelConfig(rate_hz=16_000, window=512, hop=256, bands=96, high_hz=8_000.0)


class Musicnn:
    """What a song sounds like to a network that learned to tag songs.

    Args:
        trained_on: "msd", the Million Song Dataset with tags of Last.fm, or "mtt", MagnaTagATune.

    Raises:
        SettingsError: If the package is not installed or there are no such weights.
    """

    def __init__(self, trained_on: Literal["msd", "mtt"] = "msd") -> None:
        self.trained_on = trained_on
        require_choices(self, {"trained_on": ("msd", "mtt")})
        self._weights = _read_weights(trained_on)
        self.version = f"musicnn-{trained_on}/1"

    def encode(self, contents: Sequence[Sound]) -> FloatArray:
        """One vector a sound. Shape (sounds, 200)."""
        return mean_over_excerpts(contents, self._describe, dim=len(self._weights["dense/bias"]))

    def _describe(self, sound: Sound) -> FloatArray:
        pieces = [spread_crops(mel, _FRAMES) for mel in log_mels(sound, _MEL)]
        windows = torch.split(torch.from_numpy(np.concatenate(pieces)), _WINDOWS_AT_ONCE)
        with torch.inference_mode():
            return torch.cat([self._penultimate(batch) for batch in windows]).numpy()

    def _penultimate(self, mel: Tensor) -> Tensor:
        """Shapes (windows, frames, bands), (windows, units)."""
        x = self._normalize("", mel[:, None], axis=1)
        timbre = [self._timbre(x, number) for number in (0, 1)]
        rhythm = [self._rhythm(x, number) for number in (2, 3, 4)]
        front = torch.cat(timbre + rhythm, 1)  # (windows, channels, frames)
        first = self._along_time(front, 5)
        second = self._along_time(first, 6) + first
        third = self._along_time(second, 7) + second
        features = torch.cat([front, first, second, third], 1)
        pooled = torch.stack([features.amax(2), features.mean(2)], 2).flatten(1)
        pooled = self._normalize("_9", pooled, axis=1)
        dense = pooled @ self._weights["dense/kernel"] + self._weights["dense/bias"]
        return self._normalize("_10", functional.relu(dense), axis=1)

    def _timbre(self, x: Tensor, number: int) -> Tensor:
        y = self._convolve(functional.pad(x, (0, 0, 3, 3)), number)
        return self._normalize(f"_{number + 1}", y, axis=1).amax(3)

    def _rhythm(self, x: Tensor, number: int) -> Tensor:
        length = self._weights[f"conv2d_{number}/kernel"].shape[2]
        before = (length - 1) // 2
        y = self._convolve(functional.pad(x, (0, 0, before, length - 1 - before)), number)
        return self._normalize(f"_{number + 1}", y, axis=1).amax(3)

    def _along_time(self, x: Tensor, number: int) -> Tensor:
        y = self._convolve(functional.pad(x.mT[:, None], (0, 0, 3, 3)), number)
        return self._normalize(f"_{number + 1}", y[:, :, :, 0], axis=1)

    def _convolve(self, x: Tensor, number: int) -> Tensor:
        name = f"conv2d_{number}" if number else "conv2d"
        return functional.relu(
            functional.conv2d(x, self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"])
        )

    def _normalize(self, number: str, x: Tensor, *, axis: int) -> Tensor:
        name = f"batch_normalization{number}"
        shape = [-1 if at == axis else 1 for at in range(x.ndim)]
        mean, variance, gamma, beta = (
            self._weights[f"{name}/{part}"].reshape(shape)
            for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return (x - mean) * (gamma * torch.rsqrt(variance + _EPSILON)) + beta


def _read_weights(trained_on: str) -> Mapping[str, Tensor]:
    folder = package_folder("musicnn", "0.1.0") / f"{trained_on.upper()}_musicnn"
    arrays = read_checkpoint(folder / ".index", folder / ".data-00000-of-00001")
    weights = {}
    for name, array in arrays.items():
        if name.endswith(("/Adam", "/Adam_1")):
            continue
        axes = (3, 2, 0, 1) if array.ndim == 4 else tuple(range(array.ndim))
        weights[name] = torch.from_numpy(np.array(array.transpose(axes), order="C"))
    return weights
