"""Sounds: read from files within limits, brought to one rate, and described without learning.

Files are decoded by libsndfile: WAV, FLAC, Ogg (Vorbis, Opus), MP3 and AIFF, told by what a file
holds and not by its name. A track longer than an excerpt is heard in a few excerpts spread
over it; encoders average over them, as van den Oord et al. (NIPS 2013) average over windows.
"""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, cast

import numpy as np
import scipy.signal

from momentary.encoders.spectrogram import MelConfig, log_mel, mfcc
from momentary.errors import DataError, SettingsError
from momentary.learn.bounds import require_ranges
from momentary.types import FloatArray

_FRAMES_AT_ONCE = 65_536
_FINEST_RATIO = 1_000
_COEFFICIENTS = 20
_SLACK_S = 0.1  # some Vorbis files promise a few blocks more than they hold
_OVERLAP = 0.01  # an excerpt more for less of a new one is not worth it
_STARTS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM")
_UNKNOWN_SIZE = 0x7FFFFFF0  # recorders that stream write such sizes and larger
_MISLEADING = ("not exist", "Internal error")
"""In the decoder's words for damage: they speak of files that do not exist, and of itself."""

_MPEG_LAYERS = (0xE2, 0xE4)  # after the sync bits: layer III or II


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioLimits:
    """What is read of a file, and which files are refused.

    Attributes:
        excerpt_s: A longer sound is heard in excerpts of this length.
        excerpts: At most so many of them.
        max_bytes: Largest file.
        max_s: Longest sound.
        max_channels: Most channels; they are averaged.
        min_rate_hz: Lowest sampling rate.
        max_rate_hz: Highest sampling rate.
    """

    excerpt_s: float = 30.0
    excerpts: int = 3
    max_bytes: int = 500_000_000
    max_s: float = 6 * 3600.0
    max_channels: int = 16
    min_rate_hz: int = 4_000
    max_rate_hz: int = 192_000

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)


_RANGES: dict[str, tuple[float, float]] = {
    "excerpt_s": (0.1, 600),
    "excerpts": (1, 100),
    "max_bytes": (1, 1e12),
    "max_s": (0.1, 1e7),
    "max_channels": (1, 1_024),
    "min_rate_hz": (1, 1e6),
    "max_rate_hz": (1, 1e6),
}

DEFAULT_LIMITS = AudioLimits()
"""Half a minute three times, of files up to half a gigabyte and six hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """What was read of a sound.

    Attributes:
        excerpts: One channel each, in -1 .. 1. Each of shape (samples,).
        rate_hz: Samples a second.
        seconds: How long the whole sound is.
    """

    excerpts: tuple[FloatArray, ...]
    rate_hz: int
    seconds: float

    def at(self, rate_hz: int) -> tuple[FloatArray, ...]:
        """The excerpts at another rate. Each of shape (samples,)."""
        return tuple(
            resample(excerpt, from_hz=self.rate_hz, to_hz=rate_hz) for excerpt in self.excerpts
        )


def read_sound(source: Path | bytes, *, limits: AudioLimits = DEFAULT_LIMITS) -> Sound:
    """Read a file's sound, or a file's content.

    Args:
        source: Path of a regular file, or what a file holds.
        limits: What is read and what is refused.

    Raises:
        DataError: With the reason why the file cannot be used.
        SettingsError: If soundfile is not installed.
    """
    reader = _soundfile()
    if isinstance(source, bytes):
        _refuse_size(len(source), limits)
        with io.BytesIO(source) as opened:
            return _read(reader, opened, limits)
    try:
        _refuse_size(_regular_size(source), limits)
        with source.open("rb") as opened:
            return _read(reader, opened, limits)
    except OSError as error:
        raise DataError(f"it cannot be opened: {error.strerror or error}.") from error


def is_silent(sound: Sound) -> bool:
    """Whether nothing at all is heard in any excerpt."""
    return not any(np.any(excerpt) for excerpt in sound.excerpts)


def resample(samples: FloatArray, *, from_hz: int, to_hz: int) -> FloatArray:
    """Bring samples to another rate, at most a thousandth off. Shape (samples,).

    >>> len(resample(np.zeros(44_100, dtype=np.float32), from_hz=44_100, to_hz=22_050))
    22050
    """
    ratio = Fraction(to_hz, from_hz).limit_denominator(_FINEST_RATIO)
    if ratio == 1:
        return samples
    changed: FloatArray = scipy.signal.resample_poly(samples, ratio.numerator, ratio.denominator)
    return changed.astype(np.float32, copy=False)


def log_mels(sound: Sound, config: MelConfig) -> tuple[FloatArray, ...]:
    """The log-mel spectrogram of every excerpt. Each of shape (frames, bands)."""
    return tuple(log_mel(samples, config) for samples in sound.at(config.rate_hz))


class MFCC:
    """Timbre without learning: how 20 cosine coefficients and their steps are spread over time.

    Mean and deviation of the coefficients and the deviation of their steps; 60 numbers a sound.
    Their scales differ widely: standardise them over a collection before comparing.
    """

    version = "mfcc/1"

    def __init__(self) -> None:
        self._mel = MelConfig()

    def encode(self, contents: Sequence[Sound]) -> FloatArray:
        """One vector a sound. Shape (sounds, 60)."""
        return mean_over_excerpts(contents, self._describe, dim=3 * _COEFFICIENTS)

    def _describe(self, sound: Sound) -> FloatArray:
        described = []
        for mel in log_mels(sound, self._mel):
            coefficients = mfcc(mel, count=_COEFFICIENTS)
            steps = np.diff(coefficients, axis=0, append=coefficients[-1:])
            parts = (coefficients.mean(0), coefficients.std(0), steps.std(0))
            described.append(np.concatenate(parts))
        return np.stack(described)


def mean_over_excerpts(
    sounds: Sequence[Sound], describe: Callable[[Sound], FloatArray], *, dim: int
) -> FloatArray:
    """The mean of what `describe` says of each sound's excerpts. Shape (sounds, dim).

    Args:
        sounds: What to describe.
        describe: Gives an array of shape (excerpts or windows, dim) for a sound.
        dim: Numbers a vector.
    """
    vectors = np.empty((len(sounds), dim), dtype=np.float32)
    for row, sound in enumerate(sounds):
        vectors[row] = describe(sound).mean(axis=0)
    return vectors


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except ImportError as error:
        raise SettingsError("sounds need soundfile; run: pip install 'momentary[media]'") from error
    return cast("ModuleType", soundfile)


def _regular_size(file: Path) -> int:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DataError("it is no regular file; a device or a pipe may never end.")
    return found.st_size


def _refuse_size(size_bytes: int, limits: AudioLimits) -> None:
    if size_bytes == 0:
        raise DataError("it is empty.")
    if size_bytes > limits.max_bytes:
        raise DataError(f"it has {size_bytes:,} bytes; at most {limits.max_bytes:,} are read.")


def _read(soundfile: ModuleType, opened: BinaryIO, limits: AudioLimits) -> Sound:
    _refuse_other_kinds(opened)
    try:
        with soundfile.SoundFile(opened) as file:
            seconds = _checked_seconds(file, limits)
            return Sound(
                excerpts=tuple(
                    _excerpt(file, start, count) for start, count in _places(file, limits)
                ),
                rate_hz=file.samplerate,
                seconds=seconds,
            )
    except soundfile.LibsndfileError as error:
        why = error.error_string.rstrip(".")
        if any(words in why for words in _MISLEADING):
            why = "its content is damaged"
        raise DataError(f"it is no sound that can be read: {why}.") from error


def _refuse_other_kinds(opened: BinaryIO) -> None:
    """Let the decoder see only what it is meant for; it knows dozens of kinds that nobody sends."""
    start = opened.read(12)
    size_bytes = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    mpeg_frame = start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE6 in _MPEG_LAYERS
    if not (mpeg_frame or start.startswith(_STARTS)):
        raise DataError("it is no WAV, FLAC, Ogg, MP3 or AIFF, whatever its name says.")
    promised = int.from_bytes(start[4:8], "little") + 8
    if start[:4] == b"RIFF" and size_bytes < promised < _UNKNOWN_SIZE:
        raise DataError(
            f"it is cut off: {size_bytes:,} bytes of the {promised:,} that it promises."
        )


def _checked_seconds(file: Any, limits: AudioLimits) -> float:  # noqa: ANN401 - a SoundFile
    if not limits.min_rate_hz <= file.samplerate <= limits.max_rate_hz:
        raise DataError(
            f"it has {file.samplerate:,} samples a second; "
            f"{limits.min_rate_hz:,} to {limits.max_rate_hz:,} are read."
        )
    if file.channels > limits.max_channels:
        raise DataError(f"it has {file.channels} channels; at most {limits.max_channels} are read.")
    if file.frames < 1:
        raise DataError("it holds no sound.")
    seconds: float = file.frames / file.samplerate
    if seconds > limits.max_s:
        raise DataError(f"it lasts {seconds:,.0f} seconds; at most {limits.max_s:,.0f} are read.")
    return seconds


def _places(file: Any, limits: AudioLimits) -> list[tuple[int, int]]:  # noqa: ANN401
    """First sample and length of every excerpt: evenly spread, neither intro nor fade-out."""
    length = min(file.frames, math.ceil(limits.excerpt_s * file.samplerate))
    count = min(limits.excerpts, math.ceil(file.frames / length - _OVERLAP))
    spare = file.frames - length
    return [(spare * (2 * place + 1) // (2 * count), length) for place in range(count)]


def _excerpt(file: Any, start: int, count: int) -> FloatArray:  # noqa: ANN401
    """The mean of the channels from sample `start`. Shape (count,), or a few samples less."""
    if start:
        file.seek(start)
    blocks, missing = [], count
    while missing:
        block = file.read(min(_FRAMES_AT_ONCE, missing), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block.mean(axis=1))
        missing -= len(block)
    if missing > _SLACK_S * file.samplerate or not blocks:
        raise DataError(
            f"it ends after {(start + count - missing) / file.samplerate:,.1f} seconds of the "
            f"{file.frames / file.samplerate:,.1f} that it promises."
        )
    samples: FloatArray = np.concatenate(blocks)
    peak = float(np.abs(samples).max())
    if not math.isfinite(peak):
        raise DataError("it holds samples that are no numbers.")
    if peak > 1:
        samples /= np.float32(peak)
    return samples
