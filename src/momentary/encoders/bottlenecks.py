"""A network of inverted bottlenecks that can be looked into, layer by layer and place by place.

A block (Sandler et al., "MobileNetV2", CVPR 2018) widens by a 1x1 convolution, filters every
channel by itself, narrows again, and adds its input where the shapes agree. Blocks of as many
channels are a stage; a stem comes before the stages and a head behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from momentary.encoders.protocol import Picture

EPSILON = 1e-3
"""What batch normalisation adds to a variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution with its batch normalisation folded in.

    Attributes:
        weight: Shape (out, in / groups, size, size).
        bias: Shape (out,).
        groups: Equals the channels where each is filtered by itself.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve; a picture that the stride does not divide is padded as TensorFlow does."""
        size = self.weight.shape[-1]
        high, wide = (padding(side, size, self.stride) for side in x.shape[-2:])
        padded = functional.pad(x, (*wide, *high)) if size > 1 else x
        return functional.conv2d(
            padded, self.weight, self.bias, stride=self.stride, groups=self.groups
        )

    def redrawn(self, x: Tensor, *, rng: np.random.Generator) -> Convolution:
        """One of the same shape with random weights, whose outputs are normalised over `x`."""
        shape = self.weight.shape
        drawn = torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))
        drawn *= (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        weight = drawn.contiguous(memory_format=torch.channels_last)
        plain = replace(self, weight=weight, bias=torch.zeros(shape[0]))
        variance, mean = torch.var_mean(plain(x), dim=(0, 2, 3), correction=0)
        scale = 1 / (variance + EPSILON).sqrt()
        return replace(plain, weight=weight * scale[:, None, None, None], bias=-mean * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectified:
    """Stem or head: one convolution, clipped at 0 and at 6."""

    convolution: Convolution

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the step."""
        return functional.relu6(self.convolution(x))

    @property
    def convolutions(self) -> list[Convolution]:
        """From the input to the output."""
        return [self.convolution]

    def redrawn(self, x: Tensor, *, rng: np.random.Generator) -> Rectified:
        """The same with random weights, normalised over `x`."""
        return Rectified(convolution=self.convolution.redrawn(x, rng=rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An inverted bottleneck; the first one of the network does not widen."""

    widen: Convolution | None
    filter: Convolution
    narrow: Convolution

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the step."""
        y = self.narrow(functional.relu6(self.filter(_widened(x, self.widen))))
        return x + y if y.shape == x.shape else y

    @property
    def convolutions(self) -> list[Convolution]:
        """From the input to the output."""
        return [*([self.widen] if self.widen else []), self.filter, self.narrow]

    def redrawn(self, x: Tensor, *, rng: np.random.Generator) -> Block:
        """The same with random weights, normalised over `x`."""
        widen = self.widen.redrawn(x, rng=rng) if self.widen else None
        wide = _widened(x, widen)
        filtered = self.filter.redrawn(wide, rng=rng)
        narrow = self.narrow.redrawn(functional.relu6(filtered(wide)), rng=rng)
        return Block(widen=widen, filter=filtered, narrow=narrow)


Step = Rectified | Block


class Reach(NamedTuple):
    """What the places of a layer see of the input, in pixels, across as well as down.

    Attributes:
        step: From one place to the next.
        start: Where the first place begins to see; below 0 that is beyond the edge.
        side: How far a place sees.
    """

    step: int
    start: int
    side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottlenecks:
    """The network.

    Attributes:
        steps: Stem, blocks, head.
        side: Of the square input, in pixels.
    """

    steps: Sequence[Step]
    side: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose units can be asked for, lowest first: stem, stages and head."""
        return tuple(self._ends())

    def respond(self, squares: Picture, *, layers: Sequence[str]) -> dict[str, Tensor]:
        """What the units of some layers do at every place of pictures.

        Units of stem and head lie between 0 and 6; those of a stage may have any value.

        Args:
            squares: Shape (batch, side, side, 3).
            layers: Some of `layers`.

        Returns:
            By layer, the lowest first. Each of shape (batch, units, high, wide).

        Raises:
            ValueError: If there is no such layer.
        """
        last = max((self._end(layer) for layer in layers), default=-1)
        names = {self._end(layer): layer for layer in layers}
        found = {}
        with torch.inference_mode():
            x = centred(squares)
            for number, step in enumerate(self.steps[: last + 1]):
                x = step(x)
                if number in names:
                    found[names[number]] = x
        return found

    def reach(self, layer: str) -> Reach:
        """What the places of a layer see of the input.

        Raises:
            ValueError: If there is no such layer.
        """
        step, start, seen, size = 1, 0, 1, self.side
        for part in self.steps[: self._end(layer) + 1]:
            for convolution in part.convolutions:
                width = convolution.weight.shape[-1]
                start -= padding(size, width, convolution.stride)[0] * step
                seen += (width - 1) * step
                step *= convolution.stride
                size = -(-size // convolution.stride)
        return Reach(step, start, seen)

    def untrained(self, squares: Picture, *, rng: np.random.Generator) -> Bottlenecks:
        """The same network as if it had never learned: random weights, normalised to pictures.

        Weights are normal (He et al., ICCV 2015); the outputs of every convolution have mean 0 and
        deviation 1 over `squares`, which is what batch normalisation does before training.

        Args:
            squares: Some dozens, all in memory at once. Shape (batch, side, side, 3).
            rng: Draws the weights.
        """
        steps = []
        with torch.inference_mode():
            x = centred(squares)
            for step in self.steps:
                steps.append(step.redrawn(x, rng=rng))
                x = steps[-1](x)
        return replace(self, steps=steps)

    def _ends(self) -> dict[str, int]:
        """The number of every layer's last step."""
        widths = [len(step.convolutions[-1].bias) for step in self.steps]
        inner = range(1, len(widths) - 1)
        lasts = [at for at in inner if at + 1 == len(widths) - 1 or widths[at + 1] != widths[at]]
        stages = {f"stage{number}": at for number, at in enumerate(lasts, start=1)}
        return {"stem": 0, **stages, "head": len(widths) - 1}

    def _end(self, layer: str) -> int:
        ends = self._ends()
        if layer not in ends:
            raise ValueError(f"layer is {layer!r}; there are {', '.join(ends)}.")
        return ends[layer]


def _widened(x: Tensor, widen: Convolution | None) -> Tensor:
    return x if widen is None else functional.relu6(widen(x))


def centred(squares: Picture) -> Tensor:
    """Pixels about 0. Shapes (batch, side, side, 3), (batch, 3, side, side)."""
    x = torch.from_numpy(squares).permute(0, 3, 1, 2).float()  # channels last in memory
    return (x - 127) / 128


def padding(side: int, size: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, so that the output has ceil(side / stride).

    >>> padding(224, 3, 2), padding(7, 5, 1)
    ((0, 1), (2, 2))
    """
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    return total // 2, total - total // 2
