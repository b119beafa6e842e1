"""Run the application under uvicorn."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from momentary.errors import SettingsError
from momentary.serving import garbage
from momentary.serving.app import Application
from momentary.serving.direct import protocol_for
from momentary.settings import ServeSettings

_LOGGER = logging.getLogger(__name__)


def listen(settings: ServeSettings) -> socket.socket:
    """Take the port; who connects from now on waits until `serve` answers.

    Raises:
        SettingsError: The address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        # create_server repeats the address in brackets.
        reason = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"the service cannot listen on port {settings.port} of {settings.host} "
            f"({reason}); stop what listens there, or choose another with --port."
        ) from error


def serve(
    app: ASGIApp,
    settings: ServeSettings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[], object] = lambda: None,
    lifeline: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; open requests may end, then the event log is closed.

    Nothing is printed: uvicorn's loggers are left to whoever configures logging.

    Args:
        app: What answers.
        settings: Where to listen, and how long open requests may take at the end.
        listener: From `listen`, which is called if there is none; it is closed at the end.
        on_ready: Called once requests are answered.
        lifeline: A file descriptor whose end is an order to stop, too.

    Raises:
        SettingsError: The address is not this machine's, or the port is taken.
    """
    direct = app.direct() if isinstance(app, Application) else {}
    config = uvicorn.Config(
        app,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=protocol_for(settings.request_s, direct),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    garbage.settle()
    with listener or listen(settings) as taken:
        _Server(config, on_ready, lifeline=lifeline).run(sockets=[taken])


class Maker(Protocol):
    """Makes what answers in one process."""

    def __call__(self, *, again: bool = False) -> Application:
        """Make it; `again` if the process replaces another, since which much may have changed."""


def serve_workers(
    make: Maker,
    settings: ServeSettings,
    *,
    turn: Path,
    listener: socket.socket | None = None,
    on_ready: Callable[[], object] = lambda: None,
) -> None:
    """Serve by `settings.workers` processes until SIGINT or SIGTERM; one that dies is replaced.

    They are copies of this process and share what it holds in memory.

    Args:
        make: Called in each process.
        settings: How many, and the rest as in `serve`.
        turn: A file for the lock around writes of the log.
        listener: From `listen`, which is called if there is none; it is closed at the end.
        on_ready: Called in the first process once requests are answered.

    Raises:
        SettingsError: The address is not this machine's, the port is taken, this system cannot
            copy processes, or they end as soon as they start.
    """
    # Only a service of several processes needs what not every system has.
    from momentary.serving.team import Team
    from momentary.serving.workers import Workers

    team = Team(settings.workers, turn=turn, keys=len(settings.api_keys))
    with listener or listen(settings) as taken, team:

        def work(index: int, starts: int, lifeline: int) -> None:
            app = make(again=starts > 0)
            app.join(team.member(index))
            ready = on_ready if index == starts == 0 else lambda: None
            serve(app, settings, listener=taken, on_ready=ready, lifeline=lifeline)

        garbage.settle()
        failed = Workers(settings.workers, work, grace_s=settings.shutdown_s).run()
    if failed:
        _LOGGER.warning("%d workers did not end as they should", failed)


class _Server(uvicorn.Server):
    """Says when it answers, which uvicorn says to its log alone."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], object], *, lifeline: int | None
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._lifeline is not None:
                asyncio.get_running_loop().add_reader(self._lifeline, self._cut)
            self._on_ready()

    def _cut(self) -> None:
        """The process that started this one is gone."""
        if self._lifeline is not None:
            asyncio.get_running_loop().remove_reader(self._lifeline)
        self.should_exit = True
