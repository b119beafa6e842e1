"""Rules in a file of the workspace: where they lay before the database held them.

A service that finds `rules.json` when it starts moves its rules into the database and renames the
file, so that it is read once. A rule set whose name the database knows already stays as it is
there.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from momentary.data.workspace import Workspace
from momentary.errors import SettingsError
from momentary.recommend.scenarios import merged

_LOGGER = logging.getLogger(__name__)
NAME = "rules.json"
DONE = "rules.json.imported"
_WAIT_S = 60.0
_FILE = msgspec.json.Decoder(dict[str, dict[str, Any]])


def import_rules(workspace: Workspace) -> list[str]:
    """Move the rules of the workspace's file into the database; the names of those moved.

    Raises:
        SettingsError: If the file is damaged, or cannot be renamed.
        DataError: If the database takes nothing.
    """
    file = workspace.root / NAME
    if not file.is_file():
        return []
    with workspace.exclusive("rules", wait_s=_WAIT_S):
        if not file.is_file():
            # Another process was faster.
            return []
        rules = _read(file)
        moved = workspace.rule_sets.add(
            {name: msgspec.json.encode(each).decode() for name, each in rules.items()}
        )
        try:
            file.replace(file.with_name(DONE))
        except OSError as error:
            raise SettingsError(
                f"{file} is in the database now and cannot be renamed ({error.strerror}); remove "
                "it, or its rules would come back after they were deleted."
            ) from error
    kept = sorted({*rules} - {*moved})
    _LOGGER.warning(
        "%s is in the database now: %d rule sets, and %s were there already; it is %s from now on",
        *(file, len(moved), ", ".join(kept) or "none", DONE),
    )
    return moved


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        written = _FILE.decode(file.read_bytes())
        for rules in written.values():
            merged([rules])
    except (ValueError, OSError) as error:
        raise SettingsError(f"{file} holds no rules: {error}; mend or remove it.") from error
    return written
