"""Visual characteristics of a picture, each with its formula, unit and source.

With R, G, B in 0..1, luma Y = .299 R + .587 G + .114 B (ITU-R BT.601), and E the mean over pixels:

- brightness: E Y.
- contrast: standard deviation of Y (RMS contrast; Peli, JOSA A 1990).
- saturation: E(max - min) / E(max) over the channels: HSV saturation weighted by value, so that
  black pixels, whose saturation is noise, do not count.
- warmth: E(R - B).
- colourfulness: sqrt(var rg + var yb) + .3 sqrt((E rg)^2 + (E yb)^2), rg = R - G,
  yb = (R + G) / 2 - B (Hasler & Suesstrunk, SPIE 2003).
- clutter: soft edge density E(g^2 / (g^2 + .05^2)), g the gradient of smoothed luma per pixel
  (edge density as clutter: Rosenholtz, Li & Nakano, Journal of Vision 2007).
- symmetry: share of the variance of Y that is the same in the left-right mirror image:
  1 - E(odd^2) / var Y, odd = (Y - mirrored Y) / 2.
- sharpness: E|Y - blur of 1 px| / E|Y - blur of 4 px|: how much of the local contrast is fine.
- background whiteness: mean of min(R, G, B) over the outer band (6 % of the shorter side).
- hue count: exp(entropy) of hues in 12 soft bins, weighted by chroma, beside one bin of neutral
  grey (Ke, Tang & Jin, CVPR 2006 count hues by a threshold, which is less stable).
- text overlay: square root of the mean of min(P, N) in 11 x 11 windows, P and N the density of
  sudden brightening and darkening along a row: letters have both side by side. Stripes look like
  text to it.

The figure is what differs from the ground colour (the outer band's median): d is the root mean
square distance of a pixel's smoothed colour from it, and m = clip((d - .08) / .16, 0, 1) says how
much a pixel belongs to the figure. Photographs whose outer band is not background mislead it.

- subject size: E m.
- figure-ground separation: sum(m d) / sum(m) (Zhang, Lee, Singh & Srinivasan, Management Science
  2022, measure hue, saturation and brightness apart).
- centring: 1 - distance of the figure's centroid from the middle / half the diagonal.
- thirds: density of the figure near the four crossings of the lines of thirds, against even
  density (rule of thirds: Datta, Joshi, Li & Wang, ECCV 2006).
- object count: S^2 / (sum a^2 + .01 S) over the areas a (shares of the picture, S their sum) of the
  connected parts of m > .5: the effective number of equally large objects, of which those far
  below a hundredth of the picture hardly count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from momentary.moments import pixel_sums as sums
from momentary.moments.pixels import Pixels

Plane = NDArray[np.float32]
"""One value a pixel. Shape (height, width)."""

_BAND = 0.06  # of the shorter side
_EDGE = 0.05  # luma a pixel at which an edge counts half
FIGURE_FROM = 0.08
"""Distance from the ground colour from which on a pixel belongs to the figure, of 1."""

_FIGURE = (FIGURE_FROM, 0.16)  # the least distance, and over how much more
_PRIOR = 1e-3  # figure mass in the middle of an empty picture, as a share of its area
_HUES = 12
_NEUTRAL = 0.02  # chroma of the grey bin
_STROKE_FROM, _STROKE_OVER = 0.12, 0.25  # luma from one pixel to the next
_THIRDS_WIDTH = 1 / 8  # of a side
_SPECK = 0.01  # share of the picture at which a lone part counts as half an object


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One visual characteristic.

    Attributes:
        name: Key, such as "figure_ground".
        label: How it is written.
        unit: What one unit is.
        plain: What more of it looks like, for a sentence "a picture that is ...".
    """

    name: str
    label: str
    unit: str
    plain: str


_ATTRIBUTES = (
    Attribute(name="brightness", label="brightness", unit="share of white", plain="brighter"),
    Attribute(name="contrast", label="contrast", unit="SD of luma", plain="higher in contrast"),
    Attribute(
        name="saturation", label="saturation", unit="share of full colour", plain="more saturated"
    ),
    Attribute(name="warmth", label="warmth", unit="red minus blue, share", plain="warmer in tone"),
    Attribute(
        name="colourfulness",
        label="colourfulness",
        unit="Hasler-Suesstrunk M, of 1",
        plain="more colourful",
    ),
    Attribute(name="clutter", label="clutter", unit="edge density", plain="more cluttered"),
    Attribute(name="symmetry", label="symmetry", unit="share of variance", plain="more symmetric"),
    Attribute(
        name="thirds",
        label="rule of thirds",
        unit="density against even",
        plain="nearer to the rule of thirds",
    ),
    Attribute(
        name="figure_ground",
        label="figure-ground separation",
        unit="colour distance, of 1",
        plain="clearer against its background",
    ),
    Attribute(
        name="whiteness",
        label="background whiteness",
        unit="share of white",
        plain="whiter in the background",
    ),
    Attribute(
        name="subject_size",
        label="subject size",
        unit="share of the picture",
        plain="larger in its subject",
    ),
    Attribute(
        name="centring", label="centring", unit="1 is the middle", plain="nearer to the middle"
    ),
    Attribute(name="sharpness", label="sharpness", unit="fine share of contrast", plain="sharper"),
    Attribute(
        name="object_count",
        label="object count",
        unit="effective objects",
        plain="fuller of separate objects",
    ),
    Attribute(name="hue_count", label="hue count", unit="effective hues", plain="richer in hues"),
    Attribute(
        name="text",
        label="text overlay",
        unit="root density of strokes",
        plain="fuller of lettering",
    ),
)
ATTRIBUTES: Mapping[str, Attribute] = {each.name: each for each in _ATTRIBUTES}
"""What is measured, in the order of `measure`."""


class Figure(NamedTuple):
    """What stands out from the ground.

    Attributes:
        ground: Colour of the ground, 0 to 1. Shape (3,).
        distance: Of each pixel's colour from it. Shape (height, width).
        mask: How much each pixel belongs to the figure, 0 to 1. Shape (height, width).
    """

    ground: NDArray[np.float64]
    distance: Plane
    mask: Plane


def measure(pixels: Pixels) -> NDArray[np.float64]:
    """Measure one picture.

    Args:
        pixels: Shape (height, width, 3). Values compare only between pictures of one size, which
            `read_picture` sees to.

    Returns:
        One value for each of `ATTRIBUTES`, in their order. Shape (attributes,).
    """
    luma = np.empty(pixels.shape[:2], dtype=np.float32)
    values = {
        **_colours(pixels, luma),
        "clutter": _clutter(luma),
        "symmetry": _symmetry(luma),
        "whiteness": float(_band(pixels).min(axis=1).mean()) / 255,
        "sharpness": _sharpness(luma),
        "text": _text(luma),
        **_composition(find_figure(pixels)),
    }
    return np.array([values[name] for name in ATTRIBUTES], dtype=np.float64)


def find_figure(pixels: Pixels) -> Figure:
    """Separate what stands out from the ground."""
    ground = ground_colour(pixels)
    return Figure(ground, *sums.distances(_blur(pixels, 5), ground, _FIGURE))


def ground_colour(pixels: Pixels) -> NDArray[np.float64]:
    """Median colour of the outer band, 0 to 1; of an even count, the upper middle. Shape (3,)."""
    band = _band(pixels)
    middle = len(band) // 2
    return np.asarray(np.partition(band, middle, axis=0)[middle] / 255.0)


def centroid(mask: Plane) -> tuple[float, float]:
    """Centre of the figure: row and column from -1 to 1, 0 being the middle."""
    return _centre(sums.figure_sums(mask, mask, _thirds_lines(*mask.shape)), mask.size)


def thirds_weight(height: int, width: int) -> Plane:
    """Nearness to the crossings of the lines of thirds, 1 on them. Shape (height, width)."""
    rows, columns = _thirds_lines(height, width)
    return np.asarray(rows[:, None] * columns[None, :])


def parts(mask: Plane) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Connected parts of the figure and their areas as shares of the picture.

    Returns:
        The part of each pixel, 0 for none, shape (height, width); the areas of parts 1, 2, ...,
        shape (parts,).
    """
    inside = (mask > 0.5).view(np.uint8)
    _, labels, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    return np.asarray(labels), np.asarray(facts[1:, cv2.CC_STAT_AREA] / mask.size)


def count_objects(areas: NDArray[np.float64]) -> float:
    """Effective number of objects from the areas of the parts, as shares of the picture."""
    total = float(areas.sum())
    return total**2 / (float((areas**2).sum()) + _SPECK * total) if total else 0.0


def stroke_density(luma: Plane) -> Plane:
    """How much of both brightening and darkening strokes is near. Shape (height, width - 1)."""
    up, down = sums.strokes(luma, _STROKE_FROM, _STROKE_OVER)
    return np.asarray(np.minimum(_blur(up, 11), _blur(down, 11)))


def _band(pixels: Pixels) -> Pixels:
    """The pixels of the outer band. Shape (pixels, 3)."""
    return pixels.reshape(-1, 3).take(_band_places(*pixels.shape[:2]), axis=0)


@lru_cache(maxsize=256)
def _band_places(height: int, width: int) -> NDArray[np.intp]:
    thick = max(1, round(_BAND * min(height, width)))
    mask = np.ones((height, width), dtype=np.bool_)
    mask[thick:-thick, thick:-thick] = False
    return np.flatnonzero(mask)


@lru_cache(maxsize=256)
def _thirds_lines(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return _thirds_line(height), _thirds_line(width)


def _thirds_line(n: int) -> NDArray[np.float32]:
    at = (np.arange(n) + 0.5) / n
    near = np.minimum(np.abs(at - 1 / 3), np.abs(at - 2 / 3))
    return np.exp(-0.5 * (near / _THIRDS_WIDTH) ** 2).astype(np.float32)


def _blur(image: NDArray[Any], side: int) -> NDArray[Any]:
    return cast("NDArray[Any]", cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE))


def _clutter(luma: Plane) -> float:
    edges = float(sums.edge_sum(_blur(luma, 3), _EDGE))
    return edges / float((luma.shape[0] - 2) * (luma.shape[1] - 2))


def _symmetry(luma: Plane) -> float:
    total, squares, odd = sums.mirror_sums(_blur(luma, 5))
    return 1.0 - float(odd) / luma.size / (sums.spread(total, squares, luma.size) ** 2 + 1e-5)


def _sharpness(luma: Plane) -> float:
    fine = float(sums.absolute_differences(luma, _blur(luma, 3))) / luma.size
    coarse = float(sums.absolute_differences(luma, _blur(luma, 9))) / luma.size
    return fine / (coarse + 1e-3)


def _text(luma: Plane) -> float:
    density = stroke_density(luma)
    return math.sqrt(float(density.mean(dtype=np.float64)))


def _colours(pixels: Pixels, luma: Plane) -> dict[str, float]:
    """The attributes of colour alone; fills in `luma`."""
    hues = np.zeros(_HUES)
    found = sums.colour_sums(pixels, luma, hues)
    mean = found / luma.size
    spread = math.hypot(
        sums.spread(found[sums.RG], found[sums.RG_2], luma.size),
        sums.spread(found[sums.YB], found[sums.YB_2], luma.size),
    )
    tint = math.hypot(mean[sums.RG], mean[sums.YB])
    value = float(mean[sums.LARGEST])
    return {
        "brightness": float(mean[sums.LUMA]),
        "contrast": sums.spread(found[sums.LUMA], found[sums.LUMA_2], luma.size),
        "saturation": (value - float(mean[sums.SMALLEST])) / (value + 1e-3),
        "warmth": float(mean[sums.WARM]),
        "colourfulness": spread + 0.3 * tint,
        "hue_count": _effective_number(np.append(hues / luma.size, _NEUTRAL)),
    }


def _effective_number(masses: NDArray[np.float64]) -> float:
    shares = masses[masses > 0] / masses.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _composition(figure: Figure) -> dict[str, float]:
    size = figure.mask.size
    lines = _thirds_lines(*figure.mask.shape)
    found = sums.figure_sums(figure.distance, figure.mask, lines)
    total = float(found[sums.MASS]) + _PRIOR * size
    even = float(lines[0].mean()) * float(lines[1].mean())
    return {
        "subject_size": float(found[sums.MASS]) / size,
        "figure_ground": float(found[sums.MASS_DISTANCE]) / total,
        "centring": 1.0 - math.hypot(*_centre(found, size)) / math.sqrt(2),
        "thirds": float(found[sums.MASS_THIRDS]) / total / even,
        "object_count": count_objects(parts(figure.mask)[1]),
    }


def _centre(found: NDArray[np.float64], size: int) -> tuple[float, float]:
    total = float(found[sums.MASS]) + _PRIOR * size
    return float(found[sums.MASS_ROW]) / total, float(found[sums.MASS_COLUMN]) / total
