"""Filter dissection on ESC-10: units that answer to one label, beside networks without learning.

Three folds train, one chooses every unit's label, one scores it; which ones, a seed says. The
report of the first seed is written into the cache.
"""

from __future__ import annotations

import csv
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import momentary.dissection.selectivity as selectivity
import momentary.dissection.study as study
import momentary.models.audio_network as audio_network
from benchmarks.content_runs import kept
from benchmarks.content_vectors import table
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.dissection.report import render
from momentary.dissection.selectivity import TIMES_CHANCE
from momentary.dissection.sounds import Collection, as_mp3, read_collection
from momentary.dissection.study import Study, dissect
from momentary.dissection.tables import read_table
from momentary.encoders.audio import AudioLimits
from momentary.encoders.spectrogram import MelConfig, band_edges_hz
from momentary.models.audio_network import AudioNetworkConfig
from momentary.types import FloatArray

TARGET = 0.55
CAVEATS = (
    "Two other sets support no such claim, so none is made of them: the styles of the drum "
    "performances (groove) go with the drummer, gospel and punk coming from one session each, and "
    "those of the game music go with the package that it came in.",
)


def run(cache: Path, *, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Measure, print and write the rows."""
    collection = read()
    found = {}
    for seed in seeds:

        def measure(seed: int = seed) -> dict[str, FloatArray]:
            return _measure(collection, seed=seed, report=cache / f"dissection-{seed}.html")

        what = f"dissection {AudioNetworkConfig()} seed {seed}"
        found[seed] = kept(cache, what, measure, code=(study, selectivity, audio_network))
        print(f"seed {seed}: {found[seed]}", flush=True)
    rows = []
    for layer in ("dense2", "conv1"):
        shares = [float(each[f"{layer} trained"]) for each in found.values()]
        rivals = [float(each[f"{layer} rivals"].max()) for each in found.values()]
        top = layer == "dense2"
        rows.append(
            Row(
                what=f"dissection of ESC-10, {layer}: selective units ({len(seeds)} seeds)",
                value=float(np.mean(shares)),
                spread=max(shares) - min(shares),
                target=TARGET if top else None,
                peer="highest of five untrained and five shuffled networks",
                peer_value=float(np.mean(rivals)),
            )
        )
        rows.append(
            Row(
                what=f"dissection of ESC-10, {layer}: over the highest of those, worst seed",
                value=min(s / max(r, 1e-9) for s, r in zip(shares, rivals, strict=True)),
                unit="times",
                target=TIMES_CHANCE if top else None,
            )
        )
    accuracies = [float(each["accuracy"]) for each in found.values()]
    rows.append(
        Row(
            what="dissection of ESC-10: accuracy on the two held-out folds",
            value=float(np.mean(accuracies)),
        )
    )
    data = {"clips.zip": sha256(data_folder() / "audio_esc10" / "clips.zip")}
    finish_part("content", "dissection", rows, data=data, seeds=seeds)


def read() -> Collection:
    """The clips, unpacked for as long as they are read."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with zipfile.ZipFile(data_folder() / "audio_esc10" / "clips.zip") as opened:
            opened.extractall(place)
        rows = table("audio_esc10")
        with (place / "items.csv").open("w", newline="", encoding="utf-8") as written:
            writer = csv.DictWriter(written, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return read_collection(
            place,
            read_table(place / "items.csv", label="label", source="fold"),
            mel=MelConfig(),
            limits=AudioLimits(excerpts=1),
        )


def _measure(collection: Collection, *, seed: int, report: Path) -> dict[str, FloatArray]:
    made = dissect(
        collection.recordings,
        config=AudioNetworkConfig(),
        rng=np.random.default_rng(seed),
        progress=lambda done, total, note="": print(f"{done}/{total} {note}", flush=True),
    )
    mel = MelConfig()
    page = render(
        made,
        title="What the units of an audio network answer to: ESC-10",
        hear=lambda at: as_mp3(collection.samples[made.held_out.names[at]], mel.rate_hz),
        seconds_a_frame=mel.seconds(1),
        bands_hz=band_edges_hz(mel)[1:-1],
        caveats=CAVEATS,
    )
    report.write_text(page, encoding="utf-8")
    return _figures(made)


def _figures(made: Study) -> dict[str, FloatArray]:
    found = {"accuracy": np.array(made.accuracy)}
    for layer in made.layers:
        shares = [share for each in layer.comparisons["maximum"].values() for share in each]
        found[f"{layer.name} trained"] = np.array(layer.answers["maximum"].share)
        found[f"{layer.name} rivals"] = np.array(shares)
    return found
