"""Pictures to colours: a soft histogram of what is not background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from momentary.encoders.protocol import Picture
from momentary.types import FloatArray

_SIDE = 48
_HUES = 12
_LIGHTS = 3
_GREYS = 6
_BACKGROUND = 12.0  # steps of 255 from the border's colour


class ColourHistogram:
    """42 numbers a picture, of length 1: 12 hues at 3 lightnesses, and 6 greys.

    A pixel counts for a hue by its saturation and for a grey by the rest. Pixels like the border
    are taken for background, unless nothing else is left.
    """

    version = "colour-histogram/1"

    def encode(self, contents: Sequence[Picture]) -> FloatArray:
        """One vector a picture. Shape (pictures, 42)."""
        rows = [_histogram(picture) for picture in contents]
        return np.array(rows, dtype=np.float32).reshape(len(contents), _HUES * _LIGHTS + _GREYS)


def _histogram(picture: Picture) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(picture)).resize((_SIDE, _SIDE))
    colours = np.asarray(image, dtype=np.float32)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    apart = np.abs(colours - np.median(edge, axis=0)).max(axis=2) > _BACKGROUND
    if apart.mean() < 0.02:
        apart[:] = True
    hue, saturation, value = (
        np.asarray(image.convert("HSV"), dtype=np.float32)[apart] / np.float32(255)
    ).T
    strong = np.clip(saturation * value * 2.5 - 0.25, 0, 1)
    light = np.minimum((value * _LIGHTS).astype(np.int64), _LIGHTS - 1)
    counts = np.zeros(_HUES * _LIGHTS + _GREYS, dtype=np.float64)
    place = hue * _HUES
    low = place.astype(np.int64)
    for step, share in ((low, 1 - (place - low)), (low + 1, place - low)):
        np.add.at(counts, (step % _HUES) * _LIGHTS + light, share * strong)
    grey = np.minimum((value * _GREYS).astype(np.int64), _GREYS - 1)
    np.add.at(counts, _HUES * _LIGHTS + grey, 1 - strong)
    found = np.sqrt(counts / max(counts.sum(), 1e-9))
    return np.asarray(found / max(float(np.linalg.norm(found)), 1e-9), dtype=np.float32)
