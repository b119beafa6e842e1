"""Commands about what items look, read and sound like: parse, call one function, print."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from momentary.cli_shared import (
    Count,
    Home,
    Json,
    Plain,
    Seed,
    bars,
    one_bar,
    open_workspace,
    print_json,
    stderr,
    stdout,
)
from momentary.errors import DataError, SettingsError

if TYPE_CHECKING:
    from momentary.data.workspace import Workspace
    from momentary.dissection.findings import Findings
    from momentary.dissection.tables import Labelled
    from momentary.encoders.catalogue import Places
    from momentary.encoders.defaults import Kit
    from momentary.encoders.protocol import Modality
    from momentary.encoders.store import EncodeReport
    from momentary.models.artifact import Bundle
    from momentary.recommend.assortment import Assortment
    from momentary.recommend.content import ContentIndex
    from momentary.recommend.pipeline import Recommender
    from momentary.recommend.teaching import Taught
    from momentary.types import FloatArray, Item, Recommendation, Sessions

_PICTURES_AT_MOST = 2_000


def encode(
    places: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders and archives that media may be read from."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Addresses must begin so, as in https://cdn.example.com/; repeat it."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="text, image, audio or video; repeat it.")
    ] = None,
    text_model: Annotated[
        str | None, typer.Option(help="A name that sentence-transformers can load.")
    ] = None,
    image_model: Annotated[
        str | None, typer.Option(help="A picture model of transformers: SigLIP 2, CLIP, DINOv3.")
    ] = None,
    audio_model: Annotated[
        str | None, typer.Option(help="An audio model of transformers, such as CLAP.")
    ] = None,
    max_mb: Annotated[
        int | None,
        typer.Option(min=1, help="Largest file in MB; else 50, and 500 for sounds and films."),
    ] = None,
    refetch: Annotated[bool, typer.Option("--refetch", help="Fetch addresses again.")] = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Look at every item's text, picture, sound and film; doing it twice encodes nothing twice.

    Files are found as the items name them, or by the items' ids. What cannot be used is set aside
    with its reason.

    Example: momentary encode photos/ more.zip --url https://cdn.example.com/shop/
    """
    models = {"text": text_model, "image": image_model, "audio": audio_model, "video": image_model}
    with open_workspace(home) as workspace:
        items = list(workspace.catalog.items())
        allowed = _places(places or [], url or [], refetch=refetch)
        wanted = _modalities(only or [], items, allowed if places else None)
        found, given = _encoded(
            workspace, items, {each: models[each] for each in wanted}, places=allowed, max_mb=max_mb
        )
    if json:
        print_json(found)
        return
    _print_encoded(found)
    if given is not None:
        stdout.print(f"{given:,} vectors given to the machines that share the database.")
    media = [facts for modality, facts in found.items() if modality != "text"]
    if places and not any(each["encoded"] + each["known"] for each in media):
        stderr.print(
            "None of these files belongs to an item: items name theirs in image, audio or video, "
            "or a file is named by its item's id, such as mug-1.jpg.",
            soft_wrap=True,
        )


def search(
    words: Annotated[list[str] | None, typer.Argument(help="What to look for.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Find what looks like this file.")] = None,
    sound: Annotated[Path | None, typer.Option(help="Find what sounds like this file.")] = None,
    k: Count = 10,
    plain: Plain = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Find items by meaning and by words, by a picture, or by a sound.

    Example: momentary search "something warm for the winter"
    """
    from momentary.encoders.store import FILE
    from momentary.recommend.finding import find_by_content, find_by_text

    given = [each for each in (" ".join(words or []), picture, sound) if each]
    if len(given) != 1:
        raise SettingsError("Give words, --picture or --sound, one of the three.")
    with open_workspace(home) as workspace:
        file = workspace.root / FILE
        if picture or sound:
            kind: Modality = "image" if picture else "audio"
            query = _seen(kind, cast("Path", picture or sound), store=file)
            found, note = find_by_content(workspace.catalog, file, query, k=k, plain=plain)
        else:
            found, note = find_by_text(workspace.catalog, file, str(given[0]), k=k, plain=plain)
        if note:
            stderr.print(note, markup=False)
        _print_items(found, workspace, json=json)


def similar(
    item: Annotated[str, typer.Argument(help="The item.")],
    home: Home = None,
    k: Count = 10,
    model: Annotated[str, typer.Option(help="A version, or an alias.")] = "prod",
    drop_outliers: Annotated[
        bool, typer.Option("--drop-outliers", help="Leave out what only visits call similar.")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(help="image, colour, text, music, sound, timbre, film or tags alone."),
    ] = None,
    plain: Plain = False,
    json: Json = False,
) -> None:
    """Items like one item: by visits where there are many, by content where there are few.

    Example: momentary similar 1029743 -k 5
    """
    from momentary.recommend.alike import AlikeConfig, items_like
    from momentary.recommend.finding import said_of
    from momentary.recommend.playlist import TOLERANCE

    with open_workspace(home) as workspace:
        recommender, index, trouble = _known(workspace, model)
        found = items_like(
            item,
            recommender=recommender,
            index=index,
            facts=workspace.catalog.table,
            k=k,
            config=AlikeConfig(tolerance=TOLERANCE if drop_outliers else None),
            plain=plain,
            by=by,
        )
        views = index.views_of(item) if index is not None and item in index and not by else []
        note = trouble or ("" if index is None else said_of(index, views, plain=plain))
        if note:
            stderr.print(note, markup=False)
        _print_items(found, workspace, json=json)


def train_likeness(
    by: Annotated[
        list[str] | None,
        typer.Option(help="An attribute, or ATTRIBUTE=WEIGHT; repeat it.", show_default="all"),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Go back to likeness by content alone.")
    ] = False,
    seed: Seed = 0,
    home: Home = None,
    json: Json = False,
) -> None:
    """Learn from the items' attributes what counts when two items are called alike.

    Whatever has content gains by it, above all pictures and new items that nobody described. Where
    an attribute is missing and the item's name tells it, it is learned from the name. It is put to
    use unless it finds items of the same attributes worse than content alone.

    Example: momentary train-likeness --by category --by colour=2
    """
    from datetime import UTC, datetime

    import numpy as np

    from momentary.encoders.store import FILE
    from momentary.models.artifact import drop_likeness, save_likeness
    from momentary.recommend.encoded import LIKENESS, read_encoded
    from momentary.recommend.teaching import learn_likeness

    wanted = dict(map(_weight, by or [])) or None
    with open_workspace(home) as workspace:
        folder = workspace.root / LIKENESS
        if forget:
            if by:
                raise SettingsError("--forget learns nothing; leave --by out.")
            forgotten = drop_likeness(folder)
            if json:
                print_json({"forgotten": forgotten})
                return
            typer.echo("Forgotten." if forgotten else "There was nothing to forget.")
            return
        encoded = read_encoded(workspace.catalog, workspace.root / FILE)
        with one_bar("train likeness") as tell:
            taught = learn_likeness(
                encoded, by=wanted, rng=np.random.default_rng(seed), progress=tell
            )
        if taught.learned is not None:
            save_likeness(taught.learned, folder, now=datetime.now(UTC))
    if json:
        weights = {} if taught.learned is None else taught.learned.weights
        print_json(
            {
                "in_use": taught.learned is not None,
                "attributes": taught.figures,
                "left_out": taught.left_out,
                "weights": weights,
            }
        )
        return
    _print_taught(taught)


def cold(
    home: Home = None,
    k: Count = 20,
    model: Annotated[str, typer.Option(help="A version, or an alias.")] = "prod",
    json: Json = False,
) -> None:
    """Where items stand that the model has never seen: what they are like, and how sure that is.

    Example: momentary cold -k 10
    """
    import msgspec
    from rich.table import Table

    from momentary.models.artifact import ModelStore
    from momentary.recommend.newcomers import newcomers

    with open_workspace(home) as workspace:
        bundle = ModelStore(workspace.models).load(model)
        if bundle.placement is None:
            raise SettingsError(
                "The model was trained before anything was encoded; run: momentary encode, then "
                "momentary train"
            )
        recommender, found = _assembled(workspace, bundle)
        listed = newcomers(found, recommender, k=k)
    if json:
        print_json(msgspec.to_builtins(listed))
        return
    total = 0 if found.placed is None else len(found.placed)
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("new item", "sure", "like", "rank after it", "why"):
        table.add_column(column)
    for each in listed:
        why, rank = escape("; ".join(each.reasons)), f"{each.rank_after:,} of {each.items:,}"
        name, like = each.name or each.item_id, each.like_name or each.like
        table.add_row(escape(name), f"{each.confidence:.0%}", escape(like), rank, why)
    stdout.print(table)
    stdout.print(f"{total:,} items that the model has never seen have a place.")


def playlist(
    start: Annotated[str, typer.Argument(help="The item to begin with.")],
    to: Annotated[str | None, typer.Option(help="The item to end with.")] = None,
    length: Annotated[int, typer.Option("-k", "--length", help="How many items.")] = 20,
    apart: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=N: others between two that share a value; repeat it."),
    ] = None,
    curve: Annotated[
        str | None, typer.Option(help="NUMBER=rise, fall, arch or valley, as in price=rise.")
    ] = None,
    rules: Annotated[str, typer.Option(help="Rules as JSON, as for recommend.")] = "{}",
    spread: Annotated[float, typer.Option(help="How much it is to get about.")] = 0.3,
    home: Home = None,
    json: Json = False,
) -> None:
    """An ordered list in which each item is like the one before.

    Example: momentary playlist song-17 --to song-4 --apart brand=2 --curve energy=arch
    """
    import msgspec

    from momentary.encoders.store import FILE
    from momentary.recommend.encoded import anything_encoded
    from momentary.recommend.playlist import PlaylistConfig
    from momentary.recommend.rules import read_rules
    from momentary.recommend.walks import Walk, walk

    try:
        config = PlaylistConfig(length=length, spread=spread)
        gaps = {name: _whole(name, count) for name, count in map(_pair, apart or [])}
    except ValueError as error:
        raise SettingsError(str(error)) from error
    with open_workspace(home) as workspace:
        if not anything_encoded(workspace.catalog, workspace.root / FILE):
            raise SettingsError("Nothing is encoded yet; run: momentary encode")
        _, index, _ = _known(workspace, "prod")
        if index is None:
            raise SettingsError("No item has content yet; run: momentary encode")
        wanted = Walk(
            start=start,
            end=to,
            apart=gaps,
            curve=None if curve is None else _pair(curve),
            rules=read_rules(rules),
            config=config,
        )
        made = walk(index, wanted, facts=workspace.catalog.table)
        if json:
            print_json(msgspec.to_builtins(made))
            return
        _print_items(list(made.items), workspace, json=False)
    if len(made.items) < length:
        stderr.print(f"{len(made.items)} of {length}: nothing more may stand on it.")
    stderr.print(f"smoothness {made.smoothness:.2f}, spread {made.spread:.2f}")


def dissect(
    folder: Annotated[Path, typer.Argument(help="Folder with the sounds or the pictures.")],
    labels: Annotated[Path, typer.Option(help="CSV that names files and their labels.")],
    to: Annotated[Path, typer.Option(help="The report, one HTML file.")] = Path("dissection.html"),
    label: Annotated[str, typer.Option(help="Column of labels.")] = "label",
    source: Annotated[
        str | None, typer.Option(help="Column that tells sources apart; source if not given.")
    ] = None,
    file: Annotated[str | None, typer.Option(help="Column of file names; else the first.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer by its name; repeat it. The first and the top one otherwise."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many files, by chance; else 2000 pictures."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the sounds; 120 if not given.")
    ] = None,
    comparisons: Annotated[
        int, typer.Option(min=1, help="Untrained and shuffled networks each.")
    ] = 5,
    small_filters: Annotated[
        bool,
        typer.Option("--small-filters", help="Filters of a few bands instead of all of them."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws everything that chance decides.")] = 0,
    note: Annotated[
        list[str] | None,
        typer.Option(help="What a reader must know about the data; repeat it."),
    ] = None,
    json: Json = False,
) -> None:
    """What the units of a network answer to, to see and to hear.

    A network learns from sounds; of pictures, the one that encodes them is looked into.

    Example: momentary dissect clips --labels items.csv --source fold --to report.html
    """
    import numpy as np

    from momentary.dissection.photos import are_pictures
    from momentary.dissection.tables import draw, read_table

    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; name the one with the files.")
    if not to.absolute().parent.is_dir():
        raise SettingsError(f"{to} cannot be written: its folder is not there; make it first.")
    rng = np.random.default_rng(seed)
    rows = read_table(labels, label=label, source=source, file=file)
    layers, caveats = layer or [], note or []
    if are_pictures(rows):
        if epochs is not None or small_filters:
            raise SettingsError(
                "Pictures are not learned from; leave --epochs and --small-filters out."
            )
        rows = draw(rows, limit or _PICTURES_AT_MOST, rng=rng)
        facts = _dissect_pictures(
            folder, rows, to=to, caveats=caveats, layers=layers, comparisons=comparisons, rng=rng
        )
    else:
        rows = read_table(labels, label=label, source=source or "source", file=file)
        rows = draw(rows, limit, rng=rng)
        facts = _dissect_sounds(
            folder,
            rows,
            to=to,
            caveats=caveats,
            epochs=epochs or 120,
            small_filters=small_filters,
            layers=layers,
            comparisons=comparisons,
            rng=rng,
        )
    if json:
        print_json(facts)
        return
    _say_dissected(facts)


def _dissect_sounds(
    folder: Path,
    rows: Sequence[Labelled],
    *,
    to: Path,
    caveats: Sequence[str],
    epochs: int,
    small_filters: bool,
    layers: Sequence[str],
    **how: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Write the report of sounds and tell what it says; `how` goes to the study."""
    from momentary.dissection.findings import chosen_layers
    from momentary.dissection.report import render
    from momentary.dissection.sounds import as_mp3, read_collection
    from momentary.dissection.study import dissect as study_units
    from momentary.encoders.audio import AudioLimits
    from momentary.encoders.spectrogram import MelConfig, band_edges_hz
    from momentary.models.audio_network import AudioNetworkConfig
    from momentary.models.small_filters import SmallFilters

    mel = MelConfig()
    config = AudioNetworkConfig(epochs=epochs, small=SmallFilters() if small_filters else None)
    chosen_layers(layers, there=config.layers)  # refuses a name before anything is read
    with one_bar("dissect") as tell:
        limits = AudioLimits(excerpts=1)
        found = read_collection(folder, rows, mel=mel, limits=limits, progress=tell)
        study = study_units(found.recordings, config=config, layers=layers, progress=tell, **how)
    page = render(
        study,
        title=f"What the units of an audio network answer to: {folder.name}",
        hear=lambda at: as_mp3(found.samples[study.held_out.names[at]], mel.rate_hz),
        seconds_a_frame=mel.seconds(1),
        bands_hz=band_edges_hz(mel)[1:-1],
        caveats=tuple(caveats),
    )
    to.write_text(page, encoding="utf-8")
    return {
        "report": str(to),
        "accuracy": study.accuracy,
        "balanced_accuracy": study.balanced_accuracy,
        "most_frequent": study.usual[0],
        "most_frequent_label": study.usual[1],
        "layers": {each.name: _layer_facts(each) for each in study.layers},
        "left_out": list(study.left_out),
        "set_aside": list(found.set_aside),
    }


def _dissect_pictures(
    folder: Path,
    rows: Sequence[Labelled],
    *,
    to: Path,
    caveats: Sequence[str],
    **how: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Write the report of pictures and tell what it says; `how` goes to the study."""
    from momentary.dissection.photos import photos_in
    from momentary.dissection.picture_report import render_pictures
    from momentary.dissection.pictures import dissect_pictures
    from momentary.encoders.image import EfficientNetLite

    with one_bar("dissect") as tell:
        network = EfficientNetLite().network
        study = dissect_pictures(photos_in(folder, rows), network, progress=tell, **how)
        title = f"What the units of a picture network answer to: {folder.resolve().name}"
        page = render_pictures(study, title=title, caveats=caveats, progress=tell)
    to.write_text(page, encoding="utf-8")
    return {
        "report": str(to),
        "pictures": len(study.rows),
        "sources": study.sources,
        "labels": list(study.label_names),
        "layers": {each.name: _layer_facts(each) for each in study.layers},
        "left_out": list(study.left_out),
        "set_aside": list(study.set_aside),
    }


def _say_dissected(facts: dict[str, Any]) -> None:
    for what in ("set_aside", "left_out"):
        for each in facts[what]:
            stderr.print(f"{what.replace('_', ' ')}: {each}", markup=False, soft_wrap=True)
    if "accuracy" in facts:
        typer.echo(
            f"{facts['accuracy']:.0%} of the labels of unheard sounds told; always saying "
            f"{facts['most_frequent']}: {facts['most_frequent_label']:.0%}"
        )
    for name, each in facts["layers"].items():
        verdict = "far beyond" if each["far_beyond"] else "not beyond"
        kinds = " and ".join(each["learned_nothing"])
        typer.echo(f"{name}: {each['selective']:.0%} selective, {verdict} {kinds}")
    typer.echo(f"Written to {facts['report']}")


def _layer_facts(layer: Findings) -> dict[str, Any]:
    return {
        "selective": layer.answers["maximum"].share,
        "selective_by_mean": layer.answers["mean"].share,
        "learned_nothing": dict(layer.comparisons["maximum"]),
        "far_beyond": layer.claim("maximum"),
    }


def _encoded(
    workspace: Workspace,
    items: Sequence[Item],
    models: Mapping[Modality, str | None],
    *,
    places: Places,
    max_mb: int | None,
) -> tuple[dict[str, Any], int | None]:
    """What came of every modality, and how many vectors other machines may have now, if any may."""
    from momentary.encoders.catalogue import LARGEST_MB, encode_items, encode_sound_tracks
    from momentary.encoders.defaults import load_kit
    from momentary.encoders.store import FILE, VectorStore
    from momentary.recommend.encoded import anything_encoded
    from momentary.recommend.sharing import give, is_shared

    found, file = dict[str, Any](), workspace.root / FILE
    anything_encoded(workspace.catalog, file)  # what another machine encoded is not encoded again
    with VectorStore(file) as store, bars() as bar:
        for modality, model in models.items():
            max_bytes = 1_000_000 * (max_mb or LARGEST_MB[modality])
            allowed = replace(places, limits=replace(places.limits, max_bytes=max_bytes))
            kit = load_kit(modality, model=model)
            told = bar(f"encode {modality}")
            report = encode_items(items, kit, store, places=allowed, progress=told)
            if modality == "audio":
                told = bar("encode sound tracks")
                tracks = encode_sound_tracks(items, kit, store, places=allowed, progress=told)
                report = _added(report, tracks)
            found[modality] = _facts(kit, report)
        if not is_shared(workspace.engine):
            return found, None
        ids = [item.item_id for item in items]
        told = bar("give to other machines")
        return found, give(workspace.item_vectors, file, ids, progress=told)


def _modalities(
    only: Sequence[str], items: Sequence[Item], places: Places | None
) -> list[Modality]:
    """What to encode: what was asked for, or whatever some item names or a place holds."""
    from momentary.encoders.catalogue import kinds_there
    from momentary.encoders.protocol import MODALITIES

    for name in only:
        if name not in MODALITIES:
            raise SettingsError(f"--only is {name!r}; it may be {', '.join(MODALITIES)}.")
    if only:
        return [each for each in MODALITIES if each in only]
    there: set[str] = {"text"}
    for name in ("image", "audio", "video"):
        if any(getattr(item, name) for item in items):
            there.add(name)
    if places is not None:
        there |= kinds_there(places)
    if "video" in there:
        there.add("audio")
    return [each for each in MODALITIES if each in there]


def _places(places: Sequence[Path], urls: Sequence[str], *, refetch: bool) -> Places:
    from momentary.encoders.catalogue import Places
    from momentary.encoders.media import MediaLimits
    from momentary.settings import load_settings

    serve = load_settings(environ=os.environ).serve
    for place in places:
        if not place.exists():
            raise SettingsError(f"{place} does not exist; name a folder or an archive.")
    folders = [*(place for place in places if place.is_dir()), *map(Path, serve.media_folders)]
    try:
        limits = MediaLimits(
            folders=tuple(folder.absolute() for folder in folders),
            urls=(*urls, *serve.media_urls),
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    archives = tuple(place for place in places if place.is_file())
    return Places(limits=limits, archives=archives, refetch=refetch)


def _added(report: EncodeReport, more: EncodeReport) -> EncodeReport:
    from momentary.encoders.store import EncodeReport

    return EncodeReport(
        encoded=report.encoded + more.encoded,
        known=report.known + more.known,
        set_aside=report.set_aside + more.set_aside,
    )


def _facts(kit: Kit, report: EncodeReport) -> dict[str, Any]:
    return {
        "encoders": {view.name: view.encoder.version for view in kit.views},
        "encoded": report.encoded,
        "known": report.known,
        "set_aside": [{"item_id": name, "reason": why} for name, why in report.set_aside],
        "remedy": kit.remedy,
    }


def _print_encoded(found: dict[str, Any]) -> None:
    for modality, facts in found.items():
        aside = facts["set_aside"]
        stdout.print(
            f"[bold]{modality}[/]: {facts['encoded']:,} encoded, {facts['known']:,} known, "
            f"{len(aside):,} set aside ({escape(', '.join(facts['encoders'].values()))})",
            soft_wrap=True,
        )
        if facts["remedy"]:
            stderr.print(f"[yellow]{modality}[/]: {escape(facts['remedy'])}", soft_wrap=True)
        for each in aside:
            said = f"  set aside: {each['item_id']}: {each['reason']}"
            stderr.print(said, markup=False, soft_wrap=True)


def _seen(modality: Modality, file: Path, *, store: Path) -> dict[str, FloatArray]:
    """What the encoders say of one file of the caller's, those that filled the store."""
    from momentary.encoders.defaults import decoder, load_kit, models_of
    from momentary.encoders.media import MediaLimits, read_media
    from momentary.encoders.store import VectorStore

    limits = MediaLimits(folders=(file.absolute().parent,))
    try:
        raw = read_media(str(file), limits=limits)
        content = decoder(modality, limits=limits)(file.name, raw)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    encoders: dict[str, str] = {}
    if store.is_file():
        with VectorStore(store) as opened:
            encoders = opened.views()
    kit = load_kit(modality, model=models_of(encoders).get(modality))
    comparable = [
        view
        for view in kit.views
        if encoders.get(view.name, view.encoder.version) == view.encoder.version
    ]
    if not comparable:
        raise SettingsError(
            f"The catalogue was encoded by {encoders[kit.views[0].name]}, which is not at hand; "
            "run: momentary encode"
        )
    return replace(kit, views=tuple(comparable)).encode(content)


def _print_taught(taught: Taught) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("attribute", "items", "by name", "values", "by content alone", "learned"):
        table.add_column(column)
    for name, each in taught.figures.items():
        counts = [f"{each[count]:,.0f}" for count in ("items", "named", "values")]
        table.add_row(escape(name), *counts, f"{each['plain']:.1%}", f"{each['learned']:.1%}")
    stdout.print(table)
    for name, why in taught.left_out.items():
        stderr.print(f"left out: {name}: {why}", markup=False)
    typer.echo(
        "Shares of the ten nearest that agree, for items whose attributes were hidden. "
        + (
            "From now on similar and search use what was learned, and a service does after its "
            "next start."
            if taught.learned is not None
            else "What was learned is worse, so nothing changes."
        )
    )


def _weight(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        weight = float(value) if equals else 1.0
    except ValueError:
        weight = -1.0
    if not (name and 0 < weight <= 1_000):
        raise SettingsError(
            f"--by is {text!r}; name an attribute, or ATTRIBUTE=WEIGHT with a weight above 0 and "
            "at most 1000."
        )
    return name, weight


def _whole(name: str, count: str) -> int:
    if not count.isdecimal():
        raise SettingsError(f"{name}={count} gives no whole number; write {name}=1, say.")
    return int(count)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise SettingsError(f"{text!r} is not NAME=VALUE.")
    return name, value


def with_placement(workspace: Workspace, bundle: Bundle, sessions: Sessions, **how: Any) -> Bundle:  # noqa: ANN401
    """A bundle that can place what nobody touched, where content was encoded; see `placing`."""
    from momentary.encoders.store import FILE
    from momentary.recommend.encoded import anything_encoded, read_encoded
    from momentary.recommend.placing import learn_placement

    if not anything_encoded(workspace.catalog, workspace.root / FILE):
        return bundle
    encoded = read_encoded(workspace.catalog, workspace.root / FILE)
    placement = learn_placement(bundle, sessions, encoded, **how)
    if placement is None:
        return bundle
    figures = {name: round(value, 4) for name, value in placement.config.figures.items()}
    return replace(bundle, placement=placement, facts={**bundle.facts, "placement": figures})


def recommender_of(workspace: Workspace, bundle: Bundle) -> Recommender:
    """What recommends from a bundle and the workspace's content, new items included."""
    return _assembled(workspace, bundle)[0]


def _assembled(workspace: Workspace, bundle: Bundle) -> tuple[Recommender, Assortment]:
    from momentary.encoders.store import FILE
    from momentary.recommend.assortment import Assortment

    found = Assortment.read(bundle, workspace.catalog, workspace.root / FILE)
    extended = found.extended()
    table = workspace.catalog.table(extended.items.ids)
    return found.recommender(table, bundle=extended), found


def _known(workspace: Workspace, model: str) -> tuple[Recommender | None, ContentIndex | None, str]:
    """The model, if there is one, the items by likeness, if something is encoded, and trouble.

    Raises:
        MomentaryError: If there is neither.
    """
    from momentary.encoders.store import FILE
    from momentary.models.artifact import ModelStore
    from momentary.recommend.encoded import anything_encoded, read_encoded

    store, file = ModelStore(workspace.models), workspace.root / FILE
    encoded_any = anything_encoded(workspace.catalog, file)
    if encoded_any and model == "prod" and "prod" not in store.aliases():
        encoded = read_encoded(workspace.catalog, file)
        return None, encoded.index(learned=encoded.learned), encoded.trouble
    recommender, found = _assembled(workspace, store.load(model))
    return recommender, found.index, found.trouble


def _print_items(found: list[Recommendation], workspace: Workspace, *, json: bool) -> None:
    import msgspec
    from rich.table import Table

    if json:
        print_json(msgspec.to_builtins(found))
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("", "item", "name", "why"):
        table.add_column(column)
    names = workspace.catalog.table([each.item_id for each in found]).names
    for each, name in zip(found, names, strict=True):
        why = escape("; ".join(each.reasons))
        table.add_row(str(each.rank), escape(each.item_id), escape(name or ""), why)
    stdout.print(table)
