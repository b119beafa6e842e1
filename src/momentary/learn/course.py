"""How a training is run: by how many workers, judged on what, stopped when, kept where.

A network that can say what its next step depends on (`Trainee`) is trained by `run`, which writes
checkpoints, takes an interrupted training up where it stood, judges the network after each epoch
and keeps the best weights. None of this knows what the network is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from momentary import __version__
from momentary.learn.bounds import require_ranges
from momentary.learn.checkpoint import FORMAT, Arrays, Checkpoint, Checkpoints, chance_of
from momentary.learn.validation import Scores, Validation
from momentary.types import Progress, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a training is run; what the network is stands in its own configuration.

    Attributes:
        workers: Threads that train one network together. One gives the same weights for the same
            seed, bit by bit; more are faster and agree in accuracy only.
        holdout: Newest share of the sessions that is kept for validation, below 1; 0 trains on all
            of them, for as many epochs as the configuration says.
        patience: With a holdout, training stops after so many epochs without a better one, and
            the weights of the best epoch are kept.
        checkpoints: Where an interrupted training can be taken up; None keeps nothing.
        on_epoch: Told of each finished epoch, from 1, with a way to get the model as it is then;
            what it raises ends the training.
    """

    workers: int = 1
    holdout: float = 0.0
    patience: int = 2
    checkpoints: Checkpoints | None = None
    on_epoch: Callable[[int, Callable[[], Scores]], None] | None = None

    def __post_init__(self) -> None:
        require_ranges(self, {"workers": (1, 256), "holdout": (0, 0.9), "patience": (1, 10_000)})


DEFAULT_COURSE = Course()
"""One worker, all sessions, every epoch, no checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a training went through.

    Attributes:
        losses: Mean training loss of each epoch.
        qualities: MRR@20 on the validation part after each epoch; empty without one.
        best_epoch: The epoch, from 1, whose weights were kept.
        resumed_at: Share of all steps that an interrupted run had done before; 0 if none had.
    """

    losses: tuple[float, ...] = ()
    qualities: tuple[float, ...] = ()
    best_epoch: int = 0
    resumed_at: float = 0.0


class Trainee(Protocol):
    """A network in training, as `run` sees it."""

    def begin(self, epoch: int) -> None:
        """Go to the first step of an epoch, from 0."""
        ...

    def walk(self) -> bool:
        """Train on for some tenths of a second; False when the epoch has come to its end."""
        ...

    def done(self) -> tuple[int, int]:
        """Steps done in this epoch, and its steps in all."""
        ...

    def loss(self) -> float:
        """Mean loss of this epoch so far."""
        ...

    def weights(self) -> Arrays:
        """The arrays themselves that make up the network."""
        ...

    def memory(self) -> Checkpoint:
        """Everything else that the next step depends on: optimizers, cursors, chance."""
        ...

    def remember(self, memory: Checkpoint) -> None:
        """Take up what `memory` gave."""
        ...

    def model(self) -> Scores:
        """The network as it stands, ready to score."""
        ...


@dataclass(slots=True)
class _Log:
    """How far a run has come."""

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    best_epoch: int = 0
    inside: bool = False


def fingerprint(
    sessions: Sessions, facts: Mapping[str, Any], *, course: Course, rng: np.random.Generator
) -> str:
    """A name that a training shares only with one of the same data, settings and chance.

    Args:
        sessions: What is learned from.
        facts: The model's kind and configuration, and whatever else decides the weights.
        course: How it is run.
        rng: As it stands before the training.
    """
    stated = {
        "version": (FORMAT, __version__),
        "rng": chance_of(rng),
        "course": (course.workers, course.holdout, course.patience),
        **facts,
    }
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True, default=str).encode())
    for array in (sessions.items, sessions.offsets, sessions.times_us, sessions.users):
        digest.update(np.ascontiguousarray(array).data)
    if sessions.types is not None:
        digest.update(np.ascontiguousarray(sessions.types).data)
    return digest.hexdigest()[:20]


def run(
    trainee: Trainee,
    *,
    epochs: int,
    course: Course,
    name: str,
    validation: Validation | None,
    progress: Progress,
) -> Record:
    """Train for at most `epochs`, or go on with a training of this name that was interrupted.

    Args:
        trainee: New; afterwards it holds the weights that are to be kept.
        epochs: Most passes over the data.
        course: How to run.
        name: The training's `fingerprint`, which names its checkpoints.
        validation: Judges each epoch; None for none.
        progress: Told of steps done.
    """
    log, best = _Log(), Arrays()
    keeper = _Keeper(trainee, course.checkpoints, name)
    resumed_at = keeper.take_up(log, best, epochs=epochs)

    def tell() -> None:
        at, total = trainee.done()
        progress(log.epoch * total + at * log.inside, epochs * total, _note(trainee, log, epochs))

    while log.epoch < epochs and not _tired(log, course):
        if not log.inside:
            trainee.begin(log.epoch)
            log.inside = True
        while trainee.walk():
            tell()
            keeper.keep(log, best, now=False)
        _end_epoch(trainee, log, best, validation=validation)
        tell()
        keeper.keep(log, best, now=True)
        if course.on_epoch is not None:
            course.on_epoch(log.epoch, trainee.model)
    for key, array in trainee.weights().items():
        array[...] = best.get(key, array)
    keeper.end()
    return Record(
        losses=tuple(log.losses),
        qualities=tuple(log.qualities),
        best_epoch=log.best_epoch,
        resumed_at=resumed_at,
    )


def _note(trainee: Trainee, log: _Log, epochs: int) -> str:
    if log.inside:
        return f"epoch {log.epoch + 1}/{epochs}, loss {trainee.loss():.3f}"
    quality = f", mrr@20 {log.qualities[-1]:.4f}" if log.qualities else ""
    return f"epoch {log.epoch}/{epochs}, loss {log.losses[-1]:.3f}{quality}"


def _end_epoch(trainee: Trainee, log: _Log, best: Arrays, *, validation: Validation | None) -> None:
    log.losses.append(trainee.loss())
    log.epoch += 1
    log.inside = False
    if validation is None:
        log.best_epoch = log.epoch
        return
    quality = validation.mrr(trainee.model())
    if not log.qualities or quality > max(log.qualities):
        log.best_epoch = log.epoch
        best.update({key: array.copy() for key, array in trainee.weights().items()})
    log.qualities.append(quality)


def _tired(log: _Log, course: Course) -> bool:
    return bool(log.qualities) and log.epoch - log.best_epoch >= course.patience


class _Keeper:
    """Writes and takes up the checkpoints of one training, if it has any."""

    def __init__(self, trainee: Trainee, kept: Checkpoints | None, name: str) -> None:
        self._trainee, self._kept, self._name = trainee, kept, name

    def take_up(self, log: _Log, best: Arrays, *, epochs: int) -> float:
        """Put everything where an interrupted training left it; the share that it had done."""
        found = None if self._kept is None else self._kept.load(self._name)
        if self._kept is None or found is None:
            return 0.0
        facts = dict(found.facts)
        memory = Checkpoint(arrays=_part(found.arrays, "memory"), facts=facts.pop("memory"))
        for key, value in facts.items():
            setattr(log, key, value)
        best.update(_part(found.arrays, "best"))
        if log.inside:
            self._trainee.begin(log.epoch)
        weights = _part(found.arrays, "weights")
        for key, array in self._trainee.weights().items():
            array[...] = weights[key]
        self._trainee.remember(memory)
        at, total = self._trainee.done() if log.inside else (0, 1)
        share = (log.epoch + at / max(total, 1)) / epochs
        self._kept.announce(
            f"An earlier training on the same data and settings was interrupted at {share:.0%}; "
            "it goes on from there."
        )
        return share

    def keep(self, log: _Log, best: Arrays, *, now: bool) -> None:
        """Write a checkpoint, now or if one is due."""
        if self._kept is None or not (now or self._kept.due()):
            return
        memory = self._trainee.memory()
        parts = {"weights": self._trainee.weights(), "best": best, "memory": memory.arrays}
        arrays = {f"{part}.{key}": array for part, of in parts.items() for key, array in of.items()}
        facts = {**asdict(log), "memory": memory.facts}
        self._kept.save(self._name, Checkpoint(arrays=arrays, facts=facts))

    def end(self) -> None:
        """Forget a training that has come to its end."""
        if self._kept is not None:
            self._kept.clear(self._name)


def _part(arrays: Arrays, part: str) -> Arrays:
    start = f"{part}."
    return {
        key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)
    }
