"""From a workspace folder to a running service."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from momentary.data.erasure import finish_pending
from momentary.data.occupancy import served
from momentary.data.workspace import Workspace
from momentary.errors import MomentaryError, SettingsError
from momentary.learn.threads import keep_one_blas_thread
from momentary.models.artifact import ModelStore
from momentary.recommend.pipeline import Recommender
from momentary.serving import garbage
from momentary.serving.app import Application, clock_us, create_app
from momentary.serving.dispatch import Dispatcher, Served
from momentary.serving.logs import write_logs
from momentary.serving.models import assortment_at_work, last_good
from momentary.serving.server import listen, serve, serve_workers
from momentary.serving.tenants import Tenant, list_tenants
from momentary.serving.upkeep import Upkeep
from momentary.settings import ServeSettings, Settings, workspace_settings
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
        file: Settings as TOML; without one, `momentary.toml` in the workspace counts.
        host: Wins over the settings.
        port: Wins over the settings.
        announce: Told in words where the service listens and how to ask it.

    Raises:
        MomentaryError: If there is no workspace or no model, a setting cannot work, the port is
            taken, or another service answers from the folder.
    """
    settings = _prepared(home, environ=environ, file=file)
    limits = _addressed(settings.serve, host=host, port=port)
    opening = Workspace.open(settings.home, storage=settings.storage)
    with (
        garbage.postponed(),
        opening as workspace,
        listen(limits) as listener,
        served(workspace.root, shared=_shared(settings)),
    ):
        models = _Models(workspace, limits)
        welcome = _welcome(limits, models.recommender, version=models.version)

        def make(*, again: bool = False) -> Application:
            if again:
                models.read()
            # A thread of this process: copies of a process have no threads of the first.
            Upkeep(workspace, settings.storage, clock_us=clock_us).start()
            return models.application()

        def say() -> None:
            announce(welcome)

        if limits.workers == 1:
            serve(make(), limits, listener=listener, on_ready=say)
            return
        # Connections to a database belong to one process.
        workspace.engine.dispose()
        turn = workspace.root / "serve.turn"
        serve_workers(make, limits, turn=turn, listener=listener, on_ready=say)


def start_tenants(
    home: Path | None,
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    announce: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve every tenant of a folder until SIGINT or SIGTERM.

    A tenant that cannot be served, such as one without a model, is named in the log and left out.

    Args:
        home: Folder whose `tenants` hold a workspace each; None takes that of the settings.
        environ: MOMENTARY_* variables; they win over the file.
        file: Settings as TOML; without one, `momentary.toml` in the folder counts.
        host: Wins over the settings.
        port: Wins over the settings.
        announce: Told in words where the service listens.

    Raises:
        MomentaryError: If no tenant can be served, a setting cannot work, or the port is taken.
    """
    settings = _prepared(home, environ=environ, file=file)
    tenants = list_tenants(settings)
    # Every tenant has keys, so the server may listen where the tenants' own settings may.
    keys = tuple(key for each in tenants for key in each.settings.serve.api_keys)
    limits = _addressed(replace(settings.serve, api_keys=keys), host=host, port=port)
    if limits.workers > 1:
        raise SettingsError(
            f"serve.workers is {limits.workers}, and tenants are served by one process; leave it "
            "at 1, or give a large tenant a server of its own."
        )
    with garbage.postponed(), listen(limits) as listener, contextlib.ExitStack() as stack:
        served = []
        for tenant in tenants:
            try:
                served.append(stack.enter_context(_served(tenant)))
            except MomentaryError as error:
                _LOGGER.warning("tenant %s is not served: %s", tenant.name, error)
        if not served:
            raise SettingsError(
                f"{settings.home} has no tenant that can be served; make one with momentary "
                "tenant add NAME, import and train with its --home, then serve."
            )
        address = f"http://{_callable(limits.host)}:{limits.port}"
        words = f"momentary serves {len(served)} of {len(tenants)} tenants at {address}"
        serve(Dispatcher(served), limits, listener=listener, on_ready=lambda: announce(words))


def _prepared(home: Path | None, *, environ: Mapping[str, str], file: Path | None) -> Settings:
    """The settings, once the process logs and computes as a service does."""
    write_logs("text")
    keep_one_blas_thread()
    settings = workspace_settings(home, environ=environ, file=file)
    write_logs(settings.serve.log_format)
    return settings


def _addressed(limits: ServeSettings, *, host: str | None, port: int | None) -> ServeSettings:
    """The settings, listening where the command line says."""
    if host is not None:
        limits = replace(limits, host=host)
    return limits if port is None else replace(limits, port=port)


@contextlib.contextmanager
def _served(tenant: Tenant) -> Iterator[Served]:
    limits, storage = tenant.settings.serve, tenant.settings.storage
    opening = Workspace.open(tenant.settings.home, storage=storage)
    with opening as workspace, served(workspace.root, shared=_shared(tenant.settings)):
        app = _Models(workspace, limits).application()
        with Upkeep(workspace, storage, clock_us=clock_us):
            yield Served(app=app, settings=limits)


def _shared(settings: Settings) -> bool:
    """Whether several services may answer from one folder.

    They share visits through Redis, or stand on several machines behind a balancer.
    """
    return settings.serve.state_url is not None or settings.storage.database_url is not None


class _Models:
    """The models that a process answers with, as they were when it started or was replaced."""

    def __init__(self, workspace: Workspace, limits: ServeSettings) -> None:
        self._workspace = workspace
        self._limits = limits
        if finish_pending(workspace, now_us=clock_us()):
            _LOGGER.warning("an erasure that was cut off is finished now")
        self.read()

    def read(self) -> None:
        """Read the promoted model and the catalogue."""
        bundle = last_good(ModelStore(self._workspace.models), self._limits.index)
        made = assortment_at_work(bundle, self._workspace)
        self.assortment, self.recommender, self.fallback = made
        self.version = bundle.version

    def application(self) -> Application:
        """What answers with them."""
        return create_app(
            self._workspace,
            self.recommender,
            model_version=self.version,
            settings=self._limits,
            fallback=self.fallback,
            assortment=self.assortment,
        )


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
