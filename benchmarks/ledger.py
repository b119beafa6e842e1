"""Results that are kept as soon as they are known, so that a long run can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


class Ledger:
    """Results by name; a name says everything that a result depends on but the code.

    Args:
        file: JSON; None keeps nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._noted: dict[str, Any] = {}
        if file is not None and file.is_file():
            self._noted = json.loads(file.read_text(encoding="utf-8"))

    def of(self, name: str, measure: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON value
        """The result of that name, measured now if it is not known yet."""
        if name not in self._noted:
            self._noted[name] = msgspec.to_builtins(measure())
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                draft = self._file.with_suffix(".draft")
                draft.write_text(json.dumps(self._noted, indent=1), encoding="utf-8")
                draft.replace(self._file)
        return self._noted[name]
