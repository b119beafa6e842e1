"""Does it help to weigh events by their type? Each model with and without weights.

Asked: what is liked, or put into a cart or bought, next, whatever came before it. Each of three
rounds has a seed of its own, and a cut of the ratings or a simulated world of its own. In each, the
last days of the training part choose the weights, by MRR@20, out of a few; every other setting is
the model's default but for `SETTINGS`. Full catalogue, ties against the model, at most the last 50
events shown.

- movielens_100k: real ratings with times. A rating of 4 or 5 counts as a purchase, any other as a
  view, and the next film rated 4 or 5 is asked for. Films of the visit are left out of the lists.
- simulated shop: a visitor looks for one of 60 kinds of things; half of the views have nothing to
  do with it, and nearly all carts and purchases do. The next cart or purchase is asked for.

`--ledger FILE` keeps every fit's figures, so a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.ledger import Ledger
from benchmarks.report import Row, data_folder, finish, sha256
from momentary.data import datasets
from momentary.data.sessions import SessionLog
from momentary.data.splits import Split, split_last_days
from momentary.data.vocabulary import Vocabulary
from momentary.evaluation import metrics
from momentary.evaluation.replay import Queries, ReplayConfig, next_item_queries, replay
from momentary.models.artifact import make
from momentary.types import EVENT_TYPES, Sessions

KINDS = (
    *("popularity", "item_knn", "sequential_rules", "slist", "vsknn", "vstan", "factorization"),
    *("gru4rec", "attentive_rnn"),
)
NETWORKS = ("gru4rec", "attentive_rnn")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "gru4rec": {"batch_size": 64, "n_sample": 256, "epochs": 4},
    "attentive_rnn": {"units": 64, "n_sample": 256, "epochs": 2},
}
_BOTH = ({}, *({"add_to_cart": each, "purchase": each} for each in (3.0, 10.0)))
WEIGHTS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "movielens_100k": ({}, {"view_item": 0.0}, {"view_item": 0.3}),
    "simulated shop": _BOTH,
}
"""What networks choose from; the first is without weights."""
MORE_WEIGHTS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "movielens_100k": tuple({"view_item": each} for each in (0.1, 0.6, 2.0)),
    "simulated shop": (
        *({"add_to_cart": each, "purchase": each} for each in (0.3, 30.0)),
        {"add_to_cart": 3.0, "purchase": 10.0},
        {"view_item": 0.0},
    ),
}
"""What the others choose from, too."""
TARGETS = {"movielens_100k": ("purchase",), "simulated shop": ("add_to_cart", "purchase")}
DAYS = {"movielens_100k": 14.0, "simulated shop": 8.0}
VIEW, CART, BUY = (EVENT_TYPES.index(name) for name in ("view_item", "add_to_cart", "purchase"))
KINDS_OF_THINGS, OF_A_KIND = 60, 25
DAY_US = 86_400_000_000


def films(number: int) -> SessionLog:
    """MovieLens 100k, what was liked as purchases, without the last days in later rounds."""
    table = datasets.load("movielens_100k", data=data_folder()).events
    liked = pc.greater_equal(table["value"], 4.0)
    types = pc.if_else(liked, "purchase", "view_item")
    at = table.schema.get_field_index("event_type")
    log = datasets.sessions_of(table.set_column(at, "event_type", pa.array(types.to_pylist())))
    ends = log.sessions.last_times_us
    cut_us = ends.max() - number * DAYS["movielens_100k"] * DAY_US
    return log.take(np.flatnonzero(ends <= cut_us))


def shop(number: int, *, visits: int = 12_000) -> SessionLog:
    """Visits to a shop over eighty days; simulated."""
    rng = np.random.default_rng(number)
    n_items = KINDS_OF_THINGS * OF_A_KIND
    fame = 1 / np.arange(1, OF_A_KIND + 1) ** 0.7
    fame /= fame.sum()
    rows, times, types = [], [], []
    for visit in range(visits):
        wanted = int(rng.integers(KINDS_OF_THINGS))
        length = int(rng.integers(3, 11))
        serious = rng.random(length) < 0.5
        kinds = np.where(serious, wanted, rng.integers(KINDS_OF_THINGS, size=length))
        rows.append(kinds * OF_A_KIND + rng.choice(OF_A_KIND, size=length, p=fame))
        drawn = rng.random(length)
        bought = drawn < np.where(serious, 0.12, 0.005)
        carted = drawn < np.where(serious, 0.4, 0.02)
        types.append(np.where(bought, BUY, np.where(carted, CART, VIEW)))
        times.append(int(visit / visits * 80 * DAY_US) + np.arange(length) * 30_000_000)
    return SessionLog(
        sessions=Sessions.from_lists(rows, times_us=times, types=types),
        items=Vocabulary(str(item) for item in range(n_items)),
        visitors=Vocabulary([]),
    )


LOGS: Mapping[str, Callable[[int], SessionLog]] = {
    "simulated shop": shop,
    "movielens_100k": films,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Recall@20 and MRR@20 on the test of one round, without weights and with the chosen ones."""

    kind: str
    weights: Mapping[str, float]
    plain: tuple[float, float]
    chosen: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is learned and what is asked."""

    split: Split
    asked: Queries


def part_of(log: SessionLog, data: str) -> Part:
    """The last days are asked about."""
    split = split_last_days(log, DAYS[data], min_item_events=5)
    asked = next_item_queries(split.test.sessions, max_history=50, target_types=TARGETS[data])
    return Part(split=split, asked=asked)


def quality(kind: str, weights: Mapping[str, float], part: Part, *, seed: int, data: str) -> Any:  # noqa: ANN401
    """Recall@20 and MRR@20."""
    model = make(kind, {**SETTINGS.get(kind, {}), "event_weights": weights})
    n_items = len(part.split.train.items)
    model.fit(part.split.train.sessions, n_items=n_items, rng=np.random.default_rng(seed))
    config = ReplayConfig(cutoffs=(20,), keep_lists=0, exclude_history=data == "movielens_100k")
    found = replay(model, part.asked, config=config)
    return [
        float(measure(found.ranks, found.target_offsets, k=20).mean())
        for measure in (metrics.recall, metrics.mrr)
    ]


def round_of(data: str, number: int, *, kinds: Sequence[str], ledger: Ledger) -> list[Found]:
    """Each model without weights, and with those that validation chose, in one round."""
    test = part_of(LOGS[data](number), data)
    validation = part_of(test.split.train, data)
    print(data, len(validation.asked), "questions decide,", len(test.asked), "judge", flush=True)
    found = []
    for kind in kinds:
        tried = WEIGHTS[data] if kind in NETWORKS else (*WEIGHTS[data], *MORE_WEIGHTS[data])

        def figures(
            part: Part, weights: Mapping[str, float], *, kind: str = kind
        ) -> tuple[float, float]:
            where = "test" if part is test else "validation"
            name = f"{data} {number}, {where}, {kind} {SETTINGS.get(kind, {})}, {weights}"
            recall, mrr = ledger.of(
                name, lambda: quality(kind, weights, part, seed=number, data=data)
            )
            return recall, mrr

        decided = [figures(validation, weights) for weights in tried]
        best = tried[int(np.argmax([mrr for _, mrr in decided]))]
        plain, chosen = (figures(test, weights) for weights in ({}, best))
        print(data, number, kind, np.round(decided, 4).tolist(), flush=True)
        print(data, number, kind, "test", np.round(plain, 4), best, np.round(chosen, 4), flush=True)
        found.append(Found(kind=kind, weights=best, plain=plain, chosen=chosen))
    return found


def rows_of(data: str, rounds: Sequence[Sequence[Found]]) -> list[Row]:
    """The means over the rounds; the spread is of what weights gain."""
    rows = []
    for found in zip(*rounds, strict=True):
        chosen = "; ".join(str(dict(each.weights)) if each.weights else "none" for each in found)
        for place, name in enumerate(("recall@20", "mrr@20")):
            plain, weighed = (
                np.array([each[place] for each in figures])
                for figures in ([e.plain for e in found], [e.chosen for e in found])
            )
            rows.append(
                Row(
                    what=f"{data}: {name}, {found[0].kind}, weights {chosen}",
                    value=float(weighed.mean()),
                    spread=float(np.ptp(weighed - plain)),
                    peer="the same without weights",
                    peer_value=float(plain.mean()),
                )
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path, help="where each fit's figures are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    ledger, rows = Ledger(options.ledger), list[Row]()
    for data in LOGS:
        rounds = [
            round_of(data, number, kinds=options.models, ledger=ledger)
            for number in range(options.rounds)
        ]
        rows += rows_of(data, rounds)
    file = data_folder() / "movielens_multimodal" / "ml100k_ratings.parquet"
    digests = {"movielens_100k": sha256(file), "simulated shop": "simulated"}
    whole = options.rounds >= 3 and options.models == list(KINDS)
    finish("event_weights", rows, data=digests, seeds=range(options.rounds), whole=whole)


if __name__ == "__main__":
    main()
