"""Which bundles are searched along a graph, by what the settings say and what there is.

Below some hundred thousand items the exact search costs no more than a walk along a graph, so a
graph is built for larger models only: by training, or by `momentary index`. It is kept in the
model's folder. Where it is damaged, or its extra is missing, the exact search goes on answering and
the bundle says why.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from momentary.errors import ArtifactError, SettingsError
from momentary.learn.graph import Graph, is_there
from momentary.models.artifact import Bundle, graph_state
from momentary.models.protocol import Factored
from momentary.settings import IndexChoice
from momentary.types import Progress, silent

WORTH_ITEMS = 400_000
"""From so many items on a walk saves CPU for a tick of many, too; see decision 0007."""

_LOGGER = logging.getLogger(__name__)
_MISSING = "the extra is missing; run: pip install 'momentary[graph]'"


def wants_graph(bundle: Bundle, choice: IndexChoice) -> bool:
    """Whether the settings ask for a graph for such a model."""
    if choice == "exact" or not isinstance(bundle.scorers["main"], Factored):
        return False
    return choice == "graph" or len(bundle.items) >= WORTH_ITEMS


def built(bundle: Bundle, *, progress: Progress = silent) -> Graph:
    """The graph of a bundle's items, in minutes for a million.

    Raises:
        SettingsError: The model has no item vectors, or the extra is missing.
    """
    main = bundle.scorers["main"]
    if not isinstance(main, Factored):
        raise SettingsError(
            f"{main.kind} scores by no product with item vectors, so there is nothing to build a "
            "graph of; gru4rec does."
        )
    return Graph(*main.item_vectors(), progress=progress)


def with_new_graph(bundle: Bundle, choice: IndexChoice, *, progress: Progress = silent) -> Bundle:
    """A bundle that was just trained, with a graph if the settings ask for one.

    Raises:
        SettingsError: The settings ask for one whatever the size, and the extra is missing.
    """
    if not wants_graph(bundle, choice):
        return bundle
    if choice == "auto" and not is_there():
        return _exact(bundle, f"there is no graph, because {_MISSING}")
    return replace(bundle, graph=built(bundle, progress=progress), graph_note="")


def with_saved_graph(bundle: Bundle, folder: Path, choice: IndexChoice) -> Bundle:
    """A bundle from `folder` with its graph, if the settings ask for one.

    It is built where there is none that can be used only if `choice` is "graph".

    Raises:
        SettingsError: `choice` is "graph" and the extra is missing.
    """
    if not wants_graph(bundle, choice):
        return bundle
    if not is_there():
        if choice == "graph":
            raise SettingsError(f"serve.index is 'graph', and {_MISSING}, or set it to 'auto'.")
        return _exact(bundle, f"a graph cannot be read, because {_MISSING}")
    try:
        state = graph_state(folder)
        if state is not None:
            vectors, biases = _factored(bundle).item_vectors()
            graph = Graph.from_state(state, vectors=vectors, biases=biases)
            return replace(bundle, graph=graph, graph_note="")
        why = "the model was saved without a graph; run: momentary index"
    except ArtifactError as error:
        why = str(error)
    if choice == "graph":
        _LOGGER.warning("a graph is built now, because %s", why)
        return replace(bundle, graph=built(bundle), graph_note="")
    return _exact(bundle, why)


def _factored(bundle: Bundle) -> Factored:
    main = bundle.scorers["main"]
    if not isinstance(main, Factored):
        raise SettingsError(f"{main.kind} has no item vectors.")
    return main


def _exact(bundle: Bundle, why: str) -> Bundle:
    _LOGGER.warning("lists come from the exact search: %s", why)
    return replace(bundle, graph=None, graph_note=why)
