"""One HTML file that needs nothing else: the frame and the table that every report has."""

from __future__ import annotations

import base64
import html
import importlib.resources
from collections.abc import Mapping, Sequence

import msgspec

from momentary.dissection.findings import Findings
from momentary.dissection.selectivity import TIMES_CHANCE, Answers


def document(
    title: str, body: str, *, contents: Mapping[str, Mapping[str, str]], scripts: Sequence[str]
) -> str:
    """The page.

    Args:
        title: Plain text.
        body: HTML of what comes below the title.
        contents: By number, URIs of pictures and sounds that the page shows more than once.
        scripts: Files beside this one, in their order.
    """
    data = msgspec.json.encode(contents).decode().replace("<", "\\u003c")
    code = "".join(f"<script>{_resource(script)}</script>" for script in scripts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{_resource('page.css')}</style></head><body>"
        f"<main><h1>{html.escape(title)}</h1>{body}</main>"
        f'<script type="application/json" id="contents">{data}</script>{code}</body></html>'
    )


def table(layers: Sequence[Findings], *, own: str, nothing: str) -> str:
    """Which share of the units is selective, beside what carries nothing.

    Args:
        layers: What was found; all with comparisons of the same kinds.
        own: What the network is called.
        nothing: What the comparisons are called together.
    """
    rows = []
    for layer in layers:
        for measure, found in layer.answers.items():
            rivals = "".join(
                f"<td>{_range(shares)}</td>" for shares in layer.comparisons[measure].values()
            )
            verdict = (
                f'<td class="yes">far beyond {nothing}</td>'
                if layer.claim(measure)
                else f'<td class="no">not far beyond {nothing}: no claim</td>'
            )
            rows.append(
                f"<tr><td>{layer.name}</td><td>{measure}</td><td>{found.share:.0%}</td>{rivals}"
                f"{verdict}</tr>"
            )
    kinds = "".join(f"<th>{kind}</th>" for kind in layers[0].comparisons["maximum"])
    return (
        '<h2>Selective units</h2><div class="scroll"><table><thead><tr><th>layer</th>'
        f"<th>activation</th><th>{own}</th>{kinds}<th>what that means</th></tr></thead><tbody>"
        f"{''.join(rows)}</tbody></table></div><p class=dim>A claim takes {TIMES_CHANCE:g} times "
        f"the highest share of {nothing}, and more than one or two units.</p>"
    )


def answered(found: Answers, unit: int, names: Sequence[str]) -> str:
    """What one unit answers to, and how clearly.

    Args:
        found: Of its layer.
        unit: Which.
        names: HTML, by label.
    """
    says = f"{names[found.label[unit]]} {found.area[unit]:.2f}"
    second = int(found.second[unit])
    if second < 0:
        return says
    return f"two labels: {says} and {names[second]} {found.second_area[unit]:.2f}"


def chooser(label_names: Sequence[str]) -> str:
    """Shows the units of one label.

    Args:
        label_names: HTML, by label.
    """
    options = "".join(
        f'<option value="{at}">{name}</option>' for at, name in enumerate(label_names)
    )
    return (
        '<p><label>Show <select class="label"><option value="">all units</option>'
        f"{options}</select></label></p>"
    )


def uri(kind: str, content: bytes) -> str:
    """A file inside of the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _range(shares: Sequence[float]) -> str:
    """From the lowest to the highest, once where they look the same."""
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return low if low == high else f"{low} to {high}"


def _resource(name: str) -> str:
    return importlib.resources.files("momentary.dissection").joinpath(name).read_text("utf-8")
