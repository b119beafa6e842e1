"""The findings as one HTML file that needs nothing else: pictures, sounds and words."""

from __future__ import annotations

import html
import io
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from momentary.dissection.page import answered, chooser, document, table, uri
from momentary.dissection.selectivity import SELECTIVE
from momentary.dissection.study import Layer, Study
from momentary.types import FloatArray, IntArray

_NOTHING = "networks that learned nothing"
_EXCERPTS = 4
_SHORTEST_S = 0.5
_TALL_NOTE = (
    "Its filters are drawn with mel upwards and time to the right: red adds, blue takes away."
)
_SMALL_NOTE = (
    "Its filters see a few bands and frames, and listen at every height of the mel axis. They are "
    "drawn with mel upwards and time to the right: red adds, blue takes away."
)
_HEIGHT = 64
_MARKS_HZ = (100, 1_000, 4_000, 10_000)


def render(
    study: Study,
    *,
    title: str,
    hear: Callable[[int], bytes],
    seconds_a_frame: float,
    bands_hz: NDArray[np.float64],
    caveats: tuple[str, ...] = (),
) -> str:
    """The page.

    Args:
        study: What was found.
        title: What the data are.
        hear: The MP3 of a held-out sound, by its row.
        seconds_a_frame: From one frame of the spectrograms to the next.
        bands_hz: The middle of every mel band. Shape (bands,).
        caveats: Sentences that a reader must know about the data.
    """
    sections, used = [], set()
    for layer in study.layers:
        rows = _strongest(layer)
        used |= set(rows.ravel().tolist())
        sections.append(
            _section(study, layer, rows, seconds_a_frame=seconds_a_frame, bands_hz=bands_hz)
        )
    sounds = {
        str(row): {
            "audio": uri("audio/mpeg", hear(row)),
            "picture": uri("image/png", spectrogram_png(study.held_out.spectrograms[row])),
        }
        for row in sorted(used)
    }
    words = "".join(f"<p>{html.escape(each)}</p>" for each in caveats)
    if study.left_out:
        said = "".join(f"<li>{html.escape(each)}</li>" for each in study.left_out)
        words += f"<h2>Labels of which nothing can be said</h2><ul>{said}</ul>"
    body = (
        f"<p>{_known(study)} Press a picture to hear what drives a unit most. A unit "
        f"is selective if, with a chance of {SELECTIVE:g} or more, a sound of its label drives it "
        "more than another sound does; the label was chosen on one half of the sources and scored "
        "on the "
        f"other.</p>{words}{table(study.layers, own='trained', nothing=_NOTHING)}"
        f'{"".join(sections)}<audio id="player"></audio>'
    )
    return document(title, body, contents=sounds, scripts=["page.js", "sounds.js"])


def _known(study: Study) -> str:
    """How much the network knows, beside what one knows without listening."""
    usual, share = study.usual
    labels = len(study.held_out.label_names)
    return (
        f"{len(study.held_out.names)} sounds that the network never heard; it tells the label of "
        f"{study.accuracy:.0%} of them (always saying {html.escape(usual)}: {share:.0%}), and of "
        f"each of the {labels} labels {study.balanced_accuracy:.0%} on average (guessing: "
        f"{1 / labels:.0%})."
    )


def spectrogram_png(spectrogram: FloatArray) -> bytes:
    """A small picture: time to the right, mel upwards."""
    top = float(spectrogram.max()) or 1.0
    levels = (np.clip(spectrogram / top, 0, 1) * 255).astype(np.uint8).T[::-1]
    return _png(levels, "inferno", size=(min(len(spectrogram), 160), _HEIGHT))


def filter_png(weights: FloatArray) -> bytes:
    """A filter of the first layer: blue takes away, red adds. Shape (bands, width)."""
    most = float(np.abs(weights).max()) or 1.0
    return _png(((weights / most + 1) * 127.5).astype(np.uint8)[::-1], "coolwarm", size=None)


def _png(levels: NDArray[np.uint8], colours: str, *, size: tuple[int, int] | None) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(levels))
    if size:
        image = image.resize(size, Image.Resampling.BOX)
    palette = (mpl.colormaps[colours](np.arange(256))[:, :3] * 255).astype(np.uint8)
    image.putpalette(palette.tobytes())
    with io.BytesIO() as held:
        image.save(held, "PNG", optimize=True)
        return held.getvalue()


def _strongest(layer: Layer) -> IntArray:
    """The sounds that drive each unit most. Shape (units, excerpts)."""
    order: IntArray = np.argsort(-layer.activity.maxima, axis=0, kind="stable")[:_EXCERPTS].T
    return order


def _section(
    study: Study,
    layer: Layer,
    rows: IntArray,
    *,
    seconds_a_frame: float,
    bands_hz: NDArray[np.float64],
) -> str:
    found = layer.answers["maximum"]
    first = layer.name == "conv1"
    filters = study.network.first_filters() if first else None
    names = [html.escape(name) for name in study.held_out.label_names]
    cards = []
    for unit in np.argsort(-found.area, kind="stable"):
        says = answered(found, int(unit), names)
        excerpts = "".join(
            _excerpt(study, layer, row=int(row), unit=int(unit), seconds_a_frame=seconds_a_frame)
            for row in rows[unit]
        )
        drawn = "" if filters is None else _filter(filters[unit], bands_hz)
        cards.append(
            f'<article class="unit" data-labels="{found.label[unit]} {found.second[unit]}">'
            f'{drawn}<div class="words">'
            f'<h3>Unit {unit}</h3><div>{says}</div><div class="excerpts">{excerpts}</div></div>'
            "</article>"
        )
    note = (
        f"Its units hear {layer.activity.frames * seconds_a_frame:.2g} s at once, the bright part "
        "of a picture."
    )
    if first:
        note = _TALL_NOTE if study.network.config.small is None else _SMALL_NOTE
    return (
        f"<section><h2>Layer {layer.name}</h2><p>{note} The number is the area under the ROC curve "
        "on the scoring half, by maximal activation; .5 is chance.</p>"
        f'{chooser(names)}<div class="units">{"".join(cards)}</div></section>'
    )


def _excerpt(study: Study, layer: Layer, *, row: int, unit: int, seconds_a_frame: float) -> str:
    total = len(study.held_out.spectrograms[row])
    start, frames = int(layer.activity.peaks[row, unit]), layer.activity.frames
    left, width = 100 * start / total, 100 * min(frames, total - start) / total
    start_s = start * seconds_a_frame
    stop_s = start_s + max(_SHORTEST_S, frames * seconds_a_frame)
    label = html.escape(study.held_out.label_names[study.held_out.labels[row]])
    name = html.escape(study.held_out.names[row])
    return (
        f'<button class="play" type="button" data-content="{row}" data-start="{start_s:.2f}" '
        f'data-stop="{stop_s:.2f}" title="{name}" aria-label="Play {label}, {name}">'
        f'<img alt="" data-content="{row}">'
        f'<i style="left:{left:.1f}%;width:{max(width, 2):.1f}%"></i>'
        f"<b>{label}</b></button>"
    )


def _filter(weights: FloatArray, bands_hz: NDArray[np.float64]) -> str:
    picture = uri("image/png", filter_png(weights))
    if len(weights) < len(bands_hz):  # the same at every height: no place on the mel axis
        return f'<img class="small filter" alt="small filter" src="{picture}">'
    shown = [hz for hz in reversed(_MARKS_HZ) if hz <= bands_hz[-1]]
    marks = [f"{hz / 1000:g} kHz" for hz in shown]
    places = [int(np.abs(bands_hz - hz).argmin()) for hz in shown]
    axis = "".join(
        f'<span style="position:absolute;right:0;bottom:{100 * place / len(bands_hz):.0f}%">{mark}'
        "</span>"
        for mark, place in zip(marks, places, strict=True)
    )
    return (
        f'<div class="axis" style="position:relative;width:3rem">{axis}</div>'
        f'<img class="filter" alt="filter on the mel axis" src="{picture}">'
    )
