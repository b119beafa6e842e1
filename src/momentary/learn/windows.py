"""Whole sessions as padded minibatches: every prefix of a session asks for its next item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from momentary.types import BoolArray, FloatArray, IntArray, Sessions

_BATCHES_A_POOL = 12


class Padded(NamedTuple):
    """Windows side by side; padding repeats a window's last item and is not asked for.

    Attributes:
        items: Shape (windows, longest).
        asked: Places whose next item is asked for. Shape (windows, longest - 1).
        weights: How much the next item counts; None: 1 everywhere. Shape (windows, longest - 1).
    """

    items: IntArray
    asked: BoolArray
    weights: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Sessions of two or more events, cut where they are too long; windows overlap by half.

    Attributes:
        items: The sessions' items, end to end. Shape (events,).
        sessions: The session that each window is of. Shape (windows,).
        starts: First event of each window. Shape (windows,).
        ends: One past its last event. Shape (windows,).
        first_asked: Place from which next items are asked for: what comes before was asked in
            the window before. Shape (windows,).
        weights: How much each event counts as a next item; None: 1 each. Shape (events,).
    """

    items: IntArray
    sessions: IntArray
    starts: IntArray
    ends: IntArray
    first_asked: IntArray
    weights: FloatArray | None = None

    @classmethod
    def cut(cls, sessions: Sessions, *, longest: int, weights: FloatArray | None = None) -> Windows:
        """Windows of at most `longest` inputs and the item after them, in the order of time.

        >>> windows = Windows.cut(Sessions.from_lists([[0, 1, 2, 3, 4], [5]]), longest=2)
        >>> windows.starts.tolist(), windows.ends.tolist(), windows.first_asked.tolist()
        ([0, 1, 2], [3, 4, 5], [0, 1, 1])
        """
        if longest < 1:
            raise ValueError(f"longest is {longest}; it must be at least 1.")
        rows = np.flatnonzero(sessions.lengths >= 2)
        starts, last = sessions.offsets[rows], sessions.offsets[rows + 1]
        first_asked = np.zeros(len(rows), dtype=np.int64)
        parts = []
        while len(starts):
            ends = np.minimum(last, starts + longest + 1)
            parts.append((rows, starts, ends, first_asked))
            more = ends < last
            overlap = longest // 2
            rows, starts, last = rows[more], ends[more] - 1 - overlap, last[more]
            first_asked = np.full(len(starts), overlap, dtype=np.int64)
        nothing = [(rows, starts, last, first_asked)]
        joined = [np.concatenate(column) for column in zip(*(parts or nothing), strict=True)]
        order = np.argsort(joined[1], kind="stable")
        return cls(
            items=sessions.items,
            sessions=joined[0][order],
            starts=joined[1][order],
            ends=joined[2][order],
            first_asked=joined[3][order],
            weights=weights,
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def inputs(self) -> IntArray:
        """Items of each window that have a next one. Shape (windows,)."""
        return self.ends - self.starts - 1

    def batches(self, *, predictions: int, rng: np.random.Generator) -> list[IntArray]:
        """All windows once, in batches of about `predictions` inputs and of similar lengths."""
        chosen = rng.permutation(len(self))
        found: list[IntArray] = []
        for pool in _groups(self.inputs[chosen], predictions * _BATCHES_A_POOL):
            rows = chosen[pool]
            rows = rows[np.argsort(self.inputs[rows], kind="stable")]
            found += [rows[group] for group in _groups(self.inputs[rows], predictions)]
        return [found[place] for place in rng.permutation(len(found))]

    def padded(self, rows: IntArray) -> Padded:
        """The windows at `rows`."""
        width = int((self.ends - self.starts)[rows].max())
        events = self.starts[rows][:, None] + np.arange(width)
        ends = self.ends[rows][:, None]
        real = events < ends
        places = np.arange(width - 1)
        events = np.minimum(events, ends - 1)
        return Padded(
            items=self.items[events],
            weights=None if self.weights is None else self.weights[events[:, 1:]],
            asked=real[:, 1:] & (places >= self.first_asked[rows][:, None]),
        )


def _groups(sizes: IntArray, limit: int) -> list[IntArray]:
    """Positions in groups whose sizes sum to about `limit`, evenly."""
    running = np.cumsum(sizes)
    total = int(running[-1])
    count = max(round(total / limit), 1)
    cuts = np.searchsorted(running, np.arange(1, count) * total / count)
    parts = np.split(np.arange(len(sizes)), cuts)
    return [part for part in parts if len(part)]
