"""Labelled pictures from a folder and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from momentary.dissection.pictures import Photos
from momentary.dissection.tables import Labelled
from momentary.encoders.media import PICTURES, MediaLimits, read_media, read_picture
from momentary.encoders.protocol import Picture
from momentary.errors import DataError


def are_pictures(rows: Sequence[Labelled]) -> bool:
    """Whether most files are pictures by the endings of their names."""
    count = sum(Path(row.file).suffix.lower() in PICTURES for row in rows)
    return 2 * count > len(rows)


def photos_in(folder: Path, rows: Sequence[Labelled]) -> Photos:
    """The pictures that rows name; each is read when it is asked for.

    Args:
        folder: Where the pictures are; a name may not lead out of it.
        rows: What was read of a table.
    """
    limits = MediaLimits(folders=(folder,))

    def read(row: int) -> Picture:
        name = rows[row].file
        if not rows[row].label:
            raise DataError("it has no label.")
        content = read_media(str(folder / name), limits=limits)
        return read_picture(content, name=name, limits=limits)

    return Photos(
        names=[row.file for row in rows],
        labels=[row.label for row in rows],
        sources=[row.source for row in rows],
        read=read,
    )
