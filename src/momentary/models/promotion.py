"""Promotions that every machine of a shop hears of.

A folder of models has its own aliases, and the shop's database has those of the last promotion, on
whichever machine. Beside its aliases a folder keeps the revision of the database's that it knows:
so a service that starts can tell whether something was promoted elsewhere meanwhile. One process
at a time changes both, so that nobody takes back what another promoted in the same moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from momentary.data.model_aliases import ModelAliases
from momentary.models.artifact import PROD, ModelStore

_SEEN = "aliases.revision"
_LOCK = "aliases.lock"


def promote(store: ModelStore, version: str, shared: ModelAliases, *, alias: str = PROD) -> None:
    """Let an alias mean this version; services of the shop follow within a second.

    Raises:
        ArtifactError: If there is no such version.
        DataError: The database takes nothing now; the folder's alias is changed already.
    """
    with _turn(store):
        store.promote(version, alias=alias)
        _announce(store, shared)


def announce(store: ModelStore, shared: ModelAliases, *, known: int | None = None) -> None:
    """Let every machine know the aliases of this folder.

    Args:
        store: The folder.
        shared: What the shop's database says.
        known: Somebody's promotion after this revision of the database stays as it is.

    Raises:
        DataError: The database takes nothing now.
    """
    with _turn(store):
        _announce(store, shared, known=known)


def adopt(store: ModelStore, shared: ModelAliases, *, prod: str) -> None:
    """Let a folder know what was promoted elsewhere, as far as it has those models.

    Nothing changes if the database says another `prod`, which somebody promoted meanwhile, or if
    the folder knows what it says: what the folder says besides was promoted here since.

    Args:
        store: The folder.
        shared: What the shop's database says.
        prod: The version that answers here.

    Raises:
        StorageError: If the database does not answer.
    """
    with _turn(store):
        revision, aliases = shared.read()
        if aliases.get(PROD, prod) != prod or seen(store) >= revision:
            return
        known = {alias: of for alias, of in aliases.items() if _has(store, of)}
        # `prod` first: it changes what `previous` is.
        for alias in sorted(known, key=lambda each: each != PROD):
            if store.aliases().get(alias) != known[alias]:
                store.promote(known[alias], alias=alias)
        note_seen(store, revision)


def seen(store: ModelStore) -> int:
    """The revision of the database's aliases that a folder knows; 0 for none."""
    try:
        return int((store.root / _SEEN).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def note_seen(store: ModelStore, revision: int) -> None:
    """Remember a revision of the database's aliases."""
    draft = store.root / f"{_SEEN}.draft"
    draft.write_text(str(revision), encoding="ascii")
    draft.replace(store.root / _SEEN)


def _announce(store: ModelStore, shared: ModelAliases, *, known: int | None = None) -> None:
    note_seen(store, shared.write(store.aliases(), known=known))


def _has(store: ModelStore, version: str) -> bool:
    return (store.root / version / "manifest.json").is_file()


@contextmanager
def _turn(store: ModelStore) -> Iterator[None]:
    """Wait until no other process changes the folder's aliases; one that dies lets go."""
    if os.name == "nt":
        yield  # there are no such locks
        return
    import fcntl

    handle = os.open(store.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
