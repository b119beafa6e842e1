"""One click through a whole blend: CPU milliseconds from a visit to the scores of all items.

The blend is that of `examples/hybrid_diginetica.toml` with its 43 thousand items. What costs time
at a click is there in full: the counts of all training sessions, the networks' width, the stack.
What costs time only in training is cut short: the networks take a few steps, the stack learns from
few questions; so nothing here says how good the answers are (`benchmarks.sessions` does).

The blend is asked as it is, and once more when it is told what items are like. The set has no
content, so that is simulated: vectors of the width of the text and image encoders, around some
hundred middles. What a click costs does not hang on what they say.

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
from momentary.types import FloatArray, Sessions

TARGET_MS = 3.0
ENCODERS = {"text": 384, "image": 1280}  # widths of their vectors
KINDS = 300
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


def simulated_content(n_items: int) -> dict[str, FloatArray]:
    """Vectors of made-up items of some kinds, by encoder. Shapes (items, width)."""
    rng = np.random.default_rng(2)
    of = rng.integers(KINDS, size=n_items)
    found = {}
    for name, width in ENCODERS.items():
        middles = rng.standard_normal((KINDS, width), dtype=np.float32)
        found[name] = middles[of] + 0.7 * rng.standard_normal((n_items, width), dtype=np.float32)
    return found


def rows_of(model: Hybrid, visits: list[Sessions], *, told: str) -> list[Row]:
    """What a click costs, whole and by part."""
    whole = rounds_of(model.score, visits)
    parts = model.fitted_parts()
    what = f"diginetica, {len(parts[0].number):,} items, {len(parts)} parts{told}:"
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
    for part in parts:
        numbered = [replace(visit, items=part.number[visit.items]) for visit in visits]
        spent = rounds_of(alone(part), numbered)
        rows.append(
            Row(
                what=f"{what} of this, {part.part.kind}",
                value=float(spent.min()),
                unit="CPU-ms",
                better="lower",
            )
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    dataset = datasets.load("diginetica", data=data_folder())
    if dataset.cut_us is None:
        raise SystemExit("diginetica has no customary test part.")
    split = split_at(dataset.sessions(), dataset.cut_us)
    settings = read_settings(EXAMPLES / "hybrid_diginetica.toml")["hybrid"]
    given = make("hybrid", settings)
    if not isinstance(given, Hybrid):
        raise SystemExit("examples/hybrid_diginetica.toml is no blend.")
    n_items = len(split.train.items)
    queries = next_item_queries(split.test.sessions).history
    chosen = np.random.default_rng(1).integers(len(queries), size=VISITS)
    visits = [queries.take(np.array([row])) for row in chosen]
    rows = []
    for told, content in (("", None), (" and content", simulated_content(n_items))):
        model = Hybrid(short(given.config), features=content)
        model.fit(split.train.sessions, n_items=n_items, rng=np.random.default_rng(0))
        rows += rows_of(model, visits, told=told)
    digest = sha256(data_folder() / "diginetica" / "events.parquet")
    finish("blend_click", rows, data={"diginetica": digest}, seeds=[0])


if __name__ == "__main__":
    main()
