"""The guided tour: two thousand households' real groceries, from import to a trained model.

Everything it does can be done with the other commands; it says so as it goes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from momentary.data import datasets
from momentary.data.doctor import examine, render
from momentary.data.importer import import_table
from momentary.data.sessions import SessionLog, keep_items, workspace_sessions
from momentary.data.splits import Split, split_at
from momentary.data.workspace import Workspace
from momentary.evaluation.leaderboard import Leaderboard
from momentary.evaluation.trials import TASKS, Task, TrialConfig, run_trial
from momentary.models.artifact import ModelStore, make
from momentary.models.promotion import promote
from momentary.models.training import train
from momentary.moments.promotions import promotion_effects
from momentary.moments.report import summary, write_report
from momentary.moments.results import write_table
from momentary.recommend.assembly import assemble
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.types import Progress, Sessions

_WEEK_US = 7 * 86_400_000_000
_TEST_WEEKS = 2
_TRAIN_WEEKS = 13
_MIN_ITEM_EVENTS = 10
_TITLES: Mapping[Task, str] = {"completion": "Basket completion", "next_basket": "Next basket"}

# Defaults, or chosen from a handful of trials on the two weeks before the test weeks, which no
# figure below comes from; GRU4Rec's epochs by the time that a demo may take. A basket has no order,
# so what fades with the distance from the last click is switched off.
MODELS: Mapping[str, Mapping[str, Any]] = {
    "popularity": {},
    "personal_popularity": {},
    "item_knn": {"decay": 1.0},
    "sequential_rules": {},
    "vsknn": {"weighting": "same", "match_weighting": "same"},
    "vstan": {
        "recency_days": math.inf,
        "position_decay": 100.0,
        "match_decay": 100.0,
        "distance_decay": 100.0,
    },
    "factorization": {"decay": 1.0, "alpha": 1.0, "regularization": 10.0},
    "gru4rec": {"batch_size": 256, "n_sample": 512, "epochs": 2},
}


def run_demo(
    home: Path,
    *,
    console: Console,
    bar: Callable[[str], Progress],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Import, look, compare and train; leaves a workspace that can be served.

    Args:
        home: Folder to work in; running again in the same folder imports nothing twice.
        console: Where the story is told.
        bar: Given a few words, gives a `Progress`.
        clock: Seconds, for the time it took.

    Raises:
        DataError: If the data package is not installed; the message says how to install it.
    """
    began = clock()
    console.rule("[bold]1. Look at the data")
    raw = datasets.complete_journey_folder() / "transactions.parquet"
    console.print(render(examine(raw)))

    console.rule("[bold]2. Import it")
    with Workspace.open(home, create=True) as workspace:
        _import(workspace, console=console, bar=bar)

        console.rule("[bold]3. Compare models: learn from the past, ask about the future")
        log = workspace_sessions(workspace)
        split = _split(log)
        boards = _compare(split, console=console, bar=bar)
        board = home / "leaderboard.png"
        boards["completion"].plot(board)
        console.print(_verdict(boards, split))
        console.print(f"Drawn in {board}; {clock() - began:.0f} s so far.", soft_wrap=True)

        console.rule("[bold]4. Train the first of them on all that is known, and promote it")
        winner = boards["completion"].rows[0].model
        recent = _since(log, int(log.sessions.times_us.max()) - _TRAIN_WEEKS * _WEEK_US)
        bundle = train(
            keep_items(recent, min_events=_MIN_ITEM_EVENTS),
            make(winner, MODELS[winner]),
            rng=np.random.default_rng(0),
            progress=bar(f"train {winner}"),
        )
        store = ModelStore(workspace.models)
        version = store.add(bundle, now=datetime.now(UTC))
        promote(store, version, workspace.model_aliases)
        console.print(f"[bold]{version}[/] answers from now on.")
        recommender = assemble(bundle, workspace.catalog.table(bundle.items.ids), noun="basket")
        basket = _show(recommender, split, console=console)
    console.rule("[bold]5. The moments of truth: do displays and mailers sell?")
    _promotions(home, console=console, bar=bar)
    console.print(
        f"Done in {clock() - began:.0f} s. The workspace is {home}; try:\n"
        f"  momentary recommend {' '.join(basket)} --home {home} "
        "--rules '{\"exclude_seen\": true}'\n"
        f"  momentary similar {basket[0]} --home {home}\n"
        f"  momentary serve --home {home}",
        soft_wrap=True,
        highlight=False,
    )


def _import(workspace: Workspace, *, console: Console, bar: Callable[[str], Progress]) -> None:
    dataset = datasets.load("complete_journey")
    for kind, table in (("events", dataset.events), ("items", dataset.items)):
        report = import_table(
            workspace, table, kind=kind, source=dataset.name, progress=bar(f"import {kind}")
        )
        new = report.events_added + report.items_added
        console.print(
            f"{kind}: {new:,} added, {report.rows - new:,} were there already "
            f"({report.seconds:.1f} s)"
        )


def _split(log: SessionLog) -> Split:
    cut_us = int(log.sessions.times_us.max()) - _TEST_WEEKS * _WEEK_US
    recent = _since(log, cut_us - _TRAIN_WEEKS * _WEEK_US)
    return split_at(recent, cut_us, min_item_events=_MIN_ITEM_EVENTS)


def _since(log: SessionLog, time_us: int) -> SessionLog:
    begins = log.sessions.times_us[log.sessions.offsets[:-1]]
    return log.take(np.flatnonzero(begins > time_us))


def _compare(
    split: Split, *, console: Console, bar: Callable[[str], Progress]
) -> Mapping[Task, Leaderboard]:
    trial = run_trial(
        split,
        {kind: make(kind, settings) for kind, settings in MODELS.items()},
        config=TrialConfig(tasks=("completion", "next_basket"), max_queries=2_000),
        progress=bar,
    )
    for task, board in trial.boards.items():
        console.print(f"\n[bold]{_TITLES[task]}[/]: {TASKS[task]}")
        console.print(board.render(wide=console.width >= 120))
    return trial.boards


def _verdict(boards: Mapping[Task, Leaderboard], split: Split) -> Panel:
    lines = [
        f"The models learned from {len(split.train.sessions):,} baskets of {_TRAIN_WEEKS} weeks "
        f"and were asked about the {_TEST_WEEKS} weeks after them. Items with fewer than "
        f"{_MIN_ITEM_EVENTS} purchases are left out: {split.audit.unknown_items:,} purchases of "
        "the test weeks, which no model here could know.",
        "Recall@20 is the share of the wanted items that stand among the first 20 of "
        f"{len(split.train.items):,}. The interval is where it would fall with other customers.",
        "No model is tuned to the end: some got a few trials on earlier weeks, others have their "
        "defaults, and gru4rec makes only two passes over the baskets, to keep the demo short.",
    ]
    for task, board in boards.items():
        best = board.rows[0]
        recall = best.metrics[board.headline]
        lines.append(
            f"[bold]{_TITLES[task]}[/]: {escape(best.verdict)}. "
            f"Of the items it had to find it put {100 * recall.value:.0f} in 100 on its first 20; "
            f"20 items drawn at random would hold {100 * 20 / board.n_items:.1f}."
        )
    return Panel("\n\n".join(lines), title="What this means")


def _show(recommender: Recommender, split: Split, *, console: Console) -> list[str]:
    """Print what the model adds to a basket, and return the basket."""
    table = recommender.table
    names = dict(zip(recommender.items.ids, table.names, strict=True))
    kinds = dict(zip(recommender.items.ids, table.attributes["category"], strict=True))
    basket = _example(split, kinds)
    session = Sessions.from_lists([recommender.items.indices(basket)])
    rules = Rules(exclude_seen=True, max_per={"category": 1})
    found = recommender.recommend(session, k=5, rules=rules)[0]
    lines = ["[bold]In the basket[/]", *(escape(names[item] or item) for item in basket)]
    lines += ["", "[bold]What else?[/] (one of a category at most)"]
    for each in found:
        lines.append(f"{each.rank}. {escape(names[each.item_id] or each.item_id)}")
        lines.append(f"   [dim]{escape('; '.join(each.reasons))}[/]")
    console.print(Panel("\n".join(lines)))
    return basket


def _promotions(home: Path, *, console: Console, bar: Callable[[str], Progress]) -> None:
    table = promotion_effects(datasets.complete_journey_folder(), progress=bar("promotions"))
    page = home / "promotions.html"
    write_report(table, page)
    write_table(table, page.with_suffix(".json"))
    said = summary(table)
    # The warnings belong to the numbers: a reader who sees only these lines must see them, too.
    for line in (said[0], said[-1], *table.warnings):
        console.print(f"- {escape(line)}", soft_wrap=True)
    console.print(f"The whole report is the page {page}", soft_wrap=True)


def _example(split: Split, kinds: Mapping[str, str | None]) -> list[str]:
    """Three items of different kinds out of the first test basket that has them."""
    for row in range(len(split.test.sessions)):
        ids = [split.test.items.ids[item] for item in split.test.sessions.session(row).tolist()]
        chosen = {kinds[each]: each for each in ids if kinds.get(each)}
        if len(chosen) >= 3:
            return list(chosen.values())[:3]
    return [each for each in split.test.items.ids if each in kinds][:3]
