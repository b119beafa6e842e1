"""What a model learned, or a refusal when it has learned nothing yet."""

from __future__ import annotations

from typing import TypeVar

from momentary.errors import NotFittedError

Learned = TypeVar("Learned")


def require_fitted(learned: Learned | None, model: object) -> Learned:
    """Give back `learned` if there is something.

    Raises:
        NotFittedError: If `learned` is None.
    """
    if learned is None:
        raise NotFittedError(
            f"{type(model).__name__} has not been fitted; "
            "call fit(sessions, n_items=..., rng=...) first, or load a saved model."
        )
    return learned
