"""Pixel edits: one for each attribute, each moving its attribute up or down by a strength.

Most are interpolation and extrapolation between the picture and a degenerate one (Haeberli &
Voorhies, "Image processing by interpolation and extrapolation", 1994). With pixel colour x (0 to
255), luma Y, the figure's mask m and the ground colour g as `attributes` defines them, and
strength s from -1 to 1:

- brightness: 255 (x / 255)^(2^-s), a gamma curve; black and white stay.
- contrast: mean Y + (1 + .6 s) (x - mean Y).
- saturation: Y + (1 + s) (x - Y).
- warmth: red times 1 + .25 s, blue times 1 - .25 s, a white balance.
- colourfulness: x - Y spread about its mean over the picture by 1 + s.
- clutter: b + (1 + s) (x - b), b the mean of those of 7 x 7 pixels whose channels differ from x by
  90 or less in sum, which keeps outlines (sigma filter: Lee, CVGIP 1983).
- symmetry: even part + (1 - s) odd part, of the left-right mirror image.
- thirds: g + (1 + .8 s (2 w - 1)) (x - g), w being nearness to the crossings of thirds.
- figure-ground separation: g + (1 + .6 s m^3) (x - g).
- background whiteness: up, x + s (1 - m) (255 - x); down, x (1 + .6 s (1 - m)).
- subject size: the figure, cut out by m, zoomed by 2^(.2 s) up, 2^(.6 s) down, about its centroid
  and pasted back, as far as that helps. Where it leaves, the ground's colour fades in; the outer
  band, which says what the ground is, stays as it is.
- centring: g + (1 - a s t) (x - g), t from -1 to 1 along the line from the middle to the centroid:
  the figure fades on the side it leans to. a = 1 down, and up the centroid's distance times
  1 - .08 / D, D being the figure-ground separation, so that it does not go past the middle: what
  hardly stands out fades faster.
- sharpness: b + (1 + s) (x - b), b the mean over 3 x 3 pixels.
- object count: up, 1 + round(3 s) copies in a 2 x 2 grid, once so many hold more objects than the
  picture itself; down, of all but the largest part of the figure the share |s| takes the ground's
  colour, the smallest first.
- hue count: up, hues turn by 120 s (2 u - 1) degrees, u the place from left to right; down, hues
  bend to the mean hue by |s|.
- text overlay: up, a white strip with dark letters grows along the bottom (or the top, where that
  has less lettering) over s of the width; down, strokes that look like letters blur along the row
  by |s|. Both as far as that helps.

"As far as that helps": of the strengths .25, .5, .75 below |s| and |s| itself, the one that moves
the attribute furthest the right way, or none. Where the product fills the outer band the figure is
what surrounds it, and zooming that can turn back; letters on knitwear can hide more strokes than
they bring.

`edits.js` beside this file does the same in a browser, to within one level of 255; the tests hold
the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from momentary.moments.attributes import (
    ATTRIBUTES,
    FIGURE_FROM,
    Figure,
    centroid,
    count_objects,
    find_figure,
    measure,
    parts,
    stroke_density,
    thirds_weight,
)
from momentary.moments.pixels import Pixels

Colours = NDArray[np.float64]
"""Red, green, blue, 0 to 255 and beyond until `edit` clips them. Shape (height, width, 3)."""

_LUMA = (0.299, 0.587, 0.114)
_GLYPHS = {
    "S": (0x0F, 0x10, 0x10, 0x0E, 0x01, 0x01, 0x1E),
    "A": (0x0E, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11),
    "L": (0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F),
    "E": (0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F),
    " ": (0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00),
}
_SIGN = "SALE "
_GLYPH_WIDTH, _GLYPH_HEIGHT = 6, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A picture after an edit that aimed at a value of one attribute.

    Attributes:
        pixels: Shape (height, width, 3).
        strength: From -1 to 1.
        before: All attributes of the picture, in the order of `ATTRIBUTES`. Shape (attributes,).
        after: The same of the edited picture. Shape (attributes,).
        reached: False where even the strongest edit does not reach the value that was aimed at;
            the picture is then the nearest that can be made.
    """

    pixels: Pixels
    strength: float
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    reached: bool


def edit(pixels: Pixels, attribute: str, strength: float) -> Pixels:
    """Edit a picture so that one attribute rises (strength above 0) or falls (below 0).

    Args:
        pixels: Shape (height, width, 3); left as it is.
        attribute: One of `ATTRIBUTES`.
        strength: From -1 to 1; 0 changes nothing.

    Raises:
        ValueError: If there is no such attribute, or the strength is out of range.
    """
    if attribute not in EDITS:
        raise ValueError(f"There is no edit of {attribute!r}; there are {', '.join(EDITS)}.")
    if not -1 <= strength <= 1:
        raise ValueError(f"strength is {strength}; it must be from -1 to 1.")
    if strength == 0:
        return pixels.copy()
    return _rounded(EDITS[attribute](pixels, float(strength)))


def move(pixels: Pixels, attribute: str, by: float, *, steps: int = 8) -> Edited:
    """Edit a picture until one attribute has moved by so much.

    Args:
        pixels: Shape (height, width, 3); left as it is.
        attribute: One of `ATTRIBUTES`.
        by: In the attribute's unit; a `Scale.sd` times a number of standard deviations.
        steps: Halvings of the strength; eight leave it within .4 % of the range.

    Returns:
        The edited picture whose attribute is nearest to what was asked for.
    """
    place = list(ATTRIBUTES).index(attribute)
    before = measure(pixels)
    if by == 0:
        return Edited(pixels=pixels.copy(), strength=0.0, before=before, after=before, reached=True)
    target = float(before[place]) + by
    side = math.copysign(1.0, by)
    far = edit(pixels, attribute, side)
    after = measure(far)
    if (after[place] - target) * side <= 0:
        reached = bool(abs(after[place] - target) <= 0.05 * abs(by))
        return Edited(pixels=far, strength=side, before=before, after=after, reached=reached)
    tries = [(abs(float(after[place]) - target), side, far, after)]
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        changed = edit(pixels, attribute, side * middle)
        after = measure(changed)
        tries.append((abs(float(after[place]) - target), side * middle, changed, after))
        low, high = (middle, high) if (after[place] - target) * side < 0 else (low, middle)
    error, strength, best, after = min(tries, key=lambda each: each[0])
    return Edited(
        pixels=best,
        strength=strength,
        before=before,
        after=after,
        reached=error <= max(0.05 * abs(by), 1e-9),
    )


def _rounded(colours: Colours) -> Pixels:
    return np.floor(colours.clip(0, 255) + 0.5).astype(np.uint8)


def _luma(x: Colours) -> NDArray[np.float64]:
    return np.asarray(_LUMA[0] * x[..., 0] + _LUMA[1] * x[..., 1] + _LUMA[2] * x[..., 2])


def _box(x: NDArray[np.float64], radius: int, *, axes: tuple[int, ...] = (0, 1)) -> Colours:
    """Mean over a square of 2 radius + 1 pixels; pixels beyond the edge repeat it."""
    for axis in axes:
        width = [(0, 0)] * x.ndim
        width[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(x, width, mode="edge"), axis=axis)
        after = np.take(sums, range(2 * radius + 1, sums.shape[axis]), axis=axis)
        before = np.take(sums, range(sums.shape[axis] - 2 * radius - 1), axis=axis)
        x = (after - before) / (2 * radius + 1)
    return x


def _figure(pixels: Pixels) -> tuple[Colours, Figure]:
    """The ground's colour, 0 to 255, of shape (3,), and the figure."""
    figure = find_figure(pixels)
    return figure.ground * 255.0, figure


def _brightness(pixels: Pixels, s: float) -> Colours:
    return np.asarray(255.0 * (pixels / 255.0) ** (2.0**-s))


def _contrast(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    mean = _luma(x).mean()
    return np.asarray(mean + (1 + 0.6 * s) * (x - mean))


def _saturation(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    grey = _luma(x)[..., None]
    return np.asarray(grey + (1 + s) * (x - grey))


def _warmth(pixels: Pixels, s: float) -> Colours:
    return np.asarray(pixels * np.array([1 + 0.25 * s, 1.0, 1 - 0.25 * s]))


def _colourfulness(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    grey = _luma(x)[..., None]
    tint = (x - grey).mean(axis=(0, 1))
    return np.asarray(grey + tint + (1 + s) * (x - grey - tint))


def _clutter(pixels: Pixels, s: float) -> Colours:
    base = _flattened(pixels)
    return base + (1 + s) * (pixels - base)


def _flattened(pixels: Pixels) -> Colours:
    """Mean of the similar ones among the neighbours of each pixel."""
    radius, alike = 3, 90
    height, width = pixels.shape[:2]
    padded = np.pad(pixels.astype(np.int16), ((radius, radius), (radius, radius), (0, 0)), "edge")
    own = pixels.astype(np.int16)
    total = np.zeros_like(own)
    count = np.zeros((height, width, 1), dtype=np.int16)
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            other = padded[down : down + height, right : right + width]
            far = np.abs(other - own)
            near = (far[..., :1] + far[..., 1:2] + far[..., 2:]) <= alike
            total += other * near
            count += near
    return np.asarray(total / count)


def _symmetry(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    mirrored = x[:, ::-1]
    return (x + mirrored) / 2 + (1 - s) * (x - mirrored) / 2


def _thirds(pixels: Pixels, s: float) -> Colours:
    ground, _ = _figure(pixels)
    near = thirds_weight(*pixels.shape[:2]).astype(np.float64)[..., None]
    return ground + (1 + 0.8 * s * (2 * near - 1)) * (pixels - ground)


def _figure_ground(pixels: Pixels, s: float) -> Colours:
    ground, figure = _figure(pixels)
    # The cube spares what hardly belongs to the figure: lifted, it would lower the mean.
    sure = figure.mask[..., None].astype(np.float64) ** 3
    return np.asarray(ground + (1 + 0.6 * s * sure) * (pixels - ground))


def _whiteness(pixels: Pixels, s: float) -> Colours:
    _, figure = _figure(pixels)
    behind = 1 - figure.mask[..., None].astype(np.float64)
    if s > 0:
        return np.asarray(pixels + s * behind * (255.0 - pixels))
    return np.asarray(pixels * (1 + 0.6 * s * behind))


def _subject_size(pixels: Pixels, s: float) -> Colours:
    _, figure = _figure(pixels)
    centre = centroid(figure.mask)

    def zoomed(part: float) -> Colours:
        behind = pixels.astype(np.float64) if part > 0 else _without(pixels, figure, -part)
        zoom = 2.0 ** ((0.2 if part > 0 else 0.6) * part)
        return _zoom(pixels, figure, behind, zoom=zoom, centre=centre)

    return _furthest(
        pixels,
        s,
        change=zoomed,
        value=lambda changed: float(find_figure(changed).mask.mean(dtype=np.float64)),
    )


def _furthest(
    pixels: Pixels,
    s: float,
    *,
    change: Callable[[float], Colours],
    value: Callable[[Pixels], float],
) -> Colours:
    """The change by s, or by a quarter step below, that moves the value furthest the right way."""
    side = math.copysign(1.0, s)
    best, most = pixels, side * value(pixels)
    for part in (*(step for step in (0.25, 0.5, 0.75) if step < abs(s)), abs(s)):
        changed = _rounded(change(side * part))
        reached = side * value(changed)
        if reached >= most:
            best, most = changed, reached
    return best.astype(np.float64)


def _centring(pixels: Pixels, s: float) -> Colours:
    ground, figure = _figure(pixels)
    height, width = pixels.shape[:2]
    row, column = centroid(figure.mask)
    far = math.hypot(row, column)
    down, right = (row / far, column / far) if far > 1e-3 else (0.0, 1.0)
    rows = (2 * np.arange(height) + 1) / height - 1
    columns = (2 * np.arange(width) + 1) / width - 1
    side = (down * rows[:, None] + right * columns[None, :]).clip(-1, 1)[..., None]
    mass = max(float(figure.mask.sum(dtype=np.float64)), 1e-9)
    apart = float((figure.mask * figure.distance).sum(dtype=np.float64)) / mass
    needed = min(1.0, far) * max(0.0, 1 - FIGURE_FROM / max(apart, 1e-9))
    return np.asarray(ground + (1 - s * (needed if s > 0 else 1.0) * side) * (pixels - ground))


def _without(pixels: Pixels, figure: Figure, strength: float) -> Colours:
    """The picture with its figure faded to the ground, wholly from a quarter of the strength on."""
    fade = min(1.0, 4 * strength) * figure.mask[..., None].astype(np.float64)
    return np.asarray(pixels + fade * (figure.ground * 255.0 - pixels))


def _zoom(
    pixels: Pixels, figure: Figure, behind: Colours, *, zoom: float, centre: tuple[float, float]
) -> Colours:
    """The figure zoomed about a centre, in half sides from the middle, over `behind`. Bilinear."""
    height, width = pixels.shape[:2]
    layers = np.zeros((height + 2, width + 2, 4))
    mask = figure.mask.astype(np.float64)[..., None]
    # What is half figure is pasted whole: mixed with the old picture it would fade into neither.
    mask = np.minimum(1.0, 3 * mask)
    layers[1:-1, 1:-1, :3] = pixels * mask
    layers[1:-1, 1:-1, 3:] = mask
    row, down = _sources(height, zoom=zoom, centre=centre[0])
    column, right = _sources(width, zoom=zoom, centre=centre[1])
    right = right[:, None]
    upper = layers[row][:, column] * (1 - right) + layers[row][:, column + 1] * right
    lower = layers[row + 1][:, column] * (1 - right) + layers[row + 1][:, column + 1] * right
    down = down[:, None, None]
    pasted = upper * (1 - down) + lower * down
    changed = pasted[..., :3] + (1 - pasted[..., 3:]) * behind
    return np.asarray(pixels + _inside(height, width)[..., None] * (changed - pixels))


def _inside(height: int, width: int) -> NDArray[np.float64]:
    """0 on the outer band, 1 from twice its width on. Shape (height, width)."""
    band = max(1, math.floor(0.06 * min(height, width) + 0.5))
    rows, columns = (np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in (height, width))
    deep = np.minimum(rows[:, None], columns[None, :])
    return np.asarray(((deep + 1 - band) / band).clip(0, 1))


def _sources(n: int, *, zoom: float, centre: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where each new row (or column) comes from: index with one of padding, share of the next."""
    middle = (centre + 1) * n / 2
    at = ((np.arange(n) + 0.5 - middle) / zoom + middle + 0.5).clip(0, n + 1)
    below = np.minimum(np.floor(at).astype(np.intp), n)
    return below, at - below


def _sharpness(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    smooth = _box(x, 1)
    return smooth + (1 + s) * (x - smooth)


def _object_count(pixels: Pixels, s: float) -> Colours:
    ground, figure = _figure(pixels)
    labels, areas = parts(figure.mask)
    if s > 0:
        copies = 1 + math.floor(3 * s + 0.5)
        # Half the size may lose or join small parts; equal copies hold equally many.
        four = np.floor(_tiles(pixels, ground, 4) + 0.5).astype(np.uint8)
        each = count_objects(parts(find_figure(four).mask)[1]) / 4
        more = copies * each > count_objects(areas)
        return _tiles(pixels, ground, copies if more else 1)
    smallest = 1 + np.argsort(areas, kind="stable")
    gone = smallest[: math.floor(-s * (len(areas) - 1) + 0.5)]
    return np.where(np.isin(labels, gone)[..., None], ground, pixels.astype(np.float64))


def _tiles(pixels: Pixels, ground: Colours, copies: int) -> Colours:
    """So many half-size copies on a 2 x 2 grid; one copy is the picture itself."""
    x = pixels.astype(np.float64)
    if copies == 1:
        return x
    height, width = (pixels.shape[0] - 4) // 2, (pixels.shape[1] - 4) // 2
    small = (
        x[: 2 * height : 2, : 2 * width : 2]
        + x[1 : 2 * height : 2, : 2 * width : 2]
        + x[: 2 * height : 2, 1 : 2 * width : 2]
        + x[1 : 2 * height : 2, 1 : 2 * width : 2]
    ) / 4
    grid = np.empty_like(x)
    grid[:] = ground
    for copy in range(copies):
        top = 1 + (copy // 2) * (height + 2)
        left = 1 + (copy % 2) * (width + 2)
        grid[top : top + height, left : left + width] = small
    return grid


def _hue_count(pixels: Pixels, s: float) -> Colours:
    x = pixels.astype(np.float64)
    level = x.mean(axis=2)
    alpha = x[..., 0] - (x[..., 1] + x[..., 2]) / 2
    beta = math.sqrt(3) / 2 * (x[..., 1] - x[..., 2])
    if s > 0:
        width = x.shape[1]
        turn = s * (2 * math.pi / 3) * ((2 * np.arange(width) + 1) / width - 1)
        cosine, sine = np.cos(turn), np.sin(turn)
        alpha, beta = alpha * cosine - beta * sine, alpha * sine + beta * cosine
    else:
        mean = (float(alpha.mean()), float(beta.mean()))
        length = max(math.hypot(*mean), 1e-9)
        chroma = np.sqrt(alpha * alpha + beta * beta)
        alpha = (1 + s) * alpha - s * chroma * mean[0] / length
        beta = (1 + s) * beta - s * chroma * mean[1] / length
    green_blue = level - alpha / 3
    third = beta / math.sqrt(3)
    return np.stack([level + 2 * alpha / 3, green_blue + third, green_blue - third], axis=2)


def _text(pixels: Pixels, s: float) -> Colours:
    density = _strokes(pixels)

    def changed(part: float) -> Colours:
        if part > 0:
            return _lettered(pixels, density, part)
        return _smudged(pixels, density, -part)

    return _furthest(pixels, s, change=changed, value=lambda after: float(_strokes(after).mean()))


def _strokes(pixels: Pixels) -> NDArray[np.float64]:
    luma = _luma(pixels.astype(np.float64)) / 255
    return stroke_density(luma.astype(np.float32)).astype(np.float64)


def _smudged(pixels: Pixels, density: NDArray[np.float64], strength: float) -> Colours:
    """Strokes blurred along the row."""
    x = pixels.astype(np.float64)
    like_text = np.minimum(1.0, 8 * np.pad(density, ((0, 0), (0, 1)), mode="edge"))[..., None]
    return np.asarray(x + strength * like_text * (_box(x, 6, axes=(1,)) - x))


def _lettered(pixels: Pixels, density: NDArray[np.float64], s: float) -> Colours:
    """A strip of letters over s of the width."""
    x = pixels.astype(np.float64)
    height, width = x.shape[:2]
    strip = height // 6
    end = math.floor(s * width)
    scale = max(1, strip // (_GLYPH_HEIGHT + 3))
    below = density[height - strip :].sum() <= density[:strip].sum()
    first = height - strip if below else 0
    x[first : first + strip, :end] = 255.0
    top = first + (strip - _GLYPH_HEIGHT * scale) // 2
    for column in range(end):
        place, dot = divmod(column // scale, _GLYPH_WIDTH)
        if dot == _GLYPH_WIDTH - 1:
            continue
        glyph = _GLYPHS[_SIGN[place % len(_SIGN)]]
        for line in range(_GLYPH_HEIGHT):
            if glyph[line] >> (4 - dot) & 1:
                x[top + line * scale : top + (line + 1) * scale, column] = 20.0
    return x


EDITS: Mapping[str, Callable[[Pixels, float], Colours]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "warmth": _warmth,
    "colourfulness": _colourfulness,
    "clutter": _clutter,
    "symmetry": _symmetry,
    "thirds": _thirds,
    "figure_ground": _figure_ground,
    "whiteness": _whiteness,
    "subject_size": _subject_size,
    "centring": _centring,
    "sharpness": _sharpness,
    "object_count": _object_count,
    "hue_count": _hue_count,
    "text": _text,
}
"""The edit of each attribute, before rounding; pixels and strength -> colours."""
