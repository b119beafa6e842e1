"""What all commands share: their options, where they print, and progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from momentary.data.workspace import Workspace
    from momentary.settings import IndexChoice
    from momentary.types import Progress

    Bars = Callable[[str], Progress]

stdout = Console()
"""Results."""
stderr = Console(stderr=True)
"""Progress, warnings and errors."""

Home = Annotated[
    Path | None,
    typer.Option(help="Workspace folder; MOMENTARY_HOME, or ./momentary-home.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Seed = Annotated[int, typer.Option(help="Draws everything that chance decides.")]
Plain = Annotated[bool, typer.Option("--plain", help="Leave out what was learned from labels.")]
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]


def open_workspace(home: Path | None) -> Workspace:
    """The workspace that the command line, the environment or its settings name.

    Raises:
        DataError: It is not there.
        SettingsError: Its settings are wrong.
    """
    from momentary.data.workspace import Workspace
    from momentary.settings import workspace_settings

    settings = workspace_settings(home, environ=os.environ)
    return Workspace.open(settings.home, storage=settings.storage)


def index_choice(home: Path | None) -> IndexChoice:
    """How the settings of a workspace want its models searched."""
    from momentary.settings import workspace_settings

    return workspace_settings(home, environ=os.environ).serve.index


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on standard error; give one a name to get its `Progress`."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Drawn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Drawn(*columns, console=stderr, transient=True) as drawn:

        def add(what: str) -> Progress:
            row = drawn.add_task(what, total=None, note="")

            def tell(done: int, total: int, note: str = "") -> None:
                drawn.update(row, completed=done, total=total, note=note, visible=done < total)

            return tell

        yield add


@contextmanager
def one_bar(what: str) -> Iterator[Progress]:
    """The `Progress` of a single bar."""
    with bars() as add:
        yield add(what)
