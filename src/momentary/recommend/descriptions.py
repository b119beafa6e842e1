"""What a model that reads content is told of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from momentary.data.sessions import SessionLog
from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.encoders.store import FILE, VectorStore, encode_all
from momentary.encoders.text import SentenceEncoder, item_text
from momentary.encoders.words import word_vectors
from momentary.errors import SettingsError
from momentary.models.protocol import Described, Scorer
from momentary.types import FloatArray, Progress, silent

WORDS, SENTENCES, ENCODED = "words", "sentences", "encoded"
"""The catalogue's texts by their words, or by the sentence encoder of the extra `offline`; or all
that `momentary encode` has seen. Single views of that go by their names, as in `image,music`."""

AUTO, NONE = "auto", "none"
"""What was encoded, and the words of texts that were not; or nothing at all."""

_USUAL = {"feature_rnn": WORDS}
"""By model, what it reads if nothing is said; all others read `AUTO`. Each stream of `feature_rnn`
costs as much again."""

TEXT = "text"
"""The stream of what is written about the items."""


def describe_all(
    models: Sequence[Described],
    workspace: Workspace,
    log: SessionLog,
    *,
    content: str | None = None,
    new_items: bool = False,
    progress: Progress = silent,
) -> tuple[SessionLog, list[str]]:
    """Tell models what the items of a log are like.

    Args:
        models: That read content.
        workspace: Knows the catalogue, and what was encoded.
        log: What they are to learn.
        content: What is read; None reads what is usual for each model.
        new_items: Whether a model that takes the whole catalogue is to learn it.
        progress: Told of encoding.

    Returns:
        The log that is to be learned, and the kinds of the models that could not be told anything.

    Raises:
        SettingsError: If the sentence encoder is not installed, or nothing was encoded under the
            name of a view.
    """
    whole, mute = log, []
    for model in models:
        kind = cast("Scorer", model).kind
        read = content or _USUAL.get(kind, AUTO)
        own = log
        if new_items and model.takes_new_items:
            own = with_new_items(workspace, log, content=read)
        features = features_of(workspace, own.items.ids, content=read, progress=progress)
        model.describe(features)
        if not features:
            mute.append(kind)
        elif len(own.items) > len(whole.items):
            whole = own
    return whole, mute


def features_of(
    workspace: Workspace,
    item_ids: Sequence[str],
    *,
    content: str = WORDS,
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    """Vectors of items by stream, zeros where nothing is known; one row an item.

    Empty if there is nothing that a model could learn from.

    Raises:
        SettingsError: If the sentence encoder is not installed, or nothing was encoded under the
            name of a view.
    """
    if content == NONE:
        return {}
    if content == AUTO:
        views = _encoded(workspace, item_ids, ENCODED)
        by_words = {} if TEXT in views else features_of(workspace, item_ids, content=WORDS)
        return {**views, **by_words}
    if content not in (WORDS, SENTENCES):
        return _encoded(workspace, item_ids, content)
    texts = _texts(workspace)
    ordered = [texts.get(item_id, "") for item_id in item_ids]
    if not any(ordered):
        return {}
    if content == WORDS:
        vectors = word_vectors(ordered)
        return {TEXT: vectors} if vectors.shape[1] else {}
    encoder = SentenceEncoder()
    written = {item_id: text for item_id, text in zip(item_ids, ordered, strict=True) if text}
    with VectorStore(workspace.root / FILE) as store:
        encode_all(
            ((item_id, text.encode()) for item_id, text in written.items()),
            encoder,
            store,
            decode=lambda _, raw: raw.decode(),
            total=len(written),
            progress=progress,
        )
        return {TEXT: store.read(encoder.version, item_ids)[0]}


def with_new_items(workspace: Workspace, log: SessionLog, *, content: str = WORDS) -> SessionLog:
    """The log over the catalogue's items of which `content` says something.

    Those that no session names come last, by their ids.

    Raises:
        SettingsError: If nothing was encoded under the name of a view.
    """
    known = set(log.items.ids)
    told: set[str] = set()
    if content in (WORDS, SENTENCES, AUTO):
        told |= {item_id for item_id, text in _texts(workspace).items() if text}
    if content not in (WORDS, SENTENCES, NONE):
        ids = [item.item_id for item in workspace.catalog.items()]
        views = _encoded(workspace, ids, ENCODED if content == AUTO else content).values()
        seen = np.any([vectors.any(axis=1) for vectors in views], axis=0) if views else ()
        told |= {item_id for item_id, there in zip(ids, seen, strict=bool(views)) if there}
    new = sorted(item_id for item_id in told if item_id not in known)
    items = Vocabulary([*log.items.ids, *new])
    return SessionLog(sessions=log.sessions, items=items, visitors=log.visitors)


def described_share(features: Mapping[str, FloatArray]) -> float:
    """Share of the items of which any stream says something."""
    if not features:
        return 0.0
    said = np.any([matrix.any(axis=1) for matrix in features.values()], axis=0)
    return float(said.mean())


def _encoded(workspace: Workspace, item_ids: Sequence[str], content: str) -> dict[str, FloatArray]:
    """What `momentary encode` kept of the views that `content` names, by view."""
    with VectorStore(workspace.root / FILE) as store:
        encoders = store.views()
        wanted = list(encoders) if content == ENCODED else content.split(",")
        unknown = [name for name in wanted if name not in encoders]
        if unknown:
            there = ", ".join(encoders) or "none yet; run: momentary encode"
            raise SettingsError(
                f"--content names {unknown[0]!r}. It takes words, sentences, encoded, auto, none, "
                f"or views that were encoded ({there})."
            )
        read = {name: store.read(encoders[name], item_ids)[0] for name in wanted}
    return {name: vectors for name, vectors in read.items() if vectors.any()}


def _texts(workspace: Workspace) -> dict[str, str]:
    return {item.item_id: item_text(item) for item in workspace.catalog.items()}
