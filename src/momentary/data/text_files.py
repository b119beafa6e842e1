"""Text files as bytes: packed or not, in which encoding, in blocks of whole lines."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from momentary.errors import DataError

SAMPLE_BYTES = 1 << 20
_MAX_LINE = 4 << 20
_BLOCK_BYTES = (1 << 16, 1 << 25)
"""Smallest and largest block."""


def open_bytes(path: Path, *, compressed: bool) -> BinaryIO:
    """Open a file to read its bytes, unpacked."""
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def head(path: Path, *, compressed: bool) -> bytes:
    """The first `SAMPLE_BYTES`, or as many as can be had from a damaged file.

    Raises:
        DataError: If the file claims to be gzip and is not.
    """
    parts: list[bytes] = []
    try:
        with open_bytes(path, compressed=compressed) as stream:
            while sum(map(len, parts)) < SAMPLE_BYTES:
                part = stream.read(1 << 14)
                if not part:
                    break
                parts.append(part)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if not parts:
            raise DataError(f"{path} is not readable gzip ({error}); pack it again.") from error
    return b"".join(parts)


_MAGIC = {
    b"PK\x03\x04": "a zip archive; unpack it and import the tables inside",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"OggS": "Ogg audio",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database; export its tables as CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


def refuse_binary(path: Path, start: bytes) -> None:
    """Refuse a file that is no text.

    Args:
        path: What to call it.
        start: Its first bytes.

    Raises:
        DataError: If it is empty, a picture, an archive or otherwise binary.
    """
    if not start.strip():
        raise DataError(f"{path} is empty; export it again.")
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {what}; momentary reads CSV, TSV, JSONL and Parquet.")
    sample = np.frombuffer(start[:65536], dtype=np.uint8)
    strange = int(((sample < 9) | ((sample > 13) & (sample < 27))).sum())
    if strange > max(4, len(sample) // 50):
        raise DataError(
            f"{path} is binary, not text; momentary reads CSV, TSV, JSONL (or .gz) and Parquet."
        )


def encoding_of(start: bytes) -> str:
    """`utf-8`, `utf-8-sig` or, if most high bytes are no UTF-8 but could be letters, `latin-1`."""
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        text = start.decode("utf-8", errors="surrogateescape")
        odd = re.findall("[\udc80-\udcff]", text)
        good = len(re.findall("[\u0080-\ud7ff\ue000-\U0010ffff]", text))
        letters = all("\udca0" <= char <= "\udcfd" for char in odd)
        return "latin-1" if letters and len(odd) > good else "utf-8"
    return "utf-8"


def codec(encoding: str) -> str:
    """Python's codec for the bytes behind a byte order mark."""
    return "latin-1" if encoding == "latin-1" else "utf-8"


def block_bytes(path: Path, *, compressed: bool, rows: int) -> int:
    """How many bytes hold about so many lines, judged by the first ones."""
    start = head(path, compressed=compressed)
    lines = max(1, start.count(b"\n"))
    smallest, largest = _BLOCK_BYTES
    return int(min(max(rows * len(start) / lines, smallest), largest))


def blocks(path: Path, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Pieces of about `size` bytes that end with a line; an endless line is cut short.

    Raises:
        DataError: If the gzip stream breaks off.
    """
    try:
        while data := stream.read(size):
            if not data.endswith(b"\n"):
                rest = stream.readline(_MAX_LINE)
                data += rest
                cut = len(rest) == _MAX_LINE and not rest.endswith(b"\n")
                while len(rest) == _MAX_LINE and not rest.endswith(b"\n"):
                    rest = stream.readline(_MAX_LINE)
                data += b"\n" if cut else b""
            yield data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged: the gzip stream breaks off ({error}); get the file again."
        ) from error
