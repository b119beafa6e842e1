"""Pictures to colours: soft histograms of what is not background."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from momentary.encoders.protocol import Picture
from momentary.types import BoolArray, FloatArray

_SIDE = 48
_HUES = 12
_LIGHTS = 3
_GREYS = 6
_LAB_BINS = (6, 7, 7)
_LAB_REACH = np.float32(80)
_LAB_DIM = 6 * 7 * 7 + 15
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


class LabColours:
    """309 numbers a picture, of length 1: a soft histogram in CIE Lab, where distances are as seen.

    Six lightnesses by seven steps each of green to red and of blue to yellow, every pixel shared
    among the eight nearest bins; beside them, where the lightness and both axes lie from the
    darkest tenth of the foreground to its brightest. Pixels in the middle count more. Finer than
    `ColourHistogram`, and better where weights are learned.
    """

    version = "lab-colours/1"

    def encode(self, contents: Sequence[Picture]) -> FloatArray:
        """One vector a picture. Shape (pictures, 309)."""
        rows = [_lab_colours(picture) for picture in contents]
        return np.array(rows, dtype=np.float32).reshape(len(contents), _LAB_DIM)


def _lab_colours(picture: Picture) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(picture)).resize((_SIDE, _SIDE))
    colours = np.asarray(image)
    apart = _foreground(colours.astype(np.float32))
    lab = cv2.cvtColor(colours.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    across = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    middle = np.exp(-1.5 * (across[:, None] ** 2 + across[None, :] ** 2))[apart]
    pixels = lab[apart]
    places = [
        pixels[:, 0] / 100 * (_LAB_BINS[0] - 1),
        *(
            (np.clip(pixels[:, axis] / _LAB_REACH, -1, 1) + 1) / 2 * (_LAB_BINS[axis] - 1)
            for axis in (1, 2)
        ),
    ]
    counts = np.zeros(_LAB_BINS, dtype=np.float64)
    lows = [
        np.minimum(place.astype(np.int64), n - 2)
        for place, n in zip(places, _LAB_BINS, strict=True)
    ]
    for corner in np.ndindex(2, 2, 2):
        share = middle.copy()
        for place, low, step in zip(places, lows, corner, strict=True):
            share *= np.where(step, place - low, 1 - (place - low))
        at = tuple(low + step for low, step in zip(lows, corner, strict=True))
        np.add.at(counts, at, share)
    histogram = np.sqrt(counts.ravel() / max(counts.sum(), 1e-9))
    levels = np.percentile(pixels, (10, 30, 50, 70, 90), axis=0) / (100, _LAB_REACH, _LAB_REACH)
    found = np.concatenate([histogram, 0.3 * levels.ravel()])
    return np.asarray(found / max(float(np.linalg.norm(found)), 1e-9), dtype=np.float32)


def _foreground(colours: FloatArray) -> BoolArray:
    """Pixels unlike the border; all of them where hardly any is. Shape (side, side)."""
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    apart: BoolArray = np.abs(colours - np.median(edge, axis=0)).max(axis=2) > _BACKGROUND
    return apart if apart.mean() >= 0.02 else np.ones_like(apart)


def _histogram(picture: Picture) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(picture)).resize((_SIDE, _SIDE))
    colours = np.asarray(image, dtype=np.float32)
    apart = _foreground(colours)
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
