"""From a workspace folder to a running service."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from momentary.data.workspace import Workspace
from momentary.models.artifact import ModelStore
from momentary.recommend.assembly import assemble
from momentary.recommend.pipeline import Recommender
from momentary.serving.app import create_app
from momentary.serving.server import serve
from momentary.settings import ServeSettings, load_settings
from momentary.types import Sessions


def start(
    home: Path,
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    announce: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve the promoted model of a workspace until SIGINT or SIGTERM.

    Args:
        home: Workspace folder.
        environ: MOMENTARY_* variables; they win over the file.
        file: Settings as TOML.
        host: Wins over the settings.
        port: Wins over the settings.
        announce: Told in words where the service listens and how to ask it.

    Raises:
        MomentaryError: If there is no workspace or no model, or a setting cannot work.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings(file, environ=environ).serve
    if host is not None:
        settings = replace(settings, host=host)
    if port is not None:
        settings = replace(settings, port=port)
    with Workspace.open(home) as workspace:
        bundle = ModelStore(workspace.models).load("prod")
        table = workspace.catalog.table(bundle.items.ids)
        recommender = assemble(bundle, table)
        app = create_app(
            workspace,
            recommender,
            model_version=bundle.version,
            settings=settings,
            fallback=assemble(bundle, table, role="fallback"),
        )
        announce(_welcome(settings, recommender, version=bundle.version))
        serve(app, settings)


def _welcome(settings: ServeSettings, recommender: Recommender, *, version: str) -> str:
    """Where the service listens, and a command to try with items of this very model."""
    address = f"http://{settings.host}:{settings.port}"
    popular = recommender.recommend(Sessions.from_lists([[]]), k=1, explain=False)[0]
    item = popular[0].item_id if popular else recommender.items.ids[0]
    body = json.dumps({"items": [item], "k": 5, "rules": {"exclude_seen": True}})
    key = " -H 'X-API-Key: YOUR-KEY'" if settings.api_keys else ""
    return (
        f"momentary serves {version} at {address} (its documentation: {address}/docs)\n"
        "Ask what goes into a basket in progress, in another terminal:\n\n"
        f"  curl -s {address}/v1/recommend -H 'Content-Type: application/json'{key} \\\n"
        f"    -d {_quoted(body)}\n\n"
        "Stop with Ctrl+C."
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
