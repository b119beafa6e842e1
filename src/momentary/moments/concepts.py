"""Learned directions: what an edit does to an encoder's vectors, tested against chance.

A concept is the mean difference between the vectors of pictures after and before an edit, as a
unit vector (after TCAV: Kim et al., ICML 2018; edited pairs as in DICE-DML: Liu et al., 2026). The
random directions it is tested against are learned in the same way from differences whose signs
are drawn, in the training and the held-out pairs alike, so that a strong common shift cannot help
them. Any encoder will do: only its vectors are seen. `prompts` takes directions from words
instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError

Vectors = NDArray[np.floating]
"""One vector a picture. Shape (pictures, dim)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptConfig:
    """How a direction is learned and tested.

    Attributes:
        held_out: Share of the pairs kept for the test.
        random_directions: Random directions that it is compared with.
    """

    held_out: float = 0.4
    random_directions: int = 999

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must be between 0 and 1.")
        if self.random_directions < 99:
            raise ValueError(
                f"random_directions is {self.random_directions}; fewer than 99 cannot tell .01."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A direction in an encoder's space.

    Attributes:
        direction: Unit length. Shape (dim,).
        agreement: Share of the held-out pairs that the edit moves along it.
        p: Share of random directions that move their held-out pairs as far.
    """

    direction: NDArray[np.float64]
    agreement: float
    p: float

    def scores(self, vectors: Vectors) -> NDArray[np.float64]:
        """Place of each picture along the direction: a column of attributes. Shape (pictures,)."""
        return np.asarray(vectors, dtype=np.float64) @ self.direction


def learn_concept(
    before: Vectors,
    after: Vectors,
    *,
    rng: np.random.Generator,
    config: ConceptConfig | None = None,
) -> Concept:
    """Learn one direction from pictures before and after an edit.

    Args:
        before: Shape (pairs, dim).
        after: The same pictures edited. Shape (pairs, dim).
        rng: Splits the pairs and draws the random directions.
        config: Of the test.

    Raises:
        DataError: If the shapes differ, a value is not finite, there are fewer than 20 pairs, or
            the edit moves nothing.
    """
    chosen = config or ConceptConfig()
    if before.shape != after.shape or before.ndim != 2 or len(before) < 20:
        raise DataError(
            f"before has shape {before.shape} and after {after.shape}; give at least 20 pairs of "
            "vectors of one length."
        )
    moves = after.astype(np.float64) - before.astype(np.float64)
    if not np.isfinite(moves).all():
        raise DataError("A vector holds a value that is not finite; encode the pictures again.")
    order = rng.permutation(len(moves))
    kept = max(1, round(chosen.held_out * len(moves)))
    test, train = moves[order[:kept]], moves[order[kept:]]
    mean = train.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-12:
        raise DataError("The edit does not move the vectors at all; use a stronger one.")
    agreement = float((test @ mean > 0).mean())
    moved = float((test @ mean).mean()) / length
    beaten = 0
    for _ in range(chosen.random_directions):
        signs = rng.choice([-1.0, 1.0], size=len(moves))[:, None]
        by_chance = (train * signs[kept:]).mean(axis=0)
        far = float(((test * signs[:kept]) @ by_chance).mean())
        beaten += far / max(float(np.linalg.norm(by_chance)), 1e-12) >= moved
    return Concept(
        direction=mean / length,
        agreement=agreement,
        p=(1 + beaten) / (1 + chosen.random_directions),
    )
