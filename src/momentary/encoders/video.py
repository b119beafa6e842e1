"""Films to vectors: frames at scene changes through a picture encoder, pooled over time.

A film is decoded twice. The first pass keeps a tiny picture of every frame and cuts the film into
scenes where these change most (Zhang, Kankanhalli & Smoliar, "Automatic partitioning of full-motion
video", Multimedia Systems 1993); the second keeps the middle frame of each scene. Only three
containers are opened, told by what a file holds: MP4 and QuickTime, Matroska and WebM, AVI. None
of them may name another file, as play lists do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from momentary.encoders.audio import DEFAULT_LIMITS as DEFAULT_AUDIO
from momentary.encoders.audio import AudioLimits, Sound
from momentary.encoders.protocol import Encoder, Picture
from momentary.errors import DataError, SettingsError
from momentary.learn.bounds import require_ranges
from momentary.types import FloatArray, IntArray

_TINY_SIDE = 16
_SEEN_SIDE = 512
_FADE = 0.02  # of the full range: a smaller step is noise, never a cut
_SOUND_HZ = 22_050
_TIME_BASE = 1_000_000  # of a container's duration


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLimits:
    """What is read of a film, and which films are refused.

    Attributes:
        frames: Most frames that are encoded, one a scene.
        max_bytes: Largest file.
        max_pixels: Largest frame.
        max_decoded: Most frames that are decoded; of longer films only the frames that others
            build on, which encoders set at cuts, and of these the first so many.
        max_s: Longest film.
    """

    frames: int = 18
    max_bytes: int = 500_000_000
    max_pixels: int = 10_000_000
    max_decoded: int = 6_000
    max_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)


_RANGES: dict[str, tuple[float, float]] = {
    "frames": (1, 1_000),
    "max_bytes": (1, 1e12),
    "max_pixels": (1, 1e9),
    "max_decoded": (1, 1e7),
    "max_s": (0.1, 1e7),
}

DEFAULT_VIDEO = VideoLimits()
"""Eighteen scenes of films up to half a gigabyte and six hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What was read of a film.

    Attributes:
        frames: The middle frame of each scene, at most 512 pixels wide or high.
        shares: Part of the time that each scene takes. Shape (frames,).
        sound: The sound track; None if there is none, or none that can be read.
        seconds: How long it is.
    """

    frames: tuple[Picture, ...]
    shares: FloatArray
    sound: Sound | None
    seconds: float


class FilmEncoder:
    """What is seen in a film: its scenes' pictures, each weighed by the root of its time.

    Args:
        pictures: Encodes the frames; vectors compare with those of pictures.
    """

    def __init__(self, pictures: Encoder[Picture]) -> None:
        self._pictures = pictures
        self.version = f"film-1:{pictures.version}"

    def encode(self, contents: Sequence[Film]) -> FloatArray:
        """One vector a film, of length 1. Shape (films, as wide as a picture's)."""
        frames = self._pictures.encode([frame for film in contents for frame in film.frames])
        vectors = np.zeros((len(contents), frames.shape[1]), dtype=np.float32)
        start = 0
        for row, film in enumerate(contents):
            own = frames[start : start + len(film.frames)]
            start += len(film.frames)
            vectors[row] = np.sqrt(film.shares) @ own
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def read_film(
    content: bytes, *, limits: VideoLimits = DEFAULT_VIDEO, audio: AudioLimits = DEFAULT_AUDIO
) -> Film:
    """The scenes and the sound track of a film.

    Raises:
        DataError: With the reason why it cannot be used.
        SettingsError: If PyAV is not installed.
    """
    if not content:
        raise DataError("it is empty.")
    if len(content) > limits.max_bytes:
        raise DataError(f"it has {len(content):,} bytes; at most {limits.max_bytes:,} are read.")
    source = _Source(av=_pyav(), content=content, kind=_container(content))
    with _failures_named(source.av):
        tiny, seconds = _survey(source, limits)
        chosen, shares = _scenes(tiny, limits.frames)
        wanted = {int(place) for place in chosen}
        with source.opened() as container:
            frames = tuple(
                _seen(frame)
                for place, frame in enumerate(_frames(container, limits))
                if place in wanted
            )
    return Film(
        frames=frames,
        shares=shares[: len(frames)],
        sound=_sound_or_none(source, audio),
        seconds=seconds,
    )


class _Source(NamedTuple):
    """A film that can be opened again and again."""

    av: ModuleType
    content: bytes
    kind: str

    def opened(self) -> Any:  # noqa: ANN401 - a container of PyAV, which has no types
        # Without drefs, a QuickTime file cannot make the decoder open others.
        options = {"enable_drefs": "0"} if self.kind == "mov" else {}
        return self.av.open(io.BytesIO(self.content), format=self.kind, options=options)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise SettingsError("films need PyAV; run: pip install 'momentary[media]'") from error
    return av


def _container(content: bytes) -> str:
    if content[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "mov"
    if content.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "avi"
    raise DataError("it is no MP4, QuickTime, Matroska, WebM or AVI, whatever its name says.")


@contextmanager
def _failures_named(av: ModuleType) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (av.FFmpegError, ValueError, OSError, MemoryError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"it is no film that can be read: {why}.") from None


def _survey(source: _Source, limits: VideoLimits) -> tuple[FloatArray, float]:
    """Tiny pictures of the frames, and the seconds. Shape (frames, numbers)."""
    with source.opened() as container:
        seconds = (container.duration or 0) / _TIME_BASE
        if seconds > limits.max_s:
            raise DataError(f"it lasts {seconds:,.0f} s; at most {limits.max_s:,.0f} are read.")
        tiny = [
            frame.reformat(width=_TINY_SIDE, height=_TINY_SIDE, format="rgb24").to_ndarray()
            for frame in _frames(container, limits)
        ]
    if not tiny:
        raise DataError("it holds no frame that can be read.")
    flat = np.stack(tiny).reshape(len(tiny), -1)
    return np.asarray(flat, dtype=np.float32) / np.float32(255), float(seconds)


def _frames(container: Any, limits: VideoLimits) -> Iterator[Any]:  # noqa: ANN401
    """The frames within the limits; damage in the middle ends a film that had a beginning."""
    if not container.streams.video:
        raise DataError("it holds no pictures.")
    stream = container.streams.video[0]
    context = stream.codec_context
    _refuse_size(context.width, context.height, limits)
    context.thread_count = 1
    rate = float(stream.average_rate or 25)
    seconds = (container.duration or 0) / _TIME_BASE
    if (stream.frames or seconds * rate) > limits.max_decoded:
        context.skip_frame = "NONKEY"
    done = 0
    try:
        for frame in container.decode(stream):
            _refuse_size(frame.width, frame.height, limits)
            yield frame
            done += 1
            if done >= limits.max_decoded:
                return
    except _pyav().FFmpegError as error:
        if not done:
            raise DataError(f"it is damaged: {error.strerror or error}.") from None


def _refuse_size(width: int, height: int, limits: VideoLimits) -> None:
    if width * height > limits.max_pixels:
        raise DataError(
            f"its frames have {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are "
            "decoded."
        )


def _scenes(tiny: FloatArray, most: int) -> tuple[IntArray, FloatArray]:
    """Middle frame and share of the time of each scene. Shapes (scenes,), (scenes,).

    Cuts are the largest steps that stand out; where there are fewer than wanted, the longest
    scenes are halved, since a still camera may see much.

    >>> stripes = np.repeat(np.array([[0.0], [1.0]], dtype=np.float32), [6, 2], axis=0)
    >>> _scenes(stripes, 2)[0].tolist()
    [3, 7]
    """
    steps = np.abs(np.diff(tiny, axis=0)).mean(axis=1)
    typical = float(np.median(steps)) if len(steps) else 0.0
    cuts = np.flatnonzero(steps > max(_FADE, 4 * typical)) + 1
    strongest = cuts[np.argsort(-steps[cuts - 1], kind="stable")[: most - 1]]
    edges = [0, *sorted(strongest.tolist()), len(tiny)]
    while len(edges) - 1 < min(most, len(tiny)):
        lengths = np.diff(edges)
        longest = int(lengths.argmax())
        edges.insert(longest + 1, edges[longest] + int(lengths[longest]) // 2)
    lengths = np.diff(edges)
    middles = np.array(edges[:-1]) + lengths // 2
    return middles.astype(np.int64), (lengths / lengths.sum()).astype(np.float32)


def _seen(frame: Any) -> Picture:  # noqa: ANN401
    scale = min(1.0, _SEEN_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    seen = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.asarray(seen, dtype=np.uint8)


def _sound_or_none(source: _Source, limits: AudioLimits) -> Sound | None:
    """Excerpts spread over the sound track, in one channel."""
    try:
        with source.opened() as container:
            if not container.streams.audio:
                return None
            return _sound(container, limits)
    except (source.av.FFmpegError, ValueError, OSError, MemoryError, OverflowError):
        return None  # the pictures are worth having without it


def _sound(container: Any, limits: AudioLimits) -> Sound | None:  # noqa: ANN401
    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    seconds = (container.duration or 0) / _TIME_BASE
    count = max(1, min(limits.excerpts, math.ceil(seconds / limits.excerpt_s - 0.01)))
    spare = max(seconds - limits.excerpt_s, 0.0)
    excerpts = []
    for number in range(count):
        begin_s = spare * (2 * number + 1) / (2 * count)
        if begin_s:
            container.seek(int(begin_s / stream.time_base), stream=stream)
        excerpt = _excerpt(container, stream, seconds=limits.excerpt_s)
        if len(excerpt):
            excerpts.append(excerpt)
    if not excerpts:
        return None
    return Sound(excerpts=tuple(excerpts), rate_hz=_SOUND_HZ, seconds=float(seconds))


def _excerpt(container: Any, stream: Any, *, seconds: float) -> FloatArray:  # noqa: ANN401
    resampler = _pyav().AudioResampler(format="flt", layout="mono", rate=_SOUND_HZ)
    wanted = math.ceil(seconds * _SOUND_HZ)
    parts, held = [], 0
    for frame in container.decode(stream):
        for each in resampler.resample(frame):
            parts.append(each.to_ndarray().ravel())
            held += len(parts[-1])
        if held >= wanted:
            break
    if not parts:
        return np.zeros(0, dtype=np.float32)
    samples = np.nan_to_num(np.concatenate(parts)[:wanted])
    return np.asarray(np.clip(samples, -1, 1), dtype=np.float32)
