"""ESC-10: 400 real sounds of 10 classes in 5 folds, and networks that never hear the test folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import momentary.models.audio_network as audio_network
import momentary.models.small_filters as small_filters
from benchmarks.content_runs import kept
from benchmarks.content_vectors import sounds_in, table
from benchmarks.report import data_folder
from momentary.encoders import spectrogram
from momentary.encoders.audio import log_mels, read_sound
from momentary.encoders.spectrogram import MelConfig
from momentary.models.audio_network import AudioNetwork, AudioNetworkConfig, Track
from momentary.models.small_filters import SmallFilters
from momentary.types import FloatArray, IntArray

FOLDS = (1, 2, 3, 4, 5)

SETTINGS = {
    "mixed and masked": AudioNetworkConfig(),
    "crops alone": AudioNetworkConfig(mixup=0.0, mask=0),
    "small filters, mixed and masked": AudioNetworkConfig(small=SmallFilters()),
}
"""What the inner folds choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounds:
    """The set.

    Attributes:
        names: Of the clips.
        labels: From 0. Shape (sounds,).
        folds: 1 to 5. Shape (sounds,).
        tracks: Log-mel spectrograms, one excerpt each.
    """

    names: list[str]
    labels: IntArray
    folds: IntArray
    tracks: list[Track]

    def outside(self, *folds: int) -> IntArray:
        """Rows of the other folds."""
        return np.flatnonzero(~np.isin(self.folds, folds))

    def inside(self, *folds: int) -> IntArray:
        """Rows of some folds."""
        return np.flatnonzero(np.isin(self.folds, folds))


def load(cache: Path) -> Sounds:
    """Read the set."""
    rows = table("audio_esc10")
    config = MelConfig()

    def mels() -> dict[str, FloatArray]:
        sounds = dict(sounds_in(data_folder() / "audio_esc10" / "clips.zip"))
        return {row["clip"]: log_mels(read_sound(sounds[row["clip"]]), config)[0] for row in rows}

    made = kept(cache, f"esc10 log-mel {config}", mels, code=(spectrogram,))
    labels = np.unique([row["label"] for row in rows], return_inverse=True)[1]
    return Sounds(
        names=[row["clip"] for row in rows],
        labels=labels.astype(np.int64),
        folds=np.array([int(row["fold"]) for row in rows]),
        tracks=[[made[row["clip"]]] for row in rows],
    )


def chances(
    sounds: Sounds, setting: str, *, without: tuple[int, ...], seed: int, cache: Path
) -> FloatArray:
    """Log chances of the classes for the sounds of folds that the network never heard."""
    heard, unheard = sounds.outside(*without), sounds.inside(*without)

    def train() -> dict[str, FloatArray]:
        rng = np.random.default_rng([seed, *without])
        network = AudioNetwork(SETTINGS[setting]).fit(
            [sounds.tracks[row] for row in heard], labels=sounds.labels[heard], rng=rng
        )
        return {"chances": network.classify([sounds.tracks[row] for row in unheard])}

    what = f"esc10 {SETTINGS[setting]} without {without} seed {seed}"
    return kept(cache, what, train, code=(audio_network, small_filters))["chances"]


def choose(sounds: Sounds, test: int, *, cache: Path) -> str:
    """The setting that does best on two training folds, by networks that never heard the test fold.

    A network trained without a pair of neighbouring folds serves both folds of the pair: it is
    scored on the one when the other is the test. Of settings that tell equally many sounds, the one
    that is surer of the truth is taken.
    """
    scores = {}
    for setting in SETTINGS:
        right, sure = 0, 0.0
        for step in (1, -1):
            inner = FOLDS[(FOLDS.index(test) + step) % len(FOLDS)]
            pair = tuple(sorted((test, inner)))
            found = chances(sounds, setting, without=pair, seed=0, cache=cache)
            rows = sounds.inside(*pair)
            own = sounds.folds[rows] == inner
            right += int((found.argmax(1) == sounds.labels[rows])[own].sum())
            sure += float(found[np.arange(len(rows)), sounds.labels[rows]][own].sum())
        scores[setting] = (right, sure)
    return max(scores, key=lambda setting: scores[setting])
