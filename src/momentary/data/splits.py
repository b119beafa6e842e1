"""Temporal splits and the auditor that looks for leaks.

A model learns from the past and is asked about the future: every training session has ended by
the cut, every test session ends after it (train <= cut < end of a test session).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from momentary.data.sessions import SessionLog, keep_items, renumber_items
from momentary.errors import DataError, LeakError
from momentary.types import IntArray, Sessions

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the auditor found; only the first two can make a figure too good.

    Attributes:
        duplicate_sessions: Sessions that stand, event for event, on both sides.
        late_events: Training events after the cut.
        unknown_items: Test events whose item training never saw; they are left out.
        emptied_sessions: Test sessions that had no other events.
    """

    duplicate_sessions: int = 0
    late_events: int = 0
    unknown_items: int = 0
    emptied_sessions: int = 0

    @property
    def leaks(self) -> tuple[str, ...]:
        """What is wrong, in plain words; empty when nothing is."""
        found = []
        if self.duplicate_sessions:
            found.append(
                f"{self.duplicate_sessions} sessions stand on both sides of the cut; "
                "remove the duplicates before splitting"
            )
        if self.late_events:
            found.append(
                f"{self.late_events} training events happened after the cut; "
                "split by the time of each session's last event"
            )
        return tuple(found)

    def refuse(self) -> None:
        """Raise if the test would flatter a model.

        Raises:
            LeakError: Naming every leak and its remedy.
        """
        if self.leaks:
            raise LeakError("This split leaks: " + "; ".join(self.leaks) + ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Past and future over the same indices; every item of `test` occurs in `train`."""

    train: SessionLog
    test: SessionLog
    cut_us: int
    audit: Audit


def split_at(log: SessionLog, cut_us: int, *, min_item_events: int = 1) -> Split:
    """Sessions that ended by the cut train, later ones test.

    Args:
        log: Sessions of any visitors.
        cut_us: Microseconds since 1970; an event at the cut itself still trains.
        min_item_events: Items with fewer training events are left out on both sides.

    Raises:
        DataError: If a side would be empty.
        LeakError: If a session stands on both sides.
    """
    in_test = log.sessions.last_times_us > cut_us
    for side, rows in (("training", ~in_test), ("test", in_test)):
        if not rows.any():
            raise DataError(
                f"The cut leaves no {side} session among {len(log.sessions)}; move the cut."
            )
    train = log.sessions.take(np.flatnonzero(~in_test))
    test = log.sessions.take(np.flatnonzero(in_test))
    found = audit(train, test, cut_us=cut_us)
    found.refuse()

    past = keep_items(_log(log, train), min_events=min_item_events)
    renumbered = past.items.indices(log.items.ids)
    known = renumber_items(test, renumbered)
    return Split(
        train=past,
        test=SessionLog(
            sessions=known.take(np.flatnonzero(known.lengths > 0)),
            items=past.items,
            visitors=log.visitors,
        ),
        cut_us=cut_us,
        audit=replace(
            found,
            unknown_items=len(test.items) - len(known.items),
            emptied_sessions=int(((known.lengths == 0) & (test.lengths > 0)).sum()),
        ),
    )


def split_last_days(log: SessionLog, days: float, *, min_item_events: int = 1) -> Split:
    """The last `days` days of the log test."""
    if days <= 0:
        raise ValueError(f"days is {days}; it must be above 0.")
    if not len(log.sessions.items):
        raise DataError("The log holds no events to split; import some first.")
    cut_us = int(log.sessions.times_us.max() - days * _DAY_US)
    return split_at(log, cut_us, min_item_events=min_item_events)


def audit(train: Sessions, test: Sessions, *, cut_us: int) -> Audit:
    """Look for sessions on both sides and for training events after the cut."""
    twins = np.isin(_fingerprints(test), _fingerprints(train))
    return Audit(
        duplicate_sessions=int(twins[test.lengths > 0].sum()),
        late_events=int((train.times_us > cut_us).sum()),
    )


def _log(log: SessionLog, sessions: Sessions) -> SessionLog:
    return SessionLog(sessions=sessions, items=log.items, visitors=log.visitors)


def _fingerprints(sessions: Sessions) -> IntArray:
    """One number for each session's visitor, items and times. Shape (sessions,)."""
    with np.errstate(over="ignore"):
        events = _mix(sessions.items.view(np.uint64)) ^ _mix(
            sessions.times_us.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        )
        summed = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(_mix(events))])
        whole = summed[sessions.offsets[1:]] - summed[sessions.offsets[:-1]]
        return _mix(whole ^ _mix(sessions.users.view(np.uint64))).view(np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): spreads every bit over the whole number."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
