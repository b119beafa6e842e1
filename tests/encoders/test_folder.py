"""A folder of pictures is encoded to the end, whatever is broken in it and whoever kills it."""

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from momentary.encoders.colour import ColourHistogram
from momentary.encoders.media import MediaLimits, pictures_in, read_picture
from momentary.encoders.store import VectorStore, encode_all

PICTURES = 150

WORKER = """
import hashlib, sys, time
from pathlib import Path
from momentary.encoders.colour import ColourHistogram
from momentary.encoders.media import MediaLimits, pictures_in, read_picture
from momentary.encoders.store import VectorStore, encode_all

place, file, journal = (Path(each) for each in sys.argv[1:])
limits = MediaLimits(folders=(place,))

class Watched(ColourHistogram):
    def encode(self, contents):
        time.sleep(0.02)
        vectors = super().encode(contents)
        with journal.open("a") as opened:
            opened.write("".join(hashlib.sha256(x).hexdigest() + chr(10) for x in contents))
        return vectors

with VectorStore(file) as store:
    encode_all(
        pictures_in(place, limits=limits), Watched(), store, batch=8,
        decode=lambda name, raw: read_picture(raw, name=name, limits=limits),
    )
"""


def written(image, kind="JPEG"):
    with io.BytesIO() as held:
        image.save(held, kind)
        return held.getvalue()


def fill(place):
    """Pictures that all differ, and broken files among them; the names of the broken ones."""
    place.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = rng.integers(256, size=(12, 9, 3), dtype=np.uint8)
        (place / f"{number:03}.png").write_bytes(written(Image.fromarray(pixels), "PNG"))
    whole = written(Image.fromarray(rng.integers(256, size=(90, 60, 3), dtype=np.uint8)))
    broken = {
        "010-empty.jpg": b"",
        "020-cut.jpg": whole[: len(whole) // 3],
        "030-noise.jpg": rng.bytes(3_000),
        "040-svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///x"/></svg>',
        "050-page.jpg": b"<!doctype html><title>404</title>",
        "060-zip.jpg": b"PK\x03\x04" + bytes(300),
        "070-huge.png": written(Image.new("1", (9_000, 9_000)), "PNG"),
    }
    for name, content in broken.items():
        (place / name).write_bytes(content)
    return set(broken)


def test_a_killed_folder_goes_on_encodes_nothing_twice_and_names_what_is_broken(tmp_path):
    place, file, journal = tmp_path / "pictures", tmp_path / "v.sqlite", tmp_path / "journal"
    broken = fill(place)
    command = [sys.executable, "-c", WORKER, str(place), str(file), str(journal)]
    with subprocess.Popen(command, env=os.environ) as worker:
        until = time.monotonic() + 60
        while not (journal.is_file() and len(journal.read_text().split()) >= PICTURES // 2):
            assert time.monotonic() < until
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
    before = len(journal.read_text().split())
    assert before < PICTURES
    limits = MediaLimits(folders=(place,))
    with VectorStore(file) as store:
        report = encode_all(
            pictures_in(place, limits=limits),
            ColourHistogram(),
            store,
            batch=8,
            decode=lambda name, raw: read_picture(raw, name=name, limits=limits),
        )
        names = sorted(each.name for each in place.iterdir())
        vectors, there = store.read(ColourHistogram.version, names)
    # At most the batch at hand was encoded and not yet stored when the process was killed.
    assert PICTURES - before <= report.encoded <= PICTURES - before + 8
    assert report.encoded + report.known == PICTURES
    assert {name for name, _ in report.set_aside} == broken
    assert all(reason for _, reason in report.set_aside)
    assert {name for name, known in zip(names, there, strict=True) if not known} == broken
    assert np.isfinite(vectors).all()
