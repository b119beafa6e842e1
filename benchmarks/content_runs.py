"""Long computations are kept, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Found = dict[str, NDArray[Any]]


def kept(
    cache: Path,
    what: str,
    compute: Callable[[], Mapping[str, NDArray[Any]]],
    *,
    code: Sequence[ModuleType | Path],
) -> Found:
    """The arrays of a computation, from the cache if the same code has made them before.

    Args:
        cache: Folder of what is kept.
        what: Names the computation with all of its settings.
        compute: Makes the arrays.
        code: Modules and scripts whose source decides the result.
    """
    digest = hashlib.sha256(what.encode())
    for source in code:
        file = source if isinstance(source, Path) else Path(str(source.__file__))
        digest.update(file.read_bytes())
    result = cache / "runs" / f"{digest.hexdigest()[:24]}.npz"
    if not result.is_file():
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        result.parent.mkdir(parents=True, exist_ok=True)
        unfinished = result.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **arrays)
        unfinished.rename(result)
        print(f"kept: {what}", flush=True)
    with np.load(result, allow_pickle=False) as opened:
        return dict(opened)
