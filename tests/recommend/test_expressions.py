"""Conditions: what they mean, where they are refused, and that nothing sent is ever run."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.recommend.attributes import Attributes
from momentary.recommend.expressions import DEEPEST, LONGEST, ExpressionError, parse
from momentary.types import ItemTable


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


TABLE = ItemTable(
    item_ids=objects("a", "b/1", "c", "d"),
    names=objects("Green Tea", "Milk", None, "x"),
    price=np.array([1.0, 40.0, np.nan, 5.0]),
    available=np.array([True, True, False, True]),
    attributes={
        "brand": objects("A", "B", None, "C"),
        "fragile": objects("true", None, "false", None),
        "weight": objects("1.5", "20", None, "x"),
        "list_price": objects("2", "40", "3", "4"),
        "screen size": objects(None, "B", None, "7"),
    },
)


def holds(text):
    found = parse(text).holds(Attributes(TABLE))
    return "".join(item_id[0] for item_id in TABLE.item_ids[found])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('brand in ["A", "B"] and price < 30 and not properties.fragile', ""),
        ('brand in ["B", "C"] and price < 30 and not properties.fragile', "d"),
        ("properties.fragile", "a"),
        ("not properties.fragile", "bcd"),
        ("properties.fragile == false", "c"),
        ("properties.fragile != true", "bcd"),
        ('brand == "A"', "a"),
        ('brand != "A"', "bcd"),
        ("brand == null", "c"),
        ("null != brand", "abd"),
        ("price == null", "c"),
        ("price >= 5", "bd"),
        ("5 <= price", "bd"),
        ("not price >= 5", "ac"),
        ("properties.weight < 10", "a"),
        ("properties.weight in [20, 1.5]", "ab"),
        ("properties.weight not in [20]", "acd"),
        ('properties.weight == 2e1 or name contains "TEA"', "ab"),
        ("price < properties.list_price", "a"),
        ("brand == properties['screen size']", "b"),
        ("available", "abd"),
        ("available == false", "c"),
        ('item_id == "b/1"', "b"),
        ("brand not in ['A', 'C']", "bc"),
        ('(brand == "A" or brand == "B") and price > 2', "b"),
        ('brand == "A" or brand == "B" and price > 2', "ab"),
        ('not (brand == "A" or brand == null)', "bd"),
        ("properties.nobody_has_it", ""),
        ("properties.nobody_has_it == null", "abcd"),
        ('  brand\n==\t"A" ', "a"),
        (r'name contains "\"" or name == "x"', "d"),
    ],
)
def test_what_a_condition_means(text, expected):
    assert holds(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "ends too early"),
        ("price <", 1, 8, 'a name, a number or a "text"'),
        ('brand in ["A" && price', 1, 15, "'&' cannot stand here; here could stand ] or a comma"),
        ("pric < 3", 1, 1, "did you mean price"),
        ('brand == "A"\n and prix < 3', 2, 6, "did you mean price"),
        ('colour == "red"', 1, 1, "write properties.colour"),
        ('price == "x"', 1, 1, "price is a number"),
        ("price < true", 1, 7, "true has no order"),
        ("null > brand", 1, 6, "null has no order"),
        ("1 < 2", 1, 3, "two fixed values"),
        ('"a" in ["a"]', 1, 5, "a comparison"),
        ("price < 1e999", 1, 9, "too large"),
        ("brand", 1, 1, "brand is no yes or no"),
        ('brand == "A', 1, 10, "cannot stand here"),
        ("brand in []", 1, 11, "cannot stand here"),
        ('brand in ["a", 1]', 1, 1, "mixes kinds"),
        ("available < 3", 1, 1, "compare it with true or false"),
        ("(" * 5, 1, 6, "ends too early"),
        ("not " * 40 + "available", 1, 1, "nested 41 deep"),
        ("x" * (LONGEST + 1), 1, LONGEST + 1, "1,001 characters"),
        ('__import__("os")', 1, 11, "cannot stand here"),
        ("price.__class__", 1, 6, "cannot stand here"),
        ("\0", 1, 1, "cannot stand here"),
    ],
)
def test_a_condition_that_cannot_be_read_says_where_and_what_could_stand_there(
    text, line, column, words
):
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert words in str(refused.value)


def test_a_property_that_no_item_has_is_refused_where_it_stands():
    expression = parse('brand == "A" and properties.fragil')
    with pytest.raises(ExpressionError, match=r"column 29: .*did you mean fragile\?"):
        expression.check(Attributes(TABLE))
    parse('brand == "A" and properties.fragile').check(Attributes(TABLE))
    with pytest.raises(ExpressionError, match="there are: fragile, list_price"):
        parse("properties.zzz").check(Attributes(TABLE))


def test_the_deepest_condition_that_is_read_can_be_tested():
    parse("not " * (DEEPEST - 1) + "available").holds(Attributes(TABLE))
    long = " or ".join(["available"] * 70)
    assert parse(long).holds(Attributes(TABLE)).tolist() == TABLE.available.tolist()
    assert parse("(" * 400 + "available" + ")" * 400).condition.depth == 1


def test_columns_that_did_not_change_keep_their_codes():
    before = Attributes(TABLE)
    codes = {name: before.column(name) for name in ("brand", "weight", "item_id")}
    row = ItemTable(
        item_ids=objects("b/1"),
        names=objects("Milk"),
        price=np.array([40.0]),
        available=np.array([True]),
        attributes={
            "brand": objects("New"),
            **{n: c[1:2] for n, c in TABLE.attributes.items() if n != "brand"},
        },
    )
    after = Attributes(TABLE.with_row(1, row), before=before)
    assert after.column("weight") is codes["weight"]
    assert after.column("item_id") is codes["item_id"]
    brand = after.column("brand")
    assert [brand.values[code] if code >= 0 else None for code in brand.codes] == [
        "A",
        "New",
        None,
        "C",
    ]
    assert parse('brand == "New"').holds(after).tolist() == [False, True, False, False]


# An independent reading of the same conditions, item by item.
_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ITEMS = [
    {
        "brand": TABLE.attributes["brand"][row],
        "price": None if math.isnan(TABLE.price[row]) else float(TABLE.price[row]),
        "properties.fragile": TABLE.attributes["fragile"][row],
        "available": bool(TABLE.available[row]),
    }
    for row in range(len(TABLE))
]


def brands(sign, value):
    def means(item):
        held = item["brand"]
        return sign == "!=" if held is None else _COMPARE[sign](held, value)

    return f"brand {sign} '{value}'", means


def prices(sign, value):
    def means(item):
        held = item["price"]
        return sign == "!=" if held is None else _COMPARE[sign](held, value)

    return f"price {sign} {round(value, 2)}", means


def members(values, no):
    text = f"brand {'not ' * no}in [{', '.join(map(repr, values))}]"
    return text, lambda item: (item["brand"] in values) != no


def unknown(name):
    return f"{name} == null", lambda item: item[name] is None


def negated(part):
    return f"not ({part[0]})", lambda item: not part[1](item)


def joined(how, one, other):
    combine = all if how == "and" else any
    return f"({one[0]}) {how} ({other[0]})", lambda item: combine((one[1](item), other[1](item)))


SIGNS = st.sampled_from(sorted(_COMPARE))
LETTERS = st.sampled_from("ABCD")
PARTS = st.one_of(
    st.builds(brands, SIGNS, LETTERS),
    st.builds(prices, SIGNS, st.floats(-50, 50).map(lambda number: round(number, 2))),
    st.builds(members, st.lists(LETTERS, min_size=1), st.booleans()),
    st.builds(unknown, st.sampled_from(["brand", "price"])),
    st.just(("properties.fragile", lambda item: item["properties.fragile"] == "true")),
)
CONDITIONS = st.recursive(
    PARTS,
    lambda parts: (
        st.builds(negated, parts) | st.builds(joined, st.sampled_from(["and", "or"]), parts, parts)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(CONDITIONS)
def test_a_condition_means_what_it_means_item_by_item(condition):
    text, means = condition
    found = parse(text).holds(Attributes(TABLE))
    assert found.tolist() == [means(item) for item in _ITEMS]


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60) | st.text(alphabet="andorti[]()\"\\'<>=!. properties_12e,-", max_size=60)
)
def test_any_text_is_read_or_refused_with_its_place(text):
    try:
        found = parse(text).holds(Attributes(TABLE)).shape
    except ExpressionError as error:
        found = (error.line, error.column)
    assert found == (4,) or min(found) >= 1
