"""What the engine asks of the visits in progress, wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from momentary.data.vocabulary import Vocabulary
from momentary.errors import SettingsError
from momentary.serving.state import Key, LiveSessions, Undo, Visit
from momentary.settings import ServeSettings
from momentary.types import Event


class Visits(Protocol):
    """The visits that the ticks of one event loop work on.

    A tick calls `load`, `record`, `announce` (before the log is written), `put`, `publish` (after)
    and, whatever happened, `trim`.
    """

    def __len__(self) -> int: ...

    def load(self, keys: Iterable[Key]) -> None:
        """Have the visits of `keys` at hand."""

    def get(self, key: Key | None) -> Visit:
        """A visit that is at hand, or an empty one."""

    def put(self, key: Key, visit: Visit) -> None:
        """Replace a visit that is at hand."""

    def record(self, events: Iterable[Event]) -> Undo:
        """Let the visits at hand know what happened."""

    def restore(self, before: Undo) -> None:
        """Undo what one call of `record` did."""

    def forget(self, keys: Iterable[Key]) -> None:
        """Let go of some visits; the log is read again when they are asked for."""

    def announce(self, events: Iterable[Event]) -> None:
        """Keep other processes from relying on the visits of these events from now on."""

    def publish(self) -> None:
        """Let other processes know the visits at hand: the log holds everything in them."""

    def trim(self) -> None:
        """End a tick: let go of what need not be at hand."""

    def clear(self, items: Vocabulary, *, version: str) -> None:
        """Let go of every visit, here and elsewhere; item indices now mean `items`."""

    def switch(self, items: Vocabulary, *, version: str, remembers: bool | None = None) -> None:
        """Let another model's indices count from the next tick on.

        Args:
            items: Outside ids of the item indices.
            version: Names the model.
            remembers: Whether visitors keep their visits that have ended; None as before.
        """

    def close(self) -> None:
        """Let go of connections."""


def open_visits(
    settings: ServeSettings,
    *,
    items: Vocabulary,
    version: str,
    history: Callable[[Key, int], Iterable[Event]],
    identity: str,
    remembers: bool = False,
) -> Visits:
    """The visits in this process' memory, or in Redis where `serve.state_url` names one.

    Args:
        settings: Limits, and where.
        items: Outside ids of the model's item indices.
        version: Names the model.
        history: Reads the last events of one key from the log, oldest first.
        identity: Of the log; visits of several shops may share a Redis.
        remembers: Whether visitors keep their visits that have ended.

    Raises:
        SettingsError: The driver is missing, or the address is none.
    """
    local = LiveSessions(
        items=items,
        history=history,
        idle_s=settings.idle_s,
        max_sessions=settings.max_sessions,
        max_seen=settings.max_seen,
        remembers=remembers,
    )
    if settings.state_url is None:
        return local
    # Only a service with shared visits pays for the driver.
    try:
        from momentary.serving.shared_visits import SharedVisits
    except ImportError as error:
        raise SettingsError(
            f"serve.state_url needs a driver that is missing ({error}); "
            "run: pip install 'momentary[server]'"
        ) from error
    return SharedVisits(
        local, settings.state_url, version=version, identity=identity, idle_s=settings.idle_s
    )
