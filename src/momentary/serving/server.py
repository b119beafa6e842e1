"""Run the application under uvicorn."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable

import uvicorn

from momentary.errors import SettingsError
from momentary.serving.app import Application
from momentary.serving.protocol import guarded
from momentary.settings import ServeSettings

_GARBAGE = (20_000, 20, 50)
"""Objects made before a look for garbage, and how seldom it looks at older ones."""


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
    app: Application,
    settings: ServeSettings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; open requests may end, then the event log is closed.

    Nothing is printed: uvicorn's loggers are left to whoever configures logging.

    Args:
        app: What answers.
        settings: Where to listen, and how long open requests may take at the end.
        listener: From `listen`, which is called if there is none; it is closed at the end.
        on_ready: Called once requests are answered.

    Raises:
        SettingsError: The address is not this machine's, or the port is taken.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=guarded(settings.request_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    # What is there now stays: looking through it for garbage would hold requests up.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    with listener or listen(settings) as taken:
        _Server(config, on_ready).run(sockets=[taken])


class _Server(uvicorn.Server):
    """Says when it answers, which uvicorn says to its log alone."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
