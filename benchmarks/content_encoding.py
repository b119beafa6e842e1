"""Encoding a folder: how fast beside the bare encoder, what breaks, and what a kill costs.

The folder holds 5,000 pictures (each photo of the fashion set once, a few cut again) and 50 broken
files of ten kinds. A process encodes it and is killed with SIGKILL half way; another goes on. Every
content that reaches the encoder is written to a journal, so what was encoded twice shows.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report import ROOT, Row, data_folder, finish_part
from momentary.encoders.colour import ColourHistogram
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.media import MediaLimits, pictures_in, read_picture
from momentary.encoders.protocol import Encoder, Picture
from momentary.encoders.store import VectorStore, encode_all

PICTURES, BROKEN = 5_000, 50
_BARE = 96
_PATIENCE_S = 3_000.0

WORKER = """
import hashlib, sys
from pathlib import Path
from momentary.encoders.colour import ColourHistogram
from momentary.encoders.media import MediaLimits, pictures_in, read_picture
from momentary.encoders.store import VectorStore, encode_all

place, file, journal = (Path(each) for each in sys.argv[1:])
limits = MediaLimits(folders=(place,))

class Watched(ColourHistogram):
    def encode(self, contents):
        vectors = super().encode(contents)
        with journal.open("a") as opened:
            opened.write("".join(hashlib.sha256(x).hexdigest() + chr(10) for x in contents))
        return vectors

with VectorStore(file) as store:
    report = encode_all(
        pictures_in(place, limits=limits), Watched(), store,
        decode=lambda name, raw: read_picture(raw, name=name, limits=limits),
    )
print(report.encoded, report.known, *(name for name, _ in report.set_aside), sep=chr(10))
"""


def run(cache: Path) -> None:
    """Measure, print and write the rows."""
    del cache
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "pictures"
        broken = fill(place, pictures=PICTURES, broken=BROKEN)
        rows = [*_killed(Path(made), place, broken), *_rates(Path(made), place)]
    finish_part("content", "encoding", rows, data={}, seeds=(0,))


def fill(place: Path, *, pictures: int, broken: int) -> set[str]:
    """Write real pictures and broken ones; the names of the broken ones."""
    place.mkdir()
    with zipfile.ZipFile(data_folder() / "fashion_products" / "images.zip") as opened:
        for name in opened.namelist()[:pictures]:
            (place / name).write_bytes(opened.read(name))
        real = opened.read(opened.namelist()[0])
    kinds = _broken_kinds(real)
    names = set()
    for number in range(broken):
        kind, content = kinds[number % len(kinds)]
        name = f"broken-{number:02}-{kind}.jpg"
        (place / name).write_bytes(content + b"%d" % number if kind == "noise" else content)
        names.add(name)
    return names


def _broken_kinds(real: bytes) -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    with io.BytesIO() as held:
        Image.new("1", (12_000, 12_000)).save(held, "PNG")
        bomb = held.getvalue()
    return [
        ("empty", b""),
        ("cut", real[: len(real) // 3]),
        ("noise", rng.bytes(4_000)),
        ("text", b"no picture at all"),
        (
            "svg",
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        ),
        ("html", b"<!doctype html><title>404</title>"),
        ("zip", b"PK\x03\x04" + bytes(400)),
        ("pdf", b"%PDF-1.7\n" + bytes(400)),
        ("bomb", bomb),
        ("header", real[:24]),
    ]


def _killed(made: Path, place: Path, broken: set[str]) -> list[Row]:
    file, journal = made / "vectors.sqlite", made / "journal"
    command = [sys.executable, "-c", WORKER, str(place), str(file), str(journal)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    waited = time.monotonic()
    while _lines(journal) < PICTURES // 2 and first.poll() is None:
        if time.monotonic() - waited > _PATIENCE_S:
            first.kill()
            raise TimeoutError("the first process did not come half way")
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = _lines(journal)
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    encoded, known, *aside = told.stdout.split()
    after = journal.read_text().split()
    # Pictures of one batch may have been encoded and not yet stored when the process was killed.
    twice = len(after) - len(set(after))
    print(f"killed after {before}; then {encoded} encoded, {known} known", flush=True)
    return [
        Row(
            what="5,000 pictures, killed half way: encoded again beyond the batch at hand",
            value=float(max(twice - 32, 0)),
            unit="pictures",
            target=0.0,
            better="lower",
        ),
        Row(
            what="5,000 pictures, killed half way: of the batch at hand",
            value=float(min(twice, 32)),
            unit="pictures",
        ),
        Row(
            what="5,000 pictures and 50 broken files: broken ones named with a reason",
            value=float(len(set(aside) & broken)),
            unit="files",
            target=float(BROKEN),
        ),
        Row(
            what="5,000 pictures and 50 broken files: others set aside",
            value=float(len(set(aside) - broken)),
            unit="files",
            target=0.0,
            better="lower",
        ),
    ]


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def _rates(made: Path, place: Path) -> list[Row]:
    limits = MediaLimits(folders=(place,))
    encoders: list[tuple[str, Encoder[Picture]]] = [
        ("EfficientNet-Lite0", EfficientNetLite()),
        ("colours", ColourHistogram()),
    ]
    rows = []
    sources = list(pictures_in(place, limits=limits))[-_BARE:]
    pictures = [
        read_picture(raw, name=name, limits=limits)
        for name, raw in sources
        if isinstance(raw, bytes) and not name.startswith("broken")
    ]
    named = [each for each in sources if not each[0].startswith("broken")]
    for name, encoder in encoders:
        encoder.encode(pictures[:32])
        shares = []
        for turn in range(3):
            started = time.process_time()
            for start in range(0, len(pictures), 32):
                encoder.encode(pictures[start : start + 32])
            bare = time.process_time() - started
            with VectorStore(made / f"{name}-{turn}.sqlite") as store:
                started = time.process_time()
                encode_all(
                    named,
                    encoder,
                    store,
                    decode=lambda name, raw: read_picture(raw, name=name, limits=limits),
                )
                whole = time.process_time() - started
            shares.append(bare / whole)
            print(f"{name}: {len(pictures) / bare:.1f} a CPU second bare, {bare / whole:.3f}")
        rows.append(
            Row(
                what=f"encoding through the store, {name}: share of the bare rate, CPU time",
                value=float(np.median(shares)),
                spread=max(shares) - min(shares),
                target=0.85 if name.startswith("Eff") else None,
            )
        )
    return rows
