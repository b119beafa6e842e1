"""The same recipe on sets that nobody tuned by hand: every setting is what `tune` chose.

GRU4Rec, session kNN (VSTAN) and the attentive RNN get equally many trials each, judged by MRR@20 on
the last days of the training part; the first trial of each is the model's own defaults. The blend
is the recipe's last step and chooses nothing: the tuned attentive RNN and the tuned VSTAN with item
kNN, rules and popularity, as they are by default, under the default stack. Then all are fitted on
the whole training part and ranked once on the test: next items, full catalogue, ties against the
model, at most the last 50 events shown.

    python -m benchmarks.session_tuned --work FOLDER

FOLDER keeps trials and tests, so a run that was interrupted goes on, and parts of it (`--models`,
`--search`) can be run one by one. `--kept` takes the settings
that stand in examples/tuned_NAME.toml instead of searching.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ledger import Ledger
from benchmarks.report import ROOT, Row, data_folder, finish, sha256
from momentary.data import datasets
from momentary.data.sessions import SessionLog
from momentary.data.splits import Split, split_at, split_last_days
from momentary.evaluation import metrics
from momentary.evaluation.replay import Queries, ReplayConfig, replay
from momentary.evaluation.trials import TrialConfig, queries_of
from momentary.evaluation.tuning import TuneConfig, read_settings, tune
from momentary.models.artifact import make

DAY_US = 86_400_000_000
TUNED = ("gru4rec", "vstan", "attentive_rnn")
RIVALS = ("gru4rec", "vstan")
BLEND = "hybrid"
SEEDLESS = ("vstan",)
"""Chance decides nothing in these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is taken of a set.

    Attributes:
        train_days: The last so many days before the cut, None for all.
        validation_days: The last of those decide in the search.
        max_queries: Most questions on the test, drawn at random; None asks all.
        min_item_events: Items with fewer training events are left out.
    """

    train_days: float | None
    validation_days: float
    max_queries: int | None
    min_item_events: int = 1


PLANS = {
    "rsc15_100k": Plan(train_days=3, validation_days=0.75, max_queries=None),
    "online_retail": Plan(train_days=12, validation_days=3, max_queries=8_000, min_item_events=5),
}


def parts_of(name: str) -> Split:
    """Training and test part of a set."""
    plan, dataset = PLANS[name], datasets.load(name, data=data_folder())
    if dataset.cut_us is None:
        raise ValueError(f"{name} has no cut; it cannot be split here.")
    log = dataset.sessions()
    if plan.train_days is not None:
        log = since(log, dataset.cut_us - int(plan.train_days * DAY_US))
    return split_at(log, dataset.cut_us, min_item_events=plan.min_item_events)


def since(log: SessionLog, start_us: int) -> SessionLog:
    """The sessions that ended at `start_us` or later."""
    return log.take(np.flatnonzero(log.sessions.last_times_us >= start_us))


def chosen(
    name: str, split: Split, kinds: Sequence[str], *, work: Path, trials: int, write: bool
) -> dict[str, Any]:
    """The settings that the search finds on the training part, by model."""
    plan = PLANS[name]
    inner = split_last_days(split.train, plan.validation_days, min_item_events=plan.min_item_events)
    config = TuneConfig(trials=trials, max_queries=4_000)
    found, pages = {}, []
    for kind in kinds:
        began = time.process_time()

        def tell(done: int, total: int, note: str = "", *, kind: str = kind) -> None:
            print(f"  {name} {kind}: trial {done} of {total}, {note}", flush=True)

        best = tune(kind, inner, journal=work / f"{name}.sqlite", config=config, progress=tell)
        spent = time.process_time() - began
        print(f"  {name} {kind}: {best.metrics} in {spent:.0f} CPU-s {best.settings}", flush=True)
        found[kind] = dict(best.settings)
        pages.append(best.to_toml())
    if write and set(kinds) == set(TUNED):
        (ROOT / "examples" / f"tuned_{name}.toml").write_text("\n".join(pages), encoding="utf-8")
    return found


def recipe(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The blend of what was tuned with counted models, everything else by default."""
    return {
        "parts": [
            {"kind": "attentive_rnn", "settings": dict(settings["attentive_rnn"])},
            {"kind": "vstan", "settings": dict(settings["vstan"])},
            {"kind": "item_knn"},
            {"kind": "sequential_rules", "candidates": 50},
            {"kind": "popularity", "candidates": 20},
        ]
    }


def tested(
    name: str,
    split: Split,
    settings: Mapping[str, Any],
    *,
    kinds: Sequence[str],
    seeds: list[int],
    work: Path,
) -> list[Row]:
    """Recall and MRR on the test, the better rival's beside each."""
    ledger = Ledger(work / f"{name}-tests.json")
    asking = TrialConfig(max_queries=PLANS[name].max_queries, max_history=50)
    asked = queries_of(split, "next_item", config=asking)
    found: dict[str, list[tuple[float, float]]] = {}
    for kind in kinds:
        given = recipe(settings) if kind == BLEND else settings[kind]
        found[kind] = []
        for seed in seeds[:1] if kind in SEEDLESS else seeds:
            entry = f"{kind} {seed} {json.dumps(given, default=str)}"
            figures = ledger.of(
                entry, partial(_figures, kind, given, split, asked=asked, seed=seed)
            )
            print(f"  {name} {kind} seed {seed}: {figures}", flush=True)
            found[kind].append((figures["recall@20"], figures["mrr@20"]))
    if not set(RIVALS) <= set(found):
        return []
    rows = []
    for place, metric in enumerate(("recall@20", "mrr@20")):
        means = {
            kind: float(np.mean([each[place] for each in runs])) for kind, runs in found.items()
        }
        best = max(RIVALS, key=lambda kind: means[kind])
        for kind, runs in found.items():
            values = [each[place] for each in runs]
            rows.append(
                Row(
                    what=f"{name} {kind} {metric}",
                    value=means[kind],
                    target=None if kind in RIVALS else means[best],
                    peer="" if kind in RIVALS else f"{best}, tuned alike",
                    peer_value=None if kind in RIVALS else means[best],
                    spread=float(np.ptp(values)) if len(values) > 1 else None,
                )
            )
    return rows


def _figures(
    kind: str, settings: Mapping[str, Any], split: Split, *, asked: Queries, seed: int
) -> dict[str, float]:
    began = time.process_time()
    model = make(kind, settings)
    rng = np.random.default_rng(seed)
    model.fit(split.train.sessions, n_items=len(split.train.items), rng=rng)
    spent = time.process_time() - began
    outcome = replay(model, asked, config=ReplayConfig(cutoffs=(20,), keep_lists=0))
    return {
        "recall@20": float(metrics.recall(outcome.ranks, outcome.target_offsets, k=20).mean()),
        "mrr@20": float(metrics.mrr(outcome.ranks, outcome.target_offsets, k=20).mean()),
        "fit_cpu_s": round(spent, 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--models", nargs="+", default=[*TUNED, BLEND], choices=[*TUNED, BLEND])
    parser.add_argument("--search", action="store_true", help="search only; the test waits")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--work", type=Path, help="where the trials are kept")
    parser.add_argument("--kept", action="store_true", help="take the settings of examples/")
    parser.add_argument("--write", action="store_true", help="write the settings to examples/")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for name in options.data:
            split = parts_of(name)
            print(
                f"{name}: {len(split.train.sessions.items):,} training events, "
                f"{len(split.train.items):,} items",
                flush=True,
            )
            if options.kept:
                settings = read_settings(ROOT / "examples" / f"tuned_{name}.toml")
            else:
                settings = chosen(
                    name,
                    split,
                    TUNED if BLEND in options.models else options.models,
                    work=work,
                    trials=options.trials,
                    write=options.write,
                )
            if not options.search:
                rows += tested(
                    name, split, settings, kinds=options.models, seeds=options.seeds, work=work
                )
    digests = {name: sha256(data_folder() / name / "events.parquet") for name in options.data}
    whole = (
        set(options.data) == set(PLANS)
        and set(options.models) == {*TUNED, BLEND}
        and len(options.seeds) >= 3
        and options.trials >= 6
        and not options.search
    )
    finish("session_tuned", rows, data=digests, seeds=options.seeds, whole=whole)


if __name__ == "__main__":
    main()
