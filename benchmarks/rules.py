"""What rules cost: reading a condition, testing it on a catalogue, arranging a list.

CPU time of one call, the middle of many. The catalogue is simulated: 37,000 items, 900 brands, 60
categories. A rule that another request used before costs a look into a dictionary, until an item
changes; then only the columns that changed are laid out anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np

from benchmarks import report
from momentary.data.vocabulary import Vocabulary
from momentary.recommend.attributes import Attributes
from momentary.recommend.expressions import parse
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules, allowed, read_rules
from momentary.types import FloatArray, ItemTable, ObjectArray, Sessions

_ITEMS = 37_000
_CONDITION = 'brand in ["b1", "b2", "b3"] and price < 30 and not properties.fragile'
_TARGET_MS = 1.0


class _Fixed:
    """Scores that cost nothing."""

    def __init__(self, scores: FloatArray) -> None:
        self._scores = scores

    def score(self, sessions: Sessions) -> FloatArray:
        return np.broadcast_to(self._scores, (len(sessions), len(self._scores)))


def shop(*, seed: int) -> Recommender:
    """A simulated shop whose model scores at random."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"item-{number}" for number in range(_ITEMS))
    table = ItemTable(
        item_ids=_column(list(ids)),
        names=_column([f"Name of {each}" for each in ids]),
        price=rng.uniform(0, 60, _ITEMS).round(2),
        available=rng.random(_ITEMS) < 0.95,
        attributes={
            "brand": _column([f"b{number}" for number in rng.integers(0, 900, _ITEMS)]),
            "category": _column([f"c{number}" for number in rng.integers(0, 60, _ITEMS)]),
            "fragile": _column([None if each else "true" for each in rng.random(_ITEMS) < 0.9]),
        },
    )
    scores = rng.normal(size=_ITEMS).astype(np.float32)
    return Recommender(_Fixed(scores), items=Vocabulary(ids), table=table)


def _column(values: list[object]) -> ObjectArray:
    found = np.empty(len(values), dtype=np.object_)
    found[:] = values
    return found


def cpu_ms(call: Callable[[], object], *, times: int) -> float:
    """The middle of so many measurements of one call."""
    found = []
    for _ in range(times):
        start = time.process_time_ns()
        call()
        found.append((time.process_time_ns() - start) / 1e6)
    return float(np.median(found))


def conditions(recommender: Recommender) -> list[report.Row]:
    """Of reading and testing a condition."""
    table, attributes = recommender.table, Attributes(recommender.table)
    parse(_CONDITION).holds(attributes)
    row = table.with_row(5, _changed(table))
    rules = read_rules(json.dumps({"allow": _CONDITION}))
    recommender.mask(rules)

    def after_a_change() -> None:
        allowed(rules, row, attributes=Attributes(row, before=attributes))

    return [
        _within("read a condition", cpu_ms(lambda: parse.__wrapped__(_CONDITION), times=50)),
        _plain(
            "test it, columns not laid out",
            cpu_ms(lambda: parse(_CONDITION).holds(Attributes(table)), times=9),
        ),
        _within("test it", cpu_ms(lambda: parse(_CONDITION).holds(attributes), times=50)),
        _plain("test it after one item's brand changed", cpu_ms(after_a_change, times=9)),
        _within(
            "take a rule that was used before", cpu_ms(lambda: recommender.mask(rules), times=99)
        ),
    ]


def lists(recommender: Recommender) -> list[report.Row]:
    """Of whole lists of 20, beside a list without rules."""
    visit = Sessions.from_lists([[1, 2, 3]])
    rng = np.random.default_rng(3)
    wanted = {
        "no rules": Rules(),
        "a condition": read_rules(json.dumps({"allow": "price < 30"})),
        "at most 2 a category": Rules(max_per={"category": 2}),
        "boosts": read_rules('{"boosts": [{"when": "price < 9", "multiply": 2, "add": 1}]}'),
        "pins": read_rules('{"pins": [{"item_id": "item-9", "rank": 3}]}'),
        "variety by category": read_rules('{"diversity": {"by": "category"}}'),
        "places left to chance": read_rules('{"explore": {"share": 0.1}}'),
        "all of them": read_rules(
            '{"allow": "price < 30", "max_per": {"category": 2}, "explore": {"share": 0.1},'
            ' "boosts": [{"when": "price < 9", "multiply": 2}], "diversity": {"by": "category"},'
            ' "pins": [{"item_id": "item-9", "rank": 3}]}'
        ),
    }
    found = []
    for what, rules in wanted.items():

        def make(rules: Rules = rules) -> None:
            recommender.recommend(visit, k=20, rules=rules, explain=False, rng=rng)

        make()
        found.append(_plain(f"a list of 20: {what}", cpu_ms(make, times=30)))
    return found


def _changed(table: ItemTable) -> ItemTable:
    """Item 5 with another brand."""
    return ItemTable(
        item_ids=table.item_ids[5:6],
        names=table.names[5:6],
        price=table.price[5:6],
        available=table.available[5:6],
        attributes={
            "brand": _column(["another"]),
            "category": table.attributes["category"][5:6],
            "fragile": table.attributes["fragile"][5:6],
        },
    )


def _within(what: str, value: float) -> report.Row:
    return report.Row(what=what, value=value, unit="ms CPU", target=_TARGET_MS, better="lower")


def _plain(what: str, value: float) -> report.Row:
    return report.Row(what=what, value=value, unit="ms CPU", better="lower")


def main() -> None:
    """Run from the command line."""
    recommender = shop(seed=0)
    found = [*conditions(recommender), *lists(recommender)]
    report.finish("rules", found, data={"shop": f"simulated, {_ITEMS:,} items"}, seeds=[0])


if __name__ == "__main__":
    main()
