"""Labelled sounds from a folder and a table, and sounds small enough for a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from momentary.dissection.study import Recordings
from momentary.dissection.tables import Labelled
from momentary.encoders.audio import AudioLimits, read_sound
from momentary.encoders.spectrogram import MelConfig, log_mel
from momentary.errors import DataError
from momentary.types import FloatArray, Progress, silent

_FRAMES_AT_ONCE = 4_096  # libsndfile's encoders overrun their stack on longer pieces
_COMPRESSION = 0.8


class Collection(NamedTuple):
    """What was read.

    Attributes:
        recordings: The sounds that could be read.
        samples: Of the same sounds, at the rate of the spectrogram. Each of shape (samples,).
        set_aside: What could not be read, each with its reason.
    """

    recordings: Recordings
    samples: dict[str, FloatArray]
    set_aside: list[str]


def read_collection(
    folder: Path,
    rows: Sequence[Labelled],
    *,
    mel: MelConfig,
    limits: AudioLimits,
    progress: Progress = silent,
) -> Collection:
    """Read the sounds that a table names.

    Args:
        folder: Where the sounds are; a name may not lead out of it.
        rows: What was read of the table.
        mel: How spectrograms are made.
        limits: What is read of a file; its first excerpt stands for it.
        progress: Told after every sound.

    Raises:
        DataError: If no sound can be read.
    """
    names, spectrograms, labels, sources, set_aside = [], [], [], [], []
    samples: dict[str, FloatArray] = {}
    root = folder.resolve()
    for done, row in enumerate(rows, start=1):
        name = row.file
        file = (root / name).resolve()
        try:
            if not file.is_relative_to(root):
                raise DataError("it leads out of the folder.")
            if not row.label:
                raise DataError("it has no label.")
            heard = read_sound(file, limits=limits).at(mel.rate_hz)[0]
        except DataError as error:
            set_aside.append(f"{name}: {error}")
            continue
        names.append(name)
        samples[name] = heard
        spectrograms.append(log_mel(heard, mel))
        labels.append(row.label)
        sources.append(row.source)
        progress(done, len(rows))
    if not names:
        raise DataError("none of the sounds could be read. " + "; ".join(set_aside[:3]))
    label_names, numbers = np.unique(labels, return_inverse=True)
    return Collection(
        recordings=Recordings(
            names=names,
            spectrograms=spectrograms,
            labels=numbers.astype(np.int64),
            label_names=label_names.tolist(),
            sources=np.unique(sources, return_inverse=True)[1].astype(np.int64),
        ),
        samples=samples,
        set_aside=set_aside,
    )


def as_mp3(samples: FloatArray, rate_hz: int) -> bytes:
    """A small file that every browser plays."""
    import soundfile

    with io.BytesIO() as held:
        with soundfile.SoundFile(
            held, "w", rate_hz, 1, format="MP3", compression_level=_COMPRESSION
        ) as file:
            for start in range(0, len(samples), _FRAMES_AT_ONCE):
                file.write(samples[start : start + _FRAMES_AT_ONCE])
        return held.getvalue()
