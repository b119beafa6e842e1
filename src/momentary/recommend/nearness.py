"""The known items that a new one is most like."""

from __future__ import annotations

import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.recommend.content import ContentIndex
from momentary.types import FloatArray, IntArray

TAGS = "tags"
"""The view of the items' attributes."""


def nearest_known(
    index: ContentIndex, item_id: str, items: Vocabulary, *, count: int
) -> tuple[IntArray, FloatArray]:
    """Item indices of the known items most like one, and their weights, which sum to 1."""
    likeness = index.likeness(item_id)
    indices = items.indices(index.item_ids)
    likeness = np.where(indices >= 0, likeness, -np.inf)
    best = np.argsort(-likeness, kind="stable")[:count]
    best = best[likeness[best] > 0]
    weights = likeness[best] ** 2
    total = float(weights.sum())
    if total <= 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    return indices[best], np.asarray(weights / total, dtype=np.float32)
