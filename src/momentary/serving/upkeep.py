"""What a service does beside answering: it compacts its log when enough of it is old."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Self

from momentary.data.compaction import DAY_US, compact
from momentary.data.workspace import Workspace
from momentary.errors import MomentaryError, SettingsError
from momentary.settings import StorageSettings

_LOGGER = logging.getLogger(__name__)
_EVERY_S = 600.0


class Upkeep:
    """A thread that looks after one workspace; of several processes, one does the work.

    Args:
        workspace: Whose log.
        settings: How much may be old, and what old is.
        clock_us: The time now, in microseconds since 1970.
        every_s: Seconds between two looks.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: StorageSettings,
        *,
        clock_us: Callable[[], int],
        every_s: float = _EVERY_S,
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._clock_us = clock_us
        self._every_s = every_s
        self._stopped = threading.Event()
        # Killing it at any point is safe, so the process need not wait for it.
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Look from now on, until the process ends."""
        if self._settings.compact_events:
            self._thread.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def look(self) -> bool:
        """Compact if enough is old; whether it was."""
        now_us, settings = self._clock_us(), self._settings
        if not self._workspace.database.has_log():
            return False
        with closing(self._workspace.open_log()) as log:
            old = log.old_count(before_us=now_us - settings.keep_days * DAY_US)
        if old <= settings.compact_events:
            return False
        try:
            done = compact(
                self._workspace,
                now_us=now_us,
                keep_days=settings.keep_days,
                idempotency_days=settings.idempotency_days,
                wait_s=0,
            )
        except SettingsError:
            # Another process is at it, or imports.
            return False
        _LOGGER.warning(
            "%d events and %d answers moved from the log to Parquet", done.events, done.exposures
        )
        return True

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.look()
            except (MomentaryError, OSError):
                _LOGGER.exception("the log was not compacted; the next try is in a while")
