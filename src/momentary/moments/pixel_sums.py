"""Passes over a picture's pixels that leave sums instead of temporary pictures.

`attributes` says what the sums mean; here they are only added up, each pass reading its picture
once, because fifty thousand pixels are quicker to read than to copy.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

_BYTE = 1.0 / 255.0

# Slots of `colour_sums`.
LUMA, LUMA_2, LARGEST, SMALLEST, WARM, RG, RG_2, YB, YB_2 = range(9)


@numba.njit(cache=True, nogil=True)
def colour_sums(pixels: NDArray[np.uint8], luma: Plane, hues: Floats) -> Floats:
    """Add up colours; writes each pixel's luma and adds chroma by hue to soft bins.

    Args:
        pixels: Shape (height, width, 3).
        luma: Overwritten, 0 to 1. Shape (height, width).
        hues: Added to. Shape (bins,).

    Returns:
        Sums over the pixels, channels in 0 to 1, in the slots named above. Shape (9,).
    """
    sums = np.zeros(9)
    bins = len(hues)
    turn = bins / (2.0 * math.pi)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            red = pixels[row, column, 0] * _BYTE
            green = pixels[row, column, 1] * _BYTE
            blue = pixels[row, column, 2] * _BYTE
            y = 0.299 * red + 0.587 * green + 0.114 * blue
            luma[row, column] = y
            rg, yb = red - green, 0.5 * (red + green) - blue
            sums[LUMA] += y
            sums[LUMA_2] += y * y
            sums[LARGEST] += max(red, green, blue)
            sums[SMALLEST] += min(red, green, blue)
            sums[WARM] += red - blue
            sums[RG] += rg
            sums[RG_2] += rg * rg
            sums[YB] += yb
            sums[YB_2] += yb * yb
            alpha = red - 0.5 * (green + blue)
            beta = 0.8660254037844386 * (green - blue)
            chroma = math.sqrt(alpha * alpha + beta * beta)
            if chroma > 0.0:
                angle = math.atan2(beta, alpha)
                place = (angle + 2.0 * math.pi if angle < 0.0 else angle) * turn
                below = int(place)
                part = place - below
                hues[below % bins] += chroma * (1.0 - part)
                hues[(below + 1) % bins] += chroma * part
    return sums


@numba.njit(cache=True, nogil=True)
def edge_sum(smooth: Plane, half: float) -> float:
    """Sum of g^2 / (g^2 + half^2) over the inner pixels, g being luma's gradient per pixel."""
    total = 0.0
    for row in range(1, smooth.shape[0] - 1):
        for column in range(1, smooth.shape[1] - 1):
            down = smooth[row + 1, column] - smooth[row - 1, column]
            across = smooth[row, column + 1] - smooth[row, column - 1]
            squared = 0.25 * (down * down + across * across)
            total += squared / (squared + half * half)
    return total


@numba.njit(cache=True, nogil=True)
def mirror_sums(smooth: Plane) -> tuple[float, float, float]:
    """Sum and sum of squares of luma, and the sum of squares of its left-right odd part."""
    total, squares, odd = 0.0, 0.0, 0.0
    width = smooth.shape[1]
    for row in range(smooth.shape[0]):
        for column in range(width):
            value = smooth[row, column]
            half = 0.5 * (value - smooth[row, width - 1 - column])
            total += value
            squares += value * value
            odd += half * half
    return total, squares, odd


@numba.njit(cache=True, nogil=True)
def absolute_differences(one: Plane, other: Plane) -> float:
    """Sum of the absolute differences of two planes."""
    total = 0.0
    for row in range(one.shape[0]):
        for column in range(one.shape[1]):
            total += abs(one[row, column] - other[row, column])
    return total


@numba.njit(cache=True, nogil=True)
def strokes(luma: Plane, least: float, over: float) -> tuple[Plane, Plane]:
    """How suddenly luma rises, and falls, along each row: 0 below `least`, 1 from least + over."""
    height, width = luma.shape
    up = np.zeros((height, width - 1), dtype=np.float32)
    down = np.zeros((height, width - 1), dtype=np.float32)
    for row in range(height):
        for column in range(width - 1):
            step = luma[row, column + 1] - luma[row, column]
            if step > least:
                up[row, column] = min((step - least) / over, 1.0)
            elif step < -least:
                down[row, column] = min((-step - least) / over, 1.0)
    return up, down


@numba.njit(cache=True, nogil=True)
def distances(
    smooth: NDArray[np.uint8], ground: Floats, bounds: tuple[float, float]
) -> tuple[Plane, Plane]:
    """Distance of each pixel's colour from the ground's, and how much that makes it a figure.

    Args:
        smooth: Shape (height, width, 3).
        ground: 0 to 1. Shape (3,).
        bounds: Distance up to which a pixel is ground, and the further one over which it becomes
            figure.

    Returns:
        Distance and mask, both 0 to 1, of shape (height, width).
    """
    height, width = smooth.shape[:2]
    least, over = bounds
    distance = np.empty((height, width), dtype=np.float32)
    mask = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        for column in range(width):
            squared = 0.0
            for channel in range(3):
                difference = smooth[row, column, channel] * _BYTE - ground[channel]
                squared += difference * difference
            d = math.sqrt(squared / 3.0)
            distance[row, column] = d
            mask[row, column] = min(max((d - least) / over, 0.0), 1.0)
    return distance, mask


# Slots of `figure_sums`.
MASS, MASS_DISTANCE, MASS_THIRDS, MASS_ROW, MASS_COLUMN = range(5)


@numba.njit(cache=True, nogil=True)
def figure_sums(distance: Plane, mask: Plane, lines: tuple[Plane, Plane]) -> Floats:
    """Add up where the figure is.

    Args:
        distance: Shape (height, width).
        mask: Shape (height, width).
        lines: Nearness of each row, shape (height,), and column, shape (width,), to a line of
            thirds.

    Returns:
        Sums of the mask, alone and times distance, thirds, row and column, the last two from -1
        to 1, in the slots named above. Shape (5,).
    """
    sums = np.zeros(5)
    height, width = mask.shape
    near_row, near_column = lines
    for row in range(height):
        at_row = (row + 0.5) * 2.0 / height - 1.0
        for column in range(width):
            m = mask[row, column]
            sums[MASS] += m
            sums[MASS_DISTANCE] += m * distance[row, column]
            sums[MASS_THIRDS] += m * near_row[row] * near_column[column]
            sums[MASS_ROW] += m * at_row
            sums[MASS_COLUMN] += m * ((column + 0.5) * 2.0 / width - 1.0)
    return sums


def spread(total: float, squares: float, count: int) -> float:
    """Standard deviation from a sum and a sum of squares; never of a rounding error below 0."""
    mean = total / count
    return math.sqrt(max(squares / count - mean * mean, 0.0))
