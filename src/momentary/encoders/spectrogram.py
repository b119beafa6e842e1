"""Sound as a picture: the power of a short window's spectrum, summed into bands that hearing has.

Davis & Mermelstein, "Comparison of parametric representations for monosyllabic word recognition",
IEEE TASSP 1980, for mel bands and their cosine transform (MFCC). With w a Hann window of N samples
and a hop of H samples,

    P(t, f) = |sum over n of w(n) x(t H + n) exp(-2 pi i f n / N)|^2
    M(t, b) = sum over f of T_b(f) P(t, f)

where T_b is a triangle from the centre of band b - 1 to that of band b + 1, and the centres are
equally far apart in mel. Networks read log10(1 + gain M).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from momentary.learn.bounds import require_choices, require_ranges
from momentary.types import FloatArray

Scale = Literal["slaney", "htk"]
"""Which formula mel is: Slaney's is linear below 1 kHz, HTK's is one logarithm."""

_FRAMES_AT_ONCE = 1024
_LINEAR_HZ, _HZ_A_MEL = 1000.0, 200.0 / 3.0
_LOG_STEP = np.log(6.4) / 27.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MelConfig:
    """How samples become mel bands.

    Attributes:
        rate_hz: Samples a second.
        window: Samples that one frame looks at.
        hop: Samples from one frame to the next.
        bands: Mel bands.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends; at most half of `rate_hz`.
        scale: The mel formula.
        weights: A band's triangle has the area 1 in hertz ("area"), or weights that sum to 1
            ("sum").
        gain: Multiplies the power before the logarithm.
    """

    rate_hz: int = 22_050
    window: int = 1024
    hop: int = 512
    bands: int = 128
    low_hz: float = 0.0
    high_hz: float = 11_025.0
    scale: Scale = "slaney"
    weights: Literal["area", "sum"] = "area"
    gain: float = 10_000.0

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        require_choices(self, {"scale": ("slaney", "htk"), "weights": ("area", "sum")})
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                f"low_hz is {self.low_hz} and high_hz {self.high_hz}; they must rise from 0 to at "
                f"most half of rate_hz, {self.rate_hz / 2}."
            )

    def frames(self, n_samples: int) -> int:
        """How many frames a sound has; a short one is padded to one frame."""
        return 1 + max(0, n_samples - self.window) // self.hop

    def seconds(self, frames: int) -> float:
        """How long so many frames last."""
        return frames * self.hop / self.rate_hz


_RANGES: dict[str, tuple[float, float]] = {
    "rate_hz": (1_000, 400_000),
    "window": (16, 65_536),
    "hop": (1, 65_536),
    "bands": (1, 1_024),
    "gain": (1e-6, 1e12),
}


def log_mel(samples: FloatArray, config: MelConfig) -> FloatArray:
    """The log-mel spectrogram. Shape (frames, bands), from (samples,).

    Args:
        samples: One channel at `config.rate_hz`, in -1 .. 1.
        config: Windows and bands.

    >>> log_mel(np.zeros(22_050, dtype=np.float32), MelConfig()).shape
    (42, 128)
    """
    mel = mel_power(samples, config)
    mel *= np.float32(config.gain)
    np.log1p(mel, out=mel)
    mel *= np.float32(1.0 / np.log(10.0))
    return mel


def mel_power(samples: FloatArray, config: MelConfig) -> FloatArray:
    """M(t, b), before any logarithm. Shape (frames, bands), from (samples,)."""
    short = config.window - len(samples)
    padded = np.pad(samples, (0, short)) if short > 0 else samples
    frames = sliding_window_view(padded, config.window)[:: config.hop]
    hann, filters = _hann(config.window), mel_filters(config)
    mel = np.empty((len(frames), config.bands), dtype=np.float32)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectrum = scipy.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * hann, axis=1)
        power = spectrum.real**2
        power += spectrum.imag**2
        np.matmul(power, filters, out=mel[start : start + len(power)])
    return mel


def mfcc(mel: FloatArray, *, count: int = 20) -> FloatArray:
    """The first cosine coefficients of every frame. Shape (frames, count), from (frames, bands)."""
    cosines: FloatArray = scipy.fft.dct(mel, type=2, axis=1, norm="ortho")[:, :count]
    return cosines


@functools.lru_cache(maxsize=16)
def mel_filters(config: MelConfig) -> FloatArray:
    """The triangles T. Shape (window // 2 + 1, bands)."""
    hertz = np.fft.rfftfreq(config.window, 1 / config.rate_hz)[:, None]
    edges = band_edges_hz(config)
    rising = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hertz) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    if config.weights == "area":
        triangles *= 2.0 / (edges[2:] - edges[:-2])
    else:
        triangles /= np.maximum(triangles.sum(axis=0), np.finfo(np.float64).tiny)
    return triangles.astype(np.float32)


def band_edges_hz(config: MelConfig) -> NDArray[np.float64]:
    """Where bands begin, peak and end: band b spans edges b to b + 2. Shape (bands + 2,)."""
    ends = to_mel(np.array([config.low_hz, config.high_hz]), config.scale)
    return to_hz(np.linspace(ends[0], ends[1], config.bands + 2), config.scale)


def to_mel(hertz: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Hertz as mel.

    >>> to_mel(np.array([1000.0]), "slaney").tolist()
    [15.0]
    """
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    above = np.maximum(hertz, _LINEAR_HZ)
    logarithm = _LINEAR_HZ / _HZ_A_MEL + np.log(above / _LINEAR_HZ) / _LOG_STEP
    return np.where(hertz < _LINEAR_HZ, hertz / _HZ_A_MEL, logarithm)


def to_hz(mel: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Mel as hertz; undoes `to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = np.maximum(mel, _LINEAR_HZ / _HZ_A_MEL)
    exponential = _LINEAR_HZ * np.exp((above - _LINEAR_HZ / _HZ_A_MEL) * _LOG_STEP)
    return np.where(mel < _LINEAR_HZ / _HZ_A_MEL, mel * _HZ_A_MEL, exponential)


@functools.lru_cache(maxsize=16)
def _hann(window: int) -> FloatArray:
    phase = 2.0 * np.pi * np.arange(window) / window
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
