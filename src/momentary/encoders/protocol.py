"""What every encoder can do: turn raw content into vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from momentary.types import FloatArray

Modality = Literal["text", "image", "audio", "video"]
"""The kinds of raw content that an item may have."""

MODALITIES: tuple[Modality, ...] = ("text", "image", "audio", "video")

WORDS: Mapping[str, str] = {
    "text": "text",
    "image": "picture",
    "colour": "colours",
    "music": "music",
    "sound": "sound",
    "timbre": "timbre",
    "film": "film",
    "tags": "attributes",
}
"""What a view is called in sentences."""

Picture = NDArray[np.uint8]
"""Red, green and blue from 0 to 255. Shape (height, width, 3)."""

Content = TypeVar("Content", contravariant=True)


class Encoder(Protocol[Content]):
    """Anything that turns contents of one kind into vectors; `tests/encoders` holds the laws.

    A content gets the same vector alone and among others, up to float rounding.
    """

    @property
    def version(self) -> str:
        """Model, weights and preprocessing in one name: vectors of equal versions compare."""
        ...

    def encode(self, contents: Sequence[Content]) -> FloatArray:
        """One vector a content. Shape (contents, dim)."""
        ...


class JointEncoder(Protocol):
    """Anything that puts pictures and texts into one space."""

    @property
    def version(self) -> str:
        """Model, weights and preprocessing in one name: vectors of equal versions compare."""
        ...

    def encode_pictures(self, pictures: Sequence[Picture]) -> FloatArray:
        """One vector of unit length a picture. Shape (pictures, dim)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """One vector of unit length a text. Shape (texts, dim)."""
        ...
