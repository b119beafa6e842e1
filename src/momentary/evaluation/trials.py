"""Fit models on the past and ask them about the future, several questions at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from momentary.data.splits import Split
from momentary.errors import DataError
from momentary.evaluation.leaderboard import (
    DEFAULT_LEADERBOARD,
    ItemFacts,
    Leaderboard,
    LeaderboardConfig,
)
from momentary.evaluation.replay import (
    Outcome,
    Queries,
    ReplayConfig,
    completion_queries,
    next_basket_queries,
    next_item_queries,
    replay,
)
from momentary.models.protocol import Scorer
from momentary.types import INTEREST_TYPES, IntArray, ObjectArray, Progress, Sessions, silent

Task = Literal["next_item", "completion", "next_basket"]

TASKS: dict[Task, str] = {
    "next_item": "after every click of a visit: what comes next?",
    "completion": "half of a basket is shown: what is the other half?",
    "next_basket": "a customer's past is shown: what is in the next basket?",
}
"""The questions, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """How models are tried.

    Attributes:
        tasks: Questions to ask, out of `TASKS`.
        cutoffs: The k of the metrics, ascending.
        max_queries: Ask at most this many queries a task, drawn at random; None asks all.
        max_history: Show at most this many of a visitor's latest events.
        target_types: With next_item: ask only for events of these types; empty: for all.
        seed: Draws what is hidden, which queries are asked, and each model's own chance.
    """

    tasks: tuple[Task, ...] = ("next_item",)
    cutoffs: tuple[int, ...] = (5, 10, 20)
    max_queries: int | None = None
    max_history: int = 300
    target_types: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise ValueError(f"tasks is {self.tasks}; name one or more of {', '.join(TASKS)}.")
        if self.max_queries is not None and self.max_queries < 1:
            raise ValueError(f"max_queries is {self.max_queries}; ask at least 1, or None for all.")
        check_target_types(self.target_types, self.tasks)


def check_target_types(names: Sequence[str], tasks: Sequence[Task]) -> None:
    """Refuse types that no task asks for.

    Raises:
        ValueError: If a name is no type that models learn from, or another task than next_item is
            to ask for some types alone.
    """
    unknown = [name for name in names if name not in INTEREST_TYPES]
    if unknown:
        raise ValueError(
            f"target_types names {', '.join(unknown)}; models learn from "
            f"{', '.join(INTEREST_TYPES)}."
        )
    if names and list(tasks) != ["next_item"]:
        raise ValueError(
            f"target_types is {', '.join(names)}, but {', '.join(tasks)} asks for whole baskets; "
            "use it with next_item alone."
        )


COMPARED = (
    "popularity",
    "personal_popularity",
    "item_knn",
    "sequential_rules",
    "vsknn",
    "vstan",
    "factorization",
    "gru4rec",
)
"""The models that a comparison takes unless it is told otherwise: all that train in minutes."""

DEFAULT_TRIAL = TrialConfig()
"""Every next item of every test session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of it.

    Attributes:
        boards: A leaderboard for each task.
        fit_seconds: CPU seconds of training by model name.
    """

    boards: Mapping[Task, Leaderboard]
    fit_seconds: Mapping[str, float]


def run_trial(
    split: Split,
    models: Mapping[str, Scorer],
    *,
    config: TrialConfig = DEFAULT_TRIAL,
    board: LeaderboardConfig = DEFAULT_LEADERBOARD,
    categories: IntArray | None = None,
    progress: Callable[[str], Progress] = lambda _: silent,
) -> Trial:
    """Fit every model on `split.train` and rank the whole catalogue for `split.test`.

    Args:
        split: Past and future.
        models: Unfitted models by the name to show; they are fitted in place.
        config: What is asked.
        board: What the leaderboards show.
        categories: A number for each item's category, -1 where unknown. Shape (items,).
        progress: Given a few words, gives a `Progress` for one piece of work.

    Raises:
        DataError: If a task cannot be asked of these data; the message says why.
    """
    if not models:
        raise ValueError("there are no models; name at least one.")
    asked = {task: queries_of(split, task, config=config) for task in config.tasks}
    outcomes: dict[Task, dict[str, Outcome]] = {task: {} for task in config.tasks}
    fit_seconds = {}
    for name, model in models.items():
        before = time.process_time()
        model.fit(
            split.train.sessions,
            n_items=len(split.train.items),
            rng=np.random.default_rng(config.seed),
            progress=progress(f"train {name}"),
        )
        fit_seconds[name] = time.process_time() - before
        for task, queries in asked.items():
            outcomes[task][name] = replay(
                model,
                queries,
                config=ReplayConfig(cutoffs=config.cutoffs, exclude_history=task == "completion"),
                progress=progress(f"ask {name}: {task.replace('_', ' ')}"),
            )
    facts = ItemFacts(
        popularity=np.bincount(split.train.sessions.items, minlength=len(split.train.items)),
        categories=categories,
    )
    boards = {
        task: Leaderboard.of(
            found,
            rng=np.random.default_rng(config.seed),
            config=board,
            fit_seconds=fit_seconds,
            facts=facts,
        )
        for task, found in outcomes.items()
    }
    return Trial(boards=boards, fit_seconds=fit_seconds)


def category_codes(categories: ObjectArray) -> IntArray:
    """Number the categories of items, -1 where unknown. Shape (items,).

    >>> category_codes(np.array(["tea", None, "jam", "tea"], dtype=object)).tolist()
    [0, -1, 1, 0]
    """
    codes: dict[str, int] = {}
    found = [-1 if each is None else codes.setdefault(each, len(codes)) for each in categories]
    return np.array(found, dtype=np.int64)


def queries_of(split: Split, task: Task, *, config: TrialConfig = DEFAULT_TRIAL) -> Queries:
    """The questions of one task.

    Raises:
        DataError: If the data hold none.
    """
    rng = np.random.default_rng(config.seed)
    test = split.test.sessions
    try:
        if task == "next_item":
            queries = next_item_queries(
                test, max_history=config.max_history, target_types=config.target_types
            )
        elif task == "completion":
            queries = completion_queries(test, rng=rng)
        else:
            queries = next_basket_queries(
                split.train.sessions,
                _begun_after(test, split.cut_us),
                max_history=config.max_history,
            )
    except ValueError as error:
        raise DataError(f"{task} cannot be asked of these data: {error}") from error
    if config.max_queries is None or len(queries) <= config.max_queries:
        return queries
    return _take(queries, np.sort(rng.permutation(len(queries))[: config.max_queries]))


def _begun_after(test: Sessions, cut_us: int) -> Sessions:
    """Baskets that lie wholly in the future; one that crosses the cut is neither past nor next."""
    begins = test.times_us[np.minimum(test.offsets[:-1], max(len(test.times_us) - 1, 0))]
    return test.take(np.flatnonzero((test.lengths > 0) & (begins > cut_us)))


def _take(queries: Queries, rows: IntArray) -> Queries:
    lengths = np.diff(queries.target_offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(
        queries.target_offsets[rows] - offsets[:-1], lengths
    )
    return Queries(
        history=queries.history.take(rows),
        target_items=queries.target_items[places],
        target_offsets=offsets,
        groups=queries.groups[rows],
    )
