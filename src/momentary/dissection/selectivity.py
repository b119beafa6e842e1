"""How well one unit tells one label from all others, without fooling ourselves.

A unit's label is chosen on one half of the held-out sources and scored on the other, because the
best of many labels looks good by chance. The measure is the area under the ROC curve: the chance
that a sound of the label drives the unit more than another sound does. It is an effect size;
nearly every unit of an untrained network passes a test for being different from chance, so a share
of units means something only beside that of untrained networks and of networks that learned
shuffled labels (compare Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.types import BoolArray, FloatArray, IntArray

SELECTIVE = 0.9
"""Area under the ROC curve from which a unit counts as selective."""

TIMES_CHANCE = 2.0
"""How many times the best comparison network's share a claim takes."""

CHANCE = 0.05
"""A claim is of a difference that chance makes less often than this."""

_FEWEST = 3


class Answers(NamedTuple):
    """What every unit answers to.

    Attributes:
        label: Chosen on the first half. Shape (units,).
        area: Of that label, on the second half. Shape (units,).
        second: The next label, chosen on the first half; -1 if the unit does not answer to two.
            Shape (units,).
        second_area: Of that label among sounds that are not of the first one, on the second half;
            NaN where `second` is -1. Shape (units,).
    """

    label: IntArray
    area: NDArray[np.float64]
    second: IntArray
    second_area: NDArray[np.float64]

    @property
    def share(self) -> float:
        """The share of units that are selective on the second half."""
        return float((self.area >= SELECTIVE).mean())


def areas(activity: FloatArray, positive: BoolArray) -> NDArray[np.float64]:
    """Area under the ROC curve of every unit; ties count half. Shape (units,).

    Args:
        activity: Shape (sounds, units).
        positive: Which sounds are of the label. Shape (sounds,).

    >>> areas(np.array([[0.1], [0.9], [0.8]], dtype=np.float32), np.array([False, True, True]))
    array([1.])
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        raise DataError(
            f"{count} sounds of {len(positive)} are of the label; some must be, not all."
        )
    return _from_ranks(scipy.stats.rankdata(activity, axis=0), positive)


def answers(activity: FloatArray, labels: IntArray, second_half: BoolArray) -> Answers:
    """Choose every unit's label on one half of the sounds and score it on the other.

    Args:
        activity: How much each sound drives each unit, such as its maximum. Shape (sounds, units).
        labels: From 0. Shape (sounds,).
        second_half: The sounds to score on; no source may be on both sides. Shape (sounds,).

    Raises:
        DataError: If a label has too few sounds on a side.
    """
    n_labels = int(labels.max()) + 1
    names = [f"label {each}" for each in range(n_labels)]
    for few, what in lacking(labels, second_half, names=names).items():
        raise DataError(f"{names[few]}: {what}. Add sources, or leave the label out.")
    label, area = _chosen(activity, labels, second_half)
    units = np.arange(activity.shape[1])
    second = np.full(len(units), -1)
    second_area = np.full(len(units), np.nan)
    for unit in units:
        pair = _second_label(activity[:, unit], labels, second_half, label=int(label[unit]))
        if pair:
            second[unit], second_area[unit] = pair
    return Answers(label=label, area=area, second=second, second_area=second_area)


def selective_share(activity: FloatArray, labels: IntArray, second_half: BoolArray) -> float:
    """The share of units that are selective; see `answers`, whose `share` it is."""
    _, area = _chosen(activity, labels, second_half)
    return float((area >= SELECTIVE).mean())


def lacking(labels: IntArray, second_half: BoolArray, *, names: Sequence[str]) -> dict[int, str]:
    """The labels that cannot be told from the others on one of the halves, and what they lack.

    Args:
        labels: From 0. Shape (sounds,).
        second_half: The sounds to score on. Shape (sounds,).
        names: Of the labels.
    """
    found = {}
    for label in range(len(names)):
        least = min(int((labels[half] == label).sum()) for half in (~second_half, second_half))
        if least < _FEWEST:
            sounds = f"{least} sound{'s' if least != 1 else ''}"
            found[label] = (
                f"it has {sounds} on one half of the held-out sources and needs {_FEWEST}"
            )
    return found


def supported(share: float, comparisons: Sequence[float], *, units: int) -> bool:
    """Whether a share of selective units is far beyond that of networks that learned nothing.

    It takes `TIMES_CHANCE` times the highest share, and so many units that the difference is no
    matter of one or two of them (Fisher's exact test, one-sided). Units of a network are not
    independent of each other, so passing the test is needed and not enough. Without such networks
    no share is.

    Args:
        share: Of the network.
        comparisons: Of each of the others.
        units: In the layer, of every network.
    """
    if not comparisons or share < TIMES_CHANCE * max(comparisons):
        return False
    own, other = (round(each * units) for each in (share, max(comparisons)))
    tested = scipy.stats.fisher_exact(
        [[own, units - own], [other, units - other]], alternative="greater"
    )
    return bool(tested.pvalue < CHANCE)


def _chosen(
    activity: FloatArray, labels: IntArray, second_half: BoolArray
) -> tuple[IntArray, NDArray[np.float64]]:
    """Every unit's label from the first half, and its area on the second. Shapes (units,)."""
    n_labels = int(labels.max()) + 1
    chosen_on, scored_on = (
        _areas_by_label(activity[half], labels[half], n_labels)
        for half in (~second_half, second_half)
    )
    label = chosen_on.argmax(axis=0)
    return label, scored_on[label, np.arange(activity.shape[1])]


def _areas_by_label(activity: FloatArray, labels: IntArray, n_labels: int) -> NDArray[np.float64]:
    """Shape (labels, units)."""
    ranks = scipy.stats.rankdata(activity, axis=0)
    return np.stack([_from_ranks(ranks, labels == label) for label in range(n_labels)])


def _from_ranks(ranks: NDArray[np.float64], positive: BoolArray) -> NDArray[np.float64]:
    """The share of pairs in the right order. Shape (units,), from (sounds, units)."""
    count = int(positive.sum())
    above = ranks[positive].sum(axis=0) - count * (count + 1) / 2
    return np.asarray(above / (count * (len(positive) - count)), dtype=np.float64)


def _second_label(
    activity: FloatArray, labels: IntArray, second_half: BoolArray, *, label: int
) -> tuple[int, float] | None:
    """The other label that a unit answers to as clearly, and its area; None if there is none.

    Both must be selective once the other's sounds are left out: together they hide each other.
    """
    rest = labels != label
    first = rest & ~second_half
    candidates = np.unique(labels[first])
    if len(candidates) < 2:
        return None
    ranks = scipy.stats.rankdata(activity[first, None], axis=0)
    found = [_from_ranks(ranks, labels[first] == each)[0] for each in candidates]
    second = int(candidates[int(np.argmax(found))])
    scored = {}
    for this, other in ((label, second), (second, label)):
        sounds = second_half & (labels != other)
        scored[this] = float(areas(activity[sounds, None], labels[sounds] == this)[0])
    if min(scored.values()) < SELECTIVE:
        return None
    return second, scored[second]
