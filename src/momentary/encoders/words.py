"""Texts to vectors without a download: hashed TF-IDF, reduced by a truncated SVD.

Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009; Deerwester et
al., "Indexing by Latent Semantic Analysis", 1990. The vectors are made for one collection of texts
and compare inside it only, so they are no `Encoder`'s.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from momentary.types import FloatArray

_WORD = re.compile(r"[^\W\d_]{2,}")
_COLUMNS = 1 << 20


def word_vectors(texts: Sequence[str], *, width: int = 64) -> FloatArray:
    """One vector a text, zeros for a text that shares no word with another.

    A word counts 1 + log of how often it stands in the text, times the log of how few texts have
    it; words of one text only relate nothing and are left out.

    Args:
        texts: All of the collection.
        width: Most columns; fewer where the texts do not hold as many directions.

    Returns:
        Shape (texts, at most width); no column if no two texts share a word.
    """
    found = [
        (row, zlib.crc32(word.encode()) % _COLUMNS)
        for row, text in enumerate(texts)
        for word in _WORD.findall(text.lower())
    ]
    nothing = np.zeros((len(texts), 0), dtype=np.float32)
    if not found:
        return nothing
    rows, hashed = np.array(found, dtype=np.int64).T
    _, columns = np.unique(hashed, return_inverse=True)
    table = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)))
    table.resize((len(texts), table.shape[1]))
    having = np.bincount(table.indices, minlength=table.shape[1])
    table = table[:, np.flatnonzero((having > 1) & (having < len(texts)))].tocsr()
    width = min(width, min(table.shape) - 1)
    if width < 1:
        return nothing
    table.data = 1 + np.log(table.data)
    having = np.bincount(table.indices, minlength=table.shape[1])
    table = table @ sparse.diags(np.log(len(texts) / having))
    lengths = np.sqrt(np.asarray(table.multiply(table).sum(axis=1))[:, 0])
    table = sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ table
    # A fixed start makes the same texts give the same vectors.
    left, strength, _ = svds(table, k=width, v0=np.ones(min(table.shape)))
    order = np.argsort(-strength, kind="stable")
    vectors = np.ascontiguousarray(left[:, order] * strength[order], dtype=np.float32)
    vectors[lengths == 0] = 0  # rounding would pass for content
    return vectors
