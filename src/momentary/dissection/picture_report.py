"""What the units of a picture network answer to, as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from momentary.dissection.page import answered, chooser, document, table, uri
from momentary.dissection.pictures import PictureLayer, PictureStudy
from momentary.dissection.selectivity import SELECTIVE
from momentary.encoders.bottlenecks import Reach
from momentary.encoders.protocol import Picture
from momentary.types import IntArray, Progress, silent

_SHOWN = 4
_THUMBNAIL = 112
_SMALLEST_MARK = 0.07
_NOTHING = "what carries nothing"


def render_pictures(
    study: PictureStudy, *, title: str, caveats: Sequence[str] = (), progress: Progress = silent
) -> str:
    """The page.

    Args:
        study: What was found.
        title: What the data are.
        caveats: Sentences that a reader must know about the data.
        progress: Told while pictures are made small.
    """
    sections, used = [], set[int]()
    for layer in study.layers:
        strongest = np.argsort(-layer.activity.maxima, axis=0, kind="stable")[:_SHOWN].T
        used |= set(strongest.ravel().tolist())
        sections.append(_section(study, layer, strongest))
    contents = {}
    for done, picture in enumerate(sorted(used), start=1):
        contents[str(picture)] = {"picture": uri("image/jpeg", thumbnail(study.seen(picture)))}
        progress(done, len(used), "pictures of the report")
    words = "".join(f"<p>{html.escape(each)}</p>" for each in (*caveats, *_about(study)))
    left_out = "".join(f"<li>{html.escape(each)}</li>" for each in study.left_out)
    if left_out:
        count = len(study.left_out)
        left_out = (
            f"<details><summary>{count} label{'s' if count != 1 else ''} of which nothing is "
            f"claimed</summary><ul>{left_out}</ul></details>"
        )
    body = (
        f"{words}{left_out}"
        f"{table(study.layers, own='this network', nothing=_NOTHING)}{''.join(sections)}"
    )
    return document(title, body, contents=contents, scripts=["page.js"])


def thumbnail(picture: Picture) -> bytes:
    """A small JPEG."""
    image = Image.fromarray(picture).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    with io.BytesIO() as held:
        image.save(held, "JPEG", quality=80, optimize=True)
        return held.getvalue()


def _about(study: PictureStudy) -> list[str]:
    """What was done, and what the comparisons are."""
    count, labels = len(study.rows), len(study.label_names)
    alone = study.sources == count
    halves = "pictures, each counted as a source of its own" if alone else "sources"
    return [
        f"{count:,} pictures of {labels} labels from {study.sources:,} sources. A unit is "
        f"selective if, with a chance of {SELECTIVE:g} or more, a picture of its label drives it "
        "more than another picture does. Its label was chosen on one half of the "
        f"{halves}, and scored on the other.",
        "The network was trained before, on other pictures and for other names; nothing here "
        "taught it. So no network exists that learned shuffled labels of these pictures. Instead, "
        '"shuffled labels" judges the same units by labels that were dealt anew among the '
        "sources: what looks selective then does so by the luck of choosing. "
        '"Untrained" is the same network with random weights, every convolution normalised to '
        "some of these pictures: what it answers to comes from how a network is wired and from how "
        "easily these pictures are told apart, by their outline or their brightness, and not from "
        "learning.",
    ]


def _section(study: PictureStudy, layer: PictureLayer, strongest: IntArray) -> str:
    found, by_mean = layer.answers["maximum"], layer.answers["mean"]
    names = [html.escape(name) for name in study.label_names]
    cards = []
    for unit in np.argsort(-found.area, kind="stable"):
        says = answered(found, int(unit), names)
        shots = "".join(
            _shot(study, layer, picture=int(picture), unit=int(unit)) for picture in strongest[unit]
        )
        cards.append(
            f'<article class="unit" data-labels="{found.label[unit]} {found.second[unit]}">'
            '<div class="words">'
            f"<h3>Unit {unit}</h3><div>{says}</div>"
            f'<div class="dim">by mean: {names[by_mean.label[unit]]} {by_mean.area[unit]:.2f}</div>'
            f'<div class="shots">{shots}</div></div></article>'
        )
    return (
        f"<section><h2>Layer {layer.name}</h2><p>{_sight(layer.reach, study.side)} The number is "
        "the area under the ROC curve on the scoring half, by the maximum over all places; .5 is "
        f"chance. The pictures are those of both halves that drive a unit most.</p>"
        f"{_by_label(layer, names)}{chooser(names)}"
        f'<div class="units">{"".join(cards)}</div></section>'
    )


def _by_label(layer: PictureLayer, names: Sequence[str]) -> str:
    """How many selective units each label has."""
    found = layer.answers["maximum"]
    counts = np.bincount(found.label[found.area >= SELECTIVE], minlength=len(names))
    order = [at for at in np.argsort(-counts, kind="stable") if counts[at]]
    if not order:
        return "<p>No unit is selective.</p>"
    said = ", ".join(f"{names[at]} {counts[at]}" for at in order)
    none = len(names) - len(order)
    rest = f" {none} of {len(names)} labels have none." if none else ""
    return f"<p>Selective units by label: {said}.{rest}</p>"


def _sight(reach: Reach, side: int) -> str:
    if _is_framed(reach, side):
        return (
            f"A unit sees {reach.side} of the picture's {side} pixels across at once; the frame is "
            "what it saw when it was driven most (drawn larger where that is tiny)."
        )
    return (
        f"A unit sees {min(reach.side, side)} of the picture's {side} pixels across at once, most "
        "of it weakly; the frame is the middle of what it saw when it was driven most."
    )


def _is_framed(reach: Reach, side: int) -> bool:
    """Whether a frame of all that a place sees says where it looks."""
    return 2 * reach.side <= side


def _shot(study: PictureStudy, layer: PictureLayer, *, picture: int, unit: int) -> str:
    row, column = (int(each) for each in layer.activity.peaks[:, picture, unit])
    top, high = _framed(layer.reach, row, study.side)
    left, wide = _framed(layer.reach, column, study.side)
    label = html.escape(study.label_names[study.labels[picture]])
    name = html.escape(study.photos.names[study.rows[picture]])
    return (
        f'<figure title="{name}"><img alt="{label}, {name}" data-content="{picture}">'
        f'<i style="left:{left:.1%};top:{top:.1%};width:{wide:.1%};height:{high:.1%}"></i>'
        f"<figcaption>{label}</figcaption></figure>"
    )


def _framed(reach: Reach, place: int, side: int) -> tuple[float, float]:
    """Where a frame begins and how long it is, as shares of the picture."""
    seen = reach.side if _is_framed(reach, side) else reach.step
    middle = reach.start + place * reach.step + reach.side / 2
    long = max(seen, _SMALLEST_MARK * side)
    first, last = max(middle - long / 2, 0), min(middle + long / 2, side)
    return first / side, (last - first) / side
