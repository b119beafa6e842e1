"""Promotions that every machine of a shop hears of.

A folder of models has its own aliases, and the shop's database has those of the last promotion, on
whichever machine. Beside its aliases a folder keeps the revision of the database's that it knows:
so a service that starts can tell whether something was promoted elsewhere meanwhile.
"""

from __future__ import annotations

from momentary.data.model_aliases import ModelAliases
from momentary.models.artifact import PROD, ModelStore

_SEEN = "aliases.revision"


def promote(store: ModelStore, version: str, shared: ModelAliases, *, alias: str = PROD) -> None:
    """Let an alias mean this version; services of the shop follow within a second.

    Raises:
        ArtifactError: If there is no such version.
        DataError: The database takes nothing now; the folder's alias is changed already.
    """
    store.promote(version, alias=alias)
    announce(store, shared)


def announce(store: ModelStore, shared: ModelAliases) -> None:
    """Let every machine know the aliases of this folder.

    Raises:
        DataError: The database takes nothing now.
    """
    note_seen(store, shared.write(store.aliases()))


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
