"""Which commit of a model was loaded, so that vectors of an older one are never taken for its own.

A name alone means whatever its hub holds today. What `from_pretrained` loads lies in the cache of
huggingface_hub as `snapshots/COMMIT`, with the commit of a branch in `refs/BRANCH`; both are read
without a network. A folder has no commits: the digest of its files stands for one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_MARKERS = ("config.json", "modules.json", "config_sentence_transformers.json")
"""Files of which every model has one."""

_DIGEST = "sha256-"
_SHOWN = 16
_NO_PART = (".py", ".md")
_NEWEST = "main"


def split_model(model: str) -> tuple[str, str | None]:
    """A model's name, or folder, and its commit or branch if it names one.

    A folder's digest says what it held, and chooses nothing: it is left out.

    >>> split_model("google/siglip2-base-patch16-224@75de2d5")
    ('google/siglip2-base-patch16-224', '75de2d5')
    >>> split_model("facebook/dinov3")
    ('facebook/dinov3', None)
    """
    name, at, revision = model.rpartition("@")
    if not at or not name or Path(model).exists():
        return model, None
    return name, None if revision.startswith(_DIGEST) else revision


def loaded_revision(name: str, revision: str | None, *, cache: str | None = None) -> str:
    """The commit that was loaded, or the digest of a folder; ask after loading.

    Args:
        name: On the hub, or a folder.
        revision: As it was asked for.
        cache: Where the models lie; None is where huggingface_hub keeps them.

    Returns:
        `revision`, or "main", where the cache does not tell.
    """
    folder = Path(name)
    if folder.is_dir():
        return _DIGEST + _digest(folder)[:_SHOWN]
    from huggingface_hub import try_to_load_from_cache

    wanted = revision or _NEWEST
    for marker in _MARKERS:
        file = try_to_load_from_cache(name, marker, cache_dir=cache, revision=wanted)
        if isinstance(file, str | os.PathLike):
            parts = Path(file).parts
            return parts[len(parts) - parts[::-1].index("snapshots")]
    return wanted


def _digest(folder: Path) -> str:
    """Of the names and contents of the files that make a model what it is; never of its code."""
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = file.relative_to(folder).as_posix()
        if name.startswith(".") or file.suffix in _NO_PART:
            continue
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").digest()
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
