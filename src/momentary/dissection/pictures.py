"""Find what every unit of a picture network answers to, beside the same network without learning.

The network was trained before, on other pictures. So there is none that learned shuffled labels;
the labels that the units are judged by are shuffled instead, which says how many units look
selective by the luck of choosing a label. What the wiring alone finds, the untrained networks say:
the same layers with random weights, their outputs normalised to these pictures. No picture taught
the network, so all of them judge: each unit's label is chosen on one half of the sources and scored
on the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from momentary.dissection.findings import Findings, chosen_layers
from momentary.dissection.parts import Halves, halve, shuffled
from momentary.dissection.selectivity import answers, selective_share
from momentary.encoders.bottlenecks import Bottlenecks, Reach
from momentary.encoders.image import square
from momentary.encoders.protocol import Picture
from momentary.errors import DataError
from momentary.types import FloatArray, IntArray, Progress, silent

MEASURES = ("maximum", "mean")
_NORMALISED_OVER = 24
_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """Labelled pictures, read one by one.

    Attributes:
        names: Of the pictures.
        labels: Of each.
        sources: Pictures of one source, such as a product's or a session's, have the same one.
        read: The picture of a row; a DataError says why it cannot be used.
    """

    names: Sequence[str]
    labels: Sequence[str]
    sources: Sequence[str]
    read: Callable[[int], Picture]


class Activity(NamedTuple):
    """What pictures did to the units of one layer, over all places.

    Attributes:
        maxima: Shape (pictures, units).
        means: Shape (pictures, units).
        peaks: Row and column of each maximum, the first of several. Shape (2, pictures, units).
    """

    maxima: FloatArray
    means: FloatArray
    peaks: NDArray[np.int16]

    def measured(self, measure: str) -> FloatArray:
        """By "maximum" or "mean". Shape (pictures, units)."""
        return self.maxima if measure == "maximum" else self.means


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLayer(Findings):
    """The findings about one layer.

    Attributes:
        activity: Of the network that is dissected, over the pictures that were judged.
        reach: What a place of the layer sees.
    """

    activity: Activity
    reach: Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureStudy:
    """All findings.

    Attributes:
        photos: What was given.
        rows: The photos that were judged. Shape (pictures,).
        labels: Of these. Shape (pictures,).
        label_names: By label.
        second_half: Which of them scored the labels. Shape (pictures,).
        sources: How many they come from.
        side: Of the square that the network sees, in pixels.
        layers: Lowest first.
        left_out: Labels of which nothing can be said, each with the reason.
        set_aside: Pictures that could not be used, each with the reason.
    """

    photos: Photos
    rows: IntArray
    labels: IntArray
    label_names: Sequence[str]
    second_half: NDArray[np.bool_]
    sources: int
    side: int
    layers: Sequence[PictureLayer]
    left_out: Sequence[str]
    set_aside: Sequence[str]

    def seen(self, picture: int) -> Picture:
        """A judged picture as the network sees it. Shape (side, side, 3)."""
        return square(self.photos.read(int(self.rows[picture])), self.side)


def dissect_pictures(
    photos: Photos,
    network: Bottlenecks,
    *,
    layers: Sequence[str] = (),
    comparisons: int = 5,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> PictureStudy:
    """Show every picture to the network and to untrained ones, and judge every unit.

    Every picture is read once and let go; what is kept is two numbers and a place for every unit,
    network and picture.

    Args:
        photos: Pictures with labels and sources.
        network: What is dissected.
        layers: Of the network; the lowest and the highest if none is named.
        comparisons: Untrained networks, and as many shuffles of the labels; 1 or more.
        rng: Draws the sides, the weights and the shuffles.
        progress: Told after every few pictures.

    Raises:
        DataError: If there is no such layer or no comparison, or if fewer than two labels come from
            sources enough or have pictures enough.
    """
    if comparisons < 1:
        raise DataError(
            f"comparisons is {comparisons}; a claim takes at least 1 network to be compared with, "
            "and 5 are usual."
        )
    names = chosen_layers(layers, there=network.layers)
    labelled = np.flatnonzero(np.array(photos.labels) != "")
    _halved(photos, labelled, rng=np.random.default_rng(0))  # refuses before hours, not after
    viewer = _Viewer(photos, network.side)
    first = viewer.squares(_NORMALISED_OVER)
    networks = [network, *(network.untrained(first, rng=rng) for _ in range(comparisons))]
    kept, found = _observe(viewer, networks, names, progress=progress)
    halves = _halved(photos, kept, rng=rng)
    sources = np.unique(np.array(photos.sources)[kept[halves.rows]], return_inverse=True)[1]
    mixed = [_mixed(halves, sources, rng=rng) for _ in range(comparisons)]
    studied = []
    for name in names:
        own, *untrained = (
            Activity(each.maxima[halves.rows], each.means[halves.rows], each.peaks[:, halves.rows])
            for each in found[name]
        )
        studied.append(
            PictureLayer(
                name=name,
                activity=own,
                reach=network.reach(name),
                answers={
                    each: answers(own.measured(each), halves.labels, halves.second)
                    for each in MEASURES
                },
                comparisons={
                    each: {
                        "untrained": [
                            selective_share(other.measured(each), halves.labels, halves.second)
                            for other in untrained
                        ],
                        "shuffled labels": [
                            selective_share(own.measured(each), labels, halves.second)
                            for labels in mixed
                        ],
                    }
                    for each in MEASURES
                },
            )
        )
    return PictureStudy(
        photos=photos,
        rows=kept[halves.rows],
        labels=halves.labels,
        label_names=halves.label_names,
        second_half=halves.second,
        sources=int(sources.max()) + 1,
        side=network.side,
        layers=studied,
        left_out=halves.left_out,
        set_aside=viewer.set_aside,
    )


class _Viewer:
    """Reads the photos in their order, each once; says which cannot be used."""

    def __init__(self, photos: Photos, side: int) -> None:
        self.photos, self.side = photos, side
        self.set_aside: list[str] = []
        self.done = 0
        self._seen: dict[bytes, str] = {}
        self._waiting: list[tuple[int, Picture]] = []

    def squares(self, count: int) -> Picture:
        """The first pictures, which `batches` will give again. Shape (count, side, side, 3)."""
        while len(self._waiting) < count and self.done < len(self.photos.names):
            self._read_next()
        if not self._waiting:
            said = "; ".join(self.set_aside[:3])
            raise DataError(f"none of {self.done} pictures could be read. {said}")
        return np.stack([picture for _, picture in self._waiting])

    def next(self) -> tuple[list[int], Picture] | None:
        """The rows and squares of the next few pictures; None behind the last."""
        while len(self._waiting) < _AT_ONCE and self.done < len(self.photos.names):
            self._read_next()
        taken, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        if not taken:
            return None
        return [row for row, _ in taken], np.stack([picture for _, picture in taken])

    def _read_next(self) -> None:
        row, self.done = self.done, self.done + 1
        name = self.photos.names[row]
        try:
            picture = square(self.photos.read(row), self.side)
        except DataError as error:
            self.set_aside.append(f"{name}: {error}")
            return
        digest = hashlib.sha256(picture.tobytes()).digest()
        if digest in self._seen:
            self.set_aside.append(f"{name}: it is the same picture as {self._seen[digest]}.")
            return
        self._seen[digest] = name
        self._waiting.append((row, picture))


def _observe(
    viewer: _Viewer,
    networks: Sequence[Bottlenecks],
    layers: Sequence[str],
    *,
    progress: Progress,
) -> tuple[IntArray, dict[str, list[Activity]]]:
    """The rows of the photos that could be read, and by layer what they did to each network."""
    total = len(viewer.photos.names)
    kept: list[int] = []
    parts: dict[str, list[list[Activity]]] = {name: [[] for _ in networks] for name in layers}
    while (batch := viewer.next()) is not None:
        rows, squares = batch
        kept += rows
        for number, network in enumerate(networks):
            for name, values in network.respond(squares, layers=layers).items():
                flat = values.flatten(2)
                top, place = flat.max(dim=2)
                peaks = np.stack(np.divmod(place.numpy(), values.shape[3])).astype(np.int16)
                parts[name][number].append(Activity(top.numpy(), flat.mean(2).numpy(), peaks))
        progress(rows[-1] + 1, total, f"{len(networks)} networks")
    progress(total, total)
    return np.array(kept, dtype=np.int64), {
        name: [
            Activity(
                np.concatenate([each.maxima for each in pieces]),
                np.concatenate([each.means for each in pieces]),
                np.concatenate([each.peaks for each in pieces], axis=1),
            )
            for pieces in by_network
        ]
        for name, by_network in parts.items()
    }


def _halved(photos: Photos, rows: IntArray, *, rng: np.random.Generator) -> Halves:
    names, labels = np.unique(np.array(photos.labels)[rows], return_inverse=True)
    sources = np.unique(np.array(photos.sources)[rows], return_inverse=True)[1]
    return halve(labels.astype(np.int64), names.tolist(), sources.astype(np.int64), rng=rng)


def _mixed(halves: Halves, sources: IntArray, *, rng: np.random.Generator) -> IntArray:
    """The labels, shuffled within each half."""
    mixed = halves.labels.copy()
    for half in (halves.second, ~halves.second):
        mixed[half] = shuffled(halves.labels[half], sources[half], rng=rng)
    return mixed
