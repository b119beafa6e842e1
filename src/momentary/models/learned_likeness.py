"""A likeness that was learned from a catalogue's own tags, with the names of what it learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from momentary.models.likeness import Likeness
from momentary.types import FloatArray

LEARNED = "likeness"
"""The view that it adds to those of the encoders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLikeness:
    """What `recommend.teaching` learned and `models.artifact` keeps.

    Attributes:
        model: Fitted.
        values: By kind of label (an attribute's name), its values in the order of the chances.
        encoders: By view, the encoder whose vectors it learned from.
        weights: By view, `LEARNED` among them.
        figures: By kind, what was measured on items whose labels were hidden: "plain" and
            "learned", shares of ten neighbours that have the same value.
    """

    model: Likeness
    values: Mapping[str, tuple[str, ...]]
    encoders: Mapping[str, str]
    weights: Mapping[str, float]
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for view in self.model.centers:
            if view not in self.encoders:
                raise ValueError(f"the network reads {view!r}, but its encoder is not named.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The attributes that it tells."""
        return tuple(self.values)

    def chances(self, units: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """By kind, the chances of its values. Shapes (items, values).

        Args:
            units: Views around the model's centres, of length 1, zeros or left out where lacking.
        """
        own = {name: units[name] for name in self.model.centers if name in units}
        return self.model.chances_of_units(own)

    def vectors(self, chances: Mapping[str, FloatArray]) -> FloatArray:
        """Vectors whose product is the chance that labels agree, over all kinds. (items, dim)."""
        weights = self.model.config.weights or {}
        parts = [np.float32(weights.get(name, 1.0) ** 0.5) * chances[name] for name in self.values]
        return np.concatenate(parts, axis=1)

    def unlike(self, encoders: Mapping[str, str]) -> str:
        """Why vectors of these encoders, by view, cannot be read by it; "" where they can."""
        for view, encoder in self.encoders.items():
            now = encoders.get(view, encoder)
            if now != encoder:
                return f"it reads {view} by {encoder}, and the catalogue was encoded by {now}"
        if not set(self.encoders) & set(encoders):
            return f"nothing in the catalogue has {' or '.join(self.encoders)}"
        return ""
