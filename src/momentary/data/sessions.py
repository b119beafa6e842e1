"""Cut an event log into sessions.

A session is one visitor's events without a silence longer than `idle_s`; where the sender names
sessions itself, its names are respected. One SQL statement serves one machine and, bucket by
bucket, many: a visitor's events all lie in one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
from numpy.typing import NDArray

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.errors import DataError
from momentary.types import (
    EVENT_TYPES,
    INTEREST_TYPES,
    BoolArray,
    IntArray,
    Sessions,
    TypeArray,
)

IDLE_S = 1800
"""Half an hour of silence ends a visit: the usual convention of web analytics."""

# Sorting two integers is several times faster than sorting strings or three keys: visitors and
# session names are sorted by a 64-bit hash, and ties in time are settled afterwards.
_SORTED = """
SELECT hash(visitor) AS visitor, hash(visitor, session_id) AS stream, hash(item_id) AS item,
       timestamp_us, hash(event_id) AS tie, session_id IS NOT NULL AS named,
       (coalesce(list_position($all_types, event_type), 0) - 1)::TINYINT AS type
FROM events WHERE list_contains($event_types, event_type)
ORDER BY stream, timestamp_us
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLog:
    """Sessions in the order in which they began, and what their indices mean."""

    sessions: Sessions
    items: Vocabulary
    visitors: Vocabulary

    def take(self, rows: IntArray) -> SessionLog:
        """Some of the sessions, with the same indices."""
        return SessionLog(
            sessions=self.sessions.take(rows), items=self.items, visitors=self.visitors
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CutEvents:
    """Events sorted into sessions; visitors and items are hashes of their ids.

    Attributes:
        starts: True where a session begins. Every array is of shape (events,).
        types: Places of the events' types in `EVENT_TYPES`, -1 for others.
    """

    visitors: NDArray[np.uint64]
    items: NDArray[np.uint64]
    times_us: IntArray
    starts: BoolArray
    types: TypeArray


def sessionize(
    connection: duckdb.DuckDBPyConnection,
    *,
    idle_s: int = IDLE_S,
    event_types: Sequence[str] = INTEREST_TYPES,
) -> CutEvents:
    """Cut the events of the view `events` into sessions.

    Args:
        connection: Holds a view `events` with the columns of `Workspace.events_view`.
        idle_s: Longest silence inside one session, in seconds.
        event_types: The event types that count; others neither extend nor cut a session.

    Raises:
        ValueError: If `idle_s` is not above 0.
    """
    if idle_s <= 0:
        raise ValueError(
            f"idle_s is {idle_s}; it must be above 0 seconds; half an hour (1800) is usual."
        )
    named = {"event_types": list(event_types), "all_types": list(EVENT_TYPES)}
    rows = connection.execute(_SORTED, named).fetchnumpy()
    times_us, stream = rows["timestamp_us"], rows["stream"]
    order = _settle_ties(stream, times_us, rows["tie"])
    silences_us = np.diff(times_us, prepend=times_us[:1])
    starts = (silences_us > idle_s * 1_000_000) & ~rows["named"]
    starts[1:] |= stream[1:] != stream[:-1]
    starts[:1] = True
    return CutEvents(
        visitors=rows["visitor"],
        items=rows["item"][order],
        times_us=times_us,
        starts=starts,
        types=rows["type"][order],
    )


def _settle_ties(
    stream: NDArray[np.uint64], times_us: IntArray, tie: NDArray[np.uint64]
) -> IntArray:
    """An order that changes nothing but events of one stream and one instant: those go by `tie`.

    Events of one instant have no order in time; the hash of their ids gives them one that the
    order of lines in a file, such as a receipt sorted by product, cannot bias.
    """
    order = np.arange(len(tie))
    same = (stream[1:] == stream[:-1]) & (times_us[1:] == times_us[:-1])
    if same.any():
        instant = np.concatenate([[0], np.cumsum(~same)])
        tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        order[tied] = tied[np.lexsort((tie[tied], instant[tied]))]
    return order


def load_sessions(
    connection: duckdb.DuckDBPyConnection,
    *,
    idle_s: int = IDLE_S,
    event_types: Sequence[str] = INTEREST_TYPES,
) -> SessionLog:
    """Read the view `events` as sessions, in the order in which they began.

    Items and visitors are numbered in the order of their ids as strings.
    """
    cut = sessionize(connection, idle_s=idle_s, event_types=event_types)
    items, item_hashes = _vocabulary(connection, "item_id", event_types)
    visitors, visitor_hashes = _vocabulary(connection, "visitor", event_types)

    first = np.flatnonzero(cut.starts)
    offsets = np.append(first, len(cut.starts)).astype(np.int64)
    began = np.lexsort((visitor_hashes.find(cut.visitors[first]), cut.times_us[first]))
    unsorted = Sessions(
        items=item_hashes.find(cut.items),
        offsets=offsets,
        times_us=cut.times_us,
        users=visitor_hashes.find(cut.visitors[first]),
        types=cut.types,
    )
    return SessionLog(sessions=unsorted.take(began), items=items, visitors=visitors)


def workspace_sessions(
    workspace: Workspace,
    *,
    idle_s: int = IDLE_S,
    event_types: Sequence[str] = INTEREST_TYPES,
) -> SessionLog:
    """All events of a workspace as sessions."""
    with duckdb.connect() as connection:
        workspace.events_view(connection)
        return load_sessions(connection, idle_s=idle_s, event_types=event_types)


def keep_items(log: SessionLog, *, min_events: int) -> SessionLog:
    """The log without the items that fewer events name; sessions that this empties go too.

    Raises:
        DataError: If nothing is left.
    """
    counts = np.bincount(log.sessions.items, minlength=len(log.items))
    kept = np.flatnonzero(counts >= max(min_events, 1))
    if not len(kept):
        raise DataError(
            f"No item has {min_events} events; import more, or lower the number of events an item "
            "needs."
        )
    renumbered = np.full(len(log.items), -1, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    sessions = renumber_items(log.sessions, renumbered)
    return SessionLog(
        sessions=sessions.take(np.flatnonzero(sessions.lengths > 0)),
        items=Vocabulary(log.items.ids[index] for index in kept),
        visitors=log.visitors,
    )


def renumber_items(sessions: Sessions, renumbered: IntArray) -> Sessions:
    """Sessions over other item indices; events whose new index is -1 are left out.

    Args:
        sessions: Over the old indices.
        renumbered: New index by old index. Shape (items,).
    """
    items = renumbered[sessions.items]
    return replace(sessions, items=items).keep(items >= 0)


@dataclass(frozen=True, slots=True)
class _Hashes:
    """Finds the index of an id by its hash."""

    ascending: NDArray[np.uint64]
    index: IntArray

    def find(self, hashes: NDArray[np.uint64]) -> IntArray:
        return self.index[np.searchsorted(self.ascending, hashes)]


def _vocabulary(
    connection: duckdb.DuckDBPyConnection, column: str, event_types: Sequence[str]
) -> tuple[Vocabulary, _Hashes]:
    rows = connection.execute(
        f"""
        SELECT DISTINCT {column} AS outside, hash({column}) AS hashed FROM events
        WHERE list_contains($event_types, event_type) ORDER BY outside
        """,
        {"event_types": list(event_types)},
    ).fetchnumpy()
    order = np.argsort(rows["hashed"])
    ascending = rows["hashed"][order]
    if (ascending[1:] == ascending[:-1]).any():
        raise RuntimeError(f"Two values of {column} share a 64-bit hash; rename one of them.")
    return Vocabulary(rows["outside"].tolist()), _Hashes(ascending, order.astype(np.int64))
