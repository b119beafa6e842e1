r"""Small filters: convolutions that see a few frames and a few bands of a spectrogram.

Piczak, "Environmental sound classification with convolutional neural networks", MLSP 2015. With x a
spectrogram of shape (frames, bands) and c a filter,

    h_1 = relu(norm(W_1 * x))               over time and bands, every `stride` frames and bands
    h_l = relu(norm(W_l * maxpool(h_{l-1})))

A filter is the same at every height, so that a pitch it learned low down is known higher up, too;
filters that span all bands, as in `audio_network`, learn each height anew. Heights that are left
at the top stay apart: a unit there is a filter at one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from momentary.errors import DataError
from momentary.learn.bounds import require_ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFilters:
    """Layers of small filters.

    Attributes:
        channels: Filters of each layer.
        pools: Frames, and as many bands, that become one after each layer.
        stride: Frames and bands from one place of the first layer's filters to the next.
        first: Frames, and bands, that a filter of the first layer sees; odd.
        then: Those of the other layers, counted in what is left of them; odd.
    """

    channels: tuple[int, ...] = (16, 32, 64, 96)
    pools: tuple[int, ...] = (2, 2, 2, 1)
    stride: tuple[int, int] = (2, 4)
    first: int = 5
    then: int = 3

    def __post_init__(self) -> None:
        require_ranges(self, {"first": (1, 99), "then": (1, 99)})
        if not self.channels or len(self.channels) != len(self.pools):
            raise ValueError(
                f"channels is {self.channels} and pools {self.pools}; give each layer one of both, "
                "such as channels (16, 32) and pools (2, 2)."
            )
        for name in ("channels", "pools", "stride"):
            if any(each < 1 for each in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; each must be 1 or more.")
        for name in ("first", "then"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be odd, to have a middle."
                )

    @property
    def frames(self) -> int:
        """Frames that become one at the top."""
        return self.stride[0] * math.prod(self.pools)

    def heights(self, bands: int) -> int:
        """Heights that are left at the top.

        Raises:
            DataError: If none is.
        """
        left = -(-bands // self.stride[1])
        for pool in self.pools:
            left //= pool
        if not left:
            raise DataError(
                f"there are {bands} bands; stride {self.stride} and pools {self.pools} need "
                f"{self.stride[1] * (math.prod(self.pools) - 1) + 1} or more. Lower them."
            )
        return left

    def span(self, layer: int) -> tuple[int, int]:
        """Frames from one step of a layer, before its pooling, to the next, and that it hears."""
        step, reach = self.stride[0], self.first
        for pool in self.pools[:layer]:
            reach += (pool - 1) * step
            step *= pool
            reach += (self.then - 1) * step
        return step, reach


class SmallFilterLayers(nn.Module):
    """The layers; see the equations above."""

    def __init__(self, config: SmallFilters, *, bands: int) -> None:
        super().__init__()
        self.config = config
        self.units = config.channels[-1] * config.heights(bands)
        inputs = (1, *config.channels[:-1])
        sizes = (config.first, *(config.then for _ in inputs[1:]))
        strides = (config.stride, *((1, 1) for _ in inputs[1:]))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(below, here, size, stride=stride, padding=size // 2, bias=False)
            for below, here, size, stride in zip(
                inputs, config.channels, sizes, strides, strict=True
            )
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(here) for here in config.channels)
        # Channels last in memory: on a CPU half the time of a step.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start(self, rng: torch.Generator) -> None:
        """Draw the weights (He et al., ICCV 2015)."""
        for layer in self.convolutions:
            weight = layer.get_parameter("weight")
            nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=rng)

    def convolved(
        self, x: Float[Tensor, "batch frames bands"], *, layer: int
    ) -> Float[Tensor, "batch filters steps heights"]:
        """The h of a layer, before its pooling."""
        h = x[:, None]
        for number in range(layer + 1):
            if number:
                h = functional.max_pool2d(h, self.config.pools[number - 1])
            h = functional.relu(self.norms[number](self.convolutions[number](h)))
        return h

    def forward(self, x: Float[Tensor, "batch frames bands"]) -> Float[Tensor, "batch units steps"]:
        """The top layer, pooled, each height a unit of its own."""
        h = self.convolved(x, layer=len(self.convolutions) - 1)
        h = functional.max_pool2d(h, self.config.pools[-1])
        return h.transpose(2, 3).flatten(1, 2)
