"""Pictures and sounds to vectors by any model that transformers can load, by name or from a folder.

CLIP, SigLIP 2 and their like give the vector that they compare texts with, DINOv3 and other vision
models what they pool, CLAP its vector of a sound. Pictures need no torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from momentary.encoders.audio import Sound
from momentary.encoders.protocol import Picture
from momentary.encoders.revisions import loaded_revision
from momentary.errors import SettingsError
from momentary.types import FloatArray

_AT_ONCE = 16
_LONGEST_S = 10.0


class HubPictureEncoder:
    """A vision model; code that comes with a model never runs.

    Args:
        name: On the hub, such as "google/siglip2-base-patch16-224", or a folder.
        revision: A commit of it, so that the vectors stay the same.

    Raises:
        SettingsError: If transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, *, revision: str | None = None) -> None:
        self._model, self._processor = load_hub_model(name, "AutoImageProcessor", revision=revision)
        self.version = f"transformers:{name}@{loaded_revision(name, revision)}"

    def encode(self, contents: Sequence[Picture]) -> FloatArray:
        """One vector of length 1 a picture. Shape (pictures, dim)."""
        found = []
        for first in range(0, len(contents), _AT_ONCE):
            some = list(contents[first : first + _AT_ONCE])
            read = self._processor(images=some, return_tensors="pt")
            found.append(_unit(_vectors(self._model, "get_image_features", read)))
        return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)


class HubSoundEncoder:
    """An audio model; a sound's excerpts are heard in windows, whose vectors are averaged.

    Args:
        name: On the hub, such as "laion/clap-htsat-unfused", or a folder.
        revision: A commit of it.

    Raises:
        SettingsError: If transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, *, revision: str | None = None) -> None:
        self._model, self._processor = load_hub_model(
            name, "AutoFeatureExtractor", revision=revision
        )
        self._rate_hz = int(self._processor.sampling_rate)
        window_s = float(getattr(self._processor, "max_length_s", _LONGEST_S))
        self._window = int(window_s * self._rate_hz)  # a longer one would be cut at random
        self.version = f"transformers:{name}@{loaded_revision(name, revision)}"

    def encode(self, contents: Sequence[Sound]) -> FloatArray:
        """One vector of length 1 a sound. Shape (sounds, dim)."""
        found = [self._heard(sound) for sound in contents]
        return _unit(np.stack(found)) if found else np.empty((0, 0), dtype=np.float32)

    def _heard(self, sound: Sound) -> FloatArray:
        windows = [
            excerpt[start : start + self._window]
            for excerpt in sound.at(self._rate_hz)
            for start in range(0, len(excerpt), self._window)
        ]
        vectors = [
            _unit(
                _vectors(
                    self._model,
                    "get_audio_features",
                    self._processor(window, sampling_rate=self._rate_hz, return_tensors="pt"),
                )
            )[0]
            for window in windows
        ]
        return np.asarray(np.mean(vectors, axis=0), dtype=np.float32)


def load_hub_model(name: str, *readers: str, revision: str | None) -> list[Any]:
    """A model ready to be asked, and what reads its inputs.

    Args:
        name: On the hub, or a folder; its weights have to be safetensors.
        readers: Classes of transformers, such as "AutoTokenizer".
        revision: A commit of it; None is its newest.

    Raises:
        SettingsError: If transformers is not installed, or something cannot be loaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise SettingsError(
            f"{name} needs transformers; run: pip install 'momentary[hf]'"
        ) from error
    given: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        model = transformers.AutoModel.from_pretrained(name, use_safetensors=True, **given)
        read = [getattr(transformers, each).from_pretrained(name, **given) for each in readers]
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"{name} cannot be loaded ({error}); check the name.") from error
    return [model.eval(), *read]


def _vectors(model: Any, features: str, inputs: Any) -> FloatArray:  # noqa: ANN401
    with torch.inference_mode():
        found = getattr(model, features, model)(**inputs)
        vectors = getattr(found, "pooler_output", None)
        if vectors is None:
            states = getattr(found, "last_hidden_state", None)
            # Some models pool nothing; older versions return the vectors themselves.
            vectors = found if states is None else states.mean(dim=1)
    return np.asarray(vectors.flatten(1), dtype=np.float32)


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
