"""Train what a service needs: the model that answers, its companions, and their facts."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from momentary.data.sessions import SessionLog
from momentary.errors import SettingsError
from momentary.learn.course import DEFAULT_COURSE, Course
from momentary.models.artifact import Bundle, make
from momentary.models.protocol import Remembering, Scorer, Trainable
from momentary.types import Progress, silent


def train(
    log: SessionLog,
    scorer: Scorer,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    course: Course = DEFAULT_COURSE,
) -> Bundle:
    """Fit `scorer` on every session, with the companions that a service needs beside it.

    They are item kNN, for similar items and reasons, and popularity, which answers when nothing
    else can.

    Args:
        log: What is learned.
        scorer: What learns it.
        rng: Everything that chance decides.
        progress: Told of steps done.
        course: How a model that learns in epochs is trained; others take the default one only,
            whose checkpoints they have no use for.

    Raises:
        SettingsError: If the model has no epochs but the course asks for workers or a holdout.
    """
    began = time.process_time()
    n_items = len(log.items)
    if isinstance(scorer, Trainable):
        scorer.train(log.sessions, n_items=n_items, rng=rng, progress=progress, course=course)
    else:
        _refuse_course(scorer, course)
        scorer.fit(log.sessions, n_items=n_items, rng=rng, progress=progress)
    if isinstance(scorer, Remembering):
        scorer.recognize(log.visitors.ids)
    cpu_s = time.process_time() - began
    related, fallback = make("item_knn"), make("popularity")
    for companion in (related, fallback):
        companion.fit(log.sessions, n_items=n_items, rng=rng)
    times_us = log.sessions.times_us
    return Bundle(
        scorers={"main": scorer, "related": related, "fallback": fallback},
        items=log.items,
        facts={
            "events": len(times_us),
            "sessions": len(log.sessions),
            "items": n_items,
            "visitors": len(log.visitors),
            "from": _iso(int(times_us.min())),
            "to": _iso(int(times_us.max())),
            "fit_cpu_s": round(cpu_s, 3),
        },
    )


def _refuse_course(scorer: Scorer, course: Course) -> None:
    for name in ("workers", "holdout"):
        value = getattr(course, name)
        if value != getattr(DEFAULT_COURSE, name):
            raise SettingsError(
                f"{name} is {value}, but {scorer.kind} cannot be trained so; leave it at "
                f"{getattr(DEFAULT_COURSE, name)}, or train gru4rec."
            )


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).isoformat(timespec="seconds")
