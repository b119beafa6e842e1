"""Items that a model has never seen: what they are like, and where that puts them."""

from __future__ import annotations

import msgspec
import numpy as np

from momentary.recommend.alike import content_reasons
from momentary.recommend.assortment import Assortment
from momentary.recommend.pipeline import Recommender
from momentary.types import Sessions

_SEARCHED = 50


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """One item that the model has never seen.

    Attributes:
        name: Its name, if it has one.
        confidence: How much the known items say of it, 0 to 1.
        like: The known item that it is most like.
        like_name: That item's name.
        reasons: What makes them alike.
        rank_after: Its place among all items after a click on `like`, from 1; ties count against
            it.
        items: How many there are.
    """

    item_id: str
    name: str | None
    confidence: float
    like: str
    like_name: str | None
    reasons: tuple[str, ...]
    rank_after: int
    items: int


def newcomers(assortment: Assortment, recommender: Recommender, *, k: int) -> list[Newcomer]:
    """The new items of an assortment, the surest first.

    Args:
        assortment: With the items.
        recommender: Made from it.
        k: Most items.
    """
    placed, index = assortment.placed, assortment.index
    if placed is None or index is None:
        return []
    sure = placed.confidence()
    best = sorted(sure, key=lambda each: (-sure[each], each))[:k]
    found = []
    names = recommender.table.names
    for item_id in best:
        alike = index.neighbours(item_id, _SEARCHED)
        like = next((each for each in alike if each.item_id in assortment.bundle.items), None)
        if like is None:
            continue
        column = recommender.items.index(like.item_id)
        row = recommender.items.index(item_id)
        scores = recommender.scorer.score(Sessions.from_lists([[column]]))[0]
        found.append(
            Newcomer(
                item_id=item_id,
                name=names[row],
                confidence=round(sure[item_id], 4),
                like=like.item_id,
                like_name=names[column],
                reasons=content_reasons(like),
                rank_after=int(np.count_nonzero(scores >= scores[row])),
                items=len(scores),
            )
        )
    return found
