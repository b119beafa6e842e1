"""Train what a service needs: the model that answers, its companions, and their facts."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from momentary.data.sessions import SessionLog
from momentary.models.artifact import Bundle, make
from momentary.models.protocol import Scorer
from momentary.types import Progress, silent


def train(
    log: SessionLog, scorer: Scorer, *, rng: np.random.Generator, progress: Progress = silent
) -> Bundle:
    """Fit `scorer` on every session, with the companions that a service needs beside it.

    They are item kNN, for similar items and reasons, and popularity, which answers when nothing
    else can.
    """
    began = time.process_time()
    scorer.fit(log.sessions, n_items=len(log.items), rng=rng, progress=progress)
    cpu_s = time.process_time() - began
    related, fallback = make("item_knn"), make("popularity")
    for companion in (related, fallback):
        companion.fit(log.sessions, n_items=len(log.items), rng=rng)
    times_us = log.sessions.times_us
    return Bundle(
        scorers={"main": scorer, "related": related, "fallback": fallback},
        items=log.items,
        facts={
            "events": len(times_us),
            "sessions": len(log.sessions),
            "items": len(log.items),
            "visitors": len(log.visitors),
            "from": _iso(int(times_us.min())),
            "to": _iso(int(times_us.max())),
            "fit_cpu_s": round(cpu_s, 3),
        },
    )


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).isoformat(timespec="seconds")
