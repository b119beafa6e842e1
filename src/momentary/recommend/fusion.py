r"""Fusion: one likeness of two items out of several, some of which cannot be told.

Two items are compared part by part: by every view (picture, text, ...) and by every attribute. Part
c says s_c, in standard deviations of what it says of two items at random, so that its mean is 0.
What they would be like if everything were known is

    s = sum over c of w_c s_c.

Where one of the two lacks a part, s_c is unknown. It is not left out of a mean (fewer parts vary
more, so that items of which little is known would be first and last), nor taken for 0 (an item that
nobody described would lose against every item whose tags agree). It is what the others say of it:
with O the parts that both have and M the others, the best linear guess of s is

    E[s | s_O] = (w_O + S_OO^-1 S_OM w_M) . s_O,

S being the covariance of the parts over pairs of items that have both (conditional mean
imputation; Little & Rubin, "Statistical analysis with missing data"), divided by the standard
deviation of that guess: one from few parts varies less, and an item of which little is known shall
not be behind the others for that alone. The weights thus depend on what both items have, and a
picture that tells the brand counts for more where no brand is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.types import BoolArray, FloatArray, IntArray

MOST_PARTS = 62
"""What a pattern of parts can hold, one bit each."""

_LEAST_PAIRS = 200
_LEAST_VARIANCE = 0.05
UNLIKE = np.float32(-1e9)
"""The likeness of two items that have no part in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One way to compare two items.

    Attributes:
        name: Of the view or attribute.
        view: What its weight is looked up by; all attributes are one view.
        share: Of that weight.
    """

    name: str
    view: str
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How near items are, part by part.

    Attributes:
        parts: Which.
        near: By part, in standard deviations; 0 where one of two lacks it. (queries, items) each.
        there: By part, whether both have it. Shapes (queries, items).
    """

    parts: tuple[Part, ...]
    near: tuple[FloatArray, ...]
    there: tuple[BoolArray, ...]

    def take(self, item: int) -> Compared:
        """The same for one of the items and the first query."""
        return Compared(
            parts=self.parts,
            near=tuple(each[:1, item : item + 1] for each in self.near),
            there=tuple(each[:1, item : item + 1] for each in self.there),
        )

    def only(self, view: str) -> Compared:
        """The parts of one view."""
        kept = [place for place, part in enumerate(self.parts) if part.view == view]
        return Compared(
            parts=tuple(self.parts[place] for place in kept),
            near=tuple(self.near[place] for place in kept),
            there=tuple(self.there[place] for place in kept),
        )


class Fusion:
    """Weights of parts for whatever two items have in common.

    Args:
        covariance: Of the parts by name, over pairs of items at random; parts that it does not
            know go with no other.
    """

    def __init__(self, covariance: Mapping[tuple[str, str], float]) -> None:
        self._covariance = dict(covariance)

    @classmethod
    def of(cls, compared: Compared) -> Fusion:
        """Learn from some items compared with each other."""
        found = {}
        apart = ~np.eye(len(compared.near[0]), dtype=np.bool_) if compared.near else None
        near = [each[apart] for each in compared.near]
        there = [each[apart] for each in compared.there]
        names = [part.name for part in compared.parts]
        for a, one in enumerate(names):
            for b in range(a + 1):
                both = there[a] & there[b]
                if both.sum() >= _LEAST_PAIRS:
                    product = float((near[a] * near[b])[both].mean())
                    found[one, names[b]] = found[names[b], one] = product
        return cls(found)

    def fuse(self, compared: Compared, weights: Mapping[str, float]) -> FloatArray:
        """The likeness of every pair, in standard deviations. Shape (queries, items).

        Args:
            compared: Part by part.
            weights: By view; one that is not named weighs 1.
        """
        patterns, place = np.unique(_patterns(compared), return_inverse=True)
        own = self.weights(compared.parts, patterns, weights)
        place = place.reshape(compared.near[0].shape)
        fused = np.zeros(place.shape, dtype=np.float32)
        for number, near in enumerate(compared.near):
            fused += own[:, number][place] * near
        fused[(patterns == 0)[place]] = UNLIKE
        return fused

    def told(self, compared: Compared, weights: Mapping[str, float]) -> dict[str, float]:
        """What each view adds to the likeness of the first pair."""
        own = self.weights(compared.parts, _patterns(compared)[0, :1], weights)[0]
        found: dict[str, float] = {}
        for part, weight, near in zip(compared.parts, own, compared.near, strict=True):
            found[part.view] = found.get(part.view, 0.0) + float(weight * near[0, 0])
        return found

    def weights(
        self, parts: Sequence[Part], patterns: IntArray, weights: Mapping[str, float]
    ) -> FloatArray:
        """What each part counts for, by what two items have. Shape (patterns, parts).

        Args:
            parts: In the order of the patterns' bits.
            patterns: Which parts there are, one bit each. Shape (patterns,).
            weights: By view; one that is not named weighs 1.
        """
        full = np.array([weights.get(part.view, 1.0) * part.share for part in parts])
        covariance = self._matrix(parts)
        found = np.zeros((len(patterns), len(parts)), dtype=np.float32)
        for row, pattern in enumerate(patterns.tolist()):
            there = np.array([pattern >> bit & 1 for bit in range(len(parts))], dtype=np.bool_)
            if there.any():
                known = covariance[np.ix_(there, there)]
                told = np.linalg.solve(known, covariance[np.ix_(there, ~there)] @ full[~there])
                guess = full[there] + told
                spread = np.sqrt(guess @ known @ guess) or 1.0
                found[row, there] = guess / spread
        return found

    def _matrix(self, parts: Sequence[Part]) -> FloatArray:
        """Covariance of the parts, made positive: pairs differ in what they lack."""
        names = [part.name for part in parts]
        found = np.array(
            [
                [self._covariance.get((one, other), float(one == other)) for other in names]
                for one in names
            ]
        )
        values, vectors = np.linalg.eigh(found)
        return np.asarray(vectors * np.maximum(values, _LEAST_VARIANCE) @ vectors.T)


def _patterns(compared: Compared) -> IntArray:
    """Which parts two items have in common, one bit each. Shape (queries, items)."""
    found = np.zeros(compared.near[0].shape, dtype=np.int64)
    for bit, there in enumerate(compared.there):
        found |= there.astype(np.int64) << bit
    return found
