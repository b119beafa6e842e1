"""Conditions on items that a shop writes itself, such as `brand in ["A", "B"] and price < 30`.

The grammar is Lark's; what it yields is compared with whole columns of the catalogue at once, so
nothing that somebody sends is ever run as a program. There are no calls, no loops and no
arithmetic.

    condition := condition or condition | condition and condition | not condition
               | ( condition ) | name | operand comparison operand
               | name in [value, ...] | name not in [value, ...] | name contains "text"
    comparison := == | != | < | <= | > | >=
    operand := name | value
    name := item_id | name | brand | category | group_id | price | available
          | properties.colour | properties["screen size"]
    value := "text" | 'text' | 12.5 | true | false | null

A comparison with a value that an item does not have is false, and its opposites (`!=`, `not in`)
are therefore true: `brand != "A"` holds for items without a brand. `== null` asks for those.
`contains` looks for text inside text, whatever its case.
"""

from __future__ import annotations

import difflib
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.recommend.attributes import Attributes
from momentary.types import BoolArray

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedInput

LONGEST = 1_000
DEEPEST = 32

_GRAMMAR = r"""
?start: either
?either: both | both ("or" both)+ -> disjunction
?both: one | one ("and" one)+ -> conjunction
?one: "not" one -> negation
    | "(" either ")"
    | name -> truth
    | operand COMPARISON operand -> comparison
    | name "in" values -> membership
    | name "not" "in" values -> absence
    | name "contains" TEXT -> containment
?operand: name | value
?name: FIELD -> field | "properties" "." FIELD -> dotted | "properties" "[" TEXT "]" -> quoted
values: "[" value ("," value)* "]"
?value: TEXT -> text | NUMBER -> number | "true" -> yes | "false" -> no | "null" -> nothing
COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
FIELD: /[^\W\d]\w*/
NUMBER: /-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?/
TEXT: /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/
%ignore /[ \t\r\n]+/
"""
_FIELDS = ("item_id", "name", "brand", "category", "group_id", "price", "available")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS = {
    "FIELD": "a name",
    "NUMBER": "a number",
    "TEXT": 'a "text"',
    "COMPARISON": "a comparison (== != < <= > >=)",
    "IN": "in",
    "NOT": "not",
    "AND": "and",
    "OR": "or",
    "CONTAINS": "contains",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": "a comma",
    "DOT": "a dot",
    "$END": "the end",
}
_NO_TEXTS = ("price", "available")
_TRUE = frozenset({"true"})
_FALSE = frozenset({"false"})
_ESCAPED = re.compile(r"\\(.)")

Value = str | float | bool | None


class ExpressionError(DataError, ValueError):
    """A condition that cannot be read, or that names what the catalogue has not.

    Attributes:
        line: From 1.
        column: From 1.
        where: Which condition of a set of rules it is, such as `boosts[0].when`.
    """

    def __init__(self, what: str, *, line: int, column: int, where: str = "") -> None:
        super().__init__(f"{where}{', ' if where else ''}line {line}, column {column}: {what}")
        self._what = what
        self.line = line
        self.column = column
        self.where = where

    def within(self, where: str) -> ExpressionError:
        """The same error, naming the condition."""
        return ExpressionError(self._what, line=self.line, column=self.column, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A column of the catalogue, and where the condition names it."""

    attribute: str
    own: bool
    line: int
    column: int

    def refuse(self, what: str) -> ExpressionError:
        """The error that points here."""
        return ExpressionError(what, line=self.line, column=self.column)


Test = Callable[[Attributes], BoolArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A part of a condition: what it tests, which names it needs, how deep it is."""

    test: Test
    names: tuple[Name, ...]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A condition that has been read; `parse` makes it."""

    text: str
    condition: Condition

    def check(self, attributes: Attributes) -> None:
        """Refuse properties that no item has.

        Raises:
            ExpressionError: At the first of them, with what there is.
        """
        for name in self.condition.names:
            if not name.own and not attributes.has(name.attribute):
                known = attributes.properties()
                near = difflib.get_close_matches(name.attribute, known, n=1)
                listed = ", ".join(known[:20]) or "none"
                remedy = f"did you mean {near[0]}?" if near else f"there are: {listed}."
                raise name.refuse(f"no item has a property {name.attribute!r}; {remedy}")

    def holds(self, attributes: Attributes) -> BoolArray:
        """For which items it is true; a property that no item has is unknown. Shape (items,)."""
        return self.condition.test(attributes)


@functools.lru_cache(maxsize=2_048)
def parse(text: str) -> Expression:
    """Read a condition.

    Raises:
        ExpressionError: Where it stops making sense, and what could stand there.

    >>> parse("price <")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    momentary.recommend.expressions.ExpressionError: line 1, column 8: the condition ends...
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    if len(text) > LONGEST:
        what = f"the condition has {len(text):,} characters; at most {LONGEST:,} are read."
        raise ExpressionError(what, line=1, column=LONGEST + 1)
    try:
        condition: Condition = _grammar().parse(text)  # type: ignore[assignment]
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise _ends_early(text, _possible(error)) from None
        what = f"{str(error.token)[:40]!r} cannot stand here{_instead(_possible(error))}."
        raise ExpressionError(what, line=error.line, column=error.column) from None
    except UnexpectedCharacters as error:
        what = f"{text[error.pos_in_stream or 0]!r} cannot stand here{_instead(_possible(error))}."
        raise ExpressionError(what, line=error.line, column=error.column) from None
    if condition.depth > DEEPEST:
        what = f"the condition is nested {condition.depth} deep; at most {DEEPEST} are tested."
        raise ExpressionError(what, line=1, column=1)
    return Expression(text=text, condition=condition)


@functools.cache
def _grammar() -> Lark:
    """The parser; conditions are built while it reads, so that depth costs it no recursion."""
    from lark import Lark, Transformer, v_args

    steps = {name: staticmethod(step) for name, step in _STEPS.items()}
    builder = v_args(inline=True)(type("Builder", (Transformer,), steps))
    return Lark(_GRAMMAR, parser="lalr", transformer=builder())


def _either(*parts: Condition) -> Condition:
    return _joined(np.logical_or, parts)


def _both(*parts: Condition) -> Condition:
    return _joined(np.logical_and, parts)


def _joined(how: Callable[[Any, Any], Any], parts: tuple[Condition, ...]) -> Condition:
    def test(attributes: Attributes) -> BoolArray:
        return functools.reduce(how, (part.test(attributes) for part in parts))

    names = tuple(name for part in parts for name in part.names)
    return Condition(test=test, names=names, depth=1 + max(part.depth for part in parts))


def _not(part: Condition) -> Condition:
    return Condition(
        test=lambda attributes: np.logical_not(part.test(attributes)),
        names=part.names,
        depth=1 + part.depth,
    )


def _truth(name: Name) -> Condition:
    if name.attribute == "available":
        return _leaf(lambda attributes: attributes.table.available.copy(), name)
    if name.own:
        what = f"{name.attribute} is no yes or no; compare it, as in {name.attribute} != null."
        raise name.refuse(what)
    return _leaf(_where(name, _TRUE.__contains__), name)


def _comparison(left: Name | Value, how: Token, right: Name | Value) -> Condition:
    sign = str(how)
    if not isinstance(left, Name):
        if not isinstance(right, Name):
            what = "two fixed values are compared; name an attribute on one side."
            raise _at(how, what)
        left, right, sign = right, left, _MIRRORED.get(sign, sign)
    if sign == "!=":
        return _not(_compared(left, "==", right))
    if (right is None or isinstance(right, bool)) and sign != "==":
        word = "null" if right is None else str(right).lower()
        raise _at(how, f"{word} has no order; use == or !=.")
    return _compared(left, sign, right)


def _compared(name: Name, sign: str, value: Name | Value) -> Condition:
    compare = _OPERATORS[sign]
    if isinstance(value, Name):
        return _columns_compared(name, sign, value)
    if value is None or isinstance(value, bool):
        return _is(name, value=value)
    if name.attribute == "available" and name.own:
        raise name.refuse("available is yes or no; compare it with true or false.")
    if isinstance(value, float):
        return _leaf(lambda attributes: compare(_numbers(attributes, name), value), name)
    if name.own and name.attribute == "price":
        raise name.refuse("price is a number; compare it with one, without quotes.")
    return _leaf(_where(name, lambda held: bool(compare(held, value))), name)


def _is(name: Name, *, value: bool | None) -> Condition:
    if name.own and name.attribute == "available":
        if value is None:
            return _leaf(lambda attributes: np.zeros(len(attributes), dtype=np.bool_), name)
        return _truth(name) if value else _not(_truth(name))
    if name.own and name.attribute == "price":
        if value is not None:
            raise name.refuse("price is a number; compare it with one.")
        return _leaf(lambda attributes: np.isnan(attributes.table.price), name)
    if value is None:
        return _leaf(lambda attributes: attributes.column(name.attribute).codes < 0, name)
    return _leaf(_where(name, (_TRUE if value else _FALSE).__contains__), name)


def _columns_compared(left: Name, sign: str, right: Name) -> Condition:
    compare = _OPERATORS[sign]
    for name in (left, right):
        if name.own and name.attribute == "available":
            raise name.refuse("available is yes or no; compare it with true or false.")
    if sign != "==" or any(name.own and name.attribute == "price" for name in (left, right)):

        def numbers(attributes: Attributes) -> BoolArray:
            found: BoolArray = compare(_numbers(attributes, left), _numbers(attributes, right))
            return found

        return _leaf(numbers, left, right)

    def texts(attributes: Attributes) -> BoolArray:
        one, other = (attributes.column(name.attribute) for name in (left, right))
        places = {value: place for place, value in enumerate(other.values)}
        # -2 is no code of the other column, and -1 would be its unknown.
        codes = np.array([*(places.get(each, -2) for each in one.values), -2], dtype=np.int64)
        found: BoolArray = codes[one.codes] == other.codes
        return found

    return _leaf(texts, left, right)


def _membership(name: Name, values: tuple[Value, ...]) -> Condition:
    kinds = {type(value) for value in values}
    if len(kinds) > 1:
        raise name.refuse("the list after `in` mixes kinds; give texts alone, or numbers alone.")
    kind = kinds.pop()
    if kind is str and not (name.own and name.attribute in _NO_TEXTS):
        return _leaf(_where(name, frozenset(values).__contains__), name)
    if kind is float and not (name.own and name.attribute == "available"):
        wanted = np.array(values, dtype=np.float64)
        return _leaf(lambda attributes: np.isin(_numbers(attributes, name), wanted), name)
    raise name.refuse(f"{name.attribute} cannot be among these values; compare it with ==.")


def _absence(name: Name, values: tuple[Value, ...]) -> Condition:
    return _not(_membership(name, values))


def _containment(name: Name, text: Token) -> Condition:
    part = _text(text).casefold()
    if name.own and name.attribute in _NO_TEXTS:
        raise name.refuse(f"{name.attribute} is no text; `contains` looks into texts.")
    return _leaf(_where(name, lambda held: part in held.casefold()), name)


def _leaf(test: Test, *names: Name) -> Condition:
    return Condition(test=test, names=names, depth=1)


def _where(name: Name, holds: Callable[[str], bool]) -> Test:
    return lambda attributes: attributes.column(name.attribute).where(holds)


def _numbers(attributes: Attributes, name: Name) -> NDArray[np.float64]:
    if name.own and name.attribute == "price":
        return attributes.table.price
    return attributes.column(name.attribute).numbers()


def _field(token: Token) -> Name:
    if token not in _FIELDS:
        near = difflib.get_close_matches(token, _FIELDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"write properties.{token}, or one of "
        listed = "" if near else f"{', '.join(_FIELDS)}."
        raise _at(token, f"{str(token)[:40]!r} is no field of an item; {remedy}{listed}")
    return _name(token, str(token), own=True)


def _dotted(token: Token) -> Name:
    return _name(token, str(token), own=False)


def _quoted(token: Token) -> Name:
    return _name(token, _text(token), own=False)


def _name(token: Token, attribute: str, *, own: bool) -> Name:
    return Name(attribute=attribute, own=own, line=token.line or 1, column=token.column or 1)


def _text(token: Token) -> str:
    return _ESCAPED.sub(r"\1", token[1:-1])


def _number(token: Token) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _at(token, f"{token[:20]}... is too large a number.")
    return value


def _at(token: Token, what: str) -> ExpressionError:
    return ExpressionError(what, line=token.line or 1, column=token.column or 1)


def _ends_early(text: str, expected: Iterable[str]) -> ExpressionError:
    lines = text.split("\n")
    what = f"the condition ends too early{_instead(expected)}."
    return ExpressionError(what, line=len(lines), column=len(lines[-1]) + 1)


def _possible(error: UnexpectedInput) -> Iterable[str]:
    """What would have been right; the parser's own table also names what other places allow."""
    stopped = error.interactive_parser
    found: Iterable[str] = () if stopped is None else stopped.accepts()  # type: ignore[no-untyped-call]
    return found


def _instead(expected: Iterable[str]) -> str:
    possible = set(expected)
    words = [word for terminal, word in _WORDS.items() if terminal in possible]
    if not words:
        return ""
    *first, last = words
    return f"; here could stand {', '.join(first)}{' or ' if first else ''}{last}"


_STEPS: dict[str, Callable[..., Any]] = {
    "disjunction": _either,
    "conjunction": _both,
    "negation": _not,
    "truth": _truth,
    "comparison": _comparison,
    "membership": _membership,
    "absence": _absence,
    "containment": _containment,
    "field": _field,
    "dotted": _dotted,
    "quoted": _quoted,
    "values": lambda *values: values,
    "text": _text,
    "number": _number,
    "yes": lambda: True,
    "no": lambda: False,
    "nothing": lambda: None,
}
