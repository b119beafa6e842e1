"""The visits in progress: what each visitor clicked, by every name that a visitor has."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from momentary.data.events import IdColumn
from momentary.data.vocabulary import Vocabulary
from momentary.types import EVENT_TYPES, INTEREST_TYPES, Event, FloatArray

Key = tuple[IdColumn, str]
"""A column of the log and the value that names one session or visitor."""

ID_COLUMNS: tuple[IdColumn, ...] = ("session_id", "user_id", "anonymous_id")
"""In this order one of several ids is taken for the visit."""

_INTEREST = {name: EVENT_TYPES.index(name) for name in INTEREST_TYPES}
_MOST_PAST = 50
"""So many of a visitor's latest visits are remembered for a model that has not read them."""
_PREFIX = {"user_id": "u:", "anonymous_id": "a:"}
"""What the event log's names of visitors begin with."""


class Visit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The clicks of one visit, oldest first; it never changes, a click makes a new one.

    Attributes:
        items: Item indices.
        times_us: Microseconds since 1970, ascending.
        types: Places of the clicks' types in `EVENT_TYPES`, -1 where unknown.
        hidden: State of an incremental model before `pending`; None before the first click.
            Shape (width,).
        pending: The last of `items`, which `hidden` does not know yet.
        visitor: Whose visit it is, as the event log names visitors, "" where nobody asks; kept for
            models that know visitors again, as are the next two.
        door: State of such a model before the visit, as far as it knows the visitor's past; None
            if it has not been asked yet. Shape (width,).
        past: The visitor's visits that have ended and that `door` does not know yet.
        account: Of a browser: digest of who was signed in at the last click that says so.
    """

    items: tuple[int, ...] = ()
    times_us: tuple[int, ...] = ()
    types: tuple[int, ...] = ()
    hidden: FloatArray | None = None
    pending: tuple[int, ...] = ()
    visitor: str = ""
    door: FloatArray | None = None
    past: tuple[Visit, ...] = ()
    account: str = ""


EMPTY = Visit()
"""A visit before its first click."""


Click = tuple[int, int, int]
"""Item index, microseconds since 1970, and the type's place in `EVENT_TYPES`, -1 if unknown."""


def clicked(visit: Visit, clicks: Sequence[Click], *, max_seen: int) -> Visit:
    """The visit after more clicks.

    >>> clicked(EMPTY, [(7, 100, 0), (8, 90, -1)], max_seen=10).times_us
    (100, 100)
    """
    new = tuple([item for item, _, _ in clicks])
    types = tuple([event_type for _, _, event_type in clicks])
    times = list(visit.times_us)
    for _, time_us, _ in clicks:
        # Clicks count in order of arrival; the clocks of several senders may disagree a little.
        times.append(max(time_us, times[-1]) if times else time_us)
    pending = visit.pending + new
    forgets = len(pending) >= max_seen
    return Visit(
        items=(visit.items + new)[-max_seen:],
        times_us=tuple(times[-max_seen:]),
        types=(visit.types + types)[-max_seen:],
        hidden=None if forgets else visit.hidden,
        pending=pending[-max_seen:],
        visitor=visit.visitor,
        door=visit.door,
        past=visit.past,
        account=visit.account,
    )


def ended(visit: Visit) -> Visit:
    """The same visitor at the door of the next visit.

    >>> ended(Visit(items=(7,), times_us=(100,), visitor="u:zoe")).past[0].items
    (7,)
    """
    over = Visit(items=visit.items, times_us=visit.times_us, types=visit.types)
    past = (*visit.past, over)[-_MOST_PAST:] if visit.visitor and visit.items else visit.past
    return Visit(visitor=visit.visitor, door=visit.door, past=past)


_Signed = tuple[Click, str]
"""A click, and the account if the event names one."""

Undo = dict[Key, Visit]
"""What `LiveSessions.record` replaced."""


def _digest(account: str) -> str:
    # Visits may lie in a cache, where no id of a person belongs.
    return hashlib.blake2b(account.encode(), digest_size=8).hexdigest()


class LiveSessions:
    """The latest visits, in memory; a visit that is not there is read from the log when asked for.

    So nothing has to be rebuilt after a crash, and nothing is lost when memory is short: the
    log alone holds the truth. An event counts for every id that it carries.

    Args:
        items: Outside ids of the model's item indices; events with other items change nothing.
        history: Reads the last events of one key from the log, oldest first.
        idle_s: Silence between two events, in seconds, that ends the visit of a user or an
            anonymous visitor. A `session_id` names one visit, however long its silences.
        max_sessions: Most visits in memory.
        max_seen: Most clicks of a visit that are kept.
        remembers: Whether visitors keep their visits that have ended.
    """

    def __init__(
        self,
        *,
        items: Vocabulary,
        history: Callable[[Key, int], Iterable[Event]],
        idle_s: int,
        max_sessions: int,
        max_seen: int,
        remembers: bool = False,
    ) -> None:
        self._items = items
        self._remembers = remembers
        self._history = history
        self._idle_us = idle_s * 1_000_000
        self._max_sessions = max_sessions
        self._max_seen = max_seen
        self._visits: OrderedDict[Key, Visit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._visits)

    def __contains__(self, key: Key) -> bool:
        return key in self._visits

    def load(self, keys: Iterable[Key]) -> None:
        """Bring the visits of `keys` to memory, however many; `trim` makes room again."""
        for key in keys:
            if key in self._visits:
                self._visits.move_to_end(key)
            else:
                self._visits[key] = self._read(key)

    def trim(self) -> None:
        """Let go of the visits that were used longest ago, until memory holds what it may."""
        while len(self._visits) > self._max_sessions:
            self._visits.popitem(last=False)

    def get(self, key: Key | None) -> Visit:
        """The visit of a key, empty if it is not in memory."""
        return EMPTY if key is None else self._visits.get(key, EMPTY)

    def put(self, key: Key, visit: Visit) -> None:
        """Replace a visit that is in memory, such as by one with a newer hidden state."""
        if key in self._visits:
            self._visits[key] = visit

    def record(self, events: Iterable[Event]) -> Undo:
        """Let the visits in memory know what happened; give the result to `restore` to undo."""
        before: Undo = {}
        for event in events:
            click = self._click(event)
            if click is None:
                continue
            for column in ID_COLUMNS:
                value = getattr(event, column)
                key: Key = (column, value)
                visit = None if value is None else self._visits.get(key)
                if visit is not None:
                    before.setdefault(key, visit)
                    self._visits[key] = self._after(visit, [click], column=column)
        return before

    def restore(self, before: Undo) -> None:
        """Undo what one call of `record` did."""
        for key, visit in before.items():
            self.put(key, visit)

    def forget(self, keys: Iterable[Key]) -> None:
        """Let go of some visits; the log is read again when they are asked for."""
        for key in keys:
            self._visits.pop(key, None)

    def forget_all(self) -> None:
        """Let go of every visit."""
        self._visits.clear()

    def clear(self, items: Vocabulary, *, version: str) -> None:
        """Let go of every visit; item indices now mean `items`."""
        self.switch(items, version=version)

    def switch(self, items: Vocabulary, *, version: str, remembers: bool | None = None) -> None:
        """Let go of every visit, because item indices now mean `items`.

        Args:
            items: Outside ids of the item indices.
            version: Names the model.
            remembers: Whether visitors keep their visits that have ended; None as before.
        """
        del version  # there is one model here
        self._items = items
        self._remembers = self._remembers if remembers is None else remembers
        self._visits.clear()

    def adopt(self, key: Key, visit: Visit) -> None:
        """Take a visit that is known already instead of reading it from the log."""
        self._visits[key] = visit

    def announce(self, events: Iterable[Event]) -> None:
        """Nobody else relies on the visits of one process."""

    def publish(self) -> None:
        """Nobody else is told."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def blank(self, key: Key) -> Visit:
        """The visit of a key before its first click."""
        prefix = _PREFIX.get(key[0])
        return Visit(visitor=prefix + key[1]) if self._remembers and prefix else EMPTY

    def _read(self, key: Key) -> Visit:
        events = self._history(key, self._max_seen)
        clicks = [click for event in events if (click := self._click(event)) is not None]
        return self._after(self.blank(key), clicks, column=key[0])

    def _click(self, event: Event) -> _Signed | None:
        event_type = _INTEREST.get(event.event_type)
        index = -1 if event_type is None else self._items.index(event.item_id)
        if event_type is None or index < 0:
            return None
        return (index, event.timestamp_us, event_type), event.user_id or ""

    def _after(self, visit: Visit, clicks: Sequence[_Signed], *, column: IdColumn) -> Visit:
        if column == "session_id":
            plain = [click for click, _ in clicks]
            return clicked(visit, plain, max_seen=self._max_seen)
        current, account = visit, visit.account
        latest_us = visit.times_us[-1] if visit.times_us else None
        run: list[Click] = []
        for click, user in clicks:
            time_us = click[1]
            silence_us = 0 if latest_us is None else time_us - latest_us
            if silence_us < -self._idle_us:
                # An old event that comes late belongs to a visit that has ended.
                continue
            named = _digest(user) if user and column == "anonymous_id" else ""
            # Signing in does not end the visit of a browser; another account does.
            if silence_us > self._idle_us or (named and account and named != account):
                current, run = ended(clicked(current, run, max_seen=self._max_seen)), []
            run.append(click)
            account = named or account
            latest_us = time_us if latest_us is None else max(latest_us, time_us)
        found = clicked(current, run, max_seen=self._max_seen)
        return found if found.account == account else replace(found, account=account)
