"""How good a model is that is still in training: asked about the newest sessions, kept from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from momentary.errors import DataError
from momentary.types import FloatArray, IntArray, Sessions

_AT_ONCE = 256


class Scores(Protocol):
    """The part of a model that is asked."""

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item for every session. Shape (sessions, items)."""
        ...


def cut_newest(sessions: Sessions, share: float) -> tuple[Sessions, Sessions]:
    """Keep the newest `share` of the sessions apart; the order they come in is that of time.

    Raises:
        DataError: If either part would be empty.
    """
    kept = len(sessions) - round(share * len(sessions))
    if not 0 < kept < len(sessions):
        raise DataError(
            f"holdout is {share}, which leaves {kept} of {len(sessions)} sessions to learn "
            f"from and {len(sessions) - kept} to validate on; both need one at least."
        )
    rows = np.arange(len(sessions))
    return sessions.take(rows[:kept]), sessions.take(rows[kept:])


@dataclass(frozen=True, slots=True)
class Validation:
    """Questions after the next item: what was clicked so far, and what came then.

    Attributes:
        history: One row a question.
        targets: Shape (questions,).
    """

    history: Sessions
    targets: IntArray

    @classmethod
    def of(cls, newest: Sessions, *, known: Sessions, most: int = 8_000) -> Validation:
        """Ask after every click of the newest sessions.

        Args:
            newest: Sessions that training does not see.
            known: Those that it sees; events of other items are left out.
            most: If there are more questions, those of the newest sessions are asked.

        Raises:
            DataError: If nothing can be asked.
        """
        seen = np.isin(newest.items, known.items)
        rows = np.repeat(np.arange(len(newest)), newest.lengths)[seen]
        items, times_us = newest.items[seen], newest.times_us[seen]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        at = np.flatnonzero(place > 0)[-most:]
        if not len(at):
            raise DataError(
                "The sessions kept for validation hold no second click of a known item; "
                "raise holdout, or set it to 0 to train without validation."
            )
        lengths = place[at]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(at - lengths - offsets[:-1], lengths)
        history = Sessions(
            items=items[events],
            offsets=offsets,
            times_us=times_us[events],
            users=newest.users[rows[at]],
            types=None if newest.types is None else newest.types[seen][events],
        )
        return cls(history, items[at])

    def mrr(self, model: Scores, *, k: int = 20) -> float:
        """Mean reciprocal rank among the first `k`, ties counted against the model."""
        gained = 0.0
        for begin in range(0, len(self.targets), _AT_ONCE):
            rows = np.arange(begin, min(begin + _AT_ONCE, len(self.targets)))
            scores = model.score(self.history.take(rows))
            own = scores[np.arange(len(rows)), self.targets[rows]]
            ranks = (scores >= own[:, None]).sum(axis=1)
            gained += float((1.0 / ranks[(ranks > 0) & (ranks <= k)]).sum())
        return gained / len(self.targets)
