r"""Where an item that nobody touched would stand: a saved model's way from content to its items.

A model that knows items by rows of numbers (`protocol.Placeable`) gets a row for a new item,
predicted from its content by `content_factor`, so that the same model scores it as any other. For
any other model the content predicts collaborative factors f (`autoencoder_factors` of the visits);
the known items n whose own factors fit best, with weights max(f_n . f, 0), stand for the new one,
and its score is the weighted mean of theirs. A visit may remind such a model of little or of much:
with d, the spread of the visit's scores, the mean m gives z = m / d, which has to stand among the
known items' scores over the root of d; so new items have more room where the model knows less.

Either way the scores z of new items are tuned to a z + b. New items are to have the share of the
first places that they have of the next clicks: for every scale a that is tried, b is the one with
which they have it, and a is the one with which the next items stand highest,

    mean over visits of 1 / log2(1 + rank of the next item).

Both are chosen on the newest visits, by a model that was fitted without them and without a quarter
of the items: scores of visits and items that a model has learned from are too good to be compared.
For rows b grows with how much wider the scores of the model at hand are spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from momentary.data.tags import TAGS
from momentary.learn.bounds import require_choices, require_ranges
from momentary.models.content_factor import (
    Content,
    ContentFactor,
    ContentFactorConfig,
    View,
)
from momentary.types import BoolArray, FloatArray, IntArray

_SCALES = (1.0, 0.5, 0.75, 1.5, 2.0, 3.0)  # of equals, the first is taken
_LEAST_TARGETS = 20
_PLACES = 20
_LEAST_SPREAD = 1e-9
_COMPANY = "company"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementConfig:
    """How new items are placed.

    Attributes:
        way: "rows" for models that know items by rows, "neighbours" for others.
        encoders: By view, the encoder whose vectors it learned from.
        weights: By view, in likeness.
        scale: Of a new item's scores.
        offset: Of a new item's scores; with "neighbours" in units of the root of the spread.
        half: Visits of a new item at which they weigh as much as its content.
        neighbours: Most items whose mean stands for a new one.
        factors: Settings of the content model.
        figures: What calibration measured.
    """

    way: Literal["rows", "neighbours"] = "rows"
    encoders: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    half: float = 5.0
    neighbours: int = 20
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
    """Predicts where new items stand; see the module.

    Args:
        config: How.
        factors: Fitted from content to the model's rows or, with "neighbours", to factors.
        company: With "neighbours", the factors of the known items. Shape (items, factors).
    """

    def __init__(
        self,
        config: PlacementConfig,
        factors: ContentFactor,
        company: FloatArray | None = None,
    ) -> None:
        if (company is None) != (config.way == "rows"):
            raise ValueError(
                f"the way is {config.way!r}; neighbours need the factors of the known items, rows "
                "have no use for them."
            )
        self.config = config
        self.factors = factors
        self._company = company

    def content(self, views: Mapping[str, FloatArray], *, tags: View) -> dict[str, View]:
        """Exactly the views that it learned from: others are left out, missing ones are zeros.

        Args:
            views: Of some items. Shape (items, width) each.
            tags: Their attributes, sparse.
        """
        n_items = tags.shape[0]
        found: dict[str, View] = {TAGS: tags}
        for name, width in self.factors.widths().items():
            if name != TAGS:
                nothing = np.zeros((n_items, width), dtype=np.float32)
                found[name] = views.get(name, nothing)
        return found

    def rows(self, content: Content) -> FloatArray:
        """Rows of items as the content predicts them, not yet tuned. Shape (items, width)."""
        if self.config.way != "rows":
            raise ValueError("this placement goes by neighbours and predicts no rows.")
        return self.factors.predict(content)

    def near(self, content: Content) -> list[tuple[IntArray, FloatArray]]:
        """For each item the known ones that stand for it, best first, and weights of sum 1."""
        if self._company is None:
            raise ValueError("this placement goes by rows and has no neighbours.")
        predicted = self.factors.predict(content)
        return company_of(predicted, self._company, count=self.config.neighbours)

    def confidence(self, content: Content) -> FloatArray:
        """How much the known items say of new ones: 0 nothing, 1 all. Shape (items,)."""
        return self.factors.confidence(content)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, for safetensors."""
        own = self.factors.state()
        return own if self._company is None else {**own, _COMPANY: self._company}

    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self.config)

    @classmethod
    def from_state(cls, config: PlacementConfig, state: Mapping[str, NDArray[Any]]) -> Placement:
        """The placement that gave `state`."""
        factors = ContentFactor.from_state(config.factors, state)
        return cls(config, factors, state[_COMPANY] if config.way == "neighbours" else None)


def spread_root(scores: FloatArray) -> FloatArray:
    """Root of the standard deviation of each visit's scores. (visits, items) to (visits, 1)."""
    spread = np.maximum(scores.std(axis=1, keepdims=True), _LEAST_SPREAD)
    return np.asarray(np.sqrt(spread), dtype=np.float32)


def company_of(
    predicted: FloatArray, company: FloatArray, *, count: int
) -> list[tuple[IntArray, FloatArray]]:
    """For each predicted item the known ones that fit best, and weights of sum 1.

    Args:
        predicted: Factors of new items. Shape (new, factors).
        company: Of known items. Shape (items, factors).
        count: Most that stand for one.
    """
    fits = np.maximum(predicted @ company.T, 0)
    found = []
    for row in fits:
        best = np.argsort(-row, kind="stable")[:count]
        best = best[row[best] > 0]
        weights = row[best] / max(float(row[best].sum()), 1e-30)
        found.append((best.astype(np.int64), weights.astype(np.float32)))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How scores of new items are tuned, and what that gives on the visits that were asked.

    Attributes:
        scale: The a of the module, around `level`.
        moved: What is added then.
        level: The middle of the new items' scores.
        gain: The module's mean over visits.
        figures: Share of the next clicks and of the first places that new items have; Recall@20 of
            the new items and of the others, and of the others where there are no new items.
    """

    scale: float
    moved: float
    level: float
    gain: float
    figures: Mapping[str, float]

    def offset(self, *, level: float) -> float:
        """The b of the module where the middle of the new items' scores is this one."""
        return level * (1 - self.scale) + self.moved


def calibrate(own: FloatArray, new: FloatArray, *, targets: IntArray) -> Calibration:
    """Choose scale and offset of the scores of new items.

    Args:
        own: What the model says of the items that it knows. Shape (visits, known).
        new: What is predicted of the others. Shape (visits, new).
        targets: What came next: a column of `own`, or known + a column of `new`. Shape (visits,).
    """
    n_known = own.shape[1]
    is_new = targets >= n_known
    k = int(np.clip((n_known + new.shape[1]) // 10, 1, _PLACES))
    wanted = float(is_new.mean())
    level = float(np.median(new))
    found = None
    enough = is_new.sum() >= _LEAST_TARGETS
    for scale in _SCALES if enough else (1.0,):
        scaled = np.asarray(level + scale * (new - level), dtype=np.float32)
        moved = _moved(own, scaled, wanted=wanted, k=k) if enough else 0.0
        tuned = scaled + np.float32(moved)
        ranks = _ranks(own, tuned, targets)
        gain = float((1 / np.log2(1 + ranks)).mean())
        if found is None or gain > found[0]:
            shown = float((_margins(own, tuned, k=k) > 0).mean())
            found = (gain, scale, moved, ranks, shown)
    assert found is not None
    gain, scale, moved, ranks, shown = found
    alone = _ranks(own, new[:, :0], np.minimum(targets, n_known - 1))
    return Calibration(
        scale=scale,
        moved=moved,
        level=level,
        gain=gain,
        figures={
            "share_of_clicks": wanted,
            "share_of_places": shown,
            "recall_of_new": _recall(ranks, is_new),
            "recall_of_others": _recall(ranks, ~is_new),
            "recall_of_others_alone": _recall(alone, ~is_new),
        },
    )


def _margins(own: FloatArray, new: FloatArray, *, k: int) -> FloatArray:
    """How far the j-th best new item is above the known one whose place it would take.

    It stands among the first k exactly where this is above 0. Shape (visits, k).
    """
    best = -np.sort(-_top(own, k), axis=1)
    new_best = -np.sort(-_top(new, k), axis=1)
    places = new_best.shape[1]
    lowest = np.full((len(own), max(k - best.shape[1], 0)), -np.inf, dtype=np.float32)
    taken = np.concatenate([best, lowest], axis=1)[:, ::-1][:, :places]
    margins = np.full((len(own), k), -np.inf, dtype=np.float32)
    margins[:, :places] = new_best - taken
    return margins


def _moved(own: FloatArray, new: FloatArray, *, wanted: float, k: int) -> float:
    """What has to be added to new scores for a share of the first k places."""
    margins = _margins(own, new, k=k).ravel()
    place = min(int(wanted * len(margins)), len(margins) - 1)
    found = -float(-np.partition(-margins, place)[place])
    return found if np.isfinite(found) else 0.0


def _top(scores: FloatArray, k: int) -> FloatArray:
    if scores.shape[1] <= k:
        return scores
    return np.asarray(np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:])


def _ranks(own: FloatArray, new: FloatArray, targets: IntArray) -> IntArray:
    """Place of what came next, after all that score as high. Shape (visits,)."""
    n_known, visits = own.shape[1], np.arange(len(own))
    is_new = targets >= n_known
    said = own[visits, np.minimum(targets, n_known - 1)].copy()
    said[is_new] = new[visits[is_new], targets[is_new] - n_known]
    above = (own >= said[:, None]).sum(axis=1) + (new >= said[:, None]).sum(axis=1)
    return np.asarray(above, dtype=np.int64)


def _recall(ranks: IntArray, chosen: BoolArray) -> float:
    return float((ranks[chosen] <= _PLACES).mean()) if chosen.any() else 0.0
