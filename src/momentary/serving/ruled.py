"""Rules on lists that no model scored: what a search found, what is bought together.

Such lists may hold items that the model does not know, so the found items are a little catalogue
of their own, and the same code that ranks a model's scores arranges them under the rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from momentary.data.vocabulary import Vocabulary
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.types import FloatArray, ItemTable, Recommendation, Sessions

CANDIDATES = 400
"""So many are found before the rules choose among them."""

_NOBODY = Sessions.from_lists([[]])


class _Found:
    """Scores that are there already."""

    def __init__(self, scores: FloatArray) -> None:
        self._scores = scores

    def score(self, sessions: Sessions) -> FloatArray:
        return np.broadcast_to(self._scores, (len(sessions), len(self._scores)))


def ruled(
    found: Sequence[Recommendation], table: ItemTable, *, k: int, rules: Rules
) -> list[Recommendation]:
    """The best of what was found that the rules let through, with the reasons it came with.

    Args:
        found: Best first; equal scores keep their order.
        table: What the catalogue knows of them, in the same order.
        k: Most items.
        rules: What may stand on the list; nothing may be left to chance.

    Raises:
        DataError: If a rule asks for variety by content, or names, under `unknown="refuse"`, an
            attribute that none of the found has.
    """
    if not found:
        return []
    scores = np.array([each.score for each in found], dtype=np.float32)
    items = Vocabulary([each.item_id for each in found])
    recommender = Recommender(_Found(scores), items=items, table=table)
    (listed,) = recommender.recommend(_NOBODY, k=k, rules=rules, explain=False)
    reasons = {each.item_id: each.reasons for each in found}
    return [replace(each, reasons=reasons[each.item_id]) for each in listed]
