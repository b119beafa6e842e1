"""How often items were seen, and where events stand in their sessions."""

from __future__ import annotations

import numpy as np

from momentary.errors import DataError
from momentary.types import FloatArray, IntArray, Sessions

US_PER_DAY = 86_400_000_000


def require_items_below(items: IntArray, n_items: int) -> None:
    """Refuse item indices outside the catalogue.

    Raises:
        DataError: If an index is below 0 or not below `n_items`.
    """
    if len(items) == 0:
        return
    lowest, highest = int(items.min()), int(items.max())
    if lowest < 0 or highest >= n_items:
        raise DataError(
            f"item indices run from {lowest} to {highest}, but n_items is {n_items}; "
            f"indices must be 0 to {n_items - 1}. Drop the events of unknown items."
        )


def relative_popularity(
    items: IntArray, *, n_items: int, weights: FloatArray | None = None
) -> FloatArray:
    """How often each item was seen, with the most frequent at 1. Shape (items,).

    With `weights`, one an event, each event counts as much. Models add a small multiple of it, so
    that a session about which they know nothing is still given an order.

    >>> relative_popularity(np.array([2, 2, 0]), n_items=4).tolist()
    [0.5, 0.0, 1.0, 0.0]
    """
    require_items_below(items, n_items)
    counts = np.bincount(items, weights=weights, minlength=n_items)
    return (counts / (counts.max(initial=0) or 1)).astype(np.float32)


def session_rows(sessions: Sessions) -> IntArray:
    """The session that each event belongs to. Shape (events,).

    >>> session_rows(Sessions.from_lists([[3, 1], [], [2]])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(sessions), dtype=np.int64), sessions.lengths)


def steps_from_end(sessions: Sessions) -> IntArray:
    """How many events of its session follow each event, 0 for the last. Shape (events,).

    >>> steps_from_end(Sessions.from_lists([[3, 1], [], [2]])).tolist()
    [1, 0, 0]
    """
    ends = np.repeat(sessions.offsets[1:], sessions.lengths)
    return (ends - 1 - np.arange(len(sessions.items))).astype(np.int64)


def last_events(sessions: Sessions, limit: int) -> Sessions:
    """The sessions cut to their last `limit` events.

    >>> last_events(Sessions.from_lists([[3, 1, 4], [2]]), 2).items.tolist()
    [1, 4, 2]
    """
    return sessions.keep(steps_from_end(sessions) < limit)
