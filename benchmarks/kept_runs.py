"""Figures of fitted models that are kept as soon as they are known, with the settings behind them.

An entry counts as long as its settings are today's. An option that was not there when the entry was
written must stand at its default, which does what was done before there was that option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec


class KeptRun(msgspec.Struct, frozen=True):
    """One fit.

    Attributes:
        commit: The code that gave the figures, or the commit that recorded them.
        settings: All of the model's, as JSON.
        figures: By name.
    """

    commit: str
    settings: dict[str, Any]
    figures: dict[str, float]


class KeptRuns:
    """Fits by name; each is written down at once, so that a long run can be taken up again.

    Args:
        file: JSON.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._runs: dict[str, KeptRun] = {}
        if file.is_file():
            self._runs = msgspec.json.decode(file.read_bytes(), type=dict[str, KeptRun])

    def get(self, name: str, config: object) -> dict[str, float] | None:
        """The figures, if they are known for these settings."""
        kept = self._runs.get(name)
        return kept.figures if kept and agree(kept.settings, config) else None

    def put(self, name: str, config: object, figures: dict[str, float], *, commit: str) -> None:
        """Keep figures, in place of any that the name had."""
        settings: dict[str, Any] = _as_json(config)
        self._runs[name] = KeptRun(commit=commit, settings=settings, figures=figures)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self._runs), indent=2) + b"\n")
        draft.replace(self._file)


def agree(kept: object, today: object) -> bool:
    """Whether settings that were kept are those of today; see the module for new options."""
    if is_dataclass(today) and isinstance(kept, Mapping):
        known = {field.name: field for field in fields(today)}
        return kept.keys() <= known.keys() and all(
            agree(kept[name], getattr(today, name))
            if name in kept
            else getattr(today, name) == _default(field)
            for name, field in known.items()
        )
    if isinstance(today, tuple) and isinstance(kept, list):
        return len(kept) == len(today) and all(map(agree, kept, today))
    return bool(kept == _as_json(today))


def _as_json(settings: object) -> Any:  # noqa: ANN401 - any JSON value
    return msgspec.json.decode(msgspec.json.encode(settings, enc_hook=str))


def _default(field: Field[Any]) -> Any:  # noqa: ANN401 - any setting
    return field.default if field.default_factory is MISSING else field.default_factory()
