"""Ask a model about the past: what came next, what completes the basket, what is bought next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from momentary.errors import LeakError
from momentary.learn.prefixes import distinct_states
from momentary.learn.ranking import rank_and_list
from momentary.learn.threads import one_blas_thread
from momentary.models.protocol import Factored
from momentary.recommend.pipeline import Rows, Scores, ranks, top
from momentary.types import EVENT_TYPES, BoolArray, IntArray, Progress, Sessions, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Questions with known answers.

    Attributes:
        history: What the model is shown, one row a query.
        target_items: What it should have listed, end to end, distinct within a query.
        target_offsets: Targets of query q: `target_items[target_offsets[q]:target_offsets[q + 1]]`.
        groups: Number of the visitor, or the session, that a query comes from: queries of one
            group are not independent, so intervals resample whole groups. Shape (queries,).
    """

    history: Sessions
    target_items: IntArray
    target_offsets: IntArray
    groups: IntArray

    def __post_init__(self) -> None:
        count = len(self.history)
        if count == 0:
            raise ValueError(
                "there are no queries; the test part needs longer sessions, or users that the "
                "training part knows."
            )
        if len(self.groups) != count or len(self.target_offsets) != count + 1:
            raise ValueError(
                f"{count} histories need {count} groups and {count + 1} target offsets, but there "
                f"are {len(self.groups)} and {len(self.target_offsets)}."
            )
        if self.target_offsets[0] != 0 or self.target_offsets[-1] != len(self.target_items):
            raise ValueError(
                f"target offsets run from {self.target_offsets[0]} to {self.target_offsets[-1]}; "
                f"they must run from 0 to the number of targets, {len(self.target_items)}."
            )
        if (np.diff(self.target_offsets) < 1).any():
            row = int(np.argmax(np.diff(self.target_offsets) < 1))
            raise ValueError(f"query {row} has no target; leave it out.")

    def __len__(self) -> int:
        return len(self.history)

    def targets(self, row: int) -> IntArray:
        """Targets of one query."""
        return self.target_items[self.target_offsets[row] : self.target_offsets[row + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """How a replay runs.

    Attributes:
        cutoffs: The k of the metrics, ascending.
        batch_size: Queries scored at once; memory is batch_size * items * 4 bytes.
        exclude_history: Never recommend what the query already holds. A target that is in its
            history is then never hit.
        keep_lists: Length of the lists that are kept; 0 keeps none.
    """

    cutoffs: tuple[int, ...] = (5, 10, 20)
    batch_size: int = 512
    exclude_history: bool = False
    keep_lists: int = 20

    def __post_init__(self) -> None:
        if not self.cutoffs or self.cutoffs[0] < 1 or list(self.cutoffs) != sorted({*self.cutoffs}):
            raise ValueError(
                f"cutoffs is {self.cutoffs}; give ascending numbers from 1, such as (5, 10, 20)."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1.")
        if self.keep_lists < 0:
            raise ValueError(f"keep_lists is {self.keep_lists}; it must be 0 or more.")


_FACTORED_AT_ONCE = 32_768
"""Queries whose states are found together, for models that need no whole rows of scores."""

DEFAULT_REPLAY = ReplayConfig()
"""Cutoffs 5, 10 and 20; repeats allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model answered, query by query in the order of the queries.

    Attributes:
        ranks: Conservative rank of every target, from 1. Shape (targets,).
        target_items: As asked. Shape (targets,).
        target_offsets: As asked. Shape (queries + 1,).
        groups: As asked. Shape (queries,).
        lists: The best items of every query, padded with -1. Shape (queries, keep_lists).
        cutoffs: The k of the metrics.
        n_items: Items that were ranked.
        score_seconds: CPU seconds spent in scoring; a model whose score is a product is ranked in
            the same breath.
    """

    ranks: IntArray
    target_items: IntArray
    target_offsets: IntArray
    groups: IntArray
    lists: NDArray[np.int32]
    cutoffs: tuple[int, ...]
    n_items: int
    score_seconds: float

    def __len__(self) -> int:
        return len(self.groups)


def next_item_queries(
    test: Sessions, *, max_history: int | None = None, target_types: Sequence[str] = ()
) -> Queries:
    """Ask after every event of every session what the next one is.

    A session of n events gives n - 1 queries (Hidasi et al., ICLR 2016, section 4). Groups are
    visitors, or sessions where the visitor is unknown.

    Args:
        test: Sessions of which those with at least 2 events are asked about.
        max_history: Show at most this many of the latest events; None shows all.
        target_types: Ask only for events of these types, whatever came before; empty: for all.

    Raises:
        ValueError: If no session has 2 events, or none that is asked for.
    """
    _check_max_history(max_history)
    asked = np.maximum(test.lengths - 1, 0)
    session = np.repeat(np.arange(len(test)), asked)
    first = np.concatenate([[0], np.cumsum(asked)])
    place = np.arange(len(session)) - first[session] + 1
    ends = test.offsets[session] + place
    if target_types:
        wanted = np.flatnonzero(_of_types(test, target_types)[ends])
        session, place, ends = session[wanted], place[wanted], ends[wanted]
    starts = test.offsets[session] if max_history is None else ends - np.minimum(place, max_history)
    return Queries(
        history=_windows(test, starts, ends, users=test.users[session]),
        target_items=test.items[ends],
        target_offsets=np.arange(len(session) + 1),
        groups=_groups(test)[session],
    )


def completion_queries(
    test: Sessions, *, share: float = 0.5, rng: np.random.Generator, min_items: int = 4
) -> Queries:
    """Hide a random part of every basket and ask for it; the rest is shown in random order.

    Args:
        test: Baskets; an item that is in one several times counts once.
        share: Part of the distinct items to hide; at least one is hidden and one is shown.
        rng: Draws what is hidden.
        min_items: Baskets with fewer distinct items are not asked about.

    Raises:
        ValueError: If no basket is large enough.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; hide more than 0 and less than 1, such as 0.5.")
    if min_items < 2:
        raise ValueError(f"min_items is {min_items}; one shown and one hidden item need 2.")
    basket, items = _distinct(test)
    shuffled = np.lexsort((rng.random(len(items)), basket))
    items = items[shuffled]
    sizes = np.bincount(basket, minlength=len(test))
    kept = np.flatnonzero(sizes >= min_items)
    starts = np.concatenate([[0], np.cumsum(sizes)])[kept]
    hidden = np.clip(np.floor(sizes[kept] * share).astype(np.int64), 1, sizes[kept] - 1)
    events, offsets = _gather(starts + hidden, starts + sizes[kept])
    targets, target_offsets = _gather(starts, starts + hidden)
    return Queries(
        # A basket is one moment: every shown item carries the time of its last event.
        history=Sessions(
            items=items[events],
            offsets=offsets,
            times_us=np.repeat(test.last_times_us[kept], np.diff(offsets)),
            users=test.users[kept],
        ),
        target_items=items[targets],
        target_offsets=target_offsets,
        groups=_groups(test)[kept],
    )


def next_basket_queries(
    train: Sessions, test: Sessions, *, max_history: int | None = None
) -> Queries:
    """Ask for every user in both parts what is in the user's first basket of the test part.

    The history is all of the user's events in the training part. Both parts number users alike.

    Args:
        train: Past baskets, each user's in time order.
        test: Later baskets, each user's in time order.
        max_history: Show at most this many of the latest events; None shows all.

    Raises:
        LeakError: If a basket of the test part begins before the user's training events end.
        ValueError: If a user's baskets are not in time order, or no user is in both parts.
    """
    _check_max_history(max_history)
    past = _by_user(train, "train")
    later = _by_user(test, "test")
    users, rows, first = np.intersect1d(past.users, later.users, return_indices=True)
    if len(users) == 0:
        raise ValueError("no user is in both parts; number users alike, or split by time.")
    own = _first_baskets(test, users)
    begins = later.times_us[later.offsets[:-1][first]]
    early = begins < past.last_times_us[rows]
    if early.any():
        row = int(np.argmax(early))
        raise LeakError(
            f"user {users[row]} has a test basket at {begins[row]} us but training events until "
            f"{past.last_times_us[rows][row]} us; split both parts at one time."
        )
    ends = past.offsets[1:][rows]
    starts = past.offsets[:-1][rows]
    if max_history is not None:
        starts = np.maximum(starts, ends - max_history)
    query, targets = _distinct(own)
    sizes = np.bincount(query, minlength=len(users))
    return Queries(
        history=_windows(past, starts, ends, users=users),
        target_items=targets,
        target_offsets=np.concatenate([[0], np.cumsum(sizes)]),
        groups=users,
    )


def replay(
    scorer: Scores,
    queries: Queries,
    *,
    config: ReplayConfig = DEFAULT_REPLAY,
    allowed: BoolArray | None = None,
    progress: Progress = silent,
    cpu_seconds: Callable[[], float] = time.process_time,
) -> Outcome:
    """Put every query to a model, in the order of time, and rank the whole catalogue.

    A `Factored` model is asked without ever holding its scores, and what several queries have in
    common is computed once; its ranks and lists are those of its scores.

    Args:
        scorer: A fitted model.
        queries: Questions with known answers.
        config: Cutoffs, batch size and what is kept.
        allowed: Items that may be recommended; None means all. Shape (items,).
        progress: Told of queries done.
        cpu_seconds: The clock that times `score`.

    Raises:
        ValueError: If a score is NaN or a target is not an item of the model.
    """
    if _goes_fast(scorer, queries, config=config, allowed=allowed):
        return _replay_factored(
            cast("Factored", scorer),
            queries,
            config=config,
            progress=progress,
            cpu_seconds=cpu_seconds,
        )
    found = np.empty(len(queries.target_items), dtype=np.int64)
    lists = np.full((len(queries), config.keep_lists), -1, dtype=np.int32)
    order = np.argsort(queries.history.last_times_us, kind="stable")
    spent = 0.0
    n_items = 0
    for start in range(0, len(queries), config.batch_size):
        rows = order[start : start + config.batch_size]
        history = queries.history.take(rows)
        before = cpu_seconds()
        scores = scorer.score(history)
        spent += cpu_seconds() - before
        n_items = scores.shape[1]
        excluded: Rows | None = None
        if config.exclude_history:
            excluded = (history.items, history.offsets)
        places, offsets = _gather(queries.target_offsets[rows], queries.target_offsets[rows + 1])
        found[places] = ranks(
            scores,
            queries.target_items[places],
            offsets,
            allowed=allowed,
            per_row_excluded=excluded,
        )
        if config.keep_lists:
            lists[rows] = top(
                scores, config.keep_lists, allowed=allowed, per_row_excluded=excluded
            )[0]
        progress(min(start + config.batch_size, len(queries)), len(queries), "queries")
    return Outcome(
        ranks=found,
        target_items=queries.target_items,
        target_offsets=queries.target_offsets,
        groups=queries.groups,
        lists=lists,
        cutoffs=config.cutoffs,
        n_items=n_items,
        score_seconds=spent,
    )


def _goes_fast(
    scorer: Scores, queries: Queries, *, config: ReplayConfig, allowed: BoolArray | None
) -> bool:
    """Whether ranks and lists can be had without rows of scores."""
    if allowed is not None or config.exclude_history or not isinstance(scorer, Factored):
        return False
    biases = scorer.item_vectors()[1]
    # Items that share the lowest score may stand on a list only where all others do, too.
    plain = bool(np.isfinite(biases).all()) or not config.keep_lists
    return plain and len(queries.target_items) == len(queries)


def _replay_factored(
    scorer: Factored,
    queries: Queries,
    *,
    config: ReplayConfig,
    progress: Progress,
    cpu_seconds: Callable[[], float],
) -> Outcome:
    vectors, biases = scorer.item_vectors()
    n_items = len(biases)
    targets = queries.target_items
    if targets.min() < 0 or targets.max() >= n_items:
        raise ValueError(
            f"targets run from {targets.min()} to {targets.max()} but the model has {n_items} "
            "items; leave out targets that the training data does not know."
        )
    found = np.empty(len(queries), dtype=np.int64)
    lists = np.full((len(queries), config.keep_lists), -1, dtype=np.int32)
    order = np.argsort(queries.history.last_times_us, kind="stable")
    before = cpu_seconds()
    for start in range(0, len(queries), _FACTORED_AT_ONCE):
        rows = order[start : start + _FACTORED_AT_ONCE]
        with one_blas_thread():
            states, state_of = distinct_states(scorer, queries.history.take(rows))
        # The same question is asked once.
        pairs, question_of = np.unique(state_of * n_items + targets[rows], return_inverse=True)
        ranks, best = np.empty(len(pairs), dtype=np.int64), []
        asked, wanted = pairs // n_items, pairs % n_items
        for first in range(0, len(states), config.batch_size):
            end = min(first + config.batch_size, len(states))
            part = slice(*np.searchsorted(asked, (first, end)))
            with one_blas_thread():
                ranks[part], some = rank_and_list(
                    scorer.queries(states[first:end]),
                    vectors,
                    biases,
                    rows=asked[part] - first,
                    targets=wanted[part],
                    k=config.keep_lists,
                )
            best.append(some)
            share = (end * len(rows)) // len(states)
            progress(start + share, len(queries), "queries")
        found[rows] = ranks[question_of]
        lists[rows] = np.concatenate(best)[state_of]
    seen = int(np.isfinite(biases).sum())
    found[found == seen] = n_items  # the lowest of the others ties with those never trained
    return Outcome(
        ranks=found,
        target_items=targets,
        target_offsets=queries.target_offsets,
        groups=queries.groups,
        lists=lists,
        cutoffs=config.cutoffs,
        n_items=n_items,
        score_seconds=cpu_seconds() - before,
    )


def _check_max_history(max_history: int | None) -> None:
    if max_history is not None and max_history < 1:
        raise ValueError(f"max_history is {max_history}; show at least 1 event, or None for all.")


def _groups(sessions: Sessions) -> IntArray:
    """Number of each session's visitor; an unknown visitor is somebody new."""
    fresh = sessions.users.max(initial=-1) + 1 + np.arange(len(sessions))
    return np.where(sessions.users >= 0, sessions.users, fresh)


def _of_types(sessions: Sessions, names: Sequence[str]) -> BoolArray:
    if sessions.types is None:
        raise ValueError(f"the events have no types; do not ask for {', '.join(names)} alone.")
    found: BoolArray = np.isin(sessions.types, [EVENT_TYPES.index(name) for name in names])
    return found


def _gather(starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of windows joined end to end, and the offsets of the windows in them."""
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets


def _windows(sessions: Sessions, starts: IntArray, ends: IntArray, *, users: IntArray) -> Sessions:
    events, offsets = _gather(starts, ends)
    return Sessions(
        items=sessions.items[events],
        offsets=offsets,
        times_us=sessions.times_us[events],
        users=users,
        types=None if sessions.types is None else sessions.types[events],
    )


def _distinct(sessions: Sessions) -> tuple[IntArray, IntArray]:
    """Session and item of every distinct pair, by session and item."""
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    width = int(sessions.items.max(initial=0)) + 1
    pairs = np.unique(session * width + sessions.items)
    return pairs // width, pairs % width


def _first_baskets(sessions: Sessions, users: IntArray) -> Sessions:
    """The first session with an event of each of the `users`, who ascend."""
    filled = np.flatnonzero((sessions.lengths > 0) & (sessions.users >= 0))
    known, first = np.unique(sessions.users[filled], return_index=True)
    return sessions.take(filled[first[np.searchsorted(known, users)]])


def _by_user(sessions: Sessions, part: str) -> Sessions:
    """All events of each known user as one session, users ascending."""
    rows = np.argsort(sessions.users, kind="stable")
    rows = rows[(sessions.users[rows] >= 0) & (sessions.lengths[rows] > 0)]
    own = sessions.take(rows)
    users, first = np.unique(own.users, return_index=True)
    joined = replace(
        own, offsets=np.concatenate([own.offsets[first], [len(own.items)]]), users=users
    )
    user = np.repeat(np.arange(len(users)), joined.lengths)
    back = (np.diff(own.times_us) < 0) & (np.diff(user) == 0)
    if back.any():
        at = int(users[user[np.argmax(back)]])
        raise ValueError(
            f"the {part} part goes back in time for user {at}; sort its sessions by time first."
        )
    return joined
