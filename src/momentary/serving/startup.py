"""From a workspace folder to a running service."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from momentary.data.erasure import finish_pending
from momentary.data.workspace import Workspace
from momentary.learn.threads import keep_one_blas_thread
from momentary.models.artifact import ModelStore
from momentary.recommend.pipeline import Recommender
from momentary.serving.app import Application, clock_us, create_app
from momentary.serving.logs import write_logs
from momentary.serving.models import assortment_at_work, last_good
from momentary.serving.server import listen, serve, serve_workers
from momentary.settings import ServeSettings, load_settings
from momentary.types import Sessions

_LOGGER = logging.getLogger(__name__)


def start(
    home: Path | None,
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    announce: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve the promoted model of a workspace until SIGINT or SIGTERM.

    Args:
        home: Workspace folder; None takes that of the settings.
        environ: MOMENTARY_* variables; they win over the file.
        file: Settings as TOML.
        host: Wins over the settings.
        port: Wins over the settings.
        announce: Told in words where the service listens and how to ask it.

    Raises:
        MomentaryError: If there is no workspace or no model, a setting cannot work, or the port
            is taken.
    """
    write_logs("text")
    keep_one_blas_thread()
    settings = load_settings(file, environ=environ)
    limits = settings.serve
    write_logs(limits.log_format)
    if host is not None:
        limits = replace(limits, host=host)
    if port is not None:
        limits = replace(limits, port=port)
    with Workspace.open(home or settings.home) as workspace, listen(limits) as listener:
        if finish_pending(workspace, now_us=clock_us()):
            _LOGGER.warning("an erasure that was cut off is finished now")
        models = _Models(workspace)
        welcome = _welcome(limits, models.recommender, version=models.version)

        def make(*, again: bool = False) -> Application:
            if again:
                models.read()
            return create_app(
                workspace,
                models.recommender,
                model_version=models.version,
                settings=limits,
                fallback=models.fallback,
                assortment=models.assortment,
            )

        def say() -> None:
            announce(welcome)

        if limits.workers == 1:
            serve(make(), limits, listener=listener, on_ready=say)
            return
        turn = workspace.root / "serve.turn"
        serve_workers(make, limits, turn=turn, listener=listener, on_ready=say)


class _Models:
    """The models that a process answers with, as they were when it started or was replaced."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.read()

    def read(self) -> None:
        """Read the promoted model and the catalogue."""
        bundle = last_good(ModelStore(self._workspace.models))
        made = assortment_at_work(bundle, self._workspace)
        self.assortment, self.recommender, self.fallback = made
        self.version = bundle.version


def _welcome(settings: ServeSettings, recommender: Recommender, *, version: str) -> str:
    """Where the service listens, and a command to try with items of this very model."""
    address = f"http://{_callable(settings.host)}:{settings.port}"
    popular = recommender.recommend(Sessions.from_lists([[]]), k=1, explain=False)[0]
    item = popular[0].item_id if popular else recommender.items.ids[0]
    basket = json.dumps([item])
    body = f'{{"items": {basket}, "k": 5, "explain": true,\n    "rules": {{"exclude_seen": true}}}}'
    key = " -H 'X-API-Key: YOUR-KEY'" if settings.api_keys else ""
    # Lines that fit a narrow terminal, so that what is printed can be copied whole.
    return (
        f"momentary serves {version} at {address}\n"
        f"Try it in a browser: {address}/docs\n"
        "Or in another terminal, what goes with one item in the basket:\n\n"
        f"curl -s {address}/v1/recommend{key} \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {_quoted(body)}\n\n"
        "Stop with Ctrl+C."
    )


def _callable(host: str) -> str:
    """How to call a server from this machine that listens on `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return everywhere.get(host, f"[{host}]" if ":" in host else host)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
