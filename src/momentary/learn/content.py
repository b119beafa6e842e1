"""What items are like, as rows that can be compared: unit vectors, zeros where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.types import FloatArray


def unit_rows(name: str, matrix: NDArray[np.floating[Any]]) -> FloatArray:
    """A copy with rows of unit length, zeros where a row is missing. Shape (items, dim).

    Raises:
        DataError: If the matrix has not two dimensions, or a row is neither finite nor all NaN.
    """
    given = np.asarray(matrix, dtype=np.float32)
    if given.ndim != 2 or given.shape[1] < 1:
        raise DataError(
            f"features {name!r} has shape {given.shape}; it must be (items, dim), dim at least 1."
        )
    missing = np.flatnonzero(np.isnan(given).all(axis=1))
    broken = np.setdiff1d(np.flatnonzero(~np.isfinite(given).all(axis=1)), missing)
    if len(broken):
        raise DataError(
            f"features {name!r} is not finite in row {broken[0]}; make the whole row "
            "NaN if the item has no content."
        )
    rows = given.copy()
    rows[missing] = 0
    return _unit(rows, least=0.0)


def require_row_an_item(features: Mapping[str, NDArray[Any]], n_items: int) -> None:
    """Refuse features that do not speak of the items.

    Raises:
        DataError: If a matrix of features has not one row an item.
    """
    for name, matrix in features.items():
        if len(matrix) != n_items:
            raise DataError(
                f"features {name!r} has {len(matrix)} rows, but there are {n_items} items; "
                "give one row an item in the order of the item indices, NaN where unknown."
            )


def named_arrays(streams: Mapping[str, FloatArray]) -> dict[str, NDArray[Any]]:
    """The streams under names that a file may hold, and that say their order."""
    return {
        f"content.{place}.{name}": matrix for place, (name, matrix) in enumerate(streams.items())
    }


def streams_of(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The streams of `named_arrays` in their order, whatever else stands beside them.

    >>> list(streams_of({"content.1.text": np.eye(2), "w": np.eye(2), "content.0.a.b": np.eye(2)}))
    ['a.b', 'text']
    """
    placed = sorted(
        (int(place), name, key)
        for key in state
        for part, _, rest in [key.partition(".")]
        if part == "content"
        for place, _, name in [rest.partition(".")]
    )
    return {name: state[key] for _, name, key in placed}


def narrowed(rows: FloatArray, *, width: int) -> FloatArray:
    """Unit rows around their common mean, in the directions in which they differ most.

    Encoders put all that they see into one corner of their space; around its middle, cosines tell
    items apart.

    Args:
        rows: Of unit length, zeros where nothing is known. Shape (items, dim).
        width: Most directions that are kept.

    Returns:
        Zeros where nothing is known. Shape (items, dim or `width`, whichever is less).

    >>> rows = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 0]], dtype=np.float32)
    >>> narrowed(rows, width=1).round(3).tolist() in ([[1], [-1], [0]], [[-1], [1], [0]])
    True
    """
    known = rows.any(axis=1)
    moved = rows.copy()
    if known.any():
        moved[known] -= rows[known].mean(axis=0)
    if rows.shape[1] > width:
        # Ascending eigenvalues: the last columns are the directions that matter.
        turn = np.linalg.eigh((moved.T @ moved).astype(np.float64))[1][:, ::-1]
        moved = moved @ np.ascontiguousarray(turn[:, :width].astype(np.float32))
    # What is left of a row by rounding alone points nowhere.
    return _unit(moved, least=1e-5)


def _unit(rows: FloatArray, *, least: float) -> FloatArray:
    """Rows of unit length; zeros for those that are no longer than `least`."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > least, lengths, np.inf)).astype(np.float32)
