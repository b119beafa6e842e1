"""From a saved bundle and a catalogue to something that recommends."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from momentary.models.artifact import Bundle
from momentary.recommend.pipeline import Recommender
from momentary.recommend.reasons import DEFAULT_REASONS, Reasons, Related, Sources
from momentary.types import ItemTable, Sessions

_WORDING = {
    "popularity": None,
    "item_knn": "goes with this {noun} as a whole",
    "factorization": "fits the taste of this {noun}",
    "personal_popularity": "liked by many",
}
"""What may be said of an item that no count explains, for models that ignore the order."""


def assemble(
    bundle: Bundle, table: ItemTable, *, role: str = "main", noun: str = "visit"
) -> Recommender:
    """The recommender that answers on the command line and over HTTP alike.

    Args:
        bundle: Trained models.
        table: The catalogue in the order of `bundle.items`.
        role: Which of the bundle's scorers answers.
        noun: What a session is called in reasons.
    """
    scorer = bundle.scorers[role]
    popularity = bundle.scorers["fallback"].score(Sessions.from_lists([[]]))[0]
    config = replace(
        DEFAULT_REASONS,
        noun=noun,
        otherwise=_WORDING.get(scorer.kind, DEFAULT_REASONS.otherwise),
    )
    reasons = Reasons(
        table,
        related=cast(Related, bundle.scorers["related"]),
        popularity=popularity,
        sources=scorer if isinstance(scorer, Sources) else None,
        config=config,
    )
    graph = bundle.graph if role == "main" else None
    return Recommender(scorer, items=bundle.items, table=table, reasons=reasons, graph=graph)
