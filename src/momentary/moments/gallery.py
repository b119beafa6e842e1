"""Many pictures -> one table of attributes; what cannot be measured is set aside with a reason."""

from __future__ import annotations

import json
import zipfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.pixels import LIMITS, Pixels, read_picture
from momentary.moments.stability import Stability, noisy, remeasure, spread_out, stability
from momentary.types import Progress, silent

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_STABILITY = "momentary.stability"  # where the file keeps it
_AHEAD = 16  # pictures in flight for each thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The attributes of many pictures.

    Attributes:
        pictures: Names: paths below the folder, or in the archive. Shape (pictures,).
        values: In the order of `ATTRIBUTES`. Shape (pictures, attributes).
        aside: Name and reason of each picture that could not be measured.
        stability: How steady each attribute was when a sample was measured again; empty if there
            were too few pictures.
    """

    pictures: tuple[str, ...]
    values: NDArray[np.float64]
    aside: tuple[tuple[str, str], ...] = ()
    stability: Stability = field(default_factory=dict)

    @property
    def noisy(self) -> tuple[str, ...]:
        """Attributes that do not survive re-encoding and half the size."""
        return noisy(self.stability)


class Gallery:
    """Pictures by name: a folder, or a zip archive that is read without unpacking it.

    Raises:
        DataError: If it is neither.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._archive: zipfile.ZipFile | None = None
        if source.is_dir():
            found = (file for file in source.rglob("*") if file.suffix.lower() in _SUFFIXES)
            self.names = sorted(file.relative_to(source).as_posix() for file in found)
        elif source.is_file() and zipfile.is_zipfile(source):
            # Opened once: reading the list of a large archive takes longer than reading a picture.
            self._archive = zipfile.ZipFile(source)
            listed = self._archive.namelist()
            self.names = sorted(name for name in listed if Path(name).suffix.lower() in _SUFFIXES)
        else:
            raise DataError(f"{source} is neither a folder of pictures nor a zip archive of them.")

    def read(self, name: str) -> bytes:
        """The bytes of one picture.

        Raises:
            DataError: If it is not there, cannot be read, or is larger than a picture may be.
        """
        if self._archive is None:
            file = self.source / name
            if not file.resolve().is_relative_to(self.source.resolve()):
                raise DataError("it lies outside the folder")
            try:
                with file.open("rb") as opened:
                    return opened.read(LIMITS.bytes + 1)
            except OSError as error:
                raise DataError(f"it cannot be read: {error.strerror}") from error
        try:
            with self._archive.open(name) as opened:
                return opened.read(LIMITS.bytes + 1)
        except (KeyError, OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"it cannot be read: {error}") from error

    def pixels(self, name: str) -> Pixels:
        """One picture, decoded."""
        return read_picture(self.read(name))


def measure_all(
    gallery: Gallery, *, threads: int = 2, again: int = 200, progress: Progress = silent
) -> Measured:
    """Measure every picture, and a sample of them once more after re-encoding and half the size.

    Memory does not grow with the size of the pictures' files.

    Args:
        gallery: The pictures.
        threads: Decoding and measuring both leave the interpreter free.
        again: How many pictures the sample holds, evenly spaced; 0 measures none again.
        progress: Told from time to time.
    """
    names, values, aside = [], [], []
    for done, (name, found) in enumerate(_measured(gallery, threads)):
        if isinstance(found, str):
            aside.append((name, found))
        else:
            names.append(name)
            values.append(found)
        if done % 100 == 0:
            progress(done, len(gallery.names), f"{len(aside)} set aside")
    progress(len(gallery.names), len(gallery.names))
    table = np.array(values) if values else np.empty((0, len(ATTRIBUTES)))
    with ThreadPoolExecutor(threads) as pool:
        sample = pool.map(
            lambda name: remeasure(gallery.pixels(name)), spread_out(names, count=again)
        )
        steady = stability(np.array(list(sample)))
    return Measured(pictures=tuple(names), values=table, aside=tuple(aside), stability=steady)


def _measured(gallery: Gallery, threads: int) -> Iterator[tuple[str, NDArray[np.float64] | str]]:
    def one(name: str) -> NDArray[np.float64] | str:
        try:
            return measure(gallery.pixels(name))
        except DataError as error:
            return str(error)

    waiting: deque[tuple[str, Future[NDArray[np.float64] | str]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for name in gallery.names:
            waiting.append((name, pool.submit(one, name)))
            if len(waiting) >= _AHEAD * threads:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()


def write_measured(measured: Measured, file: Path) -> None:
    """Write one row a picture as Parquet: `picture`, then a column an attribute."""
    columns = {"picture": pa.array(measured.pictures, pa.string())}
    columns |= {name: pa.array(measured.values[:, at]) for at, name in enumerate(ATTRIBUTES)}
    told = json.dumps({name: list(values) for name, values in measured.stability.items()})
    pq.write_table(pa.table(columns).replace_schema_metadata({_STABILITY: told}), file)


def read_measured(file: Path) -> Measured:
    """Read what `write_measured` wrote.

    Raises:
        DataError: If the file is missing or is not such a table.
    """
    try:
        table = pq.read_table(file, columns=["picture", *ATTRIBUTES])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(
            f"{file} is not a table of attributes ({error}); make one with "
            "momentary moments measure PICTURES --out attributes.parquet."
        ) from error
    values = np.column_stack([table[name].to_numpy() for name in ATTRIBUTES])
    told = json.loads((table.schema.metadata or {}).get(_STABILITY.encode(), b"{}"))
    return Measured(
        pictures=tuple(table["picture"].to_pylist()),
        values=values.astype(np.float64),
        stability={name: (float(one), float(other)) for name, (one, other) in told.items()},
    )
