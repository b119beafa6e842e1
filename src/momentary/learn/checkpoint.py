"""The state of an interrupted training, kept so that it goes on as if it had never stopped.

A checkpoint is one safetensors file: the arrays, and in its header one JSON text with everything
else. It is written beside its place, forced to the disk and then renamed, so that whoever kills the
process finds the last whole one. Nothing is ever pickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from momentary.errors import ArtifactError

Arrays = dict[str, NDArray[Any]]

FORMAT = 1
"""Raised when old checkpoints can no longer be taken up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a training needs to go on: numbers in arrays, and facts that JSON can hold."""

    arrays: Arrays
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one folder, each named after the training it belongs to.

    Args:
        folder: Made when the first checkpoint is written.
        every_s: Seconds between two checkpoints; 0 writes as often as it is asked.
        announce: Told in one sentence when a training goes on from a checkpoint.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_s: float = 60.0,
        announce: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not every_s >= 0:
            raise ValueError(f"every_s is {every_s}; it must be 0 seconds or more, such as 60.")
        self.folder = folder
        self.announce = announce
        self._every_s = every_s
        self._clock = clock
        self._last = clock()

    def due(self) -> bool:
        """Whether so much time has passed that the next one should be written."""
        return self._clock() - self._last >= self._every_s

    def file(self, name: str) -> Path:
        """Where the checkpoint of a training stands."""
        return self.folder / f"{name}.safetensors"

    def load(self, name: str) -> Checkpoint | None:
        """The last checkpoint of a training, None if there is none.

        Raises:
            ArtifactError: If the file is damaged.
        """
        file = self.file(name)
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="np") as opened:
                facts = json.loads((opened.metadata() or {})["facts"])
                arrays = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise ArtifactError(
                f"The checkpoint {file} is damaged ({error}); delete it to train from the start."
            ) from error
        return Checkpoint(arrays=arrays, facts=facts)

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of a training; an old one stays until the new one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.file(name)
        draft = file.with_suffix(f".{os.getpid()}.draft")
        try:
            arrays = {key: np.ascontiguousarray(each) for key, each in checkpoint.arrays.items()}
            save_file(arrays, draft, metadata={"facts": json.dumps(checkpoint.facts)})
            _sync(draft)
            draft.replace(file)
            _sync(self.folder)
        finally:
            draft.unlink(missing_ok=True)
        self._last = self._clock()

    def clear(self, name: str) -> None:
        """Forget a training that has come to its end."""
        self.file(name).unlink(missing_ok=True)


def chance_of(rng: np.random.Generator) -> dict[str, Any]:
    """Where a generator stands, in words that JSON can hold."""
    return _plain(dict(rng.bit_generator.state))


def set_chance(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a generator of the same kind where `chance_of` found it."""
    rng.bit_generator.state = state


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain_value(value) for key, value in state.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, dict):
        return _plain(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
