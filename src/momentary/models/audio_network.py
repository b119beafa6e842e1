r"""AudioNetwork: from the sound of an item to its collaborative factors, its labels, or both.

van den Oord, Dieleman & Schrauwen, "Deep content-based music recommendation", NIPS 2013, and
Dieleman, "Recommending music on Spotify with deep learning", 2014. The network reads a crop of a
log-mel spectrogram, x of shape (frames, bands):

    h_0 = (x - mean) / deviation
    h_l = maxpool_l(relu(norm(W_l * h_{l-1} + b_l)))        convolutions along time only
    g   = [mean_t h_L; max_t h_L; sqrt(mean_t h_L^2)]       over all of the crop
    u_k = relu(norm(V_k drop(u_{k-1}) + c_k)), u_0 = g      dense layers
    factors = F drop(u_K) + f,   labels = softmax(C drop(u_K) + d)

Training minimises the mean squared error to factors of length 1, so that popularity, which is their
length, does not dominate, plus the cross-entropy of the labels. Every epoch hears one excerpt of
every item, and of that a random crop, a few bands and frames of it hidden (Park et al.,
"SpecAugment", Interspeech 2019), mixed with another item's (Zhang et al., "mixup", ICLR 2018). A
whole item is the mean over all crops of all of its excerpts.

Differences from the sources: batch normalisation, Adam instead of Nesterov momentum, and a size for
thousands of clips on one core instead of half a million on a GPU. Small filters, which learn more
from few sounds (`small_filters.py`), may take the place of the convolutions along time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from momentary.errors import DataError, MomentaryError
from momentary.learn.bounds import require_ranges
from momentary.learn.crops import random_crop, spread_crops
from momentary.learn.fitted import require_fitted
from momentary.learn.torch_threads import one_torch_thread
from momentary.models.protocol import Arrays
from momentary.models.small_filters import SmallFilterLayers, SmallFilters
from momentary.types import BoolArray, FloatArray, IntArray, Progress, silent

Track = Sequence[FloatArray]
"""The log-mel spectrograms of an item's excerpts, each of shape (frames, bands)."""

_CROPS_AT_ONCE = 32
_WARM_UP = 0.1
_OVERLAP = 0.5
_OVERLAP_OF_STEPS = 0.875
_UNKNOWN = -1
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioNetworkConfig:
    """How the network is built and trained.

    Attributes:
        channels: Filters of each convolution.
        pools: Steps of time that become one after each convolution.
        width: Steps of time that a filter sees.
        dense: Units of each dense layer.
        crop_frames: Frames that the network hears at once.
        epochs: Passes over the items.
        batch_size: Items of one step.
        learning_rate: Adam's highest: it rises over the first tenth and falls to 0.
        weight_decay: Share of the weights, times the learning rate, that every step takes off.
        dropout: Share of the dense layers' inputs that is dropped in training.
        mask: Up to so many bands, and as many frames, of every crop are hidden.
        mixup: Crops are mixed in pairs by a share of Beta(mixup, mixup); 0 mixes nothing.
        label_weight: Of the cross-entropy, where items have factors and labels.
        small: Layers of small filters in the place of the convolutions along time; `channels`,
            `pools` and `width` are then not used.
    """

    channels: tuple[int, ...] = (96, 96, 128)
    pools: tuple[int, ...] = (4, 2, 2)
    width: int = 4
    dense: tuple[int, ...] = (256, 256)
    crop_frames: int = 160
    epochs: int = 120
    batch_size: int = 32
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    dropout: float = 0.3
    mask: int = 24
    mixup: float = 0.3
    label_weight: float = 1.0
    small: SmallFilters | None = None

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        if not self.channels or len(self.channels) != len(self.pools):
            raise ValueError(
                f"channels is {self.channels} and pools {self.pools}; give each convolution one "
                "of both, such as channels (96, 96) and pools (4, 2)."
            )
        for name in ("channels", "pools", "dense"):
            if any(each < 1 for each in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; each must be 1 or more.")
        if self.crop_frames < self._fewest_frames:
            raise ValueError(
                f"crop_frames is {self.crop_frames}; pools and strides need at least "
                f"{self._fewest_frames}."
            )

    @property
    def _fewest_frames(self) -> int:
        return self.small.frames if self.small else math.prod(self.pools)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose units can be asked for, lowest first."""
        count = len(self.small.channels if self.small else self.channels)
        convolutions = (f"conv{number}" for number in range(1, count + 1))
        return (*convolutions, *(f"dense{number}" for number in range(1, len(self.dense) + 1)))

    def span(self, layer: int) -> tuple[int, int]:
        """Frames from one step of a convolution, from 0, to the next, and that a step hears."""
        if self.small:
            return self.small.span(layer)
        steps = [math.prod(self.pools[:below]) for below in range(layer + 1)]
        return steps[-1], 1 + (self.width - 1) * sum(steps)


_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 1_000),
    "crop_frames": (1, 100_000),
    "epochs": (0, 100_000),
    "batch_size": (2, 100_000),
    "learning_rate": (1e-8, 10),
    "weight_decay": (0, 10),
    "dropout": (0, 0.999),
    "mask": (0, 1_000),
    "mixup": (0, 10),
    "label_weight": (0, 1e6),
}


class Response(NamedTuple):
    """What the units of one layer did during an excerpt.

    Attributes:
        values: Shape (steps, units).
        starts: The first frame that each step heard. Shape (steps,).
        frames: How many frames each step heard.
    """

    values: FloatArray
    starts: IntArray
    frames: int


class Drop:
    """Dropout whose chance is an argument; without any, nothing is dropped."""

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self.rng = rng

    def __call__(self, x: Tensor, share: float) -> Tensor:
        """Zero a share of `x` and raise the rest to keep the mean."""
        if self.rng is None or share == 0:
            return x
        keep = self.rng.random(x.shape, dtype=np.float32) >= share
        return x * torch.from_numpy(keep) * (1 / (1 - share))


class Network(nn.Module):
    """The layers; see the equations above."""

    mean: Tensor
    deviation: Tensor
    outputs: Tensor

    def __init__(
        self, config: AudioNetworkConfig, *, bands: int, factors: int, labels: int
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(()))
        self.small = SmallFilterLayers(config.small, bands=bands) if config.small else None
        channels = () if config.small else config.channels
        self.convolutions = nn.ModuleList(
            nn.Conv1d(below, here, config.width, bias=False)
            for below, here in zip((bands, *channels), channels, strict=False)
        )
        self.convolution_norms = nn.ModuleList(nn.BatchNorm1d(here) for here in channels)
        heard = self.small.units if self.small else channels[-1]
        inputs = (3 * heard, *config.dense)
        self.dense = nn.ModuleList(
            nn.Linear(below, here, bias=False)
            for below, here in zip(inputs, config.dense, strict=False)
        )
        self.dense_norms = nn.ModuleList(nn.BatchNorm1d(here) for here in config.dense)
        self.head = nn.Linear(inputs[-1], factors + labels)
        self.register_buffer("outputs", torch.tensor([factors, labels]))

    def start(self, rng: torch.Generator) -> None:
        """Draw the weights (He et al., ICCV 2015)."""
        if self.small:
            self.small.start(rng)
        for layer in (*self.convolutions, *self.dense):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
        nn.init.kaiming_uniform_(self.head.weight, a=math.sqrt(5), generator=rng)
        nn.init.zeros_(self.head.bias)

    def convolved(
        self, x: Float[Tensor, "batch frames bands"], *, layer: int
    ) -> Float[Tensor, "batch units steps"]:
        """The h of a layer, before its pooling; of small filters the most over all heights."""
        if self.small:
            return self.small.convolved((x - self.mean) / self.deviation, layer=layer).amax(3)
        h = ((x - self.mean) / self.deviation).mT
        before = (self.config.width - 1) // 2
        pad = (before, self.config.width - 1 - before)
        for number in range(layer + 1):
            if number:
                h = functional.max_pool1d(h, self.config.pools[number - 1])
            h = self.convolutions[number](functional.pad(h, pad))
            h = functional.relu(self.convolution_norms[number](h))
        return h

    def densed(
        self, x: Float[Tensor, "batch frames bands"], drop: Drop, *, layer: int
    ) -> Float[Tensor, "batch units"]:
        """The u of a dense layer; -1 gives g."""
        if self.small:
            h = self.small((x - self.mean) / self.deviation)
        else:
            h = self.convolved(x, layer=len(self.convolutions) - 1)
            h = functional.max_pool1d(h, self.config.pools[-1])
        u = torch.cat([h.mean(2), h.amax(2), (h.square().mean(2) + _EPSILON).sqrt()], 1)
        for number in range(layer + 1):
            u = self.dense[number](drop(u, self.config.dropout))
            u = functional.relu(self.dense_norms[number](u))
        return u

    def forward(self, x: Float[Tensor, "batch frames bands"], drop: Drop) -> tuple[Tensor, Tensor]:
        """Factors and the labels' logits. Shapes (batch, factors), (batch, labels)."""
        u = drop(self.densed(x, drop, layer=len(self.dense) - 1), self.config.dropout)
        factors, labels = self.head(u).split(self.outputs.tolist(), dim=1)
        return factors, labels


class AudioNetwork:
    """Predict an item's factors and labels from its sound."""

    kind: ClassVar[str] = "audio_network"

    def __init__(self, config: AudioNetworkConfig) -> None:
        """Make a network that has learned nothing yet."""
        self.config = config
        self._network: Network | None = None

    def fit(
        self,
        tracks: Sequence[Track],
        *,
        factors: FloatArray | None = None,
        labels: IntArray | None = None,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Learn from items with sounds.

        Args:
            tracks: The spectrograms of every item's excerpts, at least one each.
            factors: Of the items; scaled to length 1, NaN where unknown. Shape (items, factors).
            labels: From 0, -1 where unknown. Shape (items,).
            rng: Draws the weights, the order, the crops and what is dropped.
            progress: Told after every epoch.

        Raises:
            DataError: If there is nothing to learn from, or shapes do not agree.
        """
        targets = _Targets.of(factors, labels, items=len(tracks))
        _check_tracks(tracks, at_least=self.config.batch_size)
        with one_torch_thread():
            trainer = _Trainer(self.config, tracks, targets, rng=rng)
            trainer.run(progress)
        self._network = trainer.network.eval().requires_grad_(requires_grad=False)
        return self

    def predict(self, tracks: Sequence[Track]) -> FloatArray:
        """The factors of items, as the mean over their crops. Shape (items, factors).

        Their length says how sure the network is: 1 at most, less where a sound could be many
        things. Divide by it for directions alone.
        """
        return self._mean_over_crops(tracks, lambda network, x: network(x, Drop())[0])

    def classify(self, tracks: Sequence[Track]) -> FloatArray:
        """The logarithms of the labels' chances. Shape (items, labels)."""
        mean = self._mean_over_crops(
            tracks, lambda network, x: functional.log_softmax(network(x, Drop())[1], 1)
        )
        mean -= np.log(np.exp(mean).sum(axis=1, keepdims=True))
        return mean

    def embed(self, tracks: Sequence[Track]) -> FloatArray:
        """The units of the top dense layer. Shape (items, units)."""
        top = len(self.config.dense) - 1
        return self._mean_over_crops(
            tracks, lambda network, x: network.densed(x, Drop(), layer=top)
        )

    def respond(self, spectrogram: FloatArray, *, layer: str) -> Response:
        """What every unit of a layer did during an excerpt, step by step.

        A step of a convolution is one place in time; one of a dense layer is a whole crop, and
        crops follow each other by an eighth of their length.

        Args:
            spectrogram: Shape (frames, bands).
            layer: One of `config.layers`.

        Raises:
            ValueError: If there is no such layer.
        """
        network = require_fitted(self._network, self)
        if layer not in self.config.layers:
            raise ValueError(f"layer is {layer!r}; there are {', '.join(self.config.layers)}.")
        number = int(layer.removeprefix("conv").removeprefix("dense")) - 1
        if layer.startswith("dense"):
            return self._respond_densely(network, spectrogram, number)
        with torch.inference_mode(), one_torch_thread():
            h = network.convolved(torch.from_numpy(spectrogram[None]), layer=number)[0].T.numpy()
        stride, reach = self.config.span(number)
        middle = np.arange(len(h)) * stride + stride // 2
        starts = np.maximum(middle - reach // 2, 0)
        return Response(values=h, starts=starts, frames=min(reach, len(spectrogram)))

    def _respond_densely(self, network: Network, spectrogram: FloatArray, number: int) -> Response:
        frames = self.config.crop_frames
        crops = spread_crops(spectrogram, frames, overlap=_OVERLAP_OF_STEPS)
        values = _by_crops(crops, lambda x: network.densed(x, Drop(), layer=number))
        spare = max(0, len(spectrogram) - frames)
        starts = np.linspace(0, spare, len(crops)).round().astype(np.int64)
        return Response(values=values, starts=starts, frames=min(frames, len(spectrogram)))

    def _mean_over_crops(
        self, tracks: Sequence[Track], compute: Callable[[Network, Tensor], Tensor]
    ) -> FloatArray:
        """The mean of `compute` over the crops of all excerpts. Shape (items, outputs)."""
        network = require_fitted(self._network, self)
        _check_tracks(tracks, at_least=0, bands=len(network.mean))
        frames = self.config.crop_frames
        crops = [
            np.concatenate([spread_crops(part, frames, overlap=_OVERLAP) for part in track])
            for track in tracks
        ]
        if not crops:
            empty = np.zeros((1, frames, len(network.mean)), dtype=np.float32)
            return _by_crops(empty, lambda x: compute(network, x))[:0]
        rows = [_by_crops(each, lambda x: compute(network, x)).mean(axis=0) for each in crops]
        return np.stack(rows)

    def first_filters(self) -> FloatArray:
        """The weights of the first layer: what it adds and takes away.

        Shape (filters, bands, frames): all bands, or the few that a small filter sees.
        """
        network = require_fitted(self._network, self)
        if network.small:
            weights = network.small.convolutions[0].get_parameter("weight")[:, 0].mT
        else:
            weights = network.convolutions[0].get_parameter("weight")
        filters: FloatArray = weights.numpy()
        return filters

    def state(self) -> Arrays:
        """The weights by name."""
        network = require_fitted(self._network, self)
        return {name: weight.numpy() for name, weight in network.state_dict().items()}

    @classmethod
    def from_state(cls, config: AudioNetworkConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`."""
        model = cls(config)
        network = Network(
            config,
            bands=len(state["mean"]),
            factors=int(state["outputs"][0]),
            labels=int(state["outputs"][1]),
        )
        network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in state.items()})
        model._network = network.eval().requires_grad_(requires_grad=False)
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    """What the network shall say of every item.

    Attributes:
        factors: Of length 1, 0 where unknown. Shape (items, factors).
        has_factors: Shape (items,).
        labels: -1 where unknown. Shape (items,).
        n_labels: How many labels there are.
    """

    factors: FloatArray
    has_factors: BoolArray
    labels: IntArray
    n_labels: int

    @classmethod
    def of(cls, factors: FloatArray | None, labels: IntArray | None, *, items: int) -> _Targets:
        """The targets, checked."""
        if factors is None and labels is None:
            raise DataError("there is nothing to learn from: give factors, labels, or both.")
        known = np.zeros((items, 0), np.float32) if factors is None else factors
        classes = np.full(items, _UNKNOWN) if labels is None else labels
        for name, given in (("factors", known), ("labels", classes)):
            if len(given) != items:
                raise DataError(f"there are {items} tracks but {len(given)} rows of {name}.")
        lengths = np.linalg.norm(known, axis=1, keepdims=True)
        has_factors = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
        unit = np.divide(known, lengths, out=np.zeros_like(known), where=has_factors[:, None])
        return cls(
            factors=unit.astype(np.float32),
            has_factors=has_factors,
            labels=classes.astype(np.int64),
            n_labels=int(classes.max(initial=_UNKNOWN)) + 1,
        )


class _Trainer:
    """One training run."""

    def __init__(
        self,
        config: AudioNetworkConfig,
        tracks: Sequence[Track],
        targets: _Targets,
        *,
        rng: np.random.Generator,
    ) -> None:
        self.config, self.tracks, self.targets, self.rng = config, tracks, targets, rng
        self.drop = Drop(rng)
        self.mean, deviation = _scale(tracks)
        self.network = Network(
            config, bands=len(self.mean), factors=targets.factors.shape[1], labels=targets.n_labels
        )
        self.network.start(torch.Generator().manual_seed(int(rng.integers(2**63))))
        self.network.mean.copy_(torch.from_numpy(self.mean))
        self.network.deviation.fill_(deviation)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), weight_decay=config.weight_decay, fused=True
        )

    def run(self, progress: Progress) -> None:
        """All epochs."""
        config, items = self.config, len(self.tracks)
        steps = items // config.batch_size  # the rest, fewer than a batch, waits for the next epoch
        for epoch in range(config.epochs):
            order = self.rng.permutation(items)
            losses = []
            for step in range(steps):
                self.pace((epoch * steps + step) / (config.epochs * steps))
                batch = order[step * config.batch_size : (step + 1) * config.batch_size]
                losses.append(self.step(batch))
            loss = float(np.mean(losses))
            progress(epoch + 1, config.epochs, f"loss {loss:.3f}")
            _check_loss(loss)

    def pace(self, done: float) -> None:
        """Set the learning rate after a share of all steps: up, then down along a cosine."""
        rising = min(1.0, (done + 1e-3) / _WARM_UP)
        falling = 0.5 * (1.0 + math.cos(math.pi * max(0.0, done - _WARM_UP) / (1.0 - _WARM_UP)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rising * falling

    def step(self, items: IntArray) -> float:
        """One gradient step; the loss."""
        x = torch.from_numpy(np.stack([self.crop(self.tracks[item]) for item in items]))
        share, partner = self.mixture(len(items))
        x = share * x + (1 - share) * x[partner]
        factors, logits = self.network(x, self.drop)
        loss = share * self.loss(factors, logits, items)
        loss = loss + (1 - share) * self.loss(factors, logits, items[partner])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def crop(self, track: Track) -> FloatArray:
        """A random piece of a random excerpt, a part of it hidden. Shape (frames, bands)."""
        excerpt = track[int(self.rng.integers(len(track)))]
        crop = random_crop(excerpt, self.config.crop_frames, self.rng).copy()
        frames, bands = self.hidden(len(crop)), self.hidden(len(self.mean))
        crop[:, bands] = self.mean[bands]
        crop[frames] = self.mean
        return crop

    def hidden(self, length: int) -> slice:
        """A random stretch of at most `mask`."""
        count = int(self.rng.integers(min(self.config.mask, length) + 1))
        start = int(self.rng.integers(length - count + 1))
        return slice(start, start + count)

    def mixture(self, count: int) -> tuple[float, IntArray]:
        """How much of itself each crop of a step keeps, and which one it is mixed with."""
        if not self.config.mixup:
            return 1.0, np.arange(count)
        share = float(self.rng.beta(self.config.mixup, self.config.mixup))
        return share, self.rng.permutation(count)

    def loss(self, factors: Tensor, logits: Tensor, items: IntArray) -> Tensor:
        """Squared error of the factors and cross-entropy of the labels, where they are known."""
        total = factors.new_zeros(())
        known = np.flatnonzero(self.targets.has_factors[items])
        if len(known):
            wanted = torch.from_numpy(self.targets.factors[items[known]])
            total = total + (factors[known] - wanted).square().sum(1).mean()
        labelled = np.flatnonzero(self.targets.labels[items] != _UNKNOWN)
        if len(labelled):
            labels = torch.from_numpy(self.targets.labels[items[labelled]])
            entropy = functional.cross_entropy(logits[labelled], labels)
            total = total + self.config.label_weight * entropy
        return total


def _by_crops(crops: FloatArray, compute: Callable[[Tensor], Tensor]) -> FloatArray:
    """The outputs of every crop. Shape (crops, outputs)."""
    with torch.inference_mode(), one_torch_thread():
        batches = torch.split(torch.from_numpy(crops), _CROPS_AT_ONCE)
        outputs: FloatArray = torch.cat([compute(batch) for batch in batches]).numpy()
    return outputs


def _scale(tracks: Sequence[Track]) -> tuple[FloatArray, float]:
    """The mean of every band, and the deviation from it over all. Shape (bands,)."""
    total, squares, frames = 0.0, 0.0, 0
    for track in tracks:
        for part in track:
            wide = part.astype(np.float64)
            total = total + wide.sum(axis=0)
            squares = squares + (wide**2).sum(axis=0)
            frames += len(part)
    mean = np.asarray(total) / frames
    variance = float((np.asarray(squares) / frames - mean**2).mean())
    return mean.astype(np.float32), math.sqrt(max(variance, _EPSILON))


def _check_tracks(tracks: Sequence[Track], *, at_least: int, bands: int | None = None) -> None:
    if len(tracks) < at_least:
        raise DataError(
            f"there are {len(tracks)} tracks; give batch_size, {at_least}, or more, or lower it."
        )
    if any(not len(track) for track in tracks):
        raise DataError("a track has no excerpt; leave out items without a sound.")
    widths = {part.shape[-1] for track in tracks for part in track} | ({bands} if bands else set())
    if len(widths) > 1:
        raise DataError(f"spectrograms have {sorted(widths)} bands; all must have as many.")


def _check_loss(loss: float) -> None:
    if not math.isfinite(loss):
        raise MomentaryError(f"The loss became {loss}: training diverged. Halve learning_rate.")
