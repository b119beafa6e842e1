"""Items like one item: by what visitors did where they did much, by content where they did little.

With n the times that visitors chose the item together with another, behaviour weighs
n / (n + half) and content the rest; each is brought to 1 for its best item. A new item is thus
found by its content alone, and behaviour takes over as clicks arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.encoders.protocol import WORDS
from momentary.errors import DataError
from momentary.recommend.content import Alike, ContentIndex
from momentary.recommend.pipeline import Recommender
from momentary.recommend.playlist import without_outliers
from momentary.recommend.rules import DEFAULT_RULES, Rules, allowed
from momentary.types import ItemTable, Recommendation

_DEEP = 4
_LEAST_DEEP = 50
_LEAST_SHARE = 0.15
_MOST_SHARED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AlikeConfig:
    """How behaviour and content are mixed.

    Attributes:
        half: Times at which both weigh the same.
        tolerance: Robust deviations below which an item of the behavioural list is removed as
            unlike the others by content; None removes none.
    """

    half: float = 20.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not self.half > 0:
            raise ValueError(f"half is {self.half}; it must be above 0.")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}; it must be above 0.")


DEFAULT_ALIKE = AlikeConfig()
"""Twenty choices together weigh as much as the content."""


def items_like(  # noqa: PLR0913 - each says something else
    item_id: str,
    *,
    recommender: Recommender | None,
    index: ContentIndex | None,
    facts: Callable[[list[str]], ItemTable],
    k: int = 20,
    rules: Rules = DEFAULT_RULES,
    config: AlikeConfig = DEFAULT_ALIKE,
    plain: bool = False,
    by: str | None = None,
) -> list[Recommendation]:
    """List what is like one item, with what makes it so; the item itself is left out.

    Args:
        item_id: Which.
        recommender: Knows behaviour; None where no model was trained.
        index: Knows content; None where nothing was encoded.
        facts: The catalogue in the order of some ids.
        k: Most items.
        rules: What may stand on the list.
        config: How the two are mixed.
        plain: Whether what was learned from labels is left out of the content.
        by: A view that is to count alone, neither the others nor behaviour; "tags" for attributes.

    Raises:
        DataError: If neither knows the item, it has nothing of that view, or a rule names an
            unknown attribute.
    """
    if by is not None:
        recommender = None
    known = recommender is not None and recommender.items.index(item_id) >= 0
    seen = index is not None and item_id in index
    if not known and not seen:
        raise DataError(
            f"item {item_id!r} is not in this model and has no content here; encode it, or add "
            "events and train."
        )
    depth = max(_DEEP * k, _LEAST_DEEP)
    by_visits: dict[str, float] = {}
    visits = 0.0
    if known and recommender is not None:
        by_visits, visits = _by_behaviour(recommender, item_id, depth)
    by_content = {}
    if seen and index is not None:
        near = index.neighbours(item_id, depth, plain=plain, by=by)
        by_content = {each.item_id: each for each in near}
    if config.tolerance is not None and index is not None:
        by_visits = _agreeing(by_visits, item_id, index, tolerance=config.tolerance)
    share = visits / (visits + config.half) if seen else 1.0
    scores = _mixed(by_visits, by_content, share=share)
    usable = _allowed(list(scores), facts, rules)
    best = sorted(usable, key=lambda each: (-scores[each], each))[:k]
    compared = list[Alike]()
    if seen and index is not None:
        compared = index.compare(item_id, best, plain=plain, by=by)
    return _listed(
        best,
        scores,
        item_id,
        recommender=recommender if known else None,
        compared=compared,
    )


def content_reasons(alike: Alike) -> tuple[str, ...]:
    """What makes two items alike, in sentences.

    >>> both = Alike(item_id="1", similarity=2, views=(("image", 0.7), ("text", 0.3)), shared=())
    >>> content_reasons(both)
    ('alike in picture (70 %) and text (30 %)',)
    """
    telling = [
        f"{WORDS.get(name, name)} ({share:.0%})".replace("%", " %")
        for name, share in alike.views
        if share >= _LEAST_SHARE
    ]
    said = [f"alike in {' and '.join(telling)}"] if telling else []
    same = [f"same {each}" for each in alike.shared]
    told = {each.partition(": ")[0] for each in alike.shared}
    same += [
        f"probably same {label} ({chance:.0%})".replace("%", " %")
        for label, chance in alike.likely
        if label.partition(": ")[0] not in told
    ]
    return (*said, *same[:_MOST_SHARED])


def _by_behaviour(
    recommender: Recommender, item_id: str, depth: int
) -> tuple[dict[str, float], float]:
    """Similarities by id, the best 1, and how often the item was chosen with another."""
    related = None if recommender.reasons is None else recommender.reasons.related
    if related is None:
        found = recommender.similar(item_id, k=depth)
        best = max((each.score for each in found), default=1.0)
        return {each.item_id: each.score / best for each in found if each.score > 0}, float("inf")
    near = related.related(recommender.items.index(item_id), depth)
    if not len(near.items):
        return {}, 0.0
    best = float(near.similarities.max()) or 1.0
    ids = recommender.items.ids
    pairs = zip(near.items.tolist(), near.similarities.tolist(), strict=True)
    return {ids[item]: value / best for item, value in pairs}, float(near.counts.sum())


def _agreeing(
    by_visits: Mapping[str, float], item_id: str, index: ContentIndex, *, tolerance: float
) -> dict[str, float]:
    ids = [item_id, *by_visits]
    kept = without_outliers(
        index.fused(ids), np.arange(1, len(ids), dtype=np.int64), seed=0, tolerance=tolerance
    )
    return {ids[place]: by_visits[ids[place]] for place in kept.tolist()}


def _mixed(
    by_visits: Mapping[str, float], by_content: Mapping[str, Alike], *, share: float
) -> dict[str, float]:
    best = max((each.similarity for each in by_content.values()), default=1.0)
    scores = {item: share * value for item, value in by_visits.items()}
    for item, each in by_content.items():
        near = max(each.similarity / best, 0.0) if best > 0 else 0.0
        scores[item] = scores.get(item, 0.0) + (1 - share) * near
    return {item: score for item, score in scores.items() if score > 0}


def _allowed(ids: list[str], facts: Callable[[list[str]], ItemTable], rules: Rules) -> list[str]:
    table = facts(ids)
    mask = allowed(rules, table)
    if table.hidden is not None:
        mask &= ~table.hidden
    return [item for item, fits in zip(ids, mask.tolist(), strict=True) if fits]


def _listed(
    best: Sequence[str],
    scores: Mapping[str, float],
    item_id: str,
    *,
    recommender: Recommender | None,
    compared: Sequence[Alike],
) -> list[Recommendation]:
    said: dict[str, tuple[str, ...]] = {}
    if recommender is not None and recommender.reasons is not None:
        listed = recommender.items.indices(best)
        there = listed >= 0
        bonds = recommender.reasons.explain_similar(recommender.items.index(item_id), listed[there])
        known = [item for item, is_there in zip(best, there.tolist(), strict=True) if is_there]
        said = dict(zip(known, bonds, strict=True))
    for each in compared:
        said[each.item_id] = (*said.get(each.item_id, ()), *content_reasons(each))
    return [
        Recommendation(item_id=item, score=scores[item], rank=rank, reasons=said.get(item, ()))
        for rank, item in enumerate(best, start=1)
    ]
