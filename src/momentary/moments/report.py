"""One self-contained page that shows what an analysis found; it loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy import stats

from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.gallery import Gallery, Measured
from momentary.moments.pixels import encode_jpeg, encode_png, read_picture
from momentary.moments.results import (
    MOMENTS,
    RUNGS,
    Effect,
    EffectTable,
    Outcome,
    plain,
    words_of,
)
from momentary.moments.whatif import stops

_STRENGTHS = tuple(np.linspace(-1, 1, 9).tolist())
_THUMB = 112  # pixels
_PAIRS = 5
_POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The pictures that a report shows.

    Attributes:
        gallery: Where they are.
        measured: Their attributes.
        category: Of a picture, by name; examples are compared inside a category.
        price: Of a picture's item, by name; examples are matched on it.
        slider: The picture that the slider edits; the most average one if None.
    """

    gallery: Gallery
    measured: Measured
    category: Mapping[str, str] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)
    slider: str | None = None


def write_report(table: EffectTable, file: Path, *, pictures: Pictures | None = None) -> None:
    """Write the page; without pictures it has neither examples nor a slider."""
    file.write_text(render(table, pictures=pictures), encoding="utf-8")


def render(table: EffectTable, *, pictures: Pictures | None = None) -> str:
    """The page as HTML."""
    folder = resources.files("momentary.moments")
    style = folder.joinpath("report.css").read_text(encoding="utf-8")
    scripts = [folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS]
    data = msgspec.json.encode(_page(table, pictures), enc_hook=plain).decode()
    # Inside a script element only "</" and "<!" could end or confuse it.
    data = data.replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {' '.join(_hash(each) for each in scripts)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(table.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<main id="report"><noscript>This page needs JavaScript; the same facts are in the JSON '
        "beside it.</noscript></main>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        + "".join(f"<script>{each}</script>\n" for each in scripts)
        + "</body>\n</html>\n"
    )


_SCRIPTS = ("edits.js", "report.js")


def summary(table: EffectTable) -> tuple[str, ...]:
    """The three or so sentences that somebody in a hurry should read."""
    found = [each for each in table.effects if each.discovered and not each.refused]
    refused = [each for each in table.effects if each.refused]
    if not found:
        lines = [f"No {table.exposure_noun} characteristic has an effect that can be told from 0."]
    else:
        strongest = sorted(found, key=lambda each: max(each.low, -each.high), reverse=True)
        # One sentence an attribute: clicks, carts and purchases say nearly the same.
        first = {each.attribute: each.words for each in reversed(strongest)}
        order = dict.fromkeys(each.attribute for each in strongest)
        lines = [first[attribute] for attribute in order][:3]
    broken = [table.scale(name).label for name in over_promises(table)]
    if broken:
        lines.append(
            f"An over-promise: more {words_of(broken)} brings more at first sight, and more comes "
            "back."
        )
    rungs = sorted({each.rung for each in table.effects})
    named = words_of([f"rung {rung} of 4 ({RUNGS[rung]})" for rung in rungs])
    lines.append(
        f"{len(found)} of {len(table.effects)} possible effects stand at a false-discovery rate "
        f"of {table.fdr:.0%}; {len(refused)} are refused. Evidence: {named}."
    )
    return tuple(lines)


def over_promises(table: EffectTable) -> tuple[str, ...]:
    """Attributes that raise a good first-sight outcome and a bad one in use, both discovered."""
    return tuple(name for name, found in promises(table).items() if found.broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What comes of an attribute that moves people at first sight.

    Attributes:
        broken: True where it is an over-promise.
        words: The reading in a few plain words.
    """

    broken: bool
    words: str


def promises(table: EffectTable) -> dict[str, Promise]:
    """For each attribute discovered to raise a good first-sight outcome, what follows in use.

    An over-promise is one that is discovered to raise a bad outcome in use. It is kept where even
    the upper end of the interval stays below what is gained at first sight; in between, the data
    are too few to tell, and that is said.
    """
    found = {}
    for scale in table.scales:
        effects = {
            each.outcome: each for each in table.effects if each.attribute == scale.attribute
        }
        gains = [effects[o.name] for o in _of(table, "first_sight", good=True) if o.name in effects]
        gained = [each.percent for each in gains if each.discovered and each.percent > 0]
        losses = [o for o in _of(table, "use", good=False) if o.name in effects]
        if gained and losses:
            found[scale.attribute] = _promise(effects, losses, gained=max(gained))
    return found


def _of(table: EffectTable, moment: str, *, good: bool) -> list[Outcome]:
    return [each for each in table.outcomes if each.moment == moment and each.good == good]


def _promise(effects: Mapping[str, Effect], losses: Sequence[Outcome], *, gained: float) -> Promise:
    for outcome in losses:
        loss = effects[outcome.name]
        if loss.discovered and loss.percent > 0:
            return Promise(
                broken=True, words="over-promise: more at first sight, and more comes back"
            )
        if loss.refused or loss.high >= gained:
            reach = "" if loss.refused else f" ({loss.low:+.0f} to {loss.high:+.0f} %)"
            return Promise(
                broken=False,
                words=f"too little is known of {outcome.label}{reach} to say whether it "
                "over-promises",
            )
    return Promise(broken=False, words="no over-promise: what comes back grows by less")


def matched_pairs(pictures: Pictures, attribute: str) -> list[tuple[int, int]]:
    """Rows of pictures high and low in an attribute, of one category and the nearest price.

    The highest fifth of the pictures meets the lowest fifth; a picture is used once.
    """
    values = pictures.measured.values[:, list(ATTRIBUTES).index(attribute)]
    order = np.argsort(values, kind="stable")
    fifth = max(1, len(order) // 5)
    lows = order[:fifth].tolist()
    names = pictures.measured.pictures
    pairs: list[tuple[int, int]] = []
    for high in order[::-1][:fifth].tolist():
        category = pictures.category.get(names[high])
        same = [low for low in lows if pictures.category.get(names[low]) == category]
        if not same or values[high] <= values[same[0]]:
            continue
        price = pictures.price.get(names[high], 1.0)
        low = min(same, key=lambda row: abs(np.log(pictures.price.get(names[row], 1.0) / price)))
        lows.remove(low)
        pairs.append((high, low))
        if len(pairs) == _PAIRS:
            break
    return pairs


def _page(table: EffectTable, pictures: Pictures | None) -> dict[str, Any]:
    matched = [] if pictures is None else ["category"] * bool(pictures.category)
    matched += [] if pictures is None else ["price"] * bool(pictures.price)
    visual = [each.attribute for each in table.scales if each.attribute in ATTRIBUTES]
    return {
        "table": table,
        "attributes": list(ATTRIBUTES),
        "moments": MOMENTS,
        "rungs": {str(rung): words for rung, words in RUNGS.items()},
        "order": {
            each.name: [effect.attribute for effect in table.of(each.name)]
            for each in table.outcomes
        },
        "summary": summary(table),
        "over_promises": over_promises(table),
        "promises": promises(table),
        "reach": float(stats.norm.ppf(0.5 + table.level / 2)),
        "power_reach": float(stats.norm.ppf(0.975) + stats.norm.ppf(_POWER)),
        "matched_on": words_of(matched) or "nothing: no category or price is known",
        "examples": {} if pictures is None else _examples(pictures, visual),
        "slider": None if pictures is None or not visual else _slider(pictures, visual),
    }


def _examples(pictures: Pictures, attributes: Sequence[str]) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        pairs = matched_pairs(pictures, attribute)
        if pairs:
            at = list(ATTRIBUTES).index(attribute)
            sides = (("high", [high for high, _ in pairs]), ("low", [low for _, low in pairs]))
            found[attribute] = {
                side: [_thumbnail(pictures, row, at) for row in rows] for side, rows in sides
            }
    return found


def _thumbnail(pictures: Pictures, row: int, attribute: int) -> dict[str, Any]:
    name = pictures.measured.pictures[row]
    pixels = read_picture(pictures.gallery.read(name), side=_THUMB)
    return {
        "name": name,
        "value": float(pictures.measured.values[row, attribute]),
        "src": _data_uri("jpeg", encode_jpeg(pixels, quality=80)),
    }


def _slider(pictures: Pictures, attributes: Sequence[str]) -> dict[str, Any]:
    name = pictures.slider or _typical(pictures.measured)
    pixels = pictures.gallery.pixels(name)
    measured = {each: stops(pixels, each, strengths=_STRENGTHS) for each in attributes}
    middle = _STRENGTHS.index(0.0)
    return {
        "name": name,
        "src": _data_uri("png", encode_png(pixels)),
        "before": measured[attributes[0]][middle].values,
        "stops": measured,
    }


def _typical(measured: Measured) -> str:
    if not measured.pictures:
        raise DataError("There is no picture to show; measure some, or leave the pictures out.")
    spread = measured.values.std(axis=0)
    away = (measured.values - np.median(measured.values, axis=0)) / np.where(spread > 0, spread, 1)
    return measured.pictures[int((away**2).sum(axis=1).argmin())]


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
