"""Does content help the blend? The blend with and without it, on the questions of session_features.

The sets, their content (TF-IDF of plots and genres, or of titles), the split and the questions are
those of `benchmarks.session_features`; nothing of the content comes from behaviour. The blend has
its default settings but for `holdout`, which the last days of the training part choose, for the
blend with content and for the one without. "Rare" are the questions whose answer has fewer events
in the training part than the median item.

Peers are the best p-RNN and GRU4Rec of `benchmarks/results/session_features.json`, on the same
questions. A click is one visit through the whole blend, the quietest of several rounds.

`--ledger FILE` keeps every fit's figures, so a run that was interrupted goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.blend_click import TARGET_MS, rounds_of
from benchmarks.ledger import Ledger
from benchmarks.report import RESULTS, Row, data_folder, finish_part, sha256
from benchmarks.seeded import Figures, asked_for, figures
from benchmarks.session_features import (
    FILES,
    TEST_DAYS,
    TRAIN_DAYS,
    content_of,
    questions,
    ranks_of,
    recent,
)
from momentary.data import datasets
from momentary.data.splits import Split, split_last_days
from momentary.evaluation.replay import Queries
from momentary.models.content_knn import ContentKNN
from momentary.models.hybrid import Hybrid, HybridConfig
from momentary.types import FloatArray, Sessions

HOLDOUTS = (0.1, 0.2)
BLENDS = {"blend without content": False, "blend with content": True}
CLICKS = 100


def blend(holdout: float, content: FloatArray | None) -> Hybrid:
    """The blend of the default settings, told of content or not."""
    return Hybrid(
        HybridConfig(holdout=holdout), features=None if content is None else {"text": content}
    )


def measured(
    model: Hybrid | ContentKNN, sessions: Sessions, asked: Queries, *, n_items: int, seed: int
) -> dict[str, dict[str, float]]:
    """Fit and ask; accuracy by part of the questions, and what a click through the blend costs."""
    model.fit(sessions, n_items=n_items, rng=np.random.default_rng(seed))
    counts = np.bincount(sessions.items, minlength=n_items)
    ranks = ranks_of(model, asked)
    found = {
        "all": figures(ranks, np.ones(len(asked), dtype=np.bool_)),
        "rare": figures(ranks, counts[asked.target_items] < np.median(counts)),
    }
    if isinstance(model, Hybrid):
        rows = np.random.default_rng(1).integers(len(asked.history), size=CLICKS)
        visits = [asked.history.take(np.array([row])) for row in rows]
        found["click"] = {"CPU-ms": float(rounds_of(model.score, visits).min())}
    return found


def chosen_holdout(
    label: str, split: Split, content: FloatArray, *, days: float, ledger: Ledger
) -> float:
    """The holdout with the best MRR@20 on the last days of the training part."""
    inner = split_last_days(split.train, days)
    vectors = content[split.train.items.indices(inner.train.items.ids)]
    asked = questions(inner, sessions=200)
    found = {}
    for holdout in HOLDOUTS:

        def measure(holdout: float = holdout) -> dict[str, dict[str, float]]:
            model = blend(holdout, vectors if BLENDS[label] else None)
            return measured(model, inner.train.sessions, asked, n_items=len(vectors), seed=0)

        found[holdout] = ledger.of(f"validation {len(asked)} {label} holdout {holdout}", measure)
    print("  validation", label, found, flush=True)
    return max(found, key=lambda each: found[each]["all"]["mrr@20"])


def run(name: str, *, quick: bool, seeds: list[int], ledger: Ledger) -> list[Row]:
    """The blend with and without content on one set."""
    dataset = datasets.load(name, data=data_folder())
    days = TEST_DAYS[name]
    log = recent(dataset.sessions(), TRAIN_DAYS[name] + days)
    split = split_last_days(log, days, min_item_events=5)
    train, n_items = split.train.sessions, len(split.train.items)
    content = content_of(dataset, split.train.items.ids)
    asked = questions(split, sessions=100 if quick else 1000)
    print(f"{name}: {len(train.items):,} training events, {len(asked):,} questions", flush=True)
    runs: dict[str, list[Figures]] = {"content_knn": []}
    for seed in seeds:

        def alone(seed: int = seed) -> dict[str, dict[str, float]]:
            model = ContentKNN(features={"text": content})
            return measured(model, train, asked, n_items=n_items, seed=seed)

        runs["content_knn"].append(ledger.of(f"{name} {len(asked)} content {seed}", alone))
    for label, told in BLENDS.items():
        holdout = HOLDOUTS[0]
        if not quick:
            holdout = chosen_holdout(label, split, content, days=days / 2, ledger=ledger)
        runs[label] = []
        for seed in seeds:

            def measure(
                seed: int = seed, *, holdout: float = holdout, told: bool = told
            ) -> dict[str, dict[str, float]]:
                model = blend(holdout, content if told else None)
                return measured(model, train, asked, n_items=n_items, seed=seed)

            entry = f"{name} {len(asked)} {label} holdout {holdout} seed {seed}"
            runs[label].append(ledger.of(entry, measure))
            print(f"  {label} seed {seed}", runs[label][-1], flush=True)
    peers = {} if quick else peers_of(name)
    return [row for label in runs for row in rows_of(name, label, runs[label], peers=peers)]


def peers_of(name: str) -> dict[str, tuple[str, float]]:
    """By metric, the best of what session_features measured on all questions, warm."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / "session_features.json").read_text())["rows"]
    found = {}
    for metric in ("recall@20", "mrr@20"):
        begins, ends = f"{name} warm, ", f", all, {metric}"
        best = max(
            (row for row in rows if row["what"].startswith(begins) and row["what"].endswith(ends)),
            key=lambda row: float(row["value"]),
        )
        found[metric] = (str(best["what"][len(begins) : -len(ends)]), float(best["value"]))
    return found


def rows_of(
    name: str, label: str, runs: list[Figures], *, peers: Mapping[str, tuple[str, float]]
) -> list[Row]:
    """Means over the seeds, by part of the questions."""
    rows = []
    for part, of_part in runs[0].items():
        for metric in of_part:
            values = np.array([each[part][metric] for each in runs])
            costs = part == "click"
            peer, theirs = peers.get(metric, ("", None)) if part == "all" else ("", None)
            rows.append(
                Row(
                    what=f"{name}, {label}, {'a click' if costs else f'{part}, {metric}'}",
                    value=float(values.min() if costs else values.mean()),
                    unit=metric if costs else "",
                    target=TARGET_MS if costs else None,
                    better="lower" if costs else "higher",
                    peer=peer,
                    peer_value=theirs,
                    spread=float(np.ptp(values)) if len(values) > 1 else None,
                )
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    options = asked_for(__doc__, FILES, quick="one seed, few questions; no file")
    seeds = options.seeds
    ledger = Ledger(options.ledger)
    for name in options.data:
        rows = run(name, quick=options.quick, seeds=seeds, ledger=ledger)
        finish_part(
            "session_content_blend",
            name,
            rows,
            data={name: sha256(data_folder() / FILES[name])},
            seeds=seeds,
            whole=len(seeds) >= 3 and not options.quick,
        )


if __name__ == "__main__":
    main()
