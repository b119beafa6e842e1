"""The commands `momentary moments ...`: parse, call one function, print."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from momentary.cli_shared import Json, Seed, one_bar, print_json, stdout
from momentary.errors import DataError, SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

    from momentary.moments.results import EffectTable

app = typer.Typer(
    help="What in a picture moves people, at which moment, and how sure we are.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Table = Annotated[Path, typer.Argument(help="Effects, as `moments effects --out` writes them.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the result to this file.")]
Events = Annotated[Path, typer.Argument(help="Events as Parquet, with the columns of Event.")]
Versions = Annotated[
    Path, typer.Option(help="Parquet: item_id, picture, since_us: when which picture was shown.")
]
Attributes = Annotated[Path, typer.Option(help="What `moments measure --out` wrote.")]
Concepts = Annotated[
    Path | None, typer.Option(help="What `moments concepts --out` wrote, beside the attributes.")
]
Facts = Annotated[
    Path | None,
    typer.Option(help="Parquet: item_id, category, and numbers to adjust for, such as log_price."),
]


@app.command()
def example(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there.")],
    items: Annotated[int, typer.Option(min=2, help="How many items.")] = 160,
    impressions: Annotated[int, typer.Option(min=2, help="How often they are shown.")] = 200_000,
    seed: Seed = 0,
) -> None:
    """Write a made-up shop (pictures and simulated shoppers) to try the other commands on.

    Example: momentary moments example shop
    """
    import numpy as np

    from momentary.moments.example import ExampleConfig, write_example

    config = ExampleConfig(items=items, impressions=impressions)
    _folder(folder)
    for written in write_example(folder, rng=np.random.default_rng(seed), config=config):
        stdout.print(str(written), soft_wrap=True, highlight=False)
    stdout.print("Everything in it is simulated.")


@app.command()
def measure(
    pictures: Annotated[Path, typer.Argument(help="A folder, or a zip archive, of pictures.")],
    out: Out = None,
    threads: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 2,
    json: Json = False,
) -> None:
    """Measure sixteen visual characteristics of every picture.

    Example: momentary moments measure photos/ --out attributes.parquet
    """
    from momentary.moments.attributes import ATTRIBUTES
    from momentary.moments.gallery import Gallery, measure_all, write_measured

    _writable(out)
    with one_bar("measure") as progress:
        measured = measure_all(Gallery(pictures), threads=threads, progress=progress)
    if not measured.pictures:
        raise DataError(
            f"{pictures} holds no picture that can be read; JPEG, PNG, WEBP, GIF, BMP and TIFF can."
        )
    if out:
        write_measured(measured, out)
    means = measured.values.mean(axis=0) if len(measured.values) else []
    facts = {
        "pictures": len(measured.pictures),
        "aside": [{"picture": name, "reason": why} for name, why in measured.aside],
        "mean": {name: float(value) for name, value in zip(ATTRIBUTES, means, strict=False)},
        "stability": {
            name: {"jpeg": jpeg, "half_size": half}
            for name, (jpeg, half) in measured.stability.items()
        },
        "noisy": measured.noisy,
    }
    if json:
        print_json(facts)
        return
    stdout.print(f"{len(measured.pictures):,} pictures measured, {len(measured.aside)} set aside.")
    for name, why in measured.aside[:10]:
        stdout.print(f"  {escape(name)}: {escape(why)}")
    if not measured.stability:
        stdout.print("Too few pictures to tell which attributes survive re-encoding.")
    for name in measured.noisy:
        jpeg, half = measured.stability[name]
        stdout.print(
            f"[yellow]{name} is noisy: measured again it correlates by {jpeg:.2f} after JPEG and "
            f"{half:.2f} after half the size; a report marks it.[/]"
        )


@app.command()
def concepts(
    pictures: Annotated[Path, typer.Argument(help="A folder, or a zip archive, of pictures.")],
    model: Annotated[str, typer.Option(help="CLIP-like: a name on the hub, or a folder.")],
    revision: Annotated[str | None, typer.Option(help="A commit of the model.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON list of name, more, less, edit; some if not given.")
    ] = None,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score every picture on concepts in words, such as "worn by a person".

    Example: momentary moments concepts photos/ --model openai/clip-vit-base-patch32
    """
    import msgspec
    import numpy as np

    from momentary.encoders.joint import HubJointEncoder
    from momentary.moments.gallery import Gallery
    from momentary.moments.prompts import PROMPTS, read_prompts, score_pictures, write_prompted

    _writable(out)
    pairs = read_prompts(prompts) if prompts else PROMPTS
    encoder = HubJointEncoder(model, revision=revision)
    with one_bar("score") as progress:
        found = score_pictures(
            Gallery(pictures),
            encoder,
            pairs=pairs,
            rng=np.random.default_rng(seed),
            progress=progress,
        )
    if out:
        write_prompted(found, out)
    if json:
        told = {
            "pictures": len(found.table.pictures),
            "aside": [{"picture": name, "reason": why} for name, why in found.aside],
            "tests": msgspec.to_builtins(found.tests),
            "noisy": found.table.noisy,
        }
        print_json(told)
        return
    stdout.print(f"{len(found.table.pictures):,} pictures scored, {len(found.aside)} set aside.")
    for pair in pairs:
        test = found.tests.get(pair.name)
        said = "not tested: no edit makes it, or there are too few pictures"
        if test:
            verdict = "rises with its edit" if test.p <= 0.05 else "does NOT follow its edit"
            said = f"{verdict} (in {test.agreement:.0%} of the pictures; p {test.p:.3f})"
        noise = "; noisy" if pair.name in found.table.noisy else ""
        stdout.print(f"{escape(pair.name)}: {said}{noise}")


@app.command()
def effects(
    events: Events,
    versions: Versions,
    attributes: Attributes,
    concepts: Concepts = None,
    facts: Facts = None,
    outcome: Annotated[list[str] | None, typer.Option(help="Outcomes; all if none.")] = None,
    simulated: Annotated[bool, typer.Option(help="Say that the behaviour is made up.")] = False,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Estimate what each characteristic does to each outcome, at its rung of evidence.

    Example: momentary moments effects events.parquet --versions versions.parquet
    --attributes attributes.parquet --out effects.json
    """
    import dataclasses

    _writable(out)
    table = _estimate(
        events,
        versions,
        attributes,
        concepts=concepts,
        facts=facts,
        outcome=outcome,
        placebos=0,
        seed=seed,
    )
    _tell(dataclasses.replace(table, simulated=simulated), out=out, json=json)


@app.command()
def validate(
    events: Events,
    versions: Versions,
    attributes: Attributes,
    concepts: Concepts = None,
    facts: Facts = None,
    outcome: Annotated[list[str] | None, typer.Option(help="Outcomes; all if none.")] = None,
    placebos: Annotated[int, typer.Option(min=1, help="Times that pictures are swapped.")] = 20,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Try to refute the effects: swapped pictures, disagreement between rungs.

    Example: momentary moments validate events.parquet --versions versions.parquet
    --attributes attributes.parquet
    """
    table = _estimate(
        events,
        versions,
        attributes,
        concepts=concepts,
        facts=facts,
        outcome=outcome,
        placebos=placebos,
        seed=seed,
    )
    if json:
        print_json(
            [
                {"outcome": f.outcome, "placebo_p": f.placebo_p, "divergence_p": f.divergence_p}
                for f in table.fits
            ]
        )
        return
    for fit in table.fits:
        none = "not possible here"
        share, p = fit.placebo_p, fit.divergence_p
        swapped = none if share is None else f"{share:.1%} are significant at 5 %; about 5 % should"
        agree = none if p is None else f"p = {p:.3f} that rungs 2 and 3 say the same"
        stdout.print(f"{fit.outcome}: swapped pictures: {swapped}")
        stdout.print(f"{fit.outcome}: agreement of the rungs: {agree}")
    for warning in table.warnings:
        stdout.print(f"[yellow]{escape(warning)}[/]")


@app.command()
def promotions(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the Complete Journey; default: the package's.")
    ] = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """What a display or a mailer does to purchases, on the Complete Journey's real promotions.

    Example: momentary moments promotions --out promotions.json
    """
    from momentary.data.datasets import complete_journey_folder
    from momentary.moments.promotions import promotion_effects

    _writable(out)
    with one_bar("promotions") as progress:
        table = promotion_effects(folder or complete_journey_folder(), progress=progress)
    _tell(table, out=out, json=json)


@app.command()
def decide(
    choices: Annotated[Path, typer.Argument(help="Parquet, one row an alternative.")],
    image: Annotated[list[str], typer.Option(help="An image column; may be repeated.")],
    draws: Annotated[int, typer.Option(min=1, help="Draws of each person's taste.")] = 128,
    into: Annotated[Path | None, typer.Option(help="Effects file that gets the card.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """What decides: taste, loyalty, price, position or the picture.

    Example: momentary moments decide choices.parquet --image brightness --into effects.json
    """
    import dataclasses

    import msgspec
    import numpy as np

    from momentary.moments.choices import choices_of
    from momentary.moments.decision import DecisionConfig, DecisionModel, decision_card
    from momentary.moments.results import plain, read_table, write_table

    rows = choices_of(_parquet(choices), image=image)
    rng = np.random.default_rng(seed)
    fit = DecisionModel(DecisionConfig(draws=draws)).fit(rows, rng=rng)
    card = decision_card(rows, fit, rng=rng)
    if into:
        write_table(dataclasses.replace(read_table(into), decision=card), into)
    if json:
        typer.echo(msgspec.json.encode(card, enc_hook=plain).decode())
        return
    for each in card.influences:
        stdout.print(f"{each.part}: {each.share:.0%} ({each.low:.0%} to {each.high:.0%})")
    for line in card.words:
        stdout.print(escape(line))


@app.command()
def whatif(
    table: Table,
    picture: Annotated[Path, typer.Argument(help="The picture to edit.")],
    change: Annotated[str, typer.Option("--edit", help="Such as brightness=+1, in SDs.")],
    outcome: Annotated[str, typer.Option(help="What to predict.")] = "click",
    out: Out = None,
    json: Json = False,
) -> None:
    """Edit a picture and predict what that does, or refuse to.

    Example: momentary moments whatif effects.json shirt.jpg --edit brightness=+1 --out new.png
    """
    import msgspec

    from momentary.moments.attributes import ATTRIBUTES
    from momentary.moments.edits import move
    from momentary.moments.pixels import encode_png, read_picture
    from momentary.moments.results import plain, read_table
    from momentary.moments.whatif import predict_edit

    _writable(out)
    name, amount = _edit(change, list(ATTRIBUTES))
    found = read_table(table)
    try:
        pixels = read_picture(picture)
    except DataError as error:
        raise DataError(f"{picture} cannot be used: {error}.") from error
    edited = move(pixels, name, amount * found.scale(name).sd)
    lift = predict_edit(found, outcome, pixels=pixels, edited=edited.pixels)
    if out:
        out.write_bytes(encode_png(edited.pixels))
    if json:
        told = {**msgspec.to_builtins(lift, enc_hook=plain), "reached": edited.reached}
        typer.echo(msgspec.json.encode(told).decode())
        return
    if not edited.reached:
        stdout.print("[yellow]The edit cannot go that far; this is the nearest that it reaches.[/]")
    stdout.print(escape(lift.words))


@app.command()
def plan(
    rate: Annotated[float, typer.Option(help="Events per exposure now, such as .03.")],
    lift: Annotated[float, typer.Option(help="Change that must not be missed, in percent.")],
    power: Annotated[float, typer.Option(help="Probability of seeing it.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Probability of a false alarm.")] = 0.05,
    per_user: Annotated[float, typer.Option(help="Mean exposures of one user.")] = 1.0,
    alike: Annotated[float, typer.Option(help="Correlation of one user's exposures.")] = 0.0,
    seen: Annotated[
        str | None, typer.Option(help="Users so far, old,new: is the split as planned?")
    ] = None,
    json: Json = False,
) -> None:
    """The size of an A/B test of two pictures, and whether a running one is split as planned.

    Example: momentary moments plan --rate .03 --lift 8 --per-user 5 --alike .05
    """
    import msgspec

    from momentary.moments.plan import PlanConfig, sample_ratio_p
    from momentary.moments.plan import plan as make_plan

    try:
        config = PlanConfig(
            rate=rate, lift=lift, power=power, alpha=alpha, per_user=per_user, alike=alike
        )
        p = None if seen is None else sample_ratio_p(_counts(seen), shares=[0.5, 0.5])
    except ValueError as error:
        raise SettingsError(str(error)) from error
    made = make_plan(config)
    if json:
        print_json({**msgspec.to_builtins(made), "sample_ratio_p": p})
        return
    for line in made.words:
        stdout.print(escape(line))
    if p is not None:
        alarm = "[red]ALARM: stop and look for the fault[/]" if p < 0.01 else "no alarm"
        stdout.print(f"Sample ratio: p = {p:.3g}, valid however often you look: {alarm}.")


@app.command()
def report(
    table: Table,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("moments.html"),
    pictures: Annotated[
        Path | None, typer.Option(help="Folder or zip of the pictures; none: no examples.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="What measure wrote; measured now if not given.")
    ] = None,
    facts: Annotated[
        Path | None, typer.Option(help="Parquet: picture, category, price; to match examples.")
    ] = None,
    json: Json = False,
) -> None:
    """Write one self-contained page, and the same facts as JSON beside it.

    Example: momentary moments report effects.json --pictures photos/ --out moments.html
    """
    from momentary.moments.gallery import Gallery, measure_all, read_measured
    from momentary.moments.report import Pictures, summary, write_report
    from momentary.moments.results import mark_noisy, read_table, write_table

    _writable(out)
    found = read_table(table)
    shown = None
    if pictures:
        gallery = Gallery(pictures)
        with one_bar("measure") as progress:
            measured = (
                read_measured(attributes) if attributes else measure_all(gallery, progress=progress)
            )
        found = mark_noisy(found, measured.noisy)
        known = _parquet(facts).to_pylist() if facts else []
        if known and "picture" not in known[0]:
            raise DataError(f"{facts} has no column 'picture'; it has {', '.join(known[0])}.")
        shown = Pictures(
            gallery=gallery,
            measured=measured,
            category={row["picture"]: row["category"] for row in known if row.get("category")},
            price={row["picture"]: row["price"] for row in known if (row.get("price") or 0) > 0},
        )
    write_report(found, out, pictures=shown)
    write_table(found, out.with_suffix(".json"))
    if json:
        print_json({"page": str(out), "summary": summary(found)})
        return
    for line in summary(found):
        stdout.print(escape(line))
    stdout.print(f"Written: {out} and {out.with_suffix('.json')}", soft_wrap=True)


def _estimate(
    events: Path,
    versions: Path,
    attributes: Path,
    *,
    concepts: Path | None,
    facts: Path | None,
    outcome: list[str] | None,
    placebos: int,
    seed: int,
) -> EffectTable:
    import numpy as np

    from momentary.moments.attributes import ATTRIBUTES
    from momentary.moments.effects import EffectsDesign, ImageEffects
    from momentary.moments.exposures import collect
    from momentary.moments.facts import item_facts
    from momentary.moments.gallery import read_measured
    from momentary.moments.prompts import beside, read_prompted
    from momentary.moments.results import OUTCOMES
    from momentary.moments.spells import PictureTable

    try:
        design = EffectsDesign(
            source=f"Events of {events.name}.",
            outcomes=tuple(outcome or OUTCOMES),
            placebo_rounds=placebos,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    measured = read_measured(attributes)
    with one_bar("count") as progress:
        spells = collect(_parquet(events), _parquet(versions), progress=progress)
    pictures = PictureTable(
        pictures=measured.pictures,
        attributes=tuple(ATTRIBUTES),
        values=measured.values,
        noisy=measured.noisy,
    )
    if concepts:
        pictures = beside(pictures, read_prompted(concepts))
    known = item_facts(_parquet(facts)) if facts else None
    with one_bar("fit") as progress:
        return (
            ImageEffects(design)
            .fit(spells, pictures, known, rng=np.random.default_rng(seed), progress=progress)
            .table()
        )


def _tell(table: EffectTable, *, out: Path | None, json: bool) -> None:
    from momentary.moments.report import summary
    from momentary.moments.results import table_json, write_table

    if out:
        write_table(table, out)
    if json:
        typer.echo(table_json(table).decode())
        return
    for line in (*summary(table), *table.warnings):
        stdout.print(escape(line))
    if out:
        stdout.print(f"Written. Draw it: momentary moments report {out}", soft_wrap=True)


def _parquet(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        why = str(error).rstrip(".")
        raise DataError(f"{file} is not a Parquet file that can be read: {why}.") from error


def _writable(file: Path | None) -> None:
    """Before hours of work, not after."""
    if file is None:
        return
    if file.is_dir():
        raise SettingsError(f"{file} is a folder; name a file in it.")
    if not file.parent.is_dir():
        raise SettingsError(f"{file} cannot be written: there is no folder {file.parent}; make it.")


def _folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file; name a folder, which is made if it is not there.")


def _edit(text: str, names: list[str]) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        value = float(amount)
    except ValueError as error:
        raise SettingsError(f"--edit {text!r} is not such as brightness=+1.") from error
    if not math.isfinite(value):
        raise SettingsError(f"--edit {text!r} must be finite, such as brightness=+1.")
    if name not in names:
        raise SettingsError(f"There is no attribute {name!r}; there are {', '.join(names)}.")
    return name, value


def _counts(text: str) -> list[int]:
    try:
        old, new = (int(each) for each in text.split(","))
    except ValueError as error:
        raise SettingsError(f"--seen {text!r} is not two counts such as 5020,4980.") from error
    return [old, new]
