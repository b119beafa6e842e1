"""Train a network, and others that cannot have learned anything, and compare their units.

Sources are cut into three: the network learns from the first part, each unit's label is chosen on
the second and scored on the third. The untrained networks only fit their normalisation to the data;
the shuffled ones learn as long as the real one, from labels that were permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from momentary.dissection.findings import Findings, chosen_layers
from momentary.dissection.parts import deal_sources
from momentary.dissection.selectivity import Answers, answers, lacking
from momentary.errors import DataError
from momentary.models.audio_network import AudioNetwork, AudioNetworkConfig
from momentary.types import BoolArray, FloatArray, IntArray, Progress, silent

_SHARES = (0.6, 0.2, 0.2)
_FEWEST = 3
_NO_LEARNING = 1e-8
_NORMALISING_EPOCHS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """Labelled sounds.

    Attributes:
        names: Of the sounds.
        spectrograms: One excerpt each. Each of shape (frames, bands).
        labels: From 0. Shape (sounds,).
        label_names: By label.
        sources: Sounds of one source, such as a recording or an album, have the same number.
            Shape (sounds,).
    """

    names: Sequence[str]
    spectrograms: Sequence[FloatArray]
    labels: IntArray
    label_names: Sequence[str]
    sources: IntArray

    def take(self, rows: IntArray) -> Recordings:
        """The sounds at `rows`."""
        return replace(
            self,
            names=[self.names[row] for row in rows],
            spectrograms=[self.spectrograms[row] for row in rows],
            labels=self.labels[rows],
            sources=self.sources[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What drove the units of one layer. Sounds are the held-out ones.

    Attributes:
        maxima: Shape (sounds, units).
        means: Over time. Shape (sounds, units).
        peaks: The first frame of each maximum. Shape (sounds, units).
        frames: How many frames a unit hears at once.
    """

    maxima: FloatArray
    means: FloatArray
    peaks: IntArray
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Findings):
    """The findings about one layer.

    Attributes:
        activity: Of the trained network.
    """

    activity: Activity


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All findings.

    Attributes:
        network: The trained one.
        held_out: The sounds that it never heard.
        second_half: Which of them scored the labels. Shape (sounds,).
        told: The label that the network says of each of them. Shape (sounds,).
        layers: Those that were asked for, lowest first.
        left_out: Labels of which nothing can be said, each with the reason.
    """

    network: AudioNetwork
    held_out: Recordings
    second_half: BoolArray
    told: IntArray
    layers: Sequence[Layer]
    left_out: Sequence[str]

    @property
    def accuracy(self) -> float:
        """Share of the held-out sounds whose label the network tells."""
        return float((self.told == self.held_out.labels).mean())

    @property
    def balanced_accuracy(self) -> float:
        """The same for each label alone, averaged over the labels; guessing reaches 1 / labels."""
        right = self.told == self.held_out.labels
        labels = range(len(self.held_out.label_names))
        return float(np.mean([right[self.held_out.labels == label].mean() for label in labels]))

    @property
    def usual(self) -> tuple[str, float]:
        """The most frequent label of the held-out sounds, and its share of them."""
        counts = np.bincount(self.held_out.labels)
        most = int(counts.argmax())
        return self.held_out.label_names[most], float(counts[most] / counts.sum())


def dissect(
    recordings: Recordings,
    *,
    config: AudioNetworkConfig,
    layers: Sequence[str] = (),
    comparisons: int = 5,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Study:
    """Train, compare, and find what every unit of some layers answers to.

    Args:
        recordings: Sounds with labels and sources.
        config: Of the network.
        layers: Of the network; the first and the top one if none is named.
        comparisons: Untrained networks, and as many that learn shuffled labels; 1 or more.
        rng: Draws the parts, the weights and the shuffles.
        progress: Told after every network.

    Raises:
        DataError: If fewer than two labels come from three sources or more and have enough sounds
            among those that are held out.
    """
    if comparisons < 1:
        raise DataError(
            f"comparisons is {comparisons}; a claim takes at least 1 network of each kind to be "
            "compared with, and 5 are usual."
        )
    usable, parts, left_out = _parted(recordings, rng=rng)
    training = usable.take(np.flatnonzero(parts == 0))
    held_out = usable.take(np.flatnonzero(parts > 0))
    second_half = parts[parts > 0] == 2
    plan = _plan(config, training.labels, comparisons, rng=rng)
    names = chosen_layers(layers, there=config.layers)
    shares: dict[str, dict[str, dict[str, list[float]]]] = {
        layer: {measure: {} for measure in ("maximum", "mean")} for layer in names
    }
    tracks = [[each] for each in training.spectrograms]
    kept: dict[str, tuple[Activity, dict[str, Answers]]] = {}
    trained: AudioNetwork | None = None
    for done, (kind, settings, labels) in enumerate(plan):
        progress(done, len(plan), f"{kind} network")
        network = AudioNetwork(settings).fit(tracks, labels=labels, rng=rng)
        for layer in names:
            activity = observe(network, held_out.spectrograms, layer=layer)
            found = {
                "maximum": answers(activity.maxima, held_out.labels, second_half),
                "mean": answers(activity.means, held_out.labels, second_half),
            }
            if kind == "trained":
                kept[layer] = (activity, found)
                trained = network
                continue
            for measure, each in found.items():
                shares[layer][measure].setdefault(kind, []).append(each.share)
    progress(len(plan), len(plan))
    if trained is None:
        raise DataError("no network was trained.")
    told = trained.classify([[each] for each in held_out.spectrograms]).argmax(axis=1)
    return Study(
        network=trained,
        held_out=held_out,
        second_half=second_half,
        told=told,
        layers=[
            Layer(
                name=layer,
                activity=kept[layer][0],
                answers=kept[layer][1],
                comparisons=shares[layer],
            )
            for layer in names
        ],
        left_out=left_out,
    )


def observe(network: AudioNetwork, spectrograms: Sequence[FloatArray], *, layer: str) -> Activity:
    """What each sound does to each unit of a layer."""
    maxima, means, peaks, frames = [], [], [], 0
    for spectrogram in spectrograms:
        response = network.respond(spectrogram, layer=layer)
        maxima.append(response.values.max(axis=0))
        means.append(response.values.mean(axis=0))
        peaks.append(response.starts[response.values.argmax(axis=0)])
        frames = max(frames, response.frames)
    return Activity(
        maxima=np.stack(maxima), means=np.stack(means), peaks=np.stack(peaks), frames=frames
    )


def split_sources(recordings: Recordings, *, rng: np.random.Generator) -> IntArray:
    """To learn from (0), to choose labels on (1), to score on (2); by source. Shape (sounds,)."""
    return deal_sources(recordings.labels, recordings.sources, shares=_SHARES, rng=rng)


def _plan(
    config: AudioNetworkConfig, labels: IntArray, comparisons: int, *, rng: np.random.Generator
) -> list[tuple[str, AudioNetworkConfig, IntArray]]:
    """The networks to train: what each is, its settings and the labels that it learns."""
    untrained = replace(config, learning_rate=_NO_LEARNING, epochs=_NORMALISING_EPOCHS)
    plan = [("trained", config, labels)]
    plan += [("untrained", untrained, labels)] * comparisons
    return plan + [("shuffled", config, rng.permutation(labels)) for _ in range(comparisons)]


def _parted(
    recordings: Recordings, *, rng: np.random.Generator
) -> tuple[Recordings, IntArray, list[str]]:
    """The sounds of which something can be said, their parts, and what is left out and why.

    A label is left out if it comes from too few sources, and then, the rarest first, if one half of
    the held-out sources has too few of its sounds.
    """
    left_out = []
    kept = list[int]()
    for label, name in enumerate(recordings.label_names):
        sources = len(np.unique(recordings.sources[recordings.labels == label]))
        if sources >= _FEWEST:
            kept.append(label)
        else:
            left_out.append(
                f"{name}: its sounds come from {sources} source{'s' if sources != 1 else ''}; what "
                "a unit answers to may be the source and not the label, so nothing is claimed."
            )
    while len(kept) > 1:
        usable = _only(recordings, kept)
        parts = split_sources(usable, rng=rng)
        held = parts > 0
        few = lacking(usable.labels[held], parts[held] == 2, names=usable.label_names)
        if not few:
            return usable, parts, left_out
        rarest = min(few, key=lambda label: int((usable.labels == label).sum()))
        left_out.append(f"{usable.label_names[rarest]}: {few[rarest]}, so nothing is claimed.")
        del kept[rarest]
    raise DataError(
        f"{len(kept)} labels come from {_FEWEST} sources or more and have sounds enough; two are "
        "needed to tell one from another. " + " ".join(left_out)
    )


def _only(recordings: Recordings, kept: Sequence[int]) -> Recordings:
    """The sounds of some labels, given in ascending order."""
    taken = recordings.take(np.flatnonzero(np.isin(recordings.labels, kept)))
    return replace(
        taken,
        labels=np.searchsorted(kept, taken.labels),
        label_names=[recordings.label_names[label] for label in kept],
    )
