"""Results of single draws kept in a folder, so that a long run can be taken up again.

What is kept bears a digest of the code that made it, so results of other code are made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import ROOT

Task = TypeVar("Task")

Kept = dict[str, NDArray[np.generic]]
"""A result as named arrays."""


class Keeper:
    """Computes what is not in the folder yet; without a folder, everything.

    Args:
        folder: Where results are kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def each(
        self,
        part: str,
        function: Callable[[Task], Kept],
        tasks: Mapping[str, Task],
        *,
        code: str,
        pool: Executor,
    ) -> list[Kept]:
        """The result of each task, in their order; new ones are kept as soon as they are there.

        Args:
            part: Of the benchmark, such as "worlds".
            function: Can be sent to another process.
            tasks: By a name that is a good file name.
            code: Digest of everything that the result depends on.
            pool: Where the work is done.
        """
        there = {name: self._read(part, name, code) for name in tasks}
        waiting = {
            name: pool.submit(function, task) for name, task in tasks.items() if there[name] is None
        }
        results = []
        for name in tasks:
            found = there[name]
            if found is None:
                found = waiting[name].result()
                self._write(self._file(part, name, code), found)
            results.append(found)
        return results

    def _file(self, part: str, name: str, code: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{part}-{name}-{code}.npz"

    def _read(self, part: str, name: str, code: str) -> Kept | None:
        file = self._file(part, name, code)
        if file is None or not file.is_file():
            return None
        with np.load(file) as stored:
            return {key: stored[key] for key in stored.files}

    def _write(self, file: Path | None, found: Kept) -> None:
        if file is None:
            return
        unfinished = file.with_suffix(".part.npz")
        np.savez(unfinished, **found)
        unfinished.replace(file)


def digest(files: Sequence[str], *words: object) -> str:
    """Twelve letters that change with the text of source files or with the words.

    Args:
        files: Paths below the repository.
        words: Such as how many photos.
    """
    found = hashlib.sha256(repr(words).encode())
    for file in sorted(files):
        found.update((ROOT / file).read_bytes())
    return found.hexdigest()[:12]
