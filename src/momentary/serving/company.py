"""What visitors choose beside items that the model has not seen, as the events come in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from momentary.recommend.placed import Company
from momentary.serving.state import ID_COLUMNS, Key
from momentary.types import INTEREST_TYPES, Event

_LATEST = 10
_VISITS = 20_000
_ITEMS = 50_000
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
                company.beside[other] = company.beside.get(other, 0) + 1
            changed = True
        for other in before:
            if other in self.companies:
                beside = self.companies[other].beside
                beside[item] = beside.get(item, 0) + 1
                changed = True
        return changed
