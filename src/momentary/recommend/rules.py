"""What may stand on a list: stock, seen, allow and deny, price band, most per brand."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import msgspec
import numpy as np

from momentary.errors import DataError, SettingsError
from momentary.types import BoolArray, ItemTable, ObjectArray


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's conditions on one list; `msgspec.json.decode(body, type=Rules)` reads them.

    Attributes:
        exclude_seen: Leave out what the session already holds.
        in_stock: Leave out what is not available, or is hidden.
        allow: Attribute -> the only values that may be shown; an item without a value is left out.
        deny: Attribute -> values that may not be shown; an item without a value may be.
        price_min: Lowest price shown. With a price limit, an item without a price is left out.
        price_max: Highest price shown.
        max_per: Attribute -> the most items on one list that share a value; an item without a
            value is never limited.
        exclude_items: Outside ids that may not be shown; unknown ids change nothing.

    Raises:
        ValueError: If a limit cannot hold. While decoding it becomes `msgspec.ValidationError`.

    >>> msgspec.json.decode(b'{"max_per": {"brand": 2}}', type=Rules).max_per
    {'brand': 2}
    """

    exclude_seen: bool = False
    in_stock: bool = True
    allow: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    deny: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    price_min: float | None = None
    price_max: float | None = None
    max_per: Mapping[str, int] = msgspec.field(default_factory=dict)
    exclude_items: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_prices(self.price_min, self.price_max)
        _check_values("allow", self.allow)
        _check_values("deny", self.deny)
        _refuse_bare_string("exclude_items", self.exclude_items)
        for attribute, most in self.max_per.items():
            if most < 1:
                raise ValueError(
                    f"max_per[{attribute!r}] is {most}; it must be at least 1. "
                    "Use deny to keep a value off the list."
                )


def read_rules(text: str) -> Rules:
    """Rules from JSON.

    Raises:
        SettingsError: If it is not JSON, or not rules; the message names the place.
    """
    try:
        return msgspec.json.decode(text, type=Rules)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"The rules cannot be read: {error}.") from error


def allowed(rules: Rules, table: ItemTable) -> BoolArray:
    """Mark the items that the rules let onto any list, whatever the session. Shape (items,).

    It depends on nothing but its arguments, so it may be kept for as long as the table lives.
    `exclude_seen` and `max_per` depend on the list and are applied where lists are made.

    Raises:
        DataError: If a rule names an attribute that the catalogue does not have.
    """
    for attribute in (*rules.allow, *rules.deny, *rules.max_per):
        column(table, attribute)
    mask = table.available.copy() if rules.in_stock else np.ones(len(table), dtype=np.bool_)
    for attribute, values in rules.allow.items():
        mask &= _is_one_of(column(table, attribute), values)
    for attribute, values in rules.deny.items():
        mask &= ~_is_one_of(column(table, attribute), values)
    # A price that is not known is NaN, which is on neither side of a limit.
    if rules.price_min is not None:
        mask &= table.price >= rules.price_min
    if rules.price_max is not None:
        mask &= table.price <= rules.price_max
    if rules.exclude_items:
        mask &= ~_is_one_of(table.item_ids, rules.exclude_items)
    return mask


def column(table: ItemTable, attribute: str) -> ObjectArray:
    """The values of one attribute, None where unknown. Shape (items,).

    Raises:
        DataError: If the catalogue has no such attribute.
    """
    if attribute not in table.attributes:
        known = ", ".join(sorted(table.attributes)) or "none"
        raise DataError(
            f"the catalogue has no attribute {attribute!r}; use one of those it has: {known}."
        )
    return table.attributes[attribute]


def _is_one_of(values: ObjectArray, wanted: Collection[str]) -> BoolArray:
    members = frozenset(wanted)
    return np.fromiter((value in members for value in values), dtype=np.bool_, count=len(values))


def _check_prices(price_min: float | None, price_max: float | None) -> None:
    for name, price in (("price_min", price_min), ("price_max", price_max)):
        if price is not None and math.isnan(price):
            raise ValueError(f"{name} is NaN; give a number, or leave it out for no limit.")
    if price_min is not None and price_max is not None and price_min > price_max:
        raise ValueError(
            f"price_min is {price_min} and price_max is {price_max}; "
            "swap them, or leave one out for no limit."
        )


def _check_values(rule: str, choices: Mapping[str, Collection[str]]) -> None:
    for attribute, values in choices.items():
        _refuse_bare_string(f"{rule}[{attribute!r}]", values)
        if rule == "allow" and not values:
            raise ValueError(
                f"allow[{attribute!r}] is empty and would leave nothing; "
                "name at least one value, or leave the attribute out."
            )


def _refuse_bare_string(name: str, values: object) -> None:
    # A string is a collection of its letters, which nobody means.
    if isinstance(values, str):
        raise ValueError(f"{name} is the string {values!r}; give a list: [{values!r}].")


DEFAULT_RULES = Rules()
"""Everything that is in stock."""
