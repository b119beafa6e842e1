"""Commands for the saved models: which there are, which one answers, and which may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from momentary.cli_shared import Home, Json, open_workspace, print_json, stderr, stdout

if TYPE_CHECKING:
    from momentary.data.workspace import Workspace
    from momentary.models.artifact import Bundle

app = typer.Typer(
    help="The saved models: list them, let one answer, take that back, delete one.",
    no_args_is_help=True,
)

Version = Annotated[str, typer.Argument(help="As momentary models list shows it, or an alias.")]

_RUNNING = "A running service takes it within a second."


def saved(workspace: Workspace, bundle: Bundle, *, promote: bool) -> str:
    """The version under which a bundle is saved now, and answers if it is promoted."""
    from datetime import UTC, datetime

    from momentary.models.artifact import ModelStore
    from momentary.models.promotion import promote as promote_model

    store = ModelStore(workspace.models)
    version = store.add(bundle, now=datetime.now(UTC))
    if promote:
        promote_model(store, version, workspace.model_aliases)
    return version


@app.command("list")
def list_(home: Home = None, json: Json = False) -> None:
    """What is saved, oldest first, and which one answers.

    Example: momentary models list
    """
    from rich.markup import escape
    from rich.table import Table

    from momentary.errors import ArtifactError
    from momentary.models.artifact import ModelStore, read_manifest

    with open_workspace(home) as workspace:
        store = ModelStore(workspace.models)
    aliases = store.aliases()
    rows: list[dict[str, Any]] = []
    for version in store.versions():
        try:
            manifest = read_manifest(store.root / version)
        except ArtifactError as error:
            stderr.print(f"[yellow]{escape(str(error))}[/]", soft_wrap=True)
            continue
        rows.append(
            {
                "version": version,
                "kind": manifest.scorers["main"].kind,
                "created": manifest.created,
                "aliases": sorted(name for name, of in aliases.items() if of == version),
                "facts": manifest.facts,
            }
        )
    if json:
        print_json(rows)
        return
    if not rows:
        stdout.print("There is no model yet; make one with: momentary train")
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("version", "is", "items", "events", "from", "to"):
        table.add_column(column, justify="right" if column in ("items", "events") else "left")
    for row in rows:
        facts = row["facts"]
        table.add_row(
            escape(row["version"]),
            ", ".join(row["aliases"]),
            *(f"{facts[name]:,}" if name in facts else "" for name in ("items", "events")),
            *(str(facts.get(name, ""))[:10] for name in ("from", "to")),
        )
    stdout.print(table)


@app.command()
def promote(
    version: Version,
    home: Home = None,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Only name it the one that waits.")
    ] = False,
) -> None:
    """Let a saved model answer; `previous` takes that back.

    Example: momentary models promote previous
    """
    from momentary.models.artifact import PROD, ModelStore
    from momentary.models.promotion import promote as promote_model

    alias = "candidate" if candidate else PROD
    with open_workspace(home) as workspace:
        store = ModelStore(workspace.models)
        # Loaded whole: a damaged model must not take the place of one that works.
        wanted = store.load(version).version
        promote_model(store, wanted, workspace.model_aliases, alias=alias)
    stdout.print(f"[bold]{wanted}[/] is {alias} now.")
    if alias == PROD:
        stdout.print(_RUNNING)


@app.command()
def remove(
    version: Annotated[str, typer.Argument(help="As momentary models list shows it.")],
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a saved model that no longer answers, such as one that learned from an erased person.

    Example: momentary models remove gru4rec-20260102T030405
    """
    from momentary.models.artifact import ModelStore
    from momentary.models.promotion import announce

    with open_workspace(home) as workspace:
        store = ModelStore(workspace.models)
        if not yes:
            typer.confirm(f"Delete {version}?", abort=True)
        store.remove(version)
        announce(store, workspace.model_aliases)
    stdout.print(f"{version} is gone.")
