"""Commands about what items sound like: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(stderr=True)


def dissect(
    folder: Annotated[Path, typer.Argument(help="Folder with the sounds.")],
    labels: Annotated[Path, typer.Option(help="CSV; its first column names the files.")],
    to: Annotated[Path, typer.Option(help="The report, one HTML file.")] = Path("dissection.html"),
    label: Annotated[str, typer.Option(help="Column of labels.")] = "label",
    source: Annotated[str, typer.Option(help="Column that tells sources apart.")] = "source",
    epochs: Annotated[int, typer.Option(help="Passes over the sounds.")] = 120,
    comparisons: Annotated[int, typer.Option(help="Untrained and shuffled networks each.")] = 5,
    seed: Annotated[int, typer.Option(help="Draws everything that chance decides.")] = 0,
) -> None:
    """What the units of an audio network answer to, to see and to hear.

    Example: momentary dissect clips --labels items.csv --source fold --to report.html
    """
    import numpy as np
    from rich.progress import Progress

    from momentary.dissection.report import render
    from momentary.dissection.sounds import as_mp3, read_collection
    from momentary.dissection.study import dissect as study_units
    from momentary.encoders.audio import AudioLimits
    from momentary.encoders.spectrogram import MelConfig, band_edges_hz
    from momentary.models.audio_network import AudioNetworkConfig

    mel = MelConfig()
    with Progress(console=console, transient=True) as bars:
        row = bars.add_task("dissect", total=None)

        def tell(done: int, total: int, note: str = "") -> None:
            bars.update(row, completed=done, total=total, description=f"dissect {note}")

        limits = AudioLimits(excerpts=1)
        found = read_collection(
            folder, labels, columns=(label, source), mel=mel, limits=limits, progress=tell
        )
        study = study_units(
            found.recordings,
            config=AudioNetworkConfig(epochs=epochs),
            comparisons=comparisons,
            rng=np.random.default_rng(seed),
            progress=tell,
        )
    page = render(
        study,
        title=f"What the units of an audio network answer to: {folder.name}",
        hear=lambda at: as_mp3(found.samples[study.held_out.names[at]], mel.rate_hz),
        seconds_a_frame=mel.seconds(1),
        bands_hz=band_edges_hz(mel)[1:-1],
    )
    to.write_text(page, encoding="utf-8")
    for each in found.set_aside:
        console.print(f"set aside: {each}", markup=False)
    for layer in study.layers:
        share = layer.answers["maximum"].share
        verdict = "far beyond" if layer.claim("maximum") else "not beyond"
        typer.echo(f"{layer.name}: {share:.0%} selective, {verdict} networks that learned nothing")
    typer.echo(f"Written to {to}")
