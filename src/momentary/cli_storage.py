"""Commands that look after the stored data."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from momentary.cli_shared import (
    Home,
    Json,
    bars,
    index_choice,
    open_workspace,
    print_json,
    stdout,
)

if TYPE_CHECKING:
    from momentary.models.artifact import Bundle
    from momentary.types import Progress

tenant = typer.Typer(
    help="Several shops in one server, each with data, models and keys of its own.",
    no_args_is_help=True,
)


def compact(
    home: Home = None,
    keep_days: Annotated[
        int | None, typer.Option(help="Leave so many days in the live log; storage.keep_days.")
    ] = None,
    json: Json = False,
) -> None:
    """Move old events and answers from the live log to Parquet; a service may run meanwhile.

    Example: momentary compact --keep-days 30
    """
    from dataclasses import replace

    from momentary.data.compaction import compact as move
    from momentary.data.workspace import Workspace
    from momentary.settings import workspace_settings

    settings = workspace_settings(home, environ=os.environ)
    storage = settings.storage
    if keep_days is not None:
        storage = replace(storage, keep_days=keep_days)
    with Workspace.open(settings.home, storage=storage) as workspace:
        done = move(
            workspace,
            now_us=time.time_ns() // 1000,
            keep_days=storage.keep_days,
            idempotency_days=storage.idempotency_days,
        )
    if json:
        print_json(done)
        return
    stdout.print(
        f"[bold]{done.events:,} events[/] and {done.exposures:,} answers older than "
        f"{storage.keep_days} days moved to {done.segments} Parquet files."
    )


def with_graph(bundle: Bundle, home: Path | None, *, progress: Progress) -> Bundle:
    """A bundle that was just trained with the graph that the settings ask for, if any."""
    from momentary.models.graphs import with_new_graph

    return with_new_graph(bundle, index_choice(home), progress=progress)


def index(
    home: Home = None,
    model: Annotated[str, typer.Option(help="A version, or an alias.")] = "prod",
    json: Json = False,
) -> None:
    """Build the graph of a saved model's items, for catalogues of some hundred thousand.

    Training does so by itself, unless serve.index or the size says otherwise. A service takes it
    when it starts or when the model is promoted.

    Example: momentary index
    """
    from momentary.models.artifact import ModelStore, add_graph
    from momentary.models.graphs import WORTH_ITEMS, built

    with open_workspace(home) as workspace, bars() as bar:
        store = ModelStore(workspace.models)
        bundle = store.load(model)
        graph = built(bundle, progress=bar("index"))
        add_graph(store.root / bundle.version, graph)
    facts = {"version": bundle.version, "items": graph.n_items, "bytes": graph.size_bytes}
    if json:
        print_json(facts)
        return
    stdout.print(
        f"[bold]{bundle.version}[/] has a graph of {graph.n_items:,} items now; at work it takes "
        f"{graph.size_bytes / 2**20:,.0f} MiB."
    )
    if graph.n_items < WORTH_ITEMS:
        stdout.print(
            f"Below {WORTH_ITEMS:,} items the exact search costs no more: the graph is used with "
            'serve.index = "graph" alone.'
        )


@tenant.command()
def add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    home: Home = None,
) -> None:
    """Make a tenant, and print its admin key this once.

    Example: momentary tenant add north
    """
    from momentary.serving.tenants import FOLDER, add_tenant
    from momentary.settings import workspace_settings

    settings = workspace_settings(home, environ=os.environ)
    key = add_tenant(settings, name)
    folder = settings.home / FOLDER / name
    stdout.print("The tenant's admin key; it is shown this once:")
    stdout.print(f"  {key}", soft_wrap=True, highlight=False)
    stdout.print("Import and train for it, then start the server again:", soft_wrap=True)
    stdout.print(f"  momentary import FILE --home {folder}", soft_wrap=True, highlight=False)
    stdout.print(f"  momentary train --home {folder}", soft_wrap=True, highlight=False)
    stdout.print("  momentary serve --tenants", soft_wrap=True, highlight=False)


@tenant.command("list")
def list_(home: Home = None, json: Json = False) -> None:
    """Name the tenants, and what each one holds.

    Example: momentary tenant list
    """
    from momentary.data.workspace import Workspace
    from momentary.models.artifact import ModelStore
    from momentary.serving.tenants import list_tenants
    from momentary.settings import workspace_settings

    rows = []
    for each in list_tenants(workspace_settings(home, environ=os.environ)):
        settings = each.settings
        with Workspace.open(settings.home, storage=settings.storage) as workspace:
            rows.append(
                {
                    "name": each.name,
                    "items": workspace.catalog.count(),
                    "models": len(ModelStore(workspace.models).versions()),
                    "keys": len(settings.serve.api_keys),
                }
            )
    if json:
        print_json(rows)
        return
    for row in rows:
        stdout.print(
            f"[bold]{row['name']}[/]: {row['items']:,} items, {row['models']} models, "
            f"{row['keys']} keys"
        )
    if not rows:
        stdout.print("There is no tenant; make one with momentary tenant add NAME.")


@tenant.command()
def remove(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a tenant with all its data, models and keys; stop the server first.

    Example: momentary tenant remove north
    """
    from momentary.serving.tenants import remove_tenant
    from momentary.settings import workspace_settings

    settings = workspace_settings(home, environ=os.environ)
    if not yes:
        typer.confirm(f"Delete {name} and everything that is its own?", abort=True)
    remove_tenant(settings, name)
    stdout.print(f"{name} is gone.")


def serve_tenants(
    home: Path | None, *, host: str | None, port: int | None, config: Path | None
) -> None:
    """Serve every tenant of a folder."""
    from momentary.serving.startup import start_tenants

    def plain(text: str) -> None:
        stdout.print(text, soft_wrap=True, markup=False, highlight=False)

    start_tenants(home, file=config, host=host, port=port, environ=os.environ, announce=plain)
