"""Search a model's settings on a validation part that is cut from the training data by time.

The test part is never looked at: `tune` is given a `Split` whose test part is the validation.
Trials are kept in an SQLite file, so a search that is interrupted goes on where it stopped, and are
written down line by line beside it. The first trial has the model's own defaults. A trial that
falls behind is given up early: a model that learns in epochs is judged after each of them, any
other first on the newest part of the sessions. Where the sessions hold events of several types,
what each of them counts is searched, too, for a model that can weigh them; the most frequent one
counts 1.
"""

from __future__ import annotations

import logging
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import optuna

from momentary.data.splits import Split
from momentary.errors import MomentaryError, SettingsError
from momentary.evaluation import metrics
from momentary.evaluation.replay import ReplayConfig, replay
from momentary.evaluation.trials import (
    TASKS,
    Task,
    TrialConfig,
    check_target_types,
    queries_of,
)
from momentary.learn.course import Course
from momentary.learn.validation import Scores
from momentary.models.artifact import make
from momentary.models.protocol import Scorer, Trainable
from momentary.types import EVENT_TYPES, Progress, Sessions, silent

_NEWEST_SHARES = (0.1, 0.3, 1.0)
"""A model without epochs learns from so much of the sessions before it may learn from more."""
_FREE_TRIALS = 4
"""So many trials run to their end before any is given up; they are what others are held against."""


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


_EVENT_WEIGHTS = "event_weights"

_COUNTED_PARTS = (
    {"kind": "vstan"},
    {"kind": "item_knn"},
    {"kind": "sequential_rules", "candidates": 50},
    {"kind": "popularity", "candidates": 20},
)

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
    "slist": {
        "alpha": Range(0.0, 1.0),
        "regularization": Range(1.0, 100.0, log=True),
        "diagonal": Range(0.0, 1.0),
        "past": Range(0.3, 10.0, log=True),
        "future": Range(0.3, 10.0, log=True),
        "reach": Range(0.3, 10.0, log=True),
        "recency_days": Choice((7.0, 20.0, 80.0, 250.0, math.inf)),
    },
    "vsknn": {
        "neighbours": Choice((100, 200, 500, 1000, 1500)),
        "sample_size": Choice((1000, 2500, 5000, 10000)),
        "idf_similarity": Range(0.0, 2.0),
        "idf_score": Range(0.0, 2.0),
        "repeat": Range(0.0, 1.0),
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
        "repeat": Range(0.0, 1.0),
    },
    "content_knn": {
        "width": Choice((32, 64, 128)),
        "penalty": Range(0.1, 100.0, log=True),
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
    "feature_rnn": {
        "units": Choice((64, 100, 160)),
        "architecture": Choice(("parallel", "interaction")),
        "training": Choice(("simultaneous", "alternating", "residual", "interleaving")),
        "output": Choice(("items", "content")),
        "dropout_items": Choice((0.0, 0.15, 0.3, 0.5)),
        "learning_rate": Range(0.02, 0.3, log=True),
        "momentum": Range(0.0, 0.6),
        "dropout_input": Range(0.0, 0.4),
        "dropout_hidden": Range(0.0, 0.5),
        "batch_size": Choice((32, 64, 128)),
        "n_sample": Choice((128, 256, 512, 1024)),
        "sample_alpha": Range(0.0, 1.0),
        "logq": Range(0.0, 1.0),
        "epochs": Range(2, 8),
    },
    "hierarchical_rnn": {
        "units": Choice((64, 100, 160)),
        "user_units": Choice((50, 100, 160)),
        "variant": Choice(("init", "all")),
        "first_click": Choice((False, True)),
        "learning_rate": Range(0.02, 0.3, log=True),
        "momentum": Range(0.0, 0.6),
        "dropout_session": Range(0.0, 0.5),
        "dropout_user": Range(0.0, 0.5),
        "dropout_init": Range(0.0, 0.5),
        "batch_size": Choice((32, 64, 128)),
        "n_sample": Choice((256, 512, 1024)),
        "sample_alpha": Range(0.0, 1.0),
        "logq": Range(0.0, 1.0),
        "epochs": Range(2, 8),
    },
    "attentive_rnn": {
        "units": Choice((64, 100, 128, 192)),
        "temperature": Range(8.0, 20.0, log=True),
        "window": Choice((1, 3, 8)),
        "shrinkage": Range(0.1, 20.0, log=True),
        "half_life": Choice((3e3, 1e4, 3e4, 1e5, math.inf)),
        "n_sample": Choice((512, 1024, 2048)),
        "sample_alpha": Range(0.0, 1.0),
        "epochs": Range(2, 8),
        "learning_rate": Range(0.001, 0.02, log=True),
        "dropout_items": Range(0.0, 0.6),
        "dropout_hidden": Range(0.0, 0.6),
    },
    "hybrid": {
        "parts": Choice((_COUNTED_PARTS, ({"kind": "attentive_rnn"}, *_COUNTED_PARTS))),
        "blend": Choice(("stack", "probability")),
        "holdout": Choice((0.05, 0.1, 0.15)),
        "stack": Choice(
            (
                {"hidden": (64, 32)},
                {"hidden": (64, 32), "epochs": 8, "dropout": 0.2},
                {"hidden": (128, 64), "epochs": 8, "dropout": 0.2},
            )
        ),
    },
}
"""What a search may vary, by model."""

TYPE_WEIGHTS = Choice((0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0))
"""What an event type may count beside the most frequent one."""

Space = Mapping[str, Choice | Range]
"""What one search may vary; "event_weights.purchase" is the entry purchase of that setting."""


def space_of(kind: str, sessions: Sessions) -> Space:
    """What a search of one model may vary on these sessions.

    Raises:
        SettingsError: If the model has no space.
    """
    if kind not in SPACES:
        raise SettingsError(
            f"There is no search space for {kind!r}; there are {', '.join(SPACES)}."
        )
    space, types = SPACES[kind], sessions.types
    if types is None or not hasattr(make(kind).config, _EVENT_WEIGHTS):
        return space
    counts = np.bincount(types[types >= 0], minlength=len(EVENT_TYPES))
    by_count = np.argsort(-counts, kind="stable")[: (counts > 0).sum()]
    others = [f"{_EVENT_WEIGHTS}.{EVENT_TYPES[place]}" for place in by_count[1:]]
    return {**space, **dict.fromkeys(others, TYPE_WEIGHTS)}


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as models take them, from values by the names of a space."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        setting, _, entry = name.partition(".")
        if entry:
            found.setdefault(setting, {})[entry] = value
        else:
            found[name] = value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """How settings are searched.

    Attributes:
        trials: Trials in all, those of earlier runs included.
        metric: "recall" or "mrr", to be as high as can be.
        k: Its cutoff.
        task: What is asked.
        max_queries: Ask at most this many queries.
        target_types: With next_item: ask only for events of these types; empty: for all.
        prune: Give up a trial that stands below the median of the others at the same point.
        seed: Draws settings, queries and each model's own chance.
    """

    trials: int = 20
    metric: str = "mrr"
    k: int = 20
    task: Task = "next_item"
    max_queries: int = 5_000
    target_types: tuple[str, ...] = ()
    prune: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; it must be at least 1.")
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; it must be one of {', '.join(TASKS)}.")
        if self.metric not in ("recall", "mrr"):
            raise ValueError(f"metric is {self.metric!r}; it must be recall or mrr.")
        check_target_types(self.target_types, (self.task,))

    @property
    def wanted(self) -> str:
        """The metric with its cutoff, such as mrr@20."""
        return f"{self.metric}@{self.k}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One trial.

    Attributes:
        number: From 0.
        outcome: "done", "pruned" or "failed".
        settings: What was tried.
        metrics: Recall@k and MRR@k at its end; empty for one that has none.
        reports: The wanted metric after each epoch, or each part of the data.
        seconds: CPU seconds.
        why: Why it failed, "" otherwise.
    """

    number: int
    outcome: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    reports: tuple[float, ...]
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        kind: The model.
        settings: The best settings.
        metrics: Recall@k and MRR@k of the best trial, on the validation part.
        trials: How many trials have been made in all.
        tried: Each of them.
        log: The file that holds them, one JSON object a line.
    """

    kind: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    trials: int
    tried: tuple[Tried, ...] = ()
    log: Path | None = None

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
    prepare: Callable[[Scorer], object] = lambda _: None,
) -> Tuned:
    """Search the space of one model.

    Args:
        kind: A key of `SPACES`.
        split: Training part and validation part.
        journal: SQLite file that keeps the trials; a search with the same name, data and
            question goes on.
        config: How to search.
        progress: Told of trials done, and of the best value so far.
        prepare: Given each model before it is fitted, such as to tell it what items are like.

    Raises:
        SettingsError: If the model has no space.
    """
    space = space_of(kind, split.train.sessions)
    study = _study(kind, split, journal=journal, config=config)
    _take_up(study)
    if not study.trials:
        study.enqueue_trial(_defaults(kind, space))
    log = journal.with_name(f"{journal.stem}-{kind}.jsonl")

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        line = {"search": study.study_name, **asdict(_tried(trial, space))}
        with log.open("ab") as opened:
            opened.write(msgspec.json.encode(line) + b"\n")
        best = f"best {config.wanted} {study.best_value:.4f}" if _with_value(study) else ""
        progress(len(_finished(study)), config.trials, best)

    left = config.trials - len(_finished(study))
    if left > 0:
        objective = _objective(kind, split, space=space, config=config, prepare=prepare)
        study.optimize(objective, n_trials=left, callbacks=[tell])
    if not _with_value(study):
        raise MomentaryError(f"Every trial of {kind} failed; see {log} for the reasons.")
    best = _tried(study.best_trial, space)
    return Tuned(
        kind=kind,
        settings=best.settings,
        metrics=best.metrics,
        trials=len(_finished(study)),
        tried=tuple(_tried(trial, space) for trial in _finished(study)),
        log=log,
    )


def _objective(
    kind: str,
    split: Split,
    *,
    space: Space,
    config: TuneConfig,
    prepare: Callable[[Scorer], object],
) -> Callable[[optuna.Trial], float]:
    """What a trial does: fit with settings of its own, and ask."""
    asking = TrialConfig(
        tasks=(config.task,),
        max_queries=config.max_queries,
        target_types=config.target_types,
        seed=config.seed,
    )
    queries = queries_of(split, config.task, config=asking)
    replaying = ReplayConfig(
        cutoffs=(config.k,), exclude_history=config.task == "completion", keep_lists=0
    )

    def judge(model: Scores) -> dict[str, float]:
        outcome = replay(model, queries, config=replaying)
        return {
            f"{name}@{config.k}": float(
                measure(outcome.ranks, outcome.target_offsets, k=config.k).mean()
            )
            for name, measure in (("recall", metrics.recall), ("mrr", metrics.mrr))
        }

    def objective(trial: optuna.Trial) -> float:
        began = time.process_time()
        model = make(kind, _nested({name: _suggest(trial, name, at) for name, at in space.items()}))
        prepare(model)

        def report(step: int, found: Mapping[str, float]) -> None:
            trial.report(found[config.wanted], step)
            if config.prune and trial.should_prune():
                raise optuna.TrialPruned

        try:
            found = _fit(model, split, config=config, judge=judge, report=report)
        except MomentaryError as error:
            trial.set_user_attr("failed", str(error))
            raise optuna.TrialPruned from error
        finally:
            trial.set_user_attr("seconds", round(time.process_time() - began, 2))
        for name, value in found.items():
            trial.set_user_attr(name, value)
        return found[config.wanted]

    return objective


def _fit(
    model: Scorer,
    split: Split,
    *,
    config: TuneConfig,
    judge: Callable[[Scores], dict[str, float]],
    report: Callable[[int, Mapping[str, float]], None],
) -> dict[str, float]:
    """Fit and judge; `report` is told how it goes on the way and may end it."""
    sessions, n_items = split.train.sessions, len(split.train.items)
    found: dict[str, float] = {}
    if isinstance(model, Trainable):

        def on_epoch(epoch: int, current: Callable[[], Scores]) -> None:
            found.update(judge(current()))
            report(epoch, found)

        rng = np.random.default_rng(config.seed)
        model.train(sessions, n_items=n_items, rng=rng, course=Course(on_epoch=on_epoch))
        return found
    for step, share in enumerate(_NEWEST_SHARES, start=1):
        if share < 1 and not config.prune:
            continue
        rows = np.arange(len(sessions) - math.ceil(share * len(sessions)), len(sessions))
        rng = np.random.default_rng(config.seed)
        try:
            model.fit(sessions.take(rows), n_items=n_items, rng=rng)
        except MomentaryError:
            if share < 1:  # too few to learn from says nothing of the settings
                continue
            raise
        found = judge(model)
        report(step, found)
    return found


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
    if config.target_types:
        name += f" asked for {', '.join(config.target_types)}"
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{journal}"
    # A search that goes on must not draw again what it drew at its beginning.
    found = {each.study_name: each.n_trials for each in optuna.get_all_study_summaries(storage)}
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=config.seed + found.get(name, 0)),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_FREE_TRIALS, n_min_trials=2),
        direction="maximize",
        load_if_exists=True,
    )


def _take_up(study: optuna.Study) -> None:
    """Put the settings of trials that were killed first in line; they count as never tried."""
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study._storage.set_trial_state_values(  # noqa: SLF001 - `tell` would need its values
                trial._trial_id,  # noqa: SLF001
                optuna.trial.TrialState.FAIL,
            )
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that came to an end of their own."""
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return [trial for trial in study.trials if trial.state in ended]


def _with_value(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]


def _tried(trial: optuna.trial.FrozenTrial, space: Space) -> Tried:
    done = trial.state == optuna.trial.TrialState.COMPLETE
    why = str(trial.user_attrs.get("failed", ""))
    outcome = "failed" if why else "pruned"
    return Tried(
        number=trial.number,
        outcome="done" if done else outcome,
        settings=_nested({name: _value(at, space[name]) for name, at in trial.params.items()}),
        metrics={name: value for name, value in trial.user_attrs.items() if "@" in name},
        reports=tuple(trial.intermediate_values[at] for at in sorted(trial.intermediate_values)),
        seconds=float(trial.user_attrs.get("seconds", 0.0)),
        why=why,
    )


def _defaults(kind: str, space: Space) -> dict[str, int | float]:
    """The model's own settings as far as its space holds them; the first trial takes them."""
    config, found = make(kind).config, dict[str, int | float]()
    for name, at in space.items():
        setting, _, entry = name.partition(".")
        value = getattr(config, setting)
        if entry:
            value = value.get(entry, 1.0)
        if isinstance(at, Choice):
            if value in at.values:
                found[name] = at.values.index(value)
        elif at.low <= value <= at.high:
            found[name] = value
    return found


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
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
