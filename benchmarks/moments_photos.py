"""Real photos with real pixel edits, measured: what the simulated worlds of `moments` show.

The pictures and their attributes are real; who clicks on them is simulated elsewhere.
"""

from __future__ import annotations

import csv
import io
import itertools
import zipfile
import zlib
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.moments_kept import Keeper, Kept, digest
from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.edits import edit
from momentary.moments.estimates import Matrix
from momentary.moments.pixels import read_picture
from momentary.moments.stability import remeasure
from momentary.types import IntArray

VERSIONS = 11
"""The photo as it is, and ten edits of it."""

SIDE = 192
PIXELS = (
    "benchmarks/moments_photos.py",
    *(
        f"src/momentary/moments/{name}.py"
        for name in ("attributes", "edits", "pixel_sums", "pixels")
    ),
)
"""What the measured photos depend on."""

_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoPool:
    """Measured photos.

    Attributes:
        category: Shape (photos,).
        values: Version 0 is the photo as it is, each other one an edit of an attribute and a
            strength drawn at random. Shape (photos, versions, attributes).
    """

    category: IntArray
    values: Matrix


def measure_pool(
    archive: Path, table: Path, *, photos: int, keeper: Keeper, processes: Executor
) -> PhotoPool:
    """Measure the first `photos` of the archive in an order that mixes the categories."""
    names, category = _listed(table)
    chosen = np.random.default_rng(0).permutation(len(names))[:photos]
    found = keeper.each(
        "pool",
        _measure_versions,
        _parts(archive, [names[row] for row in chosen], count=64),
        code=digest(PIXELS, photos),
        pool=processes,
    )
    values = np.concatenate([each["values"] for each in found])
    return PhotoPool(category=category[chosen], values=values.astype(np.float64))


def measure_laws(
    archive: Path, table: Path, *, photos: int, keeper: Keeper, processes: Executor
) -> tuple[Matrix, Matrix]:
    """How well the edits move their attribute, and how well a measurement survives re-encoding.

    The photos are others than those that the edits were mended on.

    Returns:
        Share of photos in which each edit moves its attribute monotonically over five strengths,
        shape (attributes,), and what `stability.remeasure` found, shape (photos, 3, attributes).
    """
    names, _ = _listed(table)
    chosen = np.random.default_rng(11).permutation(len(names))[:photos]
    kept = keeper.each(
        "laws",
        _measure_steps,
        _parts(archive, [names[row] for row in chosen], count=16),
        code=digest((*PIXELS, "src/momentary/moments/stability.py"), photos),
        pool=processes,
    )
    paths = np.concatenate([each["paths"] for each in kept]).astype(np.float64)
    again = np.concatenate([each["again"] for each in kept]).astype(np.float64)
    return (np.diff(paths, axis=1) >= -1e-9).all(axis=1).mean(axis=0), again


def _parts(archive: Path, names: list[str], *, count: int) -> dict[str, tuple[Path, list[str]]]:
    ends = np.linspace(0, len(names), count + 1).astype(int).tolist()
    return {
        str(part): (archive, names[first:last])
        for part, (first, last) in enumerate(itertools.pairwise(ends))
    }


def _listed(table: Path) -> tuple[list[str], IntArray]:
    with table.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    _, category = np.unique([row["category"] for row in rows], return_inverse=True)
    return [row["image"] for row in rows], category


def _measure_versions(task: tuple[Path, list[str]]) -> Kept:
    archive, names = task
    found = np.empty((len(names), VERSIONS, len(ATTRIBUTES)))
    with zipfile.ZipFile(archive) as opened:
        for row, name in enumerate(names):
            pixels = read_picture(_bytes(opened, name), side=SIDE)
            found[row, 0] = measure(pixels)
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            edits = rng.choice(list(ATTRIBUTES), VERSIONS - 1, replace=False)
            strengths = rng.uniform(0.4, 1.0, VERSIONS - 1) * rng.choice([-1.0, 1.0], VERSIONS - 1)
            for place, attribute in enumerate(edits.tolist(), start=1):
                found[row, place] = measure(edit(pixels, attribute, float(strengths[place - 1])))
    return {"values": found}


def _measure_steps(task: tuple[Path, list[str]]) -> Kept:
    """Own attribute of each edit at five strengths; all of them after JPEG and half the size."""
    archive, names = task
    paths = np.empty((len(names), len(_STEPS), len(ATTRIBUTES)))
    again = np.empty((len(names), 3, len(ATTRIBUTES)))
    with zipfile.ZipFile(archive) as opened:
        for row, name in enumerate(names):
            pixels = read_picture(_bytes(opened, name), side=SIDE)
            again[row] = remeasure(pixels)
            for column, attribute in enumerate(ATTRIBUTES):
                for place, step in enumerate(_STEPS):
                    paths[row, place, column] = (
                        measure(edit(pixels, attribute, step)) if step else again[row, 0]
                    )[column]
    return {"paths": paths, "again": again}


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as opened:
        return io.BytesIO(opened.read()).getvalue()
