"""Pictures and texts to vectors of one space: any CLIP-like model that transformers can load.

Radford et al., "Learning transferable visual models from natural language supervision" (ICML
2021): two encoders trained so that a picture's vector lies near that of a text that fits it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from momentary.encoders.hub import load_hub_model
from momentary.encoders.protocol import Picture
from momentary.encoders.revisions import loaded_revision
from momentary.errors import SettingsError
from momentary.types import FloatArray

_AT_ONCE = 16


class HubJointEncoder:
    """A CLIP-like model by name; code that comes with a model never runs.

    Args:
        name: On the hub, such as "openai/clip-vit-base-patch32", or a folder.
        revision: A commit of it, so that the vectors stay the same.

    Raises:
        SettingsError: If transformers is not installed, or the model cannot be loaded or does not
            encode both pictures and texts.
    """

    def __init__(self, name: str, *, revision: str | None = None) -> None:
        model, self._tokenizer, self._processor = load_hub_model(
            name, "AutoTokenizer", "AutoImageProcessor", revision=revision
        )
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise SettingsError(
                f"{name} does not encode both pictures and texts; give a CLIP-like model, such as "
                "openai/clip-vit-base-patch32."
            )
        self._model = model
        self.version = f"transformers:{name}@{loaded_revision(name, revision)}"

    def encode_pictures(self, pictures: Sequence[Picture]) -> FloatArray:
        """One vector of unit length a picture. Shape (pictures, dim)."""
        found = []
        for first in range(0, len(pictures), _AT_ONCE):
            some = list(pictures[first : first + _AT_ONCE])
            found.append(self._features("image", self._processor(images=some, return_tensors="pt")))
        return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """One vector of unit length a text; what is too long is cut. Shape (texts, dim)."""
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        # Some models were trained on texts padded to their full length, and all can read them.
        read = self._tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        return self._features("text", read)

    def _features(self, kind: str, inputs: Mapping[str, torch.Tensor]) -> FloatArray:
        with torch.inference_mode():
            found = getattr(self._model, f"get_{kind}_features")(**inputs)
            # Newer versions return the whole output, older ones the vectors themselves.
            vectors = getattr(found, "pooler_output", found)
            return np.asarray(torch.nn.functional.normalize(vectors, dim=-1), dtype=np.float32)
