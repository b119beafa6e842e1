"""What is found about one layer of any network, beside networks or labels that carry nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from momentary.dissection.selectivity import Answers, supported
from momentary.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The findings about one layer.

    Attributes:
        name: Of the layer.
        answers: Of its units, by measure, "maximum" or "mean".
        comparisons: Shares of selective units by measure and by kind of comparison, one number a
            network, or a shuffle of the labels.
    """

    name: str
    answers: Mapping[str, Answers]
    comparisons: Mapping[str, Mapping[str, Sequence[float]]]

    def claim(self, measure: str) -> bool:
        """Whether the share of selective units is far beyond all comparisons."""
        rivals = [share for each in self.comparisons[measure].values() for share in each]
        found = self.answers[measure]
        return supported(found.share, rivals, units=len(found.area))


def chosen_layers(names: Sequence[str], *, there: Sequence[str]) -> list[str]:
    """The layers of some names, lowest first; the lowest and the top one if none is named.

    Args:
        names: What was asked for.
        there: All layers, lowest first.

    Raises:
        DataError: If a layer is not there.

    >>> chosen_layers([], there=["conv1", "conv2", "dense1"])
    ['conv1', 'dense1']
    """
    for name in names:
        if name not in there:
            raise DataError(f"there is no layer {name!r}; there are {', '.join(there)}.")
    return [each for each in there if each in (names or (there[0], there[-1]))]
