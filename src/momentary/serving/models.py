"""The models of a running service: which there are, which one answers, and how that changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from momentary.data.workspace import Workspace
from momentary.encoders.store import FILE
from momentary.errors import ArtifactError, MomentaryError
from momentary.models.artifact import PREVIOUS, PROD, Bundle, ModelStore, read_manifest
from momentary.models.graphs import with_saved_graph
from momentary.recommend.assembly import assemble
from momentary.recommend.assortment import Assortment
from momentary.recommend.pipeline import Recommender
from momentary.serving.engine import Engine
from momentary.serving.problems import Problem
from momentary.settings import IndexChoice
from momentary.types import ItemTable, Sessions

_LOGGER = logging.getLogger(__name__)
ALIASES = (PROD, "candidate")
"""The names that can be given to a version by hand; `previous` follows `prod`."""


class ModelOut(msgspec.Struct, frozen=True, kw_only=True):
    """One saved model.

    Attributes:
        kind: Such as `gru4rec`.
        created: When it was saved, ISO 8601.
        aliases: `prod` answers, `previous` did before it, `candidate` waits.
        at_work: Whether it answers now.
        facts: Data, sizes and times of the training.
    """

    version: str
    kind: str
    created: str
    aliases: tuple[str, ...]
    at_work: bool
    facts: Mapping[str, Any]


class ModelsOut(msgspec.Struct, frozen=True, kw_only=True):
    """Every saved model, oldest first."""

    models: list[ModelOut]


class AliasIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version an alias means from now on; `previous` takes the last change back."""

    version: str


def load_first(store: ModelStore, names: Sequence[str], index: IndexChoice = "auto") -> Bundle:
    """The first of some models that can be loaded; the others are named in the log.

    Args:
        store: Where they are.
        names: Versions or aliases.
        index: Whether its graph is loaded, too.

    Raises:
        ArtifactError: Of the first, if none can.
        SettingsError: `index` asks for a graph, and its extra is missing.
    """
    first: ArtifactError | None = None
    for name in names:
        try:
            bundle = store.load(name)
        except ArtifactError as error:
            first = first or error
            _LOGGER.warning("model %s cannot be loaded: %s", name, error)
        else:
            if first is not None:
                _LOGGER.warning("model %s answers instead", bundle.version)
            return with_saved_graph(bundle, store.root / bundle.version, index)
    raise first or ArtifactError("There is no model; run: momentary train")


def last_good(store: ModelStore, index: IndexChoice = "auto") -> Bundle:
    """The promoted model; if it is damaged the one before it, then the newest that is whole."""
    older = [version for version in reversed(store.versions())]
    before = [PREVIOUS] if PREVIOUS in store.aliases() else []
    return load_first(store, [PROD, *before, *older], index)


def at_work(bundle: Bundle, table: ItemTable) -> tuple[Recommender, Recommender]:
    """The recommender of a bundle and its fallback, both warm: no visitor waits for a compiler."""
    recommender = assemble(bundle, table)
    fallback = assemble(bundle, table, role="fallback")
    for each in (recommender, fallback):
        each.recommend(Sessions.from_lists([[], [0]]), k=min(20, len(bundle.items)))
    return recommender, fallback


def assortment_at_work(
    bundle: Bundle, workspace: Workspace
) -> tuple[Assortment, Recommender, Recommender]:
    """What a bundle and the workspace's content make together, warm; see `at_work`."""
    assortment = Assortment.read(bundle, workspace.catalog, workspace.root / FILE)
    whole = assortment.extended()
    table = workspace.catalog.table(whole.items.ids)
    recommender = assortment.recommender(table, bundle=whole)
    fallback = assortment.recommender(table, bundle=whole, role="fallback")
    for each in (recommender, fallback):
        each.recommend(Sessions.from_lists([[], [0]]), k=min(20, len(whole.items)))
    return assortment, recommender, fallback


class Models:
    """Lists, promotes and takes back models while the service answers.

    Args:
        store: Where they are saved.
        engine: Puts one to work.
        workspace: Whose catalogue and content it works with.
        index: How its items are searched.
        adopt: Told what the model at work and the content make together.
    """

    def __init__(
        self,
        store: ModelStore,
        engine: Engine,
        *,
        workspace: Workspace,
        index: IndexChoice = "auto",
        adopt: Callable[[Assortment], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._index = index
        self._engine = engine
        self._workspace = workspace
        self._adopt = adopt
        self._changing = asyncio.Lock()

    def listed(self) -> ModelsOut:
        """Every saved model that can be read."""
        aliases = self._store.aliases()
        found = []
        for version in self._store.versions():
            try:
                manifest = read_manifest(self._store.root / version)
            except ArtifactError as error:
                _LOGGER.warning("a saved model is left out of the list: %s", error)
                continue
            found.append(
                ModelOut(
                    version=version,
                    kind=manifest.scorers["main"].kind,
                    created=manifest.created,
                    aliases=tuple(sorted(name for name, of in aliases.items() if of == version)),
                    at_work=version == self._engine.model_version,
                    facts=manifest.facts,
                )
            )
        return ModelsOut(models=found)

    async def assign(self, alias: str, name: str) -> ModelsOut:
        """Let an alias mean another version; with `prod`, that version answers from the next tick.

        The model is read, checked and tried in a thread before anything changes.

        Raises:
            Problem: 404 for an unknown alias or version, 409 if it cannot be loaded.
        """
        if alias not in ALIASES:
            raise Problem(404, f"There is no alias {alias!r}; use {' or '.join(ALIASES)}.")
        async with self._changing:
            version = self._store.aliases().get(name, name)
            if version not in self._store.versions():
                detail = f"There is no model {name!r}; GET /v1/models lists them."
                raise Problem(404, detail, field="version")
            try:
                if alias == PROD:
                    await self._bring(version)
                self._store.promote(version, alias=alias)
            except MomentaryError as error:
                detail = f"{error} The model at work goes on answering."
                raise Problem(409, detail, field="version") from None
        return self.listed()

    async def follow(self) -> None:
        """Put to work what another worker of the service promoted, if it is not there already."""
        async with self._changing:
            version = self._store.aliases().get(PROD)
            if version is not None and version != self._engine.model_version:
                await self._bring(version)

    async def _bring(self, version: str) -> None:
        """Read a model, try it, and let it answer from the next tick on."""
        assortment, recommender, fallback = await asyncio.to_thread(self._read, version)
        # The catalogue may have changed while the model was read; these are its latest facts.
        table = self._workspace.catalog.table(list(recommender.items.ids))
        self._engine.swap(
            recommender.with_table(table),
            model_version=version,
            fallback=fallback.with_table(table),
        )
        self._adopt(assortment)

    def _read(self, version: str) -> tuple[Assortment, Recommender, Recommender]:
        bundle = self._store.load(version)
        bundle = with_saved_graph(bundle, self._store.root / version, self._index)
        return assortment_at_work(bundle, self._workspace)
