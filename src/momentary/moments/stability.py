"""Does a measurement survive what happens to pictures on their way to a page?

Shops re-encode pictures and serve them in several sizes. A sample of the pictures is measured again
after JPEG at quality 75 and after half its size; an attribute whose values then correlate by less
than .95 with those before is noisy: a part of what it says is about the file and not the picture,
and its effects come out too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.pixels import Pixels, encode_jpeg, read_picture

STEADY = 0.95
"""Correlation below which an attribute is noisy."""

LEAST = 20
"""Fewer pictures than this tell no correlation."""

Stability = Mapping[str, tuple[float, float]]
"""By attribute: correlation with itself after JPEG and after half the size; empty if unknown."""

_QUALITY = 75


def worsened(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """The picture after JPEG, and after half its size, each as it would be read again."""
    height, width = pixels.shape[:2]
    small = _resized(pixels, width=max(1, width // 2), height=max(1, height // 2))
    return (
        read_picture(encode_jpeg(pixels, quality=_QUALITY), side=max(height, width)),
        _resized(small, width=width, height=height),
    )


def remeasure(pixels: Pixels) -> NDArray[np.float64]:
    """Attributes before, after JPEG and after half the size. Shape (3, attributes)."""
    return np.stack([measure(each) for each in (pixels, *worsened(pixels))])


def stability(again: NDArray[np.float64]) -> Stability:
    """How steady each attribute is over pictures.

    Args:
        again: What `remeasure` found. Shape (pictures, 3, attributes).

    Returns:
        Empty where there are fewer than `LEAST` pictures.
    """
    if len(again) < LEAST:
        return {}
    return {
        name: (likeness(again[:, 0, at], again[:, 1, at]),
               likeness(again[:, 0, at], again[:, 2, at]))
        for at, name in enumerate(ATTRIBUTES)
    }  # fmt: skip


def noisy(found: Stability) -> tuple[str, ...]:
    """Attributes that do not survive, in the order of `ATTRIBUTES`."""
    return tuple(name for name, values in found.items() if min(values) < STEADY)


def spread_out(names: Sequence[str], *, count: int) -> list[str]:
    """So many names, evenly spaced."""
    if len(names) <= count:
        return list(names)
    return [names[at] for at in np.linspace(0, len(names) - 1, count).astype(int).tolist()]


def _resized(pixels: Pixels, *, width: int, height: int) -> Pixels:
    """As `read_picture` brings a picture to another size."""
    image = Image.fromarray(pixels)
    return np.array(
        image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.uint8
    )


def likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's correlation; 1 for two equal constants."""
    spread = float(one.std() * other.std())
    if spread <= 0:
        return 1.0 if np.array_equal(one, other) else 0.0
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread)
