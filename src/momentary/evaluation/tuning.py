"""Search a model's settings on a validation part that is cut from the training data by time.

The test part is never looked at: `tune` is given a `Split` whose test part is the validation.
Trials are kept in an SQLite file, so a search that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from momentary.data.splits import Split
from momentary.errors import MomentaryError, SettingsError
from momentary.evaluation import metrics
from momentary.evaluation.replay import ReplayConfig, replay
from momentary.evaluation.trials import TASKS, Task, TrialConfig, queries_of
from momentary.models.artifact import make
from momentary.types import Progress, silent


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two bounds, on a logarithmic scale if `log`; whole if both bounds are."""

    low: float
    high: float
    log: bool = False


SPACES: dict[str, dict[str, Choice | Range]] = {
    "popularity": {"half_life_days": Choice((0.5, 1.0, 3.0, 7.0, 30.0, 90.0, math.inf))},
    "personal_popularity": {
        "half_life_days": Choice((7.0, 14.0, 30.0, 60.0, 120.0, math.inf)),
    },
    "item_knn": {
        "shrinkage": Range(0.0, 100.0),
        "decay": Range(0.3, 1.0),
        "self_similarity": Range(0.0, 1.0),
    },
    "sequential_rules": {"steps": Range(1, 30)},
    "vsknn": {
        "neighbours": Choice((100, 200, 500, 1000, 1500)),
        "sample_size": Choice((1000, 2500, 5000, 10000)),
        "idf_similarity": Range(0.0, 2.0),
        "idf_score": Range(0.0, 2.0),
    },
    "vstan": {
        "neighbours": Choice((100, 200, 500, 1000, 1500)),
        "sample_size": Choice((1000, 2500, 5000, 10000)),
        "position_decay": Range(0.3, 8.0, log=True),
        "recency_days": Choice((2.0, 7.0, 20.0, 80.0, math.inf)),
        "distance_decay": Range(0.3, 8.0, log=True),
        "match_decay": Range(0.3, 8.0, log=True),
        "idf_similarity": Range(0.0, 2.0),
        "idf_score": Range(0.0, 2.0),
    },
    "factorization": {
        "factors": Choice((32, 64, 128)),
        "regularization": Range(0.01, 10.0, log=True),
        "alpha": Range(1.0, 40.0, log=True),
        "iterations": Range(5, 20),
        "decay": Range(0.4, 1.0),
    },
    "gru4rec": {
        "units": Choice(((64,), (100,), (160,), (224,))),
        "learning_rate": Range(0.02, 0.3, log=True),
        "momentum": Range(0.0, 0.6),
        "dropout_embedding": Range(0.0, 0.5),
        "dropout_hidden": Range(0.0, 0.6),
        "batch_size": Choice((32, 64, 128, 256)),
        "n_sample": Choice((256, 512, 1024, 2048)),
        "sample_alpha": Range(0.0, 1.0),
        "logq": Range(0.0, 1.0),
        "epochs": Range(2, 10),
    },
    "attentive_rnn": {
        "units": Choice((64, 100, 128, 192)),
        "temperature": Range(8.0, 20.0, log=True),
        "window": Choice((1, 3, 8)),
        "shrinkage": Range(0.1, 20.0, log=True),
        "half_life": Choice((3e3, 1e4, 3e4, 1e5, math.inf)),
        "n_sample": Choice((512, 1024, 2048)),
        "epochs": Range(2, 8),
        "learning_rate": Range(0.001, 0.02, log=True),
        "dropout_items": Range(0.0, 0.6),
        "dropout_hidden": Range(0.0, 0.6),
    },
}
"""What a search may vary, by model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """How settings are searched.

    Attributes:
        trials: Trials in all, those of earlier runs included.
        metric: "recall" or "mrr", to be as high as can be.
        k: Its cutoff.
        task: What is asked.
        max_queries: Ask at most this many queries.
        seed: Draws settings, queries and each model's own chance.
    """

    trials: int = 20
    metric: str = "mrr"
    k: int = 20
    task: Task = "next_item"
    max_queries: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; it must be at least 1.")
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; it must be one of {', '.join(TASKS)}.")
        if self.metric not in ("recall", "mrr"):
            raise ValueError(f"metric is {self.metric!r}; it must be recall or mrr.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        kind: The model.
        settings: The best settings.
        metrics: Recall@k and MRR@k of the best trial, on the validation part.
        trials: How many trials have been made in all.
    """

    kind: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    trials: int

    def to_toml(self) -> str:
        """The settings as `momentary train --config` reads them, the figures as comments."""
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        lines = [f"# validation: {figures}; {self.trials} trials", f"[{self.kind}]"]
        lines += [f"{name} = {_toml(value)}" for name, value in self.settings.items()]
        return "\n".join(lines) + "\n"


def tune(
    kind: str,
    split: Split,
    *,
    journal: Path,
    config: TuneConfig,
    progress: Progress = silent,
) -> Tuned:
    """Search the space of one model.

    Args:
        kind: A key of `SPACES`.
        split: Training part and validation part.
        journal: SQLite file that keeps the trials; a search with the same name, data and
            question goes on.
        config: How to search.
        progress: Told of trials done, and of the best value so far.

    Raises:
        SettingsError: If the model has no space.
    """
    if kind not in SPACES:
        raise SettingsError(
            f"There is no search space for {kind!r}; there are {', '.join(SPACES)}."
        )
    asking = TrialConfig(tasks=(config.task,), max_queries=config.max_queries, seed=config.seed)
    queries = queries_of(split, config.task, config=asking)
    replaying = ReplayConfig(
        cutoffs=(config.k,), exclude_history=config.task == "completion", keep_lists=0
    )

    def objective(trial: optuna.Trial) -> float:
        model = make(kind, {name: _suggest(trial, name, at) for name, at in SPACES[kind].items()})
        rng = np.random.default_rng(config.seed)
        try:
            model.fit(split.train.sessions, n_items=len(split.train.items), rng=rng)
        except MomentaryError as error:
            trial.set_user_attr("failed", str(error))
            raise optuna.TrialPruned from error
        outcome = replay(model, queries, config=replaying)
        found = {
            name: float(measure(outcome.ranks, outcome.target_offsets, k=config.k).mean())
            for name, measure in (("recall", metrics.recall), ("mrr", metrics.mrr))
        }
        for name, value in found.items():
            trial.set_user_attr(f"{name}@{config.k}", value)
        return found[config.metric]

    study = _study(kind, split, journal=journal, config=config)
    done = len(_finished(study))

    def tell(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        finished = [trial for trial in study.trials if trial.value is not None]
        best = f"best {config.metric}@{config.k} {study.best_value:.4f}" if finished else ""
        progress(len(_finished(study)), config.trials, best)

    if done < config.trials:
        study.optimize(objective, n_trials=config.trials - done, callbacks=[tell])
    if not any(trial.value is not None for trial in study.trials):
        raise MomentaryError(f"Every trial of {kind} failed; see {journal} for the reasons.")
    best = study.best_trial
    return Tuned(
        kind=kind,
        settings={name: _value(best.params[name], SPACES[kind][name]) for name in best.params},
        metrics={name: value for name, value in best.user_attrs.items() if "@" in name},
        trials=len(_finished(study)),
    )


def read_settings(file: Path) -> dict[str, dict[str, Any]]:
    """Model settings from a TOML file with one table a model, as `Tuned.to_toml` writes it.

    Raises:
        SettingsError: If it is not such a file.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}); check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}.") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{name} in {file} stands outside a table such as [gru4rec].")
    return tables


def _study(kind: str, split: Split, *, journal: Path, config: TuneConfig) -> optuna.Study:
    optuna.logging.set_verbosity(logging.WARNING)
    train = split.train.sessions
    name = (
        f"{kind} {config.task} {config.metric}@{config.k} {config.max_queries} seed {config.seed} "
        f"{len(train.items)} events until {split.cut_us}"
    )
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{journal}",
        sampler=optuna.samplers.TPESampler(seed=config.seed),
        direction="maximize",
        load_if_exists=True,
    )


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state.is_finished()]


def _suggest(trial: optuna.Trial, name: str, space: Choice | Range) -> object:
    if isinstance(space, Choice):
        # The place in the list is drawn: the journal holds numbers, never objects.
        return space.values[trial.suggest_int(name, 0, len(space.values) - 1)]
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _value(drawn: float, space: Choice | Range) -> object:
    return space.values[int(drawn)] if isinstance(space, Choice) else drawn


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f'"{value}"' if isinstance(value, str) else str(value)
