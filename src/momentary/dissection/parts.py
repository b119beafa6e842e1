"""Deal sources into parts, so that no source is on two sides, and labels alike across sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from momentary.errors import DataError
from momentary.types import BoolArray, IntArray

FEWEST_SOURCES = 3
"""That a label must come from; of fewer, a unit may answer to the source."""

FEWEST_A_HALF = 5
"""Pictures that a label must have on each half."""


class Halves(NamedTuple):
    """Pictures of which something can be said, on two sides.

    Attributes:
        rows: Of the pictures that are left. Shape (left,).
        labels: Of these, from 0. Shape (left,).
        label_names: By label.
        second: Which of them score labels; the others choose them. Shape (left,).
        left_out: Labels of which nothing can be said, each with the reason.
    """

    rows: IntArray
    labels: IntArray
    label_names: list[str]
    second: BoolArray
    left_out: list[str]


def deal_sources(
    labels: IntArray, sources: IntArray, *, shares: Sequence[float], rng: np.random.Generator
) -> IntArray:
    """The part of every content. Shape (contents,).

    Sources are dealt in random order, the largest first, each to the part that lacks its labels
    most.

    Args:
        labels: From 0. Shape (contents,).
        sources: Contents of one source have the same number. Shape (contents,).
        shares: How much of each label each part is to have.
        rng: Draws the order.
    """
    n_labels = int(labels.max()) + 1
    wanted = np.outer(shares, np.bincount(labels, minlength=n_labels))
    parts = np.zeros(len(labels), dtype=np.int64)
    names, which = np.unique(sources, return_inverse=True)
    order = rng.permutation(len(names))
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    sizes = np.array([len(members[source]) for source in order])
    for source in order[np.argsort(-sizes, kind="stable")]:
        rows = members[source]
        counts = np.bincount(labels[rows], minlength=n_labels)
        part = int((wanted @ counts).argmax())
        wanted[part] -= counts
        parts[rows] = part
    return parts


def halve(
    labels: IntArray, names: Sequence[str], sources: IntArray, *, rng: np.random.Generator
) -> Halves:
    """Two sides for every label that comes from sources enough and has pictures enough on each.

    Args:
        labels: From 0. Shape (pictures,).
        names: By label.
        sources: Pictures of one source have the same number. Shape (pictures,).
        rng: Deals the sources.

    Raises:
        DataError: If fewer than two labels are left.
    """
    left_out, kept = [], []
    for label, name in enumerate(names):
        count = len(np.unique(sources[labels == label]))
        if count >= FEWEST_SOURCES:
            kept.append(label)
        else:
            said = f"{count} source{'s' if count != 1 else ''}"
            left_out.append(
                f"{name}: its pictures come from {said}; what a unit answers to may be the source "
                "and not the label, so nothing is claimed."
            )
    while len(kept) >= 2:
        rows = np.flatnonzero(np.isin(labels, kept))
        left = np.searchsorted(kept, labels[rows])
        second = deal_sources(left, sources[rows], shares=(0.5, 0.5), rng=rng) == 1
        counts = np.stack(
            [np.bincount(left[side], minlength=len(kept)) for side in (~second, second)]
        )
        least = counts.min(axis=0)
        if least.min() >= FEWEST_A_HALF:
            left_names = [names[label] for label in kept]
            return Halves(rows, left, left_names, second, left_out)
        few = int(least.argmin())
        left_out.append(
            f"{names[kept[few]]}: one half of the sources has {least[few]} of its pictures and "
            f"needs {FEWEST_A_HALF}, so nothing is claimed."
        )
        del kept[few]
    raise DataError(
        f"{len(kept)} labels come from {FEWEST_SOURCES} sources or more and have "
        f"{2 * FEWEST_A_HALF} pictures or more; two are needed to tell one from another. "
        + " ".join(left_out[:5])
    )


def shuffled(labels: IntArray, sources: IntArray, *, rng: np.random.Generator) -> IntArray:
    """Labels that say nothing: those of other sources, run by run, so that sources keep together.

    Args:
        labels: Shape (contents,).
        sources: Shape (contents,).
        rng: Draws who gets whose.

    >>> mixed = shuffled(np.array([0, 0, 1]), np.array([5, 5, 7]), rng=np.random.default_rng(0))
    >>> sorted(mixed.tolist())
    [0, 0, 1]
    """
    which = np.unique(sources, return_inverse=True)[1]
    givers, takers = (
        np.argsort(rng.permutation(which.max() + 1)[which], kind="stable") for _ in range(2)
    )
    mixed = np.empty_like(labels)
    mixed[takers] = labels[givers]
    return mixed
