"""What visitors choose beside items that the model has not seen, as the events come in.

It is counted by the log, which every process of a shop writes, so that all of them place a new
item where the others do.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Iterator

from momentary.recommend.placed import Company
from momentary.serving.state import ID_COLUMNS, Key
from momentary.types import INTEREST_TYPES, Event

_LATEST = 10
_VISITS = 20_000
_ITEMS = 50_000
_BESIDE = 2_000
"""Other items that are counted beside one: what anybody sends must not fill the memory."""

_LATE = 2_000
_INTEREST = frozenset(INTEREST_TYPES)


class CompanyBook:
    """Counts, for items outside of a model, the visits that hold them and what stands beside.

    Args:
        known: Items of the model.
        idle_us: Silence that ends the visit of somebody who gives no session id.
    """

    def __init__(self, known: Container[str], *, idle_us: int) -> None:
        self._known = known
        self._idle_us = idle_us
        self._recent: OrderedDict[Key, tuple[int, list[str]]] = OrderedDict()
        self.companies: dict[str, Company] = {}

    def concerns(self, event: Event) -> bool:
        """Whether an event may change what is known of some new item."""
        return bool(self.companies) or event.item_id not in self._known

    def see(self, event: Event) -> bool:
        """Count one event; True if it changed what is known of some new item."""
        if event.event_type not in _INTEREST:
            return False
        key = next(
            ((column, value) for column in ID_COLUMNS if (value := getattr(event, column))), None
        )
        if key is None:
            return False
        last_us, items = self._recent.pop(key, (event.timestamp_us, []))
        if key[0] != "session_id" and event.timestamp_us - last_us > self._idle_us:
            items = []
        item = event.item_id
        changed = False
        if item not in items:
            changed = self._meet(item, items)
            items = [*items, item][-_LATEST:]
        self._recent[key] = (event.timestamp_us, items)
        if len(self._recent) > _VISITS:
            self._recent.popitem(last=False)
        return changed

    def _meet(self, item: str, before: list[str]) -> bool:
        changed = False
        if item not in self._known and len(self.companies) < _ITEMS:
            company = self.companies.setdefault(item, Company())
            company.visits += 1
            for other in before:
                _count(company.beside, other)
            changed = True
        for other in before:
            if other in self.companies:
                _count(self.companies[other].beside, item)
                changed = True
        return changed


def _count(beside: dict[str, int], item: str) -> None:
    if item in beside or len(beside) < _BESIDE:
        beside[item] = beside.get(item, 0) + 1


class CountedLog:
    """Keeps a book by the log; each event counts once.

    Args:
        book: Is told of the events.
        logged: Number and event of those with a later number, in their order; from any thread.
        ordered: Whether a row that appears later has a higher number. If not, because transactions
            overlap, the last 2,000 numbers are looked at again.

    Attributes:
        read: How far the log has been read.
    """

    def __init__(
        self,
        book: CompanyBook,
        logged: Callable[[int], Iterator[tuple[int, Event]]],
        *,
        ordered: bool,
    ) -> None:
        self.book = book
        self.read = 0
        self._logged = logged
        self._late = 0 if ordered else _LATE
        self._near: deque[int] = deque(maxlen=2 * self._late)

    def news(self) -> Iterator[tuple[int, Event]]:
        """What was not counted yet; from any thread while nothing is counted."""
        known = set(self._near)
        for number, event in self._logged(max(self.read - self._late, 0)):
            if number not in known:
                yield number, event

    def count(self, news: Iterable[tuple[int, Event]], *, until: int) -> bool:
        """Count what is new; True if that changed what is known of some new item.

        Args:
            news: Number and event, by number.
            until: Number of the last event before `news` were read.
        """
        changed = False
        for number, event in news:
            changed |= self.book.see(event)
            self.read = max(self.read, number)
            self._near.append(number)
        self.read = max(self.read, until)
        return changed
