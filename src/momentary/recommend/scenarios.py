"""Where a list stands says what it is for: home, product page, basket, mail.

A scenario is a set of defaults. What a request says itself wins over the rule sets that it names,
those win over the scenario's rules; conditions (`allow`, `deny`), boosts and left-out items of all
of them count together, so that a rule of the shop is never lost by naming another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from momentary.errors import SettingsError
from momentary.recommend.reasons import Related
from momentary.recommend.rules import Rules
from momentary.types import FloatArray, Sessions

Scorer = Literal["model", "similar", "popular"]
"""The model at work; what goes with the last item, filled up by the model; what most want."""

RuleFields = Mapping[str, Any]
"""Rules as they were written: only the fields that somebody set."""

_JOINED = ("allow", "deny", "exclude_items", "boosts")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults of one kind of list.

    Attributes:
        k: Length of the list.
        scorer: What the scores come from.
        explain: Whether reasons are given.
        rules: What may stand on the list, and where.
        rule_sets: Names of rule sets that always count.
    """

    k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    scorer: Scorer = "model"
    explain: bool = False
    rules: dict[str, Any] = {}
    rule_sets: tuple[str, ...] = ()


PRESETS: dict[str, Scenario] = {
    "home": Scenario(
        k=20, rules={"diversity": {"by": "category", "strength": 0.2}, "unknown": "empty"}
    ),
    "product": Scenario(
        k=10, scorer="similar", explain=True, rules={"max_per": {"group_id": 1}, "unknown": "empty"}
    ),
    "basket": Scenario(
        k=8,
        explain=True,
        rules={"exclude_seen": True, "max_per": {"category": 2}, "unknown": "empty"},
    ),
    "mail": Scenario(
        k=6,
        explain=True,
        rules={
            "exclude_seen": True,
            "max_per": {"category": 1},
            "diversity": {"by": "category", "strength": 0.3},
            "unknown": "empty",
        },
    ),
}
"""home keeps some variety; product shows what goes with the item, one variant of each; basket
completes it without repeating it; mail is short, new to the reader and mixed."""


def read_scenarios(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Scenario]:
    """The presets, changed and added to by settings, field by field.

    Raises:
        SettingsError: If one cannot work.

    >>> read_scenarios({"mail": {"k": 4}})["mail"].k
    4
    """
    found = dict(PRESETS)
    for name, table in tables.items():
        before = msgspec.to_builtins(found.get(name, Scenario()))
        try:
            found[name] = msgspec.convert({**before, **table}, Scenario)
            merged([found[name].rules])
        except (msgspec.ValidationError, ValueError) as error:
            raise SettingsError(f"serve.scenarios.{name}: {error}.") from error
    return found


def merged(parts: Sequence[RuleFields]) -> Rules:
    """One set of rules from several: later ones win, conditions, boosts and pins add up.

    Args:
        parts: Each of them rules by itself.

    Raises:
        msgspec.ValidationError: If they are no rules together, such as for a price limit that the
            other one crosses.

    >>> merged([{"deny": "price > 9"}, {"deny": {"brand": ["A"]}, "in_stock": False}]).deny
    ('price > 9', {'brand': ('A',)})
    """
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name in _JOINED and name in found:
                found[name] = [*_listed(found[name]), *_listed(value)]
            elif name == "max_per" and isinstance(value, Mapping) and name in found:
                found[name] = {**found[name], **value}
            elif name == "pins" and name in found:
                found[name] = _pins(found[name], value)
            else:
                found[name] = value
    return msgspec.convert(found, Rules)


def alike(scores: FloatArray, sessions: Sessions, related: Related | None) -> FloatArray:
    """Scores of what goes with the last item of each visit; the model orders what is below.

    Args:
        scores: The model's, higher is better. Shape (sessions, items).
        sessions: What each visitor did so far; one without items keeps the model's scores.
        related: Which items occur together.

    Returns:
        Similarities, at least 0, of items that go with the last one; the others keep their order
        below 0, and the last item itself comes last. Shape (sessions, items).
    """
    if related is None:
        return scores
    found = scores.copy()
    for row in range(len(sessions)):
        session = sessions.session(row)
        if not len(session):
            continue
        item = int(session[-1])
        below = found[row] - found[row].max() - np.float32(1)
        near = related.related(item, scores.shape[1])
        below[near.items] = np.maximum(near.similarities, 0)
        below[item] = below.min() - np.float32(1)
        found[row] = below
    return found


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _pins(before: object, after: object) -> list[Any]:
    """Later pins take the place, and the item, from earlier ones."""
    later = _listed(after)
    taken = {(name, pin.get(name)) for pin in later if isinstance(pin, dict) for name in pin}
    kept = [
        pin
        for pin in _listed(before)
        if not isinstance(pin, dict)
        or not {("rank", pin.get("rank")), ("item_id", pin.get("item_id"))} & taken
    ]
    return [*kept, *later]
