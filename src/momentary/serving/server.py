"""Run the application under uvicorn."""

from __future__ import annotations

import sys

import uvicorn

from momentary.serving.app import Application
from momentary.settings import ServeSettings


def serve(app: Application, settings: ServeSettings) -> None:
    """Serve until SIGINT or SIGTERM; open requests may end, then the event log is closed.

    Nothing is printed: uvicorn's loggers are left to whoever configures logging.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    uvicorn.Server(config).run()
