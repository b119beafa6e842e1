"""What many want now: popular over a week, and trending against the week before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.types import FloatArray

DAY_US = 86_400_000_000
RECENT_DAYS = 1
BEFORE_DAYS = 7


def popular(counts: Mapping[str, int], *, items: Vocabulary) -> FloatArray:
    """Counts by item index; 0 for items without events. Shape (items,)."""
    scores = np.zeros(len(items), dtype=np.float32)
    for item_id, count in counts.items():
        index = items.index(item_id)
        if index >= 0:
            scores[index] = count
    return scores


def trending(
    recent: Mapping[str, int], before: Mapping[str, int], *, items: Vocabulary
) -> FloatArray:
    """How far the last day exceeds what the week before would lead to expect. Shape (items,).

    With r events in the last day and b in the seven days before, expected are e = b / 7 times the
    ratio of the shop's whole traffic; the score is (r - e) / sqrt(e + 1), about a standard score of
    a Poisson count, so that neither large nor rare items win by their size alone. Items that do
    not exceed it have 0.
    """
    now, then = popular(recent, items=items), popular(before, items=items)
    days = BEFORE_DAYS / RECENT_DAYS
    traffic = now.sum() / (then.sum() / days) if then.sum() > 0 and now.sum() > 0 else 1.0
    expected = then / days * traffic
    scores: FloatArray = np.maximum((now - expected) / np.sqrt(expected + 1), 0).astype(np.float32)
    return scores
