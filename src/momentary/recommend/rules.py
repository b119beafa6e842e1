"""What may stand on a list, and where: stock, conditions, prices, limits, boosts, pins, chance."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal

import msgspec
import numpy as np

from momentary.errors import DataError, SettingsError
from momentary.recommend.attributes import Attributes
from momentary.recommend.expressions import LONGEST, ExpressionError, parse
from momentary.types import BoolArray, FloatArray, ItemTable, ObjectArray

Text = Annotated[
    str,
    msgspec.Meta(
        max_length=LONGEST,
        description="A condition on items; docs/guide/rules.md has the language.",
        examples=['brand in ["A", "B"] and price < 30 and not properties.fragile'],
    ),
]
Values = Mapping[str, tuple[str, ...]]
"""Attribute -> values."""

Condition = Text | Values | tuple[Text | Values, ...]
"""One condition or several."""

CONTENT = "content"


class Boost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lifts or lowers the items for which a condition holds.

    Attributes:
        when: The condition.
        multiply: Above 1 lifts, below 1 lowers: a score of 0 or more is multiplied, one below 0
            divided.
        add: So many standard deviations of the visit's scores are added, whatever the model's
            scale.
    """

    when: Text
    multiply: Annotated[float, msgspec.Meta(ge=0.01, le=100)] = 1.0
    add: Annotated[float, msgspec.Meta(ge=-100, le=100)] = 0.0


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts an item on a place, if the rules let it onto the list and the model knows it.

    Attributes:
        rank: From 1; on a shorter list it moves up.
    """

    item_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    rank: Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class Diversity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Avoids what is like the items above it (maximal marginal relevance).

    Attributes:
        by: An attribute, such as category, or "content" for the items' vectors.
        strength: 0 counts the score alone, 1 the variety alone.
    """

    by: str = "category"
    strength: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3


class Explore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leaves places to chance, so that it can be learned what nobody is shown otherwise.

    Attributes:
        share: The chance of each place.
        pool: Drawn evenly from so many of the best that may stand there.
    """

    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    pool: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 100


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's conditions on one list; `msgspec.json.decode(body, type=Rules)` reads them.

    Attributes:
        exclude_seen: Leave out what the session already holds.
        in_stock: Leave out what is not available, or is hidden.
        allow: A condition that items must meet; or attribute -> the only values that may be shown,
            where an item without a value is left out. Of several, all must be met.
        deny: A condition that items may not meet; or attribute -> values that may not be shown,
            where an item without a value may be. Of several, none may be met.
        price_min: Lowest price shown. With a price limit, an item without a price is left out.
        price_max: Highest price shown.
        max_per: Attribute -> the most items on one list that share a value; an item without a
            value is never limited.
        exclude_items: Outside ids that may not be shown; unknown ids change nothing.
        boosts: Lift or lower scores.
        pins: Items on given places.
        diversity: Avoids what is alike.
        explore: Leaves places to chance.
        unknown: What an attribute that no item has means: "refuse" the rules, or "empty", which
            says that no item has a value.

    Raises:
        ValueError: If a limit cannot hold or a condition cannot be read. While decoding it becomes
            `msgspec.ValidationError`.

    >>> msgspec.json.decode(b'{"max_per": {"brand": 2}}', type=Rules).max_per
    {'brand': 2}
    """

    exclude_seen: bool = False
    in_stock: bool = True
    allow: Condition = msgspec.field(default_factory=dict)
    deny: Condition = msgspec.field(default_factory=dict)
    price_min: float | None = None
    price_max: float | None = None
    max_per: Mapping[str, int] = msgspec.field(default_factory=dict)
    exclude_items: tuple[str, ...] = ()
    boosts: Annotated[tuple[Boost, ...], msgspec.Meta(max_length=20)] = ()
    pins: Annotated[tuple[Pin, ...], msgspec.Meta(max_length=100)] = ()
    diversity: Diversity | None = None
    explore: Explore | None = None
    unknown: Literal["refuse", "empty"] = "refuse"

    def __post_init__(self) -> None:
        _check_prices(self.price_min, self.price_max)
        for rule, condition in (("allow", self.allow), ("deny", self.deny)):
            for where, part in _parts(rule, condition):
                _check_values(where, part)
        _refuse_bare_string("exclude_items", self.exclude_items)
        for place, boost in enumerate(self.boosts):
            _read(f"boosts[{place}].when", boost.when)
        _check_pins(self.pins)
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


def allowed(rules: Rules, table: ItemTable, *, attributes: Attributes | None = None) -> BoolArray:
    """Mark the items that the rules let onto any list, whatever the session. Shape (items,).

    It depends on nothing but its arguments, so it may be kept for as long as the table lives.
    `exclude_seen` and `max_per` depend on the list and are applied where lists are made.

    Args:
        rules: The conditions.
        table: The catalogue.
        attributes: The table's columns, if they were laid out already.

    Raises:
        DataError: If a rule names an attribute that the catalogue does not have.
    """
    columns = Attributes(table) if attributes is None else attributes
    if rules.unknown == "refuse":
        check_names(rules, columns)
    mask = table.available.copy() if rules.in_stock else np.ones(len(table), dtype=np.bool_)
    for _, part in _parts("allow", rules.allow):
        mask &= _any_or_all(part, columns, everywhere=True)
    for _, part in _parts("deny", rules.deny):
        mask &= ~_any_or_all(part, columns, everywhere=False)
    # A price that is not known is NaN, which is on neither side of a limit.
    if rules.price_min is not None:
        mask &= table.price >= rules.price_min
    if rules.price_max is not None:
        mask &= table.price <= rules.price_max
    if rules.exclude_items:
        mask &= ~_is_one_of(table.item_ids, rules.exclude_items)
    return mask


def boosted(
    rules: Rules, scores: FloatArray, *, lift: FloatArray, raised: FloatArray
) -> FloatArray:
    """Scores after the boosts. Shape (sessions, items).

    Args:
        rules: Whose boosts `lift` and `raised` are.
        scores: Higher is better. Shape (sessions, items).
        lift: Each item's factor. Shape (items,).
        raised: Each item's standard deviations. Shape (items,).
    """
    found = scores
    if any(boost.multiply != 1 for boost in rules.boosts):
        found = np.where(found >= 0, found * lift, found / lift)
    if any(boost.add != 0 for boost in rules.boosts):
        found = found + raised * np.array([[_spread(row)] for row in scores], dtype=np.float32)
    return found


def boosts(rules: Rules, attributes: Attributes) -> tuple[FloatArray, FloatArray]:
    """Each item's factor, and the standard deviations added to it. Both of shape (items,)."""
    lift = np.ones(len(attributes), dtype=np.float32)
    raised = np.zeros(len(attributes), dtype=np.float32)
    for boost in rules.boosts:
        holds = parse(boost.when).holds(attributes)
        lift[holds] *= boost.multiply
        raised[holds] += boost.add
    return lift, raised


def check_names(rules: Rules, attributes: Attributes) -> None:
    """Refuse rules that name what no item has.

    Raises:
        DataError: With what there is; for a condition, an `ExpressionError` with the place.
    """
    conditions = (*_parts("allow", rules.allow), *_parts("deny", rules.deny))
    for where, part in conditions:
        if not isinstance(part, str):
            for attribute in part:
                column(attributes.table, attribute)
        elif part:
            with _placed(where):
                parse(part).check(attributes)
    for place, boost in enumerate(rules.boosts):
        with _placed(f"boosts[{place}].when"):
            parse(boost.when).check(attributes)
    for attribute in rules.max_per:
        column(attributes.table, attribute)
    if rules.diversity is not None and rules.diversity.by != CONTENT:
        column(attributes.table, rules.diversity.by)


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


def _spread(row: FloatArray) -> float:
    """The standard deviation of the finite scores, 0 where there are none."""
    finite = row[np.isfinite(row)]
    return float(finite.std()) if len(finite) else 0.0


def _parts(rule: str, condition: Condition) -> list[tuple[str, str | Values]]:
    """The conditions of a rule that has one or several, and where each stands."""
    if isinstance(condition, tuple):
        return [(f"{rule}[{place}]", part) for place, part in enumerate(condition)]
    return [(rule, condition)]


def _any_or_all(condition: str | Values, columns: Attributes, *, everywhere: bool) -> BoolArray:
    """Items that meet a condition, or have a wanted value in all attributes, or in any."""
    found = np.full(len(columns), everywhere, dtype=np.bool_)
    if isinstance(condition, str):
        return parse(condition).holds(columns) if condition else found
    for attribute, values in condition.items():
        holds = columns.column(attribute).where(frozenset(values).__contains__)
        found = found & holds if everywhere else found | holds
    return found


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


def _check_pins(pins: tuple[Pin, ...]) -> None:
    for what in ("rank", "item_id"):
        values = [getattr(pin, what) for pin in pins]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"pins hold {what} {twice!r} twice; give each place one item.")


def _check_values(rule: str, choices: str | Values) -> None:
    if isinstance(choices, str):
        _read(rule, choices)
        return
    for attribute, values in choices.items():
        _refuse_bare_string(f"{rule}[{attribute!r}]", values)
        if rule.startswith("allow") and not values:
            raise ValueError(
                f"{rule}[{attribute!r}] is empty and would leave nothing; "
                "name at least one value, or leave the attribute out."
            )


def _refuse_bare_string(name: str, values: object) -> None:
    # A string is a collection of its letters, which nobody means.
    if isinstance(values, str):
        raise ValueError(f"{name} is the string {values!r}; give a list: [{values!r}].")


def _read(where: str, text: str) -> None:
    if text or where.endswith("when"):
        with _placed(where):
            parse(text)


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Say which condition an error is about."""
    try:
        yield
    except ExpressionError as error:
        raise error.within(where) from None


DEFAULT_RULES = Rules()
"""Everything that is in stock."""
