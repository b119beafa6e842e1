"""What content says of the candidates of a question: how near they are to what was visited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from momentary.learn.arithmetic import kernel, largest, product
from momentary.types import FloatArray, IntArray, Sessions

LATEST = 15
"""Only so many last events of a visit are looked at."""
FADING = np.float32(0.7)
"""Of an item in the mean of the latest, against the one after it."""
A_STREAM = 8
"""Numbers that one kind of content says of a candidate; see `say_content`."""
_LAST = 3


def say_content(
    streams: Sequence[FloatArray],
    *,
    candidates: NDArray[np.int32],
    counts: IntArray,
    sessions: Sessions,
    out: FloatArray,
) -> None:
    """Write what every kind of content says of the candidates.

    They are the cosines with the last three items, 0 with those of which nothing is known; with
    the fading mean of the latest; the highest, and the mean, over the latest that are known; 1 if
    the candidate is known; and the share of the latest that is. All but the last two are 0 for a
    candidate of which nothing is known.

    Args:
        streams: Unit rows, zeros where nothing is known. Shapes (items, dim).
        candidates: Item indices. Shape (rows, most).
        counts: How many of them there are. Shape (rows,).
        sessions: The rows.
        out: Written to. Shape (rows, most, streams x `A_STREAM`).
    """
    items, offsets = np.array(sessions.items), np.array(sessions.offsets)
    for place, vectors in enumerate(streams):
        said = out[:, :, place * A_STREAM : (place + 1) * A_STREAM]
        _say_rows(items, offsets, vectors, candidates, counts, said)


@kernel
def _say_rows(  # noqa: PLR0917 - kernels are called by position
    items: IntArray,
    offsets: IntArray,
    vectors: FloatArray,
    candidates: NDArray[np.int32],
    counts: IntArray,
    out: FloatArray,
) -> None:
    for row in range(len(offsets) - 1):
        latest = items[max(offsets[row], offsets[row + 1] - LATEST) : offsets[row + 1]]
        _say_row(latest, vectors, candidates[row, : counts[row]], out[row])


@kernel
def _say_row(  # noqa: PLR0917 - kernels are called by position
    latest: IntArray, vectors: FloatArray, chosen: NDArray[np.int32], out: FloatArray
) -> None:
    size = len(latest)
    mean, known = faded_mean(latest, vectors)
    there = np.empty(size, dtype=np.bool_)
    for step in range(size):
        other = vectors[latest[size - 1 - step]]
        there[step] = product(other, other) > np.float32(0.5)
    for place in range(len(chosen)):
        vector, said = vectors[chosen[place]], out[place]
        said[6] = product(vector, vector) > np.float32(0.5)
        said[7] = known / max(size, 1)
        if said[6] == 0 or known == 0:
            continue
        highest, total = np.float32(-1), np.float32(0)
        for step in range(size):
            if not there[step]:
                continue
            near = product(vector, vectors[latest[size - 1 - step]])
            highest = largest(highest, near)
            total += near
            if step < _LAST:
                said[step] = near
        said[3] = product(vector, mean)
        said[4] = highest
        said[5] = total / known


@kernel
def faded_mean(latest: IntArray, vectors: FloatArray) -> tuple[FloatArray, int]:
    """The direction of a visit's latest items, the last one first; how many of them are known."""
    mean = np.zeros(vectors.shape[1], dtype=np.float32)
    weight, known = np.float32(1), 0
    for step in range(len(latest)):
        vector = vectors[latest[len(latest) - 1 - step]]
        if product(vector, vector) > np.float32(0.5):
            known += 1
            for j in range(len(vector)):
                mean[j] += weight * vector[j]
        weight *= FADING
    length = np.sqrt(product(mean, mean)) + np.float32(1e-9)
    for j in range(len(mean)):
        mean[j] /= length
    return mean, known


@kernel
def latest_means(  # noqa: PLR0917 - kernels are called by position
    items: IntArray, offsets: IntArray, vectors: FloatArray, out: FloatArray
) -> None:
    """Write the direction of every visit's latest items. Shape of `out` (visits, dim)."""
    for row in range(len(offsets) - 1):
        latest = items[max(offsets[row], offsets[row + 1] - LATEST) : offsets[row + 1]]
        out[row] = faded_mean(latest, vectors)[0]
