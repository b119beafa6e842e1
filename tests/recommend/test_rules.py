"""Rules: what they let through, what they refuse, how they read JSON."""

import msgspec
import numpy as np
import pytest

from momentary.errors import DataError
from momentary.recommend.rules import Rules, allowed
from momentary.types import ItemTable


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


TABLE = ItemTable(
    item_ids=objects("tea", "milk/1 l", "çay", "jam"),
    names=objects("Tea", None, None, "Jam"),
    price=np.array([2.0, 1.0, np.nan, 4.0]),
    available=np.array([True, True, True, False]),
    attributes={"brand": objects("Acme", "Best", None, "Acme")},
)


def shown(**rules):
    return TABLE.item_ids[allowed(Rules(**rules), TABLE)].tolist()


def test_default_rules_leave_out_only_what_cannot_be_had():
    assert shown() == ["tea", "milk/1 l", "çay"]
    assert shown(in_stock=False) == ["tea", "milk/1 l", "çay", "jam"]


def test_allow_needs_a_known_value_and_deny_does_not():
    assert shown(allow={"brand": ("Acme",)}, in_stock=False) == ["tea", "jam"]
    assert shown(deny={"brand": ("Acme",)}, in_stock=False) == ["milk/1 l", "çay"]


def test_price_band_is_inclusive_and_leaves_out_unknown_prices():
    assert shown(price_min=1.0, price_max=2.0) == ["tea", "milk/1 l"]
    assert shown(price_min=1.5) == ["tea"]
    assert shown(price_max=1.5) == ["milk/1 l"]


def test_excluded_ids_may_be_unknown():
    assert shown(exclude_items=("milk/1 l", "gone")) == ["tea", "çay"]


def test_the_mask_is_not_the_tables_own():
    allowed(Rules(), TABLE)[:] = False
    assert TABLE.available.tolist() == [True, True, True, False]


@pytest.mark.parametrize("rule", ["allow", "deny"])
def test_unknown_attribute_names_those_that_exist(rule):
    with pytest.raises(DataError, match=r"no attribute 'colour'.*brand"):
        allowed(Rules(**{rule: {"colour": ("red",)}}), TABLE)
    with pytest.raises(DataError, match="colour"):
        allowed(Rules(max_per={"colour": 2}), TABLE)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"price_min": 3.0, "price_max": 2.0}, "price_min is 3.0 and price_max is 2.0"),
        ({"price_min": float("nan")}, "price_min is NaN"),
        ({"max_per": {"brand": 0}}, "it must be at least 1"),
        ({"allow": {"brand": ()}}, "is empty"),
        ({"allow": {"brand": "Acme"}}, "give a list"),
        ({"exclude_items": "tea"}, "give a list"),
    ],
)
def test_rules_that_cannot_hold_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Rules(**bad)


def test_json_reads_into_rules_and_unknown_fields_are_refused():
    rules = msgspec.json.decode(
        b'{"exclude_seen": true, "allow": {"brand": ["Acme"]}, "price_max": 3,'
        b' "max_per": {"brand": 1}, "exclude_items": ["jam"]}',
        type=Rules,
    )
    assert rules == Rules(
        exclude_seen=True,
        allow={"brand": ("Acme",)},
        price_max=3.0,
        max_per={"brand": 1},
        exclude_items=("jam",),
    )
    with pytest.raises(msgspec.ValidationError, match="unknown field `bramd`"):
        msgspec.json.decode(b'{"bramd": 1}', type=Rules)
    with pytest.raises(msgspec.ValidationError, match="price_min is 3"):
        msgspec.json.decode(b'{"price_min": 3, "price_max": 2}', type=Rules)
