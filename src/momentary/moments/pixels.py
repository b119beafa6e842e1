"""Bytes of a picture -> pixels of a known size, without trusting the bytes."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from momentary.errors import DataError

Pixels = NDArray[np.uint8]
"""A picture: red, green, blue in sRGB. Shape (height, width, 3)."""

SIDE = 224
"""Length of the longer side at which every picture is measured, in pixels."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLimits:
    """What is too much for a picture, so that a hostile one costs little.

    Attributes:
        bytes: Largest file, in bytes.
        pixels: Most pixels that are decoded; a small file can claim very many.
        smallest_side: Pictures with a shorter side are set aside, in pixels.
        aspect: Largest ratio of the sides.
    """

    bytes: int = 40_000_000
    pixels: int = 60_000_000
    smallest_side: int = 24
    aspect: float = 8.0

    def __post_init__(self) -> None:
        for name in ("bytes", "pixels", "smallest_side", "aspect"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")


LIMITS = PictureLimits()
"""Enough for any camera's picture."""


def read_picture(
    source: Path | bytes, *, side: int = SIDE, limits: PictureLimits = LIMITS
) -> Pixels:
    """Decode a picture, turn it upright, put it on white, and bring its longer side to `side`.

    Args:
        source: A file, or its bytes.
        side: In pixels.
        limits: What is refused before it is decoded.

    Returns:
        The pixels. Shape (height, width, 3), the longer of the two being `side`.

    Raises:
        DataError: If it is missing, not a picture, damaged, or beyond the limits.
    """
    data = source if isinstance(source, bytes) else _bytes(source, limits)
    if len(data) > limits.bytes:
        raise DataError(f"it has {len(data):,} bytes; at most {limits.bytes:,} are read")
    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures that are large or carry odd metadata; our own limits decide.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_size(image.size, limits)
                image.draft("RGB", (2 * side, 2 * side))
                return _fit(_on_white(ImageOps.exif_transpose(image)), side)
    except UnidentifiedImageError as error:
        raise DataError(f"it is not a picture ({', '.join(_FORMATS)} are read)") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"it claims too many pixels; at most {limits.pixels:,} are read") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError) as error:
        raise DataError(f"it is damaged: {str(error) or type(error).__name__}") from error


def _bytes(file: Path, limits: PictureLimits) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(limits.bytes + 1)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error


def _check_size(size: tuple[int, int], limits: PictureLimits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise DataError(
            f"it claims {width:,} x {height:,} pixels; at most {limits.pixels:,} are read"
        )
    if min(size) < limits.smallest_side:
        raise DataError(
            f"it is {width} x {height} pixels; below {limits.smallest_side} nothing can be measured"
        )
    if max(size) > limits.aspect * min(size):
        raise DataError(f"it is {width} x {height} pixels; too narrow to be a product's picture")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        top = 65_535.0 if values.max() > 255 else 255.0
        return Image.fromarray(np.uint8(values.clip(0, top) * (255 / top))).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, side: int) -> Pixels:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != image.size:
        # A triangle filter as wide as a new pixel: no ringing, so no edges that were not there.
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(image, dtype=np.uint8)


def encode_jpeg(pixels: Pixels, *, quality: int) -> bytes:
    """The picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(pixels: Pixels) -> bytes:
    """The picture as PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
