"""The command `momentary`: parse, call one function, print."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from momentary import __version__, cli_content, cli_models, cli_moments, cli_storage
from momentary.cli_shared import (
    Count,
    Home,
    Json,
    Seed,
    bars,
    index_choice,
    open_workspace,
    print_json,
    stderr,
    stdout,
)
from momentary.errors import MomentaryError, SettingsError

if TYPE_CHECKING:
    from momentary.cli_shared import Bars
    from momentary.data.sessions import SessionLog
    from momentary.data.workspace import Workspace
    from momentary.evaluation.trials import Task
    from momentary.evaluation.tuning import Tuned
    from momentary.models.artifact import Bundle
    from momentary.models.protocol import Scorer
    from momentary.recommend.pipeline import Recommender
    from momentary.types import IntArray, Recommendation


app = typer.Typer(
    name="momentary",
    help="A self-hosted personalization engine: import events, train, compare, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_moments.app, name="moments")
app.add_typer(cli_storage.tenant, name="tenant")

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A model setting, such as epochs=5; may be repeated."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with one table a model, as tune writes.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A model; may be repeated. Default: the eight quick ones."),
]
Days = Annotated[float, typer.Option(help="The last so many days of the events are the test.")]
MinEvents = Annotated[int, typer.Option(help="Leave out items with fewer training events.")]
TargetTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--target-type", help="Ask only for events of this type, as purchase; may be repeated."
    ),
]
ReadContent = Annotated[
    str | None,
    typer.Option(
        "--content",
        help="What feature_rnn, content_knn and hybrid read of the items: words or sentences "
        "(extra offline) of their texts, encoded for all that momentary encode saw, views of it, "
        "as in image,music, auto for what was encoded and the words of other texts, or none. "
        "Default: auto; words for feature_rnn.",
    ),
]


def main() -> None:
    """Run the command line; bad use ends in one line and exit code 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except MomentaryError as error:
        if debug:
            raise
        stderr.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        stderr.print("Stopped.")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        stderr.print(
            f"[bold red]Unexpected error:[/] {type(error).__name__}: {escape(str(error))} "
            "(run again with --debug and report what it prints)",
            soft_wrap=True,
        )
        sys.exit(1)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"momentary {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    pass


@app.command()
def demo(
    home: Annotated[Path, typer.Option(help="Folder to work in.")] = Path("demo-home"),
    serve: Annotated[bool, typer.Option(help="End with the running service.")] = True,
    port: Annotated[int, typer.Option(help="Where the service listens.")] = 8080,
) -> None:
    """Real groceries, from import to a running service, in two minutes.

    Example: momentary demo --no-serve
    """
    from momentary.demo import run_demo

    with bars() as bar:
        run_demo(home, console=stdout, bar=bar)
    if serve:
        _serve(home, port=port, host="127.0.0.1")


@app.command()
def doctor(
    files: Annotated[list[Path], typer.Argument(help="Files to look at.")],
    json: Json = False,
) -> None:
    """Look at data files: what they hold, what is wrong, what they are good for.

    Example: momentary doctor clicks.csv products.jsonl
    """
    import msgspec

    from momentary.data.doctor import examine, render

    reports = [examine(file) for file in files]
    if json:
        print_json(msgspec.to_builtins(reports))
        return
    for report in reports:
        stdout.print(render(report))


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Event or item files.")],
    home: Home = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Say which column is what, such as item_id=sku; may be repeated."),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option(help="Type of all events of a file that names none.")
    ] = None,
    order_as_time: Annotated[
        bool, typer.Option("--order-as-time", help="The file has no times: take its order instead.")
    ] = False,
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="What dates such as 1/2/2010 mean."),
    ] = None,
    json: Json = False,
) -> None:
    """Bring events and items into the workspace; doing it twice adds nothing.

    Example: momentary import clicks.csv products.jsonl --column item_id=sku
    """
    import msgspec

    from momentary.data.choices import choose
    from momentary.data.importer import import_files
    from momentary.data.workspace import Workspace
    from momentary.settings import workspace_settings

    mapping = dict(_pair(each, "--column") for each in column or [])
    if len(mapping) < len(column or []):
        raise SettingsError("--column names a field twice; one column fills one field.")
    layouts = choose(
        files,
        columns=mapping,
        event_type=event_type,
        order_as_time=order_as_time,
        day_first=day_first,
    )
    settings = workspace_settings(home, environ=os.environ)
    opening = Workspace.open(settings.home, create=True, storage=settings.storage)
    with opening as workspace, bars() as bar:
        report = import_files(workspace, files, layouts=layouts, progress=bar("import"))
    if json:
        print_json(msgspec.to_builtins(report))
        return
    stdout.print(
        f"{report.rows:,} rows read in {report.seconds:.1f} s: "
        f"[bold]{report.events_added:,} events added[/], {report.duplicates:,} were there already; "
        f"{report.items_added:,} items added, {report.items_updated:,} updated."
    )
    if report.skipped:
        stdout.print(f"{report.skipped:,} rows name no item and were passed over.")
    if report.rejects:
        where = ", ".join(str(file) for file in report.reject_files)
        stdout.print(f"[yellow]{report.rejects:,} rows were set aside[/], with reasons, in {where}")


@app.command()
def train(
    home: Home = None,
    model: Annotated[str, typer.Option("--model", "-m", help="What to train.")] = "gru4rec",
    settings: Settings = None,
    config: ConfigFile = None,
    min_item_events: MinEvents = 5,
    seed: Seed = 0,
    workers: Annotated[
        int, typer.Option(help="Cores that train gru4rec together; 1 repeats bit by bit.")
    ] = 1,
    holdout: Annotated[
        float,
        typer.Option(help="Newest share of the visits that judges each epoch, such as 0.05."),
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="With --holdout: stop after so many epochs without a better one.")
    ] = 2,
    content: ReadContent = None,
    promote: Annotated[bool, typer.Option(help="Let the service answer with it.")] = True,
    json: Json = False,
) -> None:
    """Train a model on all events of the workspace and save it.

    A training of gru4rec that was interrupted goes on where it stood when the same command is
    run on the same events.

    Example: momentary train --model gru4rec --set epochs=5 --set units=[128]
    """
    import numpy as np

    from momentary.data.sessions import keep_items, workspace_sessions
    from momentary.learn.checkpoint import Checkpoints
    from momentary.learn.course import Course
    from momentary.models.artifact import make
    from momentary.models.training import train as train_bundle

    scorer = make(model, _model_settings([model], settings, config)[model])
    with open_workspace(home) as workspace:
        log = keep_items(workspace_sessions(workspace), min_events=min_item_events)
        rng = np.random.default_rng(seed)
        kept = Checkpoints(workspace.root / "checkpoints", announce=stderr.print)
        try:
            course = Course(workers=workers, holdout=holdout, patience=patience, checkpoints=kept)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        with bars() as bar:
            log = _described([scorer], workspace, log, content=content, bar=bar, new_items=True)
            bundle = train_bundle(
                log, scorer, rng=rng, progress=bar(f"train {model}"), course=course
            )
            bundle = cli_storage.with_graph(
                cli_content.with_placement(
                    workspace, bundle, log.sessions, rng=rng, progress=bar("place")
                ),
                home,
                progress=bar("index"),
            )
        version = cli_models.saved(workspace, bundle, promote=promote)
    facts = {"version": version, "promoted": promote, **bundle.facts}
    if json:
        print_json(facts)
        return
    stdout.print(
        f"[bold]{version}[/] learned {facts['items']:,} items from {facts['events']:,} events in "
        f"{facts['sessions']:,} sessions ({facts['from'][:10]} to {facts['to'][:10]}), "
        f"{facts['fit_cpu_s']:.1f} CPU seconds."
    )
    stdout.print(
        "It answers now: momentary serve"
        if promote
        else f"Let it answer with: momentary models promote {version}"
    )


@app.command()
def evaluate(
    home: Home = None,
    models: Models = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="next_item, completion or next_basket; may be repeated."),
    ] = None,
    days: Days = 7.0,
    settings: Settings = None,
    config: ConfigFile = None,
    min_item_events: MinEvents = 5,
    max_queries: Annotated[int, typer.Option(help="Ask at most so many queries.")] = 5_000,
    target_types: TargetTypes = None,
    content: ReadContent = None,
    seed: Seed = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the leaderboard: PNG or SVG.")] = None,
    json: Json = False,
) -> None:
    """Compare models honestly: train on the past, ask about the last days.

    Example: momentary evaluate -m gru4rec -m vstan --days 14 --plot board.png
    """
    import msgspec

    from momentary.data.sessions import workspace_sessions
    from momentary.data.splits import split_last_days
    from momentary.evaluation.leaderboard import LeaderboardConfig
    from momentary.evaluation.trials import COMPARED, TrialConfig, category_codes, run_trial
    from momentary.models.artifact import make

    kinds = models or list(COMPARED)
    chosen = _model_settings(kinds, settings, config)
    made = {kind: make(kind, chosen[kind]) for kind in kinds}
    try:
        trial_config = TrialConfig(
            tasks=cast("tuple[Task, ...]", tuple(task or ["next_item"])),
            max_queries=max_queries,
            target_types=tuple(target_types or ()),
            seed=seed,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    with open_workspace(home) as workspace, bars() as bar:
        log = workspace_sessions(workspace)
        split = split_last_days(log, days, min_item_events=min_item_events)
        _described(list(made.values()), workspace, split.train, content=content, bar=bar)
        known = workspace.catalog.table(split.train.items.ids).attributes
        trial = run_trial(
            split,
            made,
            config=trial_config,
            board=LeaderboardConfig(shown=("recall", "mrr", "ndcg", "hit_rate", "map")),
            categories=category_codes(known["category"]) if "category" in known else None,
            progress=bar,
        )
    for name, board in trial.boards.items():
        if plot:
            board.plot(plot if len(trial.boards) == 1 else plot.with_stem(f"{plot.stem}-{name}"))
        if not json:
            stdout.print(board.render(wide=stdout.width >= 120))
            stdout.print()
    if json:
        print_json(msgspec.to_builtins({"audit": split.audit, "boards": trial.boards}))
    else:
        stdout.print(
            f"{split.audit.unknown_items:,} test events of items that training never saw are left "
            "out. Ties count against a model."
            + (f" Asked for: {', '.join(target_types)}, and nothing else." if target_types else "")
        )


@app.command()
def tune(
    home: Home = None,
    model: Annotated[str, typer.Option("--model", "-m", help="What to tune.")] = "gru4rec",
    trials: Annotated[int, typer.Option(help="Trials in all, earlier ones included.")] = 20,
    metric: Annotated[str, typer.Option(help="recall or mrr, at 20.")] = "mrr",
    task: Annotated[str, typer.Option(help="next_item, completion or next_basket.")] = "next_item",
    target_types: TargetTypes = None,
    days: Annotated[float, typer.Option(help="Days kept for the test; never looked at.")] = 7.0,
    validation_days: Annotated[float, typer.Option(help="Days before those; they decide.")] = 7.0,
    min_item_events: MinEvents = 5,
    seed: Seed = 0,
    prune: Annotated[bool, typer.Option(help="Give up trials that fall behind.")] = True,
    content: ReadContent = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the settings to this TOML file.")
    ] = None,
    json: Json = False,
) -> None:
    """Search a model's settings on days before the test; interrupted searches go on.

    Example: momentary tune -m vstan --trials 30 --write vstan.toml
    """
    import msgspec

    from momentary.data.sessions import workspace_sessions
    from momentary.data.splits import split_last_days
    from momentary.evaluation.tuning import TuneConfig
    from momentary.evaluation.tuning import tune as search

    try:
        search_config = TuneConfig(
            trials=trials,
            metric=metric,
            task=cast("Task", task),
            target_types=tuple(target_types or ()),
            prune=prune,
            seed=seed,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    with open_workspace(home) as workspace:
        past = split_last_days(workspace_sessions(workspace), days).train
        split = split_last_days(past, validation_days, min_item_events=min_item_events)
        with bars() as bar:

            def describe(scorer: Scorer) -> None:
                _described([scorer], workspace, split.train, content=content, bar=bar)

            found = search(
                model,
                split,
                journal=workspace.root / "tuning.sqlite",
                config=search_config,
                progress=bar(f"tune {model}"),
                prepare=describe,
            )
    if write:
        write.write_text(found.to_toml(), encoding="utf-8")
    if json:
        print_json(msgspec.to_builtins(found, enc_hook=str))
        return
    _print_trials(found, wanted=f"{metric}@20")
    stdout.print(escape(found.to_toml().rstrip()))
    if write:
        stdout.print(f"Written. Train with it: momentary train -m {model} --config {write}")


@app.command()
def recommend(
    items: Annotated[
        list[str] | None, typer.Argument(help="What the visitor clicked, oldest first.")
    ] = None,
    home: Home = None,
    k: Count = 10,
    model: Annotated[str, typer.Option(help="A version, or an alias.")] = "prod",
    user: Annotated[
        str | None, typer.Option(help="Whose visit it is; hierarchical_rnn knows their past.")
    ] = None,
    event_types: Annotated[
        str | None,
        typer.Option(
            "--event-types",
            help="What the visitor did with each item, as view_item,add_to_cart; for a model that "
            "weighs events.",
        ),
    ] = None,
    rules: Annotated[
        str, typer.Option(help='Rules as JSON, such as {"exclude_seen": true, "price_max": 5}.')
    ] = "{}",
    json: Json = False,
) -> None:
    """What comes next for a visit, or a basket, of these items.

    Example: momentary recommend 1029743 1106523 -k 5
    """
    from momentary.recommend.rules import read_rules
    from momentary.types import Sessions

    conditions = read_rules(rules)
    recommender, bundle = _recommender(home, model)
    known = [recommender.items.index(item) for item in items or []]
    unknown = [item for item, at in zip(items or [], known, strict=True) if at < 0]
    users = _place(bundle, user) if user else [-1]
    types = _types(event_types, items or [])
    session = Sessions.from_lists([known], users=users, types=[types])
    session = session.keep(session.items >= 0)
    found = recommender.recommend(session, k=k, rules=conditions)[0]
    if unknown:
        stderr.print(f"The model does not know {escape(', '.join(unknown))}.")
    _print_items(found, recommender, json=json)


@app.command()
def serve(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as TOML, with [serve].")] = None,
    tenants: Annotated[
        bool, typer.Option("--tenants", help="Serve every tenant that tenant add made.")
    ] = False,
) -> None:
    """Answer over HTTP with the promoted model.

    Example: momentary serve --port 8080
    """
    if tenants:
        cli_storage.serve_tenants(home, host=host, port=port, config=config)
    else:
        _serve(home, host=host, port=port, config=config)


@app.command()
def key(
    scopes: Annotated[
        str, typer.Argument(help="write (browser), read, read+write or admin.")
    ] = "read+write",
) -> None:
    """Make an API key: the key for the caller, and what the settings keep of it.

    Example: momentary key write
    """
    from momentary.settings import new_api_key

    made, entry = new_api_key(scopes)
    stdout.print("Give this to the caller; it is shown this once:")
    stdout.print(f"  {made}", soft_wrap=True, highlight=False)
    stdout.print("Keep this in the settings, under \\[serve]:")
    stdout.print(f'  api_keys = \\["{entry}"]', soft_wrap=True, highlight=False)


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    home: Home = None,
    json: Json = False,
) -> None:
    """Erase everything that a user did, imported and live; stop the service first.

    A running service does it itself: DELETE /v1/users/ID.

    Example: momentary erase customer-17
    """
    import time
    from datetime import UTC, datetime

    import msgspec

    from momentary.data.erasure import erase as erase_person
    from momentary.data.erasure import person_of
    from momentary.data.occupancy import unserved
    from momentary.models.artifact import ModelStore

    instead = "stop it first, or ask it: DELETE /v1/users/ID."
    with open_workspace(home) as workspace, unserved(workspace.root, instead=instead):
        receipt = erase_person(
            workspace,
            person_of(workspace, user),
            now_us=time.time_ns() // 1000,
            models=ModelStore(workspace.models).versions(),
        )
    if json:
        print_json(msgspec.to_builtins(receipt))
        return
    stdout.print(
        f"[bold]{receipt.events:,} events[/] and {receipt.exposures:,} answers are gone; "
        f"receipt {receipt.receipt_id}."
    )
    if receipt.models:
        until = datetime.fromtimestamp(receipt.retrain_by_us / 1e6, tz=UTC)
        stdout.print(
            f"{len(receipt.models)} models learned before: train anew and delete them by "
            f"{until:%d %B %Y}."
        )
    stdout.print("The files that you imported are not touched: delete the user there, too.")


for content_command in (
    cli_content.encode,
    cli_content.train_likeness,
    cli_content.similar,
    cli_content.search,
    cli_content.cold,
    cli_content.playlist,
    cli_content.dissect,
    cli_storage.compact,
    cli_storage.index,
):
    app.command()(content_command)


def _described(
    scorers: list[Scorer],
    workspace: Workspace,
    log: SessionLog,
    *,
    content: str | None,
    bar: Bars,
    new_items: bool = False,
) -> SessionLog:
    """Tell the models that read content what items are like; the log that they are to learn.

    With `new_items` it holds the whole catalogue for a model that takes it, since such a one can
    recommend what nobody has clicked.
    """
    from momentary.models.protocol import Described

    reading = [each for each in scorers if isinstance(each, Described)]
    if not reading:
        if content not in (None, "none"):
            raise SettingsError(
                f"--content {content}: no model here reads content; leave it out, or take "
                "feature_rnn, content_knn or hybrid."
            )
        return log
    from momentary.recommend.descriptions import describe_all

    whole, mute = describe_all(
        reading,
        workspace,
        log,
        content=content,
        new_items=new_items,
        progress=bar("read the catalogue"),
    )
    if mute and content != "none":
        stderr.print(f"The catalogue says nothing of the items: {', '.join(mute)} reads ids alone.")
    return whole


def _serve(
    home: Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    config: Path | None = None,
) -> None:
    from momentary.serving.garbage import postponed

    # Printed as it is: a command that is wrapped or coloured cannot be pasted.
    plain = partial(stdout.print, soft_wrap=True, markup=False, highlight=False)
    with postponed():
        from momentary.serving.startup import start

        start(home, file=config, host=host, port=port, environ=os.environ, announce=plain)


def _recommender(home: Path | None, model: str) -> tuple[Recommender, Bundle]:
    from momentary.models.artifact import ModelStore
    from momentary.models.graphs import with_saved_graph

    with open_workspace(home) as workspace:
        store = ModelStore(workspace.models)
        bundle = store.load(model)
        bundle = with_saved_graph(bundle, store.root / bundle.version, index_choice(home))
        return cli_content.recommender_of(workspace, bundle), bundle


def _place(bundle: Bundle, user: str) -> IntArray:
    """The index of a user, -1 if the model knows nothing of them. Shape (1,)."""
    from momentary.models.protocol import Remembering

    scorer = bundle.scorers["main"]
    if not isinstance(scorer, Remembering):
        raise SettingsError(
            f"{scorer.kind} knows no visitors; leave out --user, or train hierarchical_rnn."
        )
    place = scorer.places([f"u:{user}"])
    if place[0] < 0:
        stderr.print(f"The model does not know {escape(user)}.")
    return place


def _model_settings(
    kinds: list[str], settings: list[str] | None, file: Path | None
) -> dict[str, dict[str, Any]]:
    """Settings by model: those of the file, overridden by the command line."""
    from momentary.evaluation.tuning import read_settings

    stored = read_settings(file) if file else {}
    pairs = dict(_pair(each, "--set") for each in settings or [])
    if pairs and len(kinds) > 1:
        raise SettingsError("--set is for one model; name it with --model, or use --config.")
    values = {name: _value(text) for name, text in pairs.items()}
    return {kind: {**stored.get(kind, {}), **values} for kind in kinds}


def _types(text: str | None, items: list[str]) -> list[int]:
    """The place in `EVENT_TYPES` of what was done with each item, -1 where nobody says."""
    from momentary.types import EVENT_TYPES, INTEREST_TYPES

    if text is None:
        return [-1] * len(items)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in INTEREST_TYPES]
    if unknown or len(names) != len(items):
        raise SettingsError(
            f"--event-types {text} does not fit {len(items)} items; give one for each item, of "
            f"{', '.join(INTEREST_TYPES)}."
        )
    return [EVENT_TYPES.index(name) for name in names]


def _value(text: str) -> object:
    """Lists and tables are JSON; anything else stays text, which the model converts."""
    import msgspec

    if not text.startswith(("[", "{")):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingsError(
            f'{text} is neither a list such as [64, 64] nor a table such as {{"purchase": 3}}: '
            f"{error}"
        ) from error


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise SettingsError(f"{option} {text!r} is not NAME=VALUE.")
    return name, value


def _print_items(found: list[Recommendation], recommender: Recommender, *, json: bool) -> None:
    from rich.table import Table

    if json:
        import msgspec

        print_json(msgspec.to_builtins(found))
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("", "item", "name", "why"):
        table.add_column(column)
    names = recommender.table.names
    for each in found:
        name = names[recommender.items.index(each.item_id)] or ""
        table.add_row(
            str(each.rank), escape(each.item_id), escape(name), escape("; ".join(each.reasons))
        )
    stdout.print(table)


def _print_trials(found: Tuned, *, wanted: str) -> None:
    """The best ten trials, and what became of the others."""
    from rich.table import Table

    done = [each for each in found.tried if each.outcome == "done"]
    best = sorted(done, key=lambda each: -each.metrics[wanted])[:10]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("trial", "recall@20", "mrr@20", "CPU s", "settings"):
        table.add_column(column)
    for each in best:
        table.add_row(
            str(each.number),
            f"{each.metrics['recall@20']:.4f}",
            f"{each.metrics['mrr@20']:.4f}",
            f"{each.seconds:.1f}",
            escape(", ".join(f"{name}={_short(value)}" for name, value in each.settings.items())),
        )
    stdout.print(table)
    lost = {
        name: sum(each.outcome == name for each in found.tried) for name in ("pruned", "failed")
    }
    stdout.print(
        f"{len(done)} trials ran to their end, {lost['pruned']} were given up early, "
        f"{lost['failed']} failed; all stand in {found.log}",
        soft_wrap=True,
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
