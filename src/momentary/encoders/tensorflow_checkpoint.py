"""Read a TensorFlow checkpoint's arrays without TensorFlow.

A checkpoint is two files. The index is a table as LevelDB writes it
(https://github.com/google/leveldb/blob/main/doc/table_format.md): blocks of sorted keys, each key
sharing a prefix with the one before it. Its values are TensorFlow's `BundleEntryProto`: type,
shape, and where in the data file the array lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from momentary.errors import DataError
from momentary.types import FloatArray

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # of a block: how it is compressed, and a checksum
_FLOAT32 = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5
_DIMENSION = 2


class _Entry(NamedTuple):
    """Where an array lies in the data file."""

    shape: tuple[int, ...]
    offset: int
    size_bytes: int


def read_checkpoint(index: Path, data: Path) -> dict[str, FloatArray]:
    """The arrays of 32-bit floats of a checkpoint of one data file, by name.

    Args:
        index: The file whose name ends in ".index".
        data: The file whose name ends in ".data-00000-of-00001".

    Raises:
        DataError: If a file is missing or is not what its name says.
    """
    for file in (index, data):
        if not file.is_file():
            raise DataError(f"{file} is missing; install the package that holds it again.")
    try:
        entries = dict(_entries(index.read_bytes()))
        return _arrays(entries, data.read_bytes())
    except (IndexError, ValueError) as error:
        raise DataError(f"{index} is no TensorFlow checkpoint: {error}") from error


def _arrays(entries: Mapping[str, _Entry], data: bytes) -> dict[str, FloatArray]:
    arrays = {}
    for name, (shape, offset, size_bytes) in entries.items():
        count = math.prod(shape)
        if size_bytes != 4 * count or offset + size_bytes > len(data):
            raise ValueError(f"{name} does not fit into the data file")
        arrays[name] = np.frombuffer(data, "<f4", count=count, offset=offset).reshape(shape)
    return arrays


def _entries(table: bytes) -> Iterator[tuple[str, _Entry]]:
    """Name and place of every array of 32-bit floats."""
    footer = table[-_FOOTER_BYTES:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("the table's magic number is missing")
    at = 0
    for _ in range(2):  # the place of an index of statistics, which nobody needs
        _, at = _varint(footer, at)
    for _, place in _block(table, footer[at:]):
        for key, value in _block(table, place):
            entry = _entry(value) if key else None  # the empty key describes the checkpoint
            if entry:
                yield key.decode(), entry


def _block(table: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block that starts at, and is as long as, `place` says."""
    start, at = _varint(place, 0)
    size, _ = _varint(place, at)
    if start + size + _TRAILER_BYTES > len(table) or table[start + size]:
        raise ValueError("a block is compressed or cut off")
    block = table[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _entry(message: bytes) -> _Entry | None:
    """The place of an array; None if it does not hold 32-bit floats."""
    fields = dict(_fields(message))
    if fields.get(_TYPE) != _FLOAT32:
        return None
    shape = []
    for number, dimension in _fields(_as_bytes(fields.get(_SHAPE, b""))):
        if number == _DIMENSION:
            shape.append(_as_int(dict(_fields(_as_bytes(dimension))).get(1, 0)))
    offset, size_bytes = (_as_int(fields.get(number, 0)) for number in (_OFFSET, _SIZE))
    return _Entry(shape=tuple(shape), offset=offset, size_bytes=size_bytes)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a protocol buffer's message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field has the unknown kind {kind}")
        yield number, message[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends.

    >>> _varint(bytes([0b1000_0001, 0b10]), 0)
    (257, 2)
    """
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a field is a number that should be a message")


def _as_int(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("a field is a message that should be a number")
