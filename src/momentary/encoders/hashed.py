"""Texts to vectors without a model: which words and pieces of words they share.

Weinberger et al., "Feature hashing for large scale multitask learning" (ICML 2009). It knows no
meanings: "sofa" and "couch" have nothing in common. It stands in where no sentence encoder is
installed, and says so by its name.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from momentary.types import FloatArray

_WIDTH = 1_024
_PIECE = 4
_WORD = re.compile(r"\w+", re.UNICODE)
_MOST_WORDS = 400


class HashedWords:
    """1,024 numbers a text, of length 1; a text without words gets zeros.

    A word counts with 1 + log of how often it occurs, its pieces of four letters with a quarter
    of that, so that "mug" and "mugs" are a little alike.
    """

    version = "hashed-words/1"

    def encode(self, contents: Sequence[str]) -> FloatArray:
        """One vector a text. Shape (texts, 1024)."""
        vectors = np.zeros((len(contents), _WIDTH), dtype=np.float32)
        for row, text in enumerate(contents):
            words = Counter(_WORD.findall(text.casefold())[:_MOST_WORDS])
            for word, times in words.items():
                weight = 1 + np.log(times)
                _add(vectors[row], word, weight)
                padded = f" {word} "
                for start in range(max(len(padded) - _PIECE + 1, 0)):
                    _add(vectors[row], padded[start : start + _PIECE], weight / 4)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def _add(vector: FloatArray, token: str, weight: float) -> None:
    code = zlib.crc32(token.encode())
    # One bit gives the sign, so that tokens which share a place cancel out on average.
    vector[code % _WIDTH] += weight if code & 0x8000_0000 else -weight
