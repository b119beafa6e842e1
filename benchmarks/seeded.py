"""What benchmarks over sets and seeds share: how they are asked, and how their fits are told."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import Row
from momentary.evaluation import metrics
from momentary.types import BoolArray, IntArray

Figures = Mapping[str, Mapping[str, float]]
"""Of one fit: by part of the questions, metric to value."""


def asked_for(description: str | None, sets: Iterable[str], *, quick: str) -> argparse.Namespace:
    """The sets, seeds, ledger and size that a command line names; a quick run takes one seed.

    Args:
        description: Of the benchmark.
        sets: Names of the data sets that there are; all of them are the default.
        quick: What a quick run leaves out.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", nargs="+", default=list(sets), choices=list(sets))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ledger", type=Path, help="where the figures of every fit are kept")
    parser.add_argument("--quick", action="store_true", help=quick)
    options = parser.parse_args()
    if options.quick:
        options.seeds = options.seeds[:1]
    return options


def figures(ranks: IntArray, rows: BoolArray) -> dict[str, float]:
    """Recall and MRR over some of the questions. Shapes (questions,)."""
    chosen = ranks[rows]
    offsets = np.arange(len(chosen) + 1)
    return {
        "recall@20": float(metrics.recall(chosen, offsets, k=20).mean()),
        "mrr@20": float(metrics.mrr(chosen, offsets, k=20).mean()),
    }


def rows_of(what: str, runs: Sequence[Figures]) -> list[Row]:
    """Means over the seeds, by the part of the questions."""
    rows = []
    for part, found in runs[0].items():
        for metric in found:
            values = np.array([each[part][metric] for each in runs])
            spread = float(np.ptp(values)) if len(values) > 1 else None
            named = f"{what}, {part}, {metric}"
            rows.append(Row(what=named, value=float(values.mean()), spread=spread))
    return rows
