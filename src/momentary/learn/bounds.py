"""What the values of a configuration may be; a bad one is refused with its name and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def require_choices(config: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse a setting that is none of its choices.

    Raises:
        ValueError: Naming the setting, its value and what it may be.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


def require_ranges(config: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a setting outside its range, ends included; NaN is outside of any.

    Raises:
        ValueError: Naming the setting, its value and the range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; it must be from {low} to {high}.")


def require_negatives(*, batch_size: int, n_sample: int) -> None:
    """Refuse a training in which a target would meet no other item.

    Raises:
        ValueError: If the batch holds one session and nothing is drawn.
    """
    if batch_size + n_sample < 2:
        raise ValueError(
            "batch_size is 1 and n_sample is 0; there is no negative to learn from. Raise either."
        )
