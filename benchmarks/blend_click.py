"""One click through a whole blend: CPU milliseconds from a visit to the scores of all items.

The blend is that of `examples/hybrid_diginetica.toml` with its 43 thousand items. What costs time
at a click is there in full: the counts of all training sessions, the networks' width, the stack.
What costs time only in training is cut short: the networks take a few steps, the stack learns from
few questions; so nothing here says how good the answers are (`benchmarks.sessions` does).

Clicks come one at a time, on visits of the test part. The row says what the quietest of several
rounds took, on average over the visits, since other work on the machine slows down whatever reads
much memory; the median round stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.report import Row, data_folder, finish, sha256
from benchmarks.sessions import EXAMPLES
from momentary.data import datasets
from momentary.data.splits import split_at
from momentary.evaluation.replay import next_item_queries
from momentary.evaluation.tuning import read_settings
from momentary.models.artifact import make
from momentary.models.hybrid import FittedPart, Hybrid, HybridConfig, Part
from momentary.models.protocol import Quick
from momentary.types import Sessions

TARGET_MS = 3.0
VISITS, ROUNDS = 150, 9
SHORT = {"attentive_rnn": {"epochs": 1, "n_sample": 64, "likely": 8}, "gru4rec": {"epochs": 1}}


def short(config: HybridConfig) -> HybridConfig:
    """The same blend, trained as little as can be."""
    parts = tuple(
        Part(
            kind=part.kind,
            settings={**part.settings, **SHORT.get(part.kind, {})},
            scale=part.scale,
            candidates=part.candidates,
        )
        for part in config.parts
    )
    stack = replace(config.stack, epochs=1, max_questions=1_500)
    return replace(config, parts=parts, holdout=0.01, stack=stack)


def rounds_of(ask: Callable[[Sessions], object], visits: list[Sessions]) -> np.ndarray:
    """CPU milliseconds a visit, round by round. Shape (rounds,)."""
    for visit in visits[:20]:
        ask(visit)
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for visit in visits:
            ask(visit)
        spent.append((time.process_time() - began) * 1e3 / len(visits))
    return np.array(spent)


def alone(part: FittedPart) -> Callable[[Sessions], object]:
    """How the blend asks a part."""
    scorer = part.scorer
    if isinstance(scorer, Quick):
        return lambda visit: scorer.score_visit(visit.items, exact=part.part.candidates)
    return scorer.score


def main() -> None:
    """Run the benchmark."""
    dataset = datasets.load("diginetica", data=data_folder())
    if dataset.cut_us is None:
        raise SystemExit("diginetica has no customary test part.")
    split = split_at(dataset.sessions(), dataset.cut_us)
    settings = read_settings(EXAMPLES / "hybrid_diginetica.toml")["hybrid"]
    model = make("hybrid", settings)
    if not isinstance(model, Hybrid):
        raise SystemExit("examples/hybrid_diginetica.toml is no blend.")
    model = Hybrid(short(model.config))
    n_items = len(split.train.items)
    model.fit(split.train.sessions, n_items=n_items, rng=np.random.default_rng(0))
    queries = next_item_queries(split.test.sessions).history
    chosen = np.random.default_rng(1).integers(len(queries), size=VISITS)
    visits = [queries.take(np.array([row])) for row in chosen]
    whole = rounds_of(model.score, visits)
    what = f"diginetica, {n_items:,} items, {len(model.config.parts)} parts:"
    rows = [
        Row(
            what=f"{what} a click through the blend",
            value=float(whole.min()),
            unit="CPU-ms",
            target=TARGET_MS,
            better="lower",
        ),
        Row(
            what=f"{what} the same, median round",
            value=float(np.median(whole)),
            unit="CPU-ms",
            better="lower",
        ),
    ]
    for part in model.fitted_parts():
        numbered = [
            Sessions(
                items=part.number[visit.items],
                offsets=visit.offsets,
                times_us=visit.times_us,
                users=visit.users,
            )
            for visit in visits
        ]
        spent = rounds_of(alone(part), numbered)
        rows.append(
            Row(
                what=f"{what} of this, {part.part.kind}",
                value=float(spent.min()),
                unit="CPU-ms",
                better="lower",
            )
        )
    digest = sha256(data_folder() / "diginetica" / "events.parquet")
    finish("blend_click", rows, data={"diginetica": digest}, seeds=[0])


if __name__ == "__main__":
    main()
