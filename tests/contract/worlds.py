"""Small worlds whose right answers are known, and how often a model finds them."""

from typing import Any

import numpy as np

from momentary.models.protocol import Scorer
from momentary.types import IntArray, Sessions

SECOND_US = 1_000_000


def sessions_of(rows: list[list[int]], *, gap_s: int = 3600) -> Sessions:
    """Sessions one after the other: events a second apart, sessions `gap_s` apart."""
    starts = [row * gap_s * SECOND_US for row in range(len(rows))]
    times = [
        [start + place * SECOND_US for place in range(len(row))]
        for start, row in zip(starts, rows, strict=True)
    ]
    return Sessions.from_lists(rows, times_us=times)


def cycle(rng: np.random.Generator, *, n_items: int = 30, n_sessions: int = 400) -> Sessions:
    """Item i is followed by i + 1, around, nine times out of ten."""
    rows = []
    for _ in range(n_sessions):
        row = [int(rng.integers(n_items))]
        for _ in range(5):
            follows = rng.random() < 0.9
            row.append((row[-1] + 1) % n_items if follows else int(rng.integers(n_items)))
        rows.append(row)
    return sessions_of(rows)


def noise(rng: np.random.Generator, *, n_items: int = 30, n_sessions: int = 400) -> Sessions:
    """Every item is as likely as any other, whatever came before."""
    return sessions_of(rng.integers(n_items, size=(n_sessions, 6)).tolist())


def tastes(rng: np.random.Generator, *, n_items: int = 30, n_sessions: int = 400) -> Sessions:
    """Six groups of items; a session stays in one of them."""
    size = n_items // 6
    groups = rng.integers(6, size=(n_sessions, 1))
    return sessions_of((groups * size + rng.integers(size, size=(n_sessions, 6))).tolist())


def favourites(rng: np.random.Generator, *, n_items: int = 30, n_sessions: int = 400) -> Sessions:
    """Every session chooses among two items of its own."""
    own = rng.integers(n_items, size=(n_sessions, 2))
    return sessions_of(np.take_along_axis(own, rng.integers(2, size=(n_sessions, 6)), 1).tolist())


def fashion(rng: np.random.Generator, *, n_sessions: int = 400) -> Sessions:
    """Five items are in fashion, and change to another five halfway."""
    first = np.arange(n_sessions)[:, None] < n_sessions // 2
    return sessions_of((rng.integers(5, size=(n_sessions, 6)) + np.where(first, 0, 5)).tolist())


def recall_at_5(model: Scorer, world: Sessions, *, n_items: int = 30) -> float:
    """Fit on the first three quarters; how often the last item of the others is in the top 5.

    Equal scores count against the model.
    """
    cut = len(world) * 3 // 4
    model.fit(world.take(np.arange(cut)), n_items=n_items, rng=np.random.default_rng(5))
    rest: list[IntArray] = [world.session(row) for row in range(cut, len(world))]
    after_us = int(world.times_us.max())
    queries = Sessions.from_lists(
        [row[:-1] for row in rest],
        times_us=[after_us + np.arange(len(row) - 1) * SECOND_US for row in rest],
    )
    targets = np.array([row[-1] for row in rest])
    scores: Any = model.score(queries)
    ranks = (scores >= scores[np.arange(len(targets)), targets][:, None]).sum(axis=1)
    return float((ranks <= 5).mean())


CHANCE = 5 / 30
"""What `recall_at_5` is for a model that guesses among 30 items."""
