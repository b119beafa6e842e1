"""Vectors of the benchmarks' data sets: encoded once, kept in a store outside the repository."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.report import data_folder
from momentary.encoders.audio import read_sound
from momentary.encoders.media import MediaLimits, pictures_in, read_picture
from momentary.encoders.protocol import Encoder, Picture
from momentary.encoders.store import VectorStore, encode_all
from momentary.errors import DataError
from momentary.types import FloatArray

Content = TypeVar("Content")

Table = list[dict[str, str]]
"""The rows of a CSV by column."""


def default_cache() -> Path:
    """Where vectors are kept: momentary/benchmarks below the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "momentary" / "benchmarks"


def table(data_set: str, file: str = "items.csv") -> Table:
    """A table of a data set."""
    with (data_folder() / data_set / file).open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def picture_limits() -> MediaLimits:
    """Pictures are opened below the data's folder only."""
    return MediaLimits(folders=(data_folder(),))


def picture_vectors(
    data_set: str, names: Sequence[str], encoder: Encoder[Picture], *, cache: Path
) -> FloatArray:
    """One vector a picture of a data set's archive, zeros where there is none."""
    limits = picture_limits()
    return _vectors(
        pictures_in(data_folder() / data_set / "images.zip", limits=limits),
        names,
        encoder,
        decode=lambda name, raw: read_picture(raw, name=name, limits=limits),
        file=cache / f"{data_set}.sqlite",
    )


def sound_vectors(
    data_set: str, names: Sequence[str], encoder: Encoder[Content], *, cache: Path
) -> FloatArray:
    """One vector a sound of a data set's archive."""
    return _vectors(
        sounds_in(data_folder() / data_set / "clips.zip"),
        names,
        encoder,
        decode=lambda _, raw: read_sound(raw),  # type: ignore[arg-type,return-value]
        file=cache / f"{data_set}.sqlite",
    )


def text_vectors(
    data_set: str, texts: Sequence[str], encoder: Encoder[str], *, cache: Path
) -> FloatArray:
    """One vector a text, zeros where it has no letters."""
    return _vectors(
        [(text, text.encode()) for text in dict.fromkeys(texts)],
        texts,
        encoder,
        decode=lambda _, raw: raw.decode(),
        file=cache / f"{data_set}.sqlite",
    )


def sounds_in(archive: Path) -> list[tuple[str, bytes]]:
    """Every sound of a ZIP archive, by name."""
    with zipfile.ZipFile(archive) as opened:
        return [(name, opened.read(name)) for name in opened.namelist()]


def _vectors(
    sources: Iterable[tuple[str, bytes | DataError]],
    names: Sequence[str],
    encoder: Encoder[Content],
    *,
    decode: Callable[[str, bytes], Content],
    file: Path,
) -> FloatArray:
    with VectorStore(file) as store:
        report = encode_all(sources, encoder, store, decode=decode, batch=32)
        for name, reason in report.set_aside:
            print(f"{file.stem}: {name} set aside: {reason}", flush=True)
        vectors, _ = store.read(encoder.version, names)
    return vectors
