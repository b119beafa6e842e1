"""What a model that reads content is told of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from momentary.data.sessions import SessionLog
from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.encoders.store import VectorStore, encode_all
from momentary.encoders.text import SentenceEncoder, item_text
from momentary.encoders.words import word_vectors
from momentary.types import FloatArray, Progress, silent

Content = Literal["words", "sentences"]
"""How texts become vectors: by their words, or by the sentence encoder of the extra `offline`."""

TEXT = "text"
"""The stream of what is written about the items."""


def features_of(
    workspace: Workspace,
    item_ids: Sequence[str],
    *,
    content: Content = "words",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    """Vectors of items by stream, zeros where the catalogue says nothing; one row an item.

    Empty if there is nothing that a model could learn from.

    Raises:
        SettingsError: If the sentence encoder is not installed.
    """
    texts = _texts(workspace)
    ordered = [texts.get(item_id, "") for item_id in item_ids]
    if not any(ordered):
        return {}
    if content == "words":
        vectors = word_vectors(ordered)
        return {TEXT: vectors} if vectors.shape[1] else {}
    encoder = SentenceEncoder()
    written = {item_id: text for item_id, text in zip(item_ids, ordered, strict=True) if text}
    with VectorStore(workspace.root / "vectors.sqlite") as store:
        encode_all(
            ((item_id, text.encode()) for item_id, text in written.items()),
            encoder,
            store,
            decode=lambda _, raw: raw.decode(),
            total=len(written),
            progress=progress,
        )
        return {TEXT: store.read(encoder.version, item_ids)[0]}


def with_new_items(workspace: Workspace, log: SessionLog) -> SessionLog:
    """The log over the whole catalogue: items that no session names come last, by their ids."""
    known = set(log.items.ids)
    new = sorted(item_id for item_id, text in _texts(workspace).items() if text)
    items = Vocabulary([*log.items.ids, *(item_id for item_id in new if item_id not in known)])
    return SessionLog(sessions=log.sessions, items=items, visitors=log.visitors)


def described_share(features: Mapping[str, FloatArray]) -> float:
    """Share of the items of which any stream says something."""
    if not features:
        return 0.0
    said = np.any([matrix.any(axis=1) for matrix in features.values()], axis=0)
    return float(said.mean())


def _texts(workspace: Workspace) -> dict[str, str]:
    return {item.item_id: item_text(item) for item in workspace.catalog.items()}
