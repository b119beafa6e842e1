r"""Where an item that nobody touched would stand: a saved model's way from content to its items.

A model that knows items by rows of numbers (`protocol.Placeable`) gets a row for a new item,
predicted from its content by `content_factor`, so that the same model scores it as any other. Any
other model scores a new item as the mean of the items most like it. Either way the scores z of new
items are tuned to a z + b (for means, whose 0 says that nothing is known, b is 0), chosen so that

    mean over visits of log( exp(t s_target) / sum over items of exp(t s_item) )

is largest on a sample of visits, a quarter of the known items being treated as new: they were
predicted without having been seen. So a new item stands as high as what is known of it bears out,
neither hidden by its uncertainty nor pushed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.special
from numpy.typing import NDArray

from momentary.learn.bounds import require_choices, require_ranges
from momentary.models.content_factor import (
    Content,
    ContentFactor,
    ContentFactorConfig,
    View,
)
from momentary.types import FloatArray, IntArray

_SCALES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
_OFFSETS = np.linspace(-8, 8, 81)
_TEMPERATURES = np.geomspace(0.02, 50, 25)
_LEAST_TARGETS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementConfig:
    """How new items are placed.

    Attributes:
        way: "rows" for models that know items by rows, "neighbours" for others.
        encoders: By view, the encoder whose vectors it learned from.
        weights: By view, in likeness.
        scale: Of a new item's scores.
        offset: Of a new item's scores.
        half: Visits of a new item at which they weigh as much as its content.
        neighbours: Items whose mean stands for a new one.
        factors: Settings of the content model.
        figures: What calibration measured.
    """

    way: Literal["rows", "neighbours"] = "rows"
    encoders: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    half: float = 5.0
    neighbours: int = 10
    factors: ContentFactorConfig = field(default_factory=ContentFactorConfig)
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        require_choices(self, {"way": ("rows", "neighbours")})


_RANGES: dict[str, tuple[float, float]] = {
    "scale": (0, 100),
    "offset": (-1e6, 1e6),
    "half": (1e-6, 1e9),
    "neighbours": (1, 1_000),
}


class Placement:
    """Predicts rows of new items; see the module.

    Args:
        config: How.
        factors: Fitted from content to rows; None with "neighbours".
    """

    def __init__(self, config: PlacementConfig, factors: ContentFactor | None = None) -> None:
        if (factors is None) != (config.way == "neighbours"):
            raise ValueError(f"the way is {config.way!r}; rows need factors, neighbours have none.")
        self.config = config
        self.factors = factors

    def content(
        self, views: Mapping[str, FloatArray], *, tags: View, tag_view: str
    ) -> dict[str, View]:
        """Exactly the views that it learned from: others are left out, missing ones are zeros.

        Args:
            views: Of some items. Shape (items, width) each.
            tags: Their attributes, sparse.
            tag_view: What that view is called.
        """
        if self.factors is None:
            raise ValueError("this placement goes by neighbours and reads no content.")
        n_items = tags.shape[0]
        found: dict[str, View] = {tag_view: tags}
        for name, width in self.factors.widths().items():
            if name != tag_view:
                nothing = np.zeros((n_items, width), dtype=np.float32)
                found[name] = views.get(name, nothing)
        return found

    def rows(self, content: Content) -> FloatArray:
        """Rows of items as the content predicts them, not yet tuned. Shape (items, width)."""
        if self.factors is None:
            raise ValueError("this placement goes by neighbours and predicts no rows.")
        return self.factors.predict(content)

    def confidence(self, content: Content) -> FloatArray:
        """How much the known items say of new ones: 0 nothing, 1 all. Shape (items,)."""
        if self.factors is None:
            raise ValueError("this placement goes by neighbours; their likeness is the confidence.")
        return self.factors.confidence(content)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, for safetensors."""
        return {} if self.factors is None else self.factors.state()

    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self.config)

    @classmethod
    def from_state(cls, config: PlacementConfig, state: Mapping[str, NDArray[Any]]) -> Placement:
        """The placement that gave `state`."""
        if config.way == "neighbours":
            return cls(config)
        return cls(config, ContentFactor.from_state(config.factors, state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How scores of new items are tuned, and what that gives on the sample.

    Attributes:
        scale: The a of the module.
        offset: Its b.
        figures: Mean log chance of the next item as the model says it, with a quarter of the items
            new and untuned, and with them tuned; Recall@20 of the items treated as new and of the
            same items as the model knows them; and their shares of the first twenty places.
    """

    scale: float
    offset: float
    figures: Mapping[str, float]


def calibrate(
    own: FloatArray,
    new: FloatArray,
    columns: IntArray,
    *,
    targets: IntArray,
    shift: bool = True,
) -> Calibration:
    """Choose scale and offset of the scores of items that are treated as new.

    Args:
        own: What the model says of all items. Shape (visits, items).
        new: What is predicted of the items `columns` without knowing them. (visits, columns).
        columns: Item indices.
        targets: The item that came next in each visit. Shape (visits,).
        shift: False leaves the offset at 0.
    """
    z, c = own.astype(np.float64), new.astype(np.float64)
    visits = np.arange(len(z))
    place = np.full(z.shape[1], -1, dtype=np.int64)
    place[columns] = np.arange(len(columns))
    at = place[targets]
    is_new = at >= 0
    temperature = _temperature(z, targets)
    known = np.ones(z.shape[1], dtype=np.bool_)
    known[columns] = False
    warm = scipy.special.logsumexp(temperature * z[:, known], axis=1)
    level = float(np.median(c)) if shift else 0.0
    offsets_tried = _OFFSETS if shift else np.zeros(1)

    def chance(scale: float, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean log chance of the targets, by offset; offsets are in units of the temperature."""
        tuned = level + scale * (c - level)
        cold = scipy.special.logsumexp(temperature * tuned, axis=1)
        total = np.logaddexp(warm[:, None], cold[:, None] + offsets[None, :])
        said = np.where(is_new, temperature * tuned[visits, at], temperature * z[visits, targets])
        found: NDArray[np.float64] = (
            said[:, None] + np.where(is_new[:, None], offsets[None, :], 0.0) - total
        ).mean(axis=0)
        return found

    scale, moved = 1.0, 0.0
    if is_new.sum() >= _LEAST_TARGETS:
        table = np.stack([chance(each, offsets_tried) for each in _SCALES])
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        scale, moved = _SCALES[int(row)], float(offsets_tried[int(column)])
    tuned = level + scale * (c - level) + moved / temperature
    mixed = z.copy()
    mixed[:, columns] = tuned
    every = scipy.special.logsumexp(temperature * z, axis=1)
    return Calibration(
        scale=scale,
        offset=float(level * (1 - scale) + moved / temperature),
        figures={
            "log_chance_known": float((temperature * z[visits, targets] - every).mean()),
            "log_chance_untuned": float(chance(1.0, np.zeros(1))[0]),
            "log_chance_tuned": float(chance(scale, np.array([moved]))[0]),
            **_recalls(z, mixed, targets=targets, is_new=is_new, known=known),
        },
    )


def _temperature(z: NDArray[np.float64], targets: IntArray) -> float:
    """The t under which the model's own scores give the targets the largest chance."""
    said = z[np.arange(len(z)), targets]
    chances = [
        float((t * said - scipy.special.logsumexp(t * z, axis=1)).mean()) for t in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmax(chances))])


def _recalls(
    z: NDArray[np.float64],
    mixed: NDArray[np.float64],
    *,
    targets: IntArray,
    is_new: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> dict[str, float]:
    k = min(20, z.shape[1])
    found = {}
    for name, scores in (("known", z), ("new", mixed)):
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        hit = (best == targets[:, None]).any(axis=1)
        found[f"recall_of_new_when_{name}"] = float(hit[is_new].mean()) if is_new.any() else 0.0
        found[f"recall_of_others_when_{name}"] = (
            float(hit[~is_new].mean()) if (~is_new).any() else 0.0
        )
        found[f"share_of_new_when_{name}"] = float((~known[best]).mean())
    return found
