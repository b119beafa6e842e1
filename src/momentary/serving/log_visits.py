"""The visits of a service of several processes: each keeps its own, and the log keeps them equal.

Before a tick looks at a visit, it reads what other processes have appended since it looked last,
so a visit in memory is always what the log says up to one row. Only one process at a time writes,
and it reads once more before it does: a visit that two processes changed at once is let go of and
read anew. So a visitor gets the same answer whichever process answers, and an answer knows every
event that was acknowledged before it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from momentary.data.vocabulary import Vocabulary
from momentary.serving.state import ID_COLUMNS, Key, LiveSessions, Undo, Visit
from momentary.types import Event

if TYPE_CHECKING:
    from momentary.serving.team import Turn


class Tail(Protocol):
    """The end of the log; `EventLog` is one."""

    @property
    def ordered(self) -> bool:
        """Whether a row that becomes visible later always has a higher number."""

    def last(self) -> int:
        """Number of the newest event, 0 if there is none."""

    def between(self, after: int, until: int) -> list[Event]:
        """The events with `after` < number <= `until`, in order of arrival."""


class LogVisits:
    """Visits in this process' memory, beside those of others that write the same log.

    Args:
        local: Holds them.
        tail: The log.
        turn: Held while the log is written.
    """

    def __init__(self, local: LiveSessions, tail: Tail, *, turn: Turn) -> None:
        self._local = local
        self._tail = tail
        self._turn = turn
        self._last = tail.last()
        self._torn: set[Key] = set()

    def __len__(self) -> int:
        return len(self._local)

    def load(self, keys: Iterable[Key]) -> None:
        """Have the visits of `keys` at hand as the log has them."""
        wanted = list(keys)
        self._follow(self._news())
        while True:
            missing = [key for key in wanted if key not in self._local]
            self._local.load(wanted)
            news = self._news()
            if not news:
                return
            # What was just read may hold some of the news already.
            self._local.forget(missing)
            self._follow(news)

    def get(self, key: Key | None) -> Visit:
        """A visit that is at hand, or an empty one."""
        return self._local.get(key)

    def put(self, key: Key, visit: Visit) -> None:
        """Replace a visit that is at hand."""
        self._local.put(key, visit)

    def record(self, events: Iterable[Event]) -> Undo:
        """Let the visits at hand know what happened."""
        return self._local.record(events)

    def restore(self, before: Undo) -> None:
        """Undo what one call of `record` did."""
        self._local.restore(before)

    def forget(self, keys: Iterable[Key]) -> None:
        """Let go of some visits; the log is read again when they are asked for."""
        self._local.forget(keys)

    def announce(self, events: Iterable[Event]) -> None:
        """Wait for the turn to write; what others wrote meanwhile comes before these events."""
        self._turn.take()
        news = self._news()
        if news:
            self._torn = _torn(list(events), news)
            self._local.forget(self._torn)
            self._follow(news)

    def publish(self) -> None:
        """The log holds the tick's events: what comes after them is others'."""
        self._last = self._tail.last()
        self._turn.give()

    def trim(self) -> None:
        """End a tick."""
        self._turn.give()
        self._local.forget(self._torn)
        self._torn = set()
        if self._tail.ordered:
            self._local.trim()
        else:
            # Rows may appear before ones that were seen, so nothing can be kept.
            self._local.forget_all()

    def clear(self, items: Vocabulary, *, version: str) -> None:
        """Let go of every visit; item indices now mean `items`."""
        self.switch(items, version=version)

    def switch(self, items: Vocabulary, *, version: str, remembers: bool | None = None) -> None:
        """Let another model's indices count from the next tick on."""
        self._local.switch(items, version=version, remembers=remembers)
        self._last = self._tail.last()

    def close(self) -> None:
        """Let go of the lock's file."""
        self._turn.close()

    def _news(self) -> list[Event]:
        """What was appended since; nothing but a clean slate if the log was cut."""
        if not self._tail.ordered:
            return []
        last = self._tail.last()
        if last == self._last:
            return []
        if last < self._last:
            self._local.forget_all()
            self._last = last
            return []
        found = self._tail.between(self._last, last)
        self._last = last
        return found

    def _follow(self, events: Sequence[Event]) -> None:
        if events:
            self._local.record(events)


def _torn(own: Sequence[Event], news: Sequence[Event]) -> set[Key]:
    """The visits that are not as the log will have them: two processes changed them at once."""
    changed = {key for event in news for key in _keys(event)}
    ids = {event.event_id for event in news}
    return {
        key
        for event in own
        for key in _keys(event)
        # An event that another was faster to write counts where that one says.
        if key in changed or event.event_id in ids
    }


def _keys(event: Event) -> list[Key]:
    values = ((column, getattr(event, column)) for column in ID_COLUMNS)
    return [(column, value) for column, value in values if value is not None]
