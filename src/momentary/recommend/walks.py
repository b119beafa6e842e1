"""Playlists over a catalogue's content: ids and names in, ids out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.recommend.content import ContentIndex
from momentary.recommend.playlist import (
    DEFAULT_PLAYLIST,
    Curve,
    Gap,
    PlaylistConfig,
    Wanted,
    figures,
    playlist,
)
from momentary.recommend.rules import DEFAULT_RULES, Rules, allowed, column
from momentary.types import IntArray, ItemTable, Recommendation

SHAPES: Mapping[str, tuple[float, ...]] = {
    "rise": (0.0, 1.0),
    "fall": (1.0, 0.0),
    "arch": (0.0, 1.0, 0.0),
    "valley": (1.0, 0.0, 1.0),
}
"""Names of curves."""

_POOL = 3_000
_CURVE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What a playlist is to be.

    Attributes:
        start: Id of the item it begins with.
        end: Id of the item it ends with; None lets it stay near the first.
        apart: Attribute -> others that stand between two items which share a value of it.
        curve: "price" or an attribute of numbers, and one of `SHAPES`.
        rules: What may stand on it.
        config: Length and weights.
    """

    start: str
    end: str | None = None
    apart: Mapping[str, int] = field(default_factory=dict)
    curve: tuple[str, str] | None = None
    rules: Rules = DEFAULT_RULES
    config: PlaylistConfig = DEFAULT_PLAYLIST

    def __post_init__(self) -> None:
        if self.curve is not None and self.curve[1] not in SHAPES:
            raise DataError(f"the curve is {self.curve[1]!r}; it may be {', '.join(SHAPES)}.")
        if self.start == self.end:
            raise DataError(
                f"the list begins and ends with {self.start!r}; name another end, or none."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """A playlist, and how it is: see `playlist.PlaylistFigures`."""

    items: tuple[Recommendation, ...]
    smoothness: float
    spread: float


def walk(index: ContentIndex, wanted: Walk, *, facts: Callable[[list[str]], ItemTable]) -> Walked:
    """Make a playlist; variants of one group stand on it once.

    Args:
        index: The items by likeness.
        wanted: Ends and constraints.
        facts: The catalogue in the order of some ids.

    Raises:
        DataError: If an end has no content, an attribute is unknown, the curve's number is unknown
            of most of what would stand there, or the ends cannot stand.
    """
    ends = [wanted.start] if wanted.end is None else [wanted.start, wanted.end]
    ids = _pool(index, ends, wanted)
    table = facts(ids)
    mask = allowed(wanted.rules, table)
    if table.hidden is not None:
        mask &= ~table.hidden
    vectors = index.fused(ids)
    gaps = [Gap(values=column(table, name), between=count) for name, count in wanted.apart.items()]
    if "group_id" in table.attributes and "group_id" not in wanted.apart:
        gaps.append(Gap(values=table.attributes["group_id"], between=wanted.config.length))
    curve = _curve(wanted.curve, table)
    order = playlist(
        vectors,
        Wanted(
            first=0,
            last=None if wanted.end is None else 1,
            allowed=mask,
            gaps=tuple(gaps),
            curve=curve,
        ),
        config=wanted.config,
    )
    if curve is not None and wanted.curve is not None:
        _require_known(wanted.curve[0], curve.values[order])
    found = figures(vectors, order)
    return Walked(
        items=_listed(ids, vectors[order] @ vectors[order].T, order),
        smoothness=found.smoothness,
        spread=found.spread,
    )


def _pool(index: ContentIndex, ends: list[str], wanted: Walk) -> list[str]:
    """The ends, then the items most like either: what a list may be made of."""
    likeness = np.stack([index.likeness(each) for each in ends])
    most = max(_POOL, 2 * wanted.config.candidates)
    order = np.argsort(-likeness.max(axis=0), kind="stable")[:most]
    ids = index.item_ids
    near = [ids[row] for row in order.tolist() if np.isfinite(likeness[:, row]).all()]
    return [*ends, *(each for each in near if each not in ends)]


def _require_known(name: str, values: NDArray[np.float64]) -> None:
    """Refuse a curve that hardly any item of the list could follow."""
    known = int((~np.isnan(values)).sum())
    if 2 * known < len(values):
        raise DataError(
            f"{known} of the {len(values)} items that are alike have a {name}, so no list can "
            "follow it; choose another curve, or leave it out."
        )


def _curve(wanted: tuple[str, str] | None, table: ItemTable) -> Curve | None:
    if wanted is None:
        return None
    name, shape = wanted
    values = table.price if name == "price" else _numbers(table, name)
    return Curve(values=values, shape=SHAPES[shape], weight=_CURVE_WEIGHT)


def _numbers(table: ItemTable, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.full(len(table), np.nan)
    for row, text in enumerate(column(table, name).tolist()):
        try:
            values[row] = np.nan if text is None else float(text)
        except ValueError:
            raise DataError(
                f"attribute {name!r} holds {text!r}, which is no number; choose another curve."
            ) from None
    return values


def _listed(
    ids: list[str], alike: np.ndarray[tuple[int, int], np.dtype[np.float32]], order: IntArray
) -> tuple[Recommendation, ...]:
    steps = [1.0, *np.diag(alike, 1).tolist()]
    return tuple(
        Recommendation(
            item_id=ids[item],
            score=step,
            rank=rank,
            reasons=(f"{100 * max(step, 0):.0f} % like the one before",) if rank > 1 else (),
        )
        for rank, (item, step) in enumerate(zip(order.tolist(), steps, strict=True), start=1)
    )
