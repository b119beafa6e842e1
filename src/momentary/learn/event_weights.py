"""How much an event counts, by its type: a cart may tell more than a view.

A model's settings may hold `event_weights`, such as {"view_item": 0.5, "purchase": 3}; a type that
they leave out, and an event whose type nobody knows, counts 1, as every event does without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from momentary.errors import MomentaryError
from momentary.learn.counts import session_rows, steps_from_end
from momentary.types import EVENT_TYPES, INTEREST_TYPES, FloatArray, Sessions

EventWeights = Mapping[str, float]
"""Weights by event type."""

_MOST = 1e6


def require_event_weights(weights: EventWeights) -> None:
    """Refuse weights that no model can work with.

    Raises:
        ValueError: If a type is none that models learn from, or a weight is below 0, not finite,
            or above a million; or if all of the types count 0.
    """
    for name, weight in weights.items():
        if name not in INTEREST_TYPES:
            raise ValueError(
                f"event_weights names {name!r}; models learn from {', '.join(INTEREST_TYPES)}."
            )
        if not 0 <= weight <= _MOST or not math.isfinite(weight):
            raise ValueError(
                f"event_weights gives {name} {weight}; a weight is from 0, for not at all, to "
                f"{_MOST:g}."
            )
    if all(weights.get(name, 1) == 0 for name in INTEREST_TYPES):
        raise ValueError("event_weights leaves nothing to learn from; let one type count.")


def counted(sessions: Sessions, weights: EventWeights) -> tuple[Sessions, FloatArray | None]:
    """The sessions without the events that do not count, and what each of the others counts.

    Returns:
        Sessions, of which some may be empty; and a weight above 0 for each of their events, or
        None where all of them count 1. Shape (events,).

    >>> shop = Sessions.from_lists([[7, 8, 7]], types=[[0, 0, 3]])
    >>> EVENT_TYPES[3], counted(shop, {"add_to_cart": 2})[1].tolist()
    ('add_to_cart', [1.0, 1.0, 2.0])
    >>> counted(shop, {"view_item": 0})[0].items.tolist()
    [7]
    """
    values = _values(sessions, weights)
    if values is None:
        return sessions, None
    kept = values > 0
    if not kept.all():
        sessions, values = sessions.keep(kept), values[kept]
    return sessions, None if (values == 1).all() else values


def strongest(sessions: Sessions, weights: FloatArray) -> FloatArray:
    """For each event, the largest weight that its session has for the same item. Shape (events,).

    >>> strongest(Sessions.from_lists([[7, 8, 7]]), np.array([1, 1, 2], np.float32)).tolist()
    [2.0, 1.0, 2.0]
    """
    width = int(sessions.items.max(initial=0)) + 1
    pairs, which = np.unique(session_rows(sessions) * width + sessions.items, return_inverse=True)
    largest = np.zeros(len(pairs), dtype=np.float32)
    np.maximum.at(largest, which, weights)
    return largest[which]


def target_weights(sessions: Sessions, weights: EventWeights) -> FloatArray | None:
    """What each event counts as what comes next, for networks, which read every event.

    Returns:
        Weights whose mean over the events that follow another is 1, so that rates of learning keep
        their meaning; None where all of these count the same. Shape (events,).

    Raises:
        MomentaryError: If no event that follows another counts.

    >>> shop = Sessions.from_lists([[7, 8, 7]], types=[[0, 0, 3]])
    >>> target_weights(shop, {"add_to_cart": 3}).tolist()
    [0.5, 0.5, 1.5]
    """
    values = _values(sessions, weights)
    if values is None:
        return None
    follows = steps_from_end(sessions) < np.repeat(sessions.lengths - 1, sessions.lengths)
    asked = values[follows]
    if len(asked) and not asked.any():
        raise MomentaryError(
            "event_weights lets no event count that follows another, so there is no next item to "
            "learn; let another type count."
        )
    if not len(asked) or (asked == asked[0]).all():
        return None
    scaled: FloatArray = (values / asked.mean(dtype=np.float64)).astype(np.float32)
    return scaled


def _values(sessions: Sessions, weights: EventWeights) -> FloatArray | None:
    if not weights or sessions.types is None:
        return None
    # The last entry is that of the type -1, which nobody knows.
    table = np.array([weights.get(name, 1.0) for name in (*EVENT_TYPES, "")], dtype=np.float32)
    values: FloatArray = table[sessions.types]
    return values
