"""What the moments cost: ten thousand items x two million impressions, and pictures a second.

`python -m benchmarks.moments_scale` prints both; `--pictures` prints the pictures alone, by the
clock and by the processor.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq

from benchmarks.moments_kept import Kept
from benchmarks.report import data_folder
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.effects import EffectsDesign, ImageEffects
from momentary.moments.example import ExampleConfig, simulate_log, stock_shelf, versions_of
from momentary.moments.exposures import collect
from momentary.moments.gallery import Gallery, measure_all
from momentary.moments.spells import PictureTable

ITEMS, IMPRESSIONS = 10_000, 2_000_000
_GIB = 2**20  # of the kibibytes that getrusage counts


def analyse_many(size: tuple[int, int]) -> Kept:
    """Simulate a log, and measure reading, counting and fitting it in a process of its own.

    Args:
        size: Items and impressions.

    Returns:
        "seconds" of CPU, user and system; "gib", the peak of resident memory; "discoveries".
    """
    items, impressions = size
    rng = np.random.default_rng(0)
    config = ExampleConfig(items=items, impressions=impressions, visitors=impressions // 20)
    values = rng.normal(size=(items, config.versions, len(ATTRIBUTES)))
    shelf = stock_shelf(values, quality=rng.normal(size=items), rng=rng, periods=config.periods)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        pq.write_table(simulate_log(shelf, rng=rng, config=config), where / "events.parquet")
        pq.write_table(versions_of(shelf), where / "versions.parquet")
        np.save(where / "values.npy", values)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.moments_scale", "--child", folder],
            capture_output=True,
            check=True,
        )
    found = msgspec.json.decode(done.stdout, type=dict[str, float])
    return {name: np.array(value) for name, value in found.items()}


def _child(folder: Path) -> None:
    values = np.load(folder / "values.npy")
    spells = collect(
        pq.read_table(folder / "events.parquet"), pq.read_table(folder / "versions.parquet")
    )
    pictures = PictureTable(
        pictures=tuple(
            f"item-{item:03d}-{version}.png"
            for item in range(values.shape[0])
            for version in range(values.shape[1])
        ),
        attributes=tuple(ATTRIBUTES),
        values=values.reshape(-1, values.shape[2]),
    )
    design = EffectsDesign(simulated=True)
    table = ImageEffects(design).fit(spells, pictures, rng=np.random.default_rng(0)).table()
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "seconds": used.ru_utime + used.ru_stime,
        "gib": used.ru_maxrss / _GIB,
        "discoveries": float(sum(each.discovered for each in table.effects)),
    }
    sys.stdout.buffer.write(msgspec.json.encode(told))


def measure_pictures(count: int) -> Kept:
    """Decode and measure so many clothing photos at 224 pixels, in two threads.

    Returns:
        Pictures a second: "cpu" of one processor, "wall" by the clock.
    """
    gallery = Gallery(data_folder() / "clothing_photos" / "images.zip")
    measure_all(_some(gallery, 16), again=0)
    few = _some(gallery, count)
    cpu, wall = time.process_time(), time.perf_counter()
    found = measure_all(few, threads=2, again=0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done = len(found.pictures)
    return {"cpu": np.array(done / cpu), "wall": np.array(done / wall)}


def _some(gallery: Gallery, count: int) -> Gallery:
    few = Gallery(gallery.source)
    few.names = gallery.names[:count]
    return few


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pictures", action="store_true", help="only pictures a second")
    given = parser.parse_args()
    if given.child:
        _child(given.child)
        return
    speed = measure_pictures(1200)
    print(
        f"{float(speed['wall']):.0f} pictures a second by the clock in two threads; "
        f"{float(speed['cpu']):.0f} a second of one processor"
    )
    if not given.pictures:
        cost = analyse_many((ITEMS, IMPRESSIONS))
        print(f"{float(cost['seconds']):.0f} s of CPU, {float(cost['gib']):.2f} GiB at most")


if __name__ == "__main__":
    main()
