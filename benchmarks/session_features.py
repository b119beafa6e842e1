"""Does content help a session model? p-RNN beside GRU4Rec, on warm items and on cold ones.

Warm: every next item of the test sessions. Cold: a tenth of the items is taken out of the training
part; "new" are the questions whose answer is one of them, "all" are all. Full catalogue, ties
against the model, at most the last 30 events shown. Content is TF-IDF of the catalogue's text
(online_retail: titles; movielens_100k: plots and genres), brought to 64 dimensions by a truncated
SVD; nothing of it comes from behaviour. Of each set the last days are taken (`TRAIN_DAYS`), so that
all fits take minutes. Learning rates are chosen on the last days of the training part.

`--ledger FILE` keeps every fit's figures, so a run that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from benchmarks.ledger import Ledger
from benchmarks.report import Row, data_folder, finish, sha256
from benchmarks.seeded import asked_for, figures, rows_of
from momentary.data import datasets
from momentary.data.sessions import SessionLog, renumber_items
from momentary.data.splits import Split, split_last_days
from momentary.encoders.words import word_vectors
from momentary.evaluation.replay import Queries, ReplayConfig, next_item_queries, replay
from momentary.models.artifact import make
from momentary.models.feature_rnn import FeatureRNN, FeatureRNNConfig
from momentary.types import BoolArray, FloatArray, IntArray, Sessions

DAY_US = 86_400_000_000
FILES = {
    "online_retail": "online_retail/events.parquet",
    "movielens_100k": "movielens_multimodal/ml100k_ratings.parquet",
}
TEST_DAYS = {"online_retail": 14.0, "movielens_100k": 20.0}
TRAIN_DAYS = {"online_retail": 18.0, "movielens_100k": 80.0}
NEURAL = {"batch_size": 64, "n_sample": 256, "epochs": 3}
RATES = (0.05, 0.1, 0.2)
QUICK_RATE = 0.1
RAISED = "p-RNN parallel, simultaneous, content output, item dropout, new items raised"
QUICK = (
    "gru4rec",
    "p-RNN parallel, simultaneous",
    "p-RNN parallel, residual",
    "p-RNN parallel, interleaving",
    "p-RNN parallel, interleaving, content output",
    "p-RNN parallel, simultaneous, content output",
    "p-RNN parallel, simultaneous, content output, item dropout",
)
MODELS: Mapping[str, Mapping[str, Any]] = {
    "gru4rec": {},
    "gru4rec, 200 units": {"units": (200,)},
    "p-RNN parallel, simultaneous": {"training": "simultaneous"},
    "p-RNN parallel, alternating": {"training": "alternating"},
    "p-RNN parallel, residual": {"training": "residual"},
    "p-RNN parallel, interleaving": {"training": "interleaving"},
    "p-RNN shared, interleaving": {"architecture": "shared"},
    "p-RNN interaction, interleaving": {"architecture": "interaction"},
    "p-RNN parallel, interleaving, content output": {"output": "content"},
    "p-RNN parallel, simultaneous, content output": {
        "output": "content",
        "training": "simultaneous",
    },
    "p-RNN parallel, simultaneous, content output, item dropout": {
        "output": "content",
        "training": "simultaneous",
        "dropout_items": 0.3,
    },
    RAISED: {
        "output": "content",
        "training": "simultaneous",
        "dropout_items": 0.3,
        "holdout_items": 0.1,
    },
}
COLD = tuple(label for label, settings in MODELS.items() if settings.get("output") == "content")


class Model(Protocol):
    """What is asked of anything here."""

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item. Shape (sessions, items)."""
        ...


class ContentNeighbours:
    """The items whose content is nearest to the mean of what the session holds."""

    def __init__(self, vectors: FloatArray) -> None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = vectors / np.where(lengths > 0, lengths, 1)

    def score(self, sessions: Sessions) -> FloatArray:
        """Cosine to the session's mean. Shape (sessions, items)."""
        means = np.stack(
            [self.vectors[sessions.session(row)].mean(axis=0) for row in range(len(sessions))]
        )
        scores: FloatArray = means @ self.vectors.T
        return scores


def content_of(dataset: datasets.Dataset, item_ids: tuple[str, ...]) -> FloatArray:
    """Text vectors in the order of the item indices."""
    table = dataset.items
    if table is None:
        raise ValueError(f"{dataset.name} has no catalogue to take texts from.")
    columns = [table[name].to_pylist() for name in ("name", "description", "category")]
    if dataset.name == "movielens_100k":
        columns = columns[1:]
    texts = {
        item_id: " ".join(part for part in parts if part)
        for item_id, *parts in zip(table["item_id"].to_pylist(), *columns, strict=True)
    }
    return word_vectors([texts.get(item_id, "") for item_id in item_ids])


def recent(log: SessionLog, days: float) -> SessionLog:
    """The sessions that ended in the last days."""
    last = log.sessions.last_times_us
    return log.take(np.flatnonzero(last > last.max() - days * DAY_US))


def questions(split: Split, *, sessions: int) -> Queries:
    """Questions about some sessions of the test part."""
    test = split.test.sessions
    rows = np.flatnonzero(test.lengths >= 2)
    if len(rows) > sessions:
        rows = np.sort(np.random.default_rng(0).choice(rows, sessions, replace=False))
    return next_item_queries(test.take(rows), max_history=30)


def without(sessions: Sessions, items: IntArray) -> Sessions:
    """The sessions as if these items had never been."""
    kept = np.arange(int(sessions.items.max()) + 1)
    kept[items] = -1
    return renumber_items(sessions, kept)


def ranks_of(model: Model, asked: Queries) -> IntArray:
    """Conservative rank of every answer."""
    return replay(model, asked, config=ReplayConfig(cutoffs=(20,), keep_lists=0)).ranks


def fitted_ranks(
    label: str,
    settings: Mapping[str, Any],
    sessions: Sessions,
    *,
    content: FloatArray,
    asked: Queries,
    seed: int,
) -> IntArray:
    """The rank of every answer, by a model of the table fitted on these sessions."""
    rng = np.random.default_rng(seed)
    if label.startswith("gru4rec"):
        model = make("gru4rec", settings)
    else:
        model = FeatureRNN(FeatureRNNConfig(**settings), features={"text": content})
    return ranks_of(model.fit(sessions, n_items=len(content), rng=rng), asked)


def chosen_rate(
    label: str, split: Split, content: FloatArray, *, days: float, ledger: Ledger
) -> float:
    """The learning rate with the best Recall@20 on the last days of the training part."""
    inner = split_last_days(split.train, days)
    vectors = content[split.train.items.indices(inner.train.items.ids)]
    asked = questions(inner, sessions=200)
    found = {}
    for rate in RATES:
        settings = {**NEURAL, "learning_rate": rate}

        def recall(settings: Mapping[str, Any] = settings) -> float:
            ranks = fitted_ranks(
                label, settings, inner.train.sessions, content=vectors, asked=asked, seed=0
            )
            return float((ranks <= 20).mean())

        found[rate] = ledger.of(f"validation {len(asked)} {label} {settings}", recall)
    print("  validation", label, found, flush=True)
    return max(found, key=found.__getitem__)


def run(name: str, *, quick: bool, seeds: list[int], ledger: Ledger) -> list[Row]:
    """All models on one set."""
    dataset = datasets.load(name, data=data_folder())
    days = TEST_DAYS[name]
    log = recent(dataset.sessions(), TRAIN_DAYS[name] + days)
    split = split_last_days(log, days, min_item_events=5)
    train, n_items = split.train.sessions, len(split.train.items)
    content = content_of(dataset, split.train.items.ids)
    asked = questions(split, sessions=200 if quick else 1000)
    print(
        f"{name}: {len(train.items):,} training events, {n_items:,} items, {len(asked):,} "
        f"questions, {(content != 0).any(axis=1).mean():.0%} of the items have text",
        flush=True,
    )
    rates = {
        label: QUICK_RATE
        if quick
        else chosen_rate(label, split, content, days=days / 2, ledger=ledger)
        for label in ("gru4rec", "p-RNN")
    }
    chosen = [label for label in MODELS if not quick or label in QUICK]
    settings = {
        label: {
            **NEURAL,
            **MODELS[label],
            "learning_rate": rates[label.partition(" ")[0].strip(",")],
        }
        for label in chosen
    }
    cold = np.random.default_rng(1).choice(n_items, n_items // 10, replace=False)
    everything, is_new = np.ones(len(asked), dtype=np.bool_), np.isin(asked.target_items, cold)
    tasks = {
        "warm": (train, {"all": everything}, chosen),
        "cold": (
            without(train, cold),
            {"new": is_new, "all": everything},
            [c for c in chosen if c in COLD],
        ),
    }
    neighbours = ranks_of(ContentNeighbours(content), asked)
    rows = []
    for what, (sessions, parts, labels) in tasks.items():
        found = {part: figures(neighbours, which) for part, which in parts.items()}
        print(f"  {what} content neighbours", found, flush=True)
        rows += rows_of(f"{name} {what}, content neighbours", [found])
        for label in labels:
            runs = []
            for seed in seeds:

                def measure(
                    *,
                    sessions: Sessions = sessions,
                    parts: Mapping[str, BoolArray] = parts,
                    label: str = label,
                    seed: int = seed,
                ) -> dict[str, dict[str, float]]:
                    ranks = fitted_ranks(
                        label, settings[label], sessions, content=content, asked=asked, seed=seed
                    )
                    return {part: figures(ranks, which) for part, which in parts.items()}

                entry = f"{name} {what} {len(asked)} {label} {settings[label]} seed {seed}"
                runs.append(ledger.of(entry, measure))
                print(f"  {what} {label} seed {seed}", runs[-1], flush=True)
            rows += rows_of(f"{name} {what}, {label}", runs)
    return rows


def main() -> None:
    """Run the benchmark."""
    options = asked_for(__doc__, FILES, quick="one seed, one rate; no file")
    seeds = options.seeds
    ledger = Ledger(options.ledger)
    rows = [
        row
        for name in options.data
        for row in run(name, quick=options.quick, seeds=seeds, ledger=ledger)
    ]
    digests = {name: sha256(data_folder() / FILES[name]) for name in options.data}
    if options.quick:
        for row in rows:
            print(f"{row.what}: {row.value:.4f}")
    else:
        whole = set(options.data) == set(FILES) and len(seeds) >= 3
        finish("session_features", rows, data=digests, seeds=seeds, whole=whole)


if __name__ == "__main__":
    main()
