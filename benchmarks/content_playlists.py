"""Playlists by likeness, beside random lists and walks to the nearest neighbour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.content_vectors import sound_vectors, table
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.encoders.audio import MFCC
from momentary.recommend.playlist import Gap, PlaylistConfig, Wanted, figures, playlist
from momentary.types import FloatArray, IntArray, ObjectArray

SEEDS = (0, 1, 2)
LENGTH, LISTS, GAP = 15, 40, 2
"""Items a list, lists a seed, and how many clips stand between two of one package."""


FIGURES = ("smoothness", "roughest", "spread", "distinct", "ends as asked", "gap kept")


def run(cache: Path) -> None:
    """Measure, print and write the rows."""
    clips = table("audio_debian_music")
    names = [row["clip"] for row in clips]
    vectors = sound_vectors("audio_debian_music", names, MFCC(), cache=cache)
    unit = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-6)
    packages = np.array([row["package"] for row in clips], dtype=object)
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        for name, lists in _drawn(unit, packages, rng=np.random.default_rng(seed)).items():
            for figure in FIGURES:
                mean = float(np.mean([each[figure] for each in lists]))
                found.setdefault((figure, name), []).append(mean)
    rows = [
        Row(
            what=f"playlists of music clips between two, {figure}: {name}",
            value=float(np.mean(values)),
            spread=max(values) - min(values),
        )
        for (figure, name), values in sorted(found.items())
    ]
    data = {"clips.zip": sha256(data_folder() / "audio_debian_music" / "clips.zip")}
    finish_part("content", "playlists", rows, data=data, seeds=SEEDS)


def _drawn(
    vectors: FloatArray, packages: ObjectArray, *, rng: np.random.Generator
) -> dict[str, list[dict[str, float]]]:
    """The figures of every list, by who made it; all makers get the same ends."""
    made: dict[str, list[dict[str, float]]] = {}
    for _ in range(LISTS):
        first, last = rng.choice(len(vectors), 2, replace=False).tolist()
        while packages[first] == packages[last]:
            last = int(rng.integers(len(vectors)))
        lists = {
            "playlist": playlist(
                vectors,
                Wanted(first=first, last=last, gaps=(Gap(values=packages, between=GAP),)),
                config=PlaylistConfig(length=LENGTH),
            ),
            "nearest-neighbour walk": _walk(vectors, first),
            "random": rng.permutation(len(vectors))[:LENGTH],
        }
        for name, order in lists.items():
            said = figures(vectors, order)
            made.setdefault(name, []).append(
                {
                    "smoothness": said.smoothness,
                    "roughest": said.roughest,
                    "spread": said.spread,
                    "distinct": said.distinct,
                    "ends as asked": float(order[0] == first and order[-1] == last),
                    "gap kept": float(_gap_kept(packages[order])),
                }
            )
    return made


def _walk(vectors: FloatArray, first: int) -> IntArray:
    """Always to the nearest clip that was not there yet."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    order = [first]
    while len(order) < LENGTH:
        near = unit @ unit[order[-1]]
        near[order] = -np.inf
        order.append(int(near.argmax()))
    return np.array(order)


def _gap_kept(packages: ObjectArray) -> bool:
    """Whether no package stands again before `GAP` others did."""
    return all(
        packages[place] not in packages[max(place - GAP, 0) : place].tolist()
        for place in range(len(packages))
    )
