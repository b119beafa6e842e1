"""The models of a running service: which there are, which one answers, and how that changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from momentary.data.workspace import Workspace
from momentary.encoders.store import FILE
from momentary.errors import ArtifactError, DataError, MomentaryError
from momentary.models.artifact import PREVIOUS, PROD, Bundle, ModelStore, read_manifest
from momentary.models.graphs import with_saved_graph
from momentary.models.promotion import adopt, announce, promote, seen
from momentary.recommend.assembly import assemble
from momentary.recommend.assortment import Assortment
from momentary.recommend.pipeline import Recommender
from momentary.serving.engine import Engine
from momentary.serving.problems import Problem
from momentary.settings import IndexChoice
from momentary.types import ItemTable, Sessions

_LOGGER = logging.getLogger(__name__)
_AGAIN_S = 15.0
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
        writing: Held while this process changes the catalogue.
        index: How its items are searched.
        adopt: Told what the model at work and the content make together.
    """

    def __init__(
        self,
        store: ModelStore,
        engine: Engine,
        *,
        workspace: Workspace,
        writing: asyncio.Lock,
        index: IndexChoice = "auto",
        adopt: Callable[[Assortment], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._index = index
        self._engine = engine
        self._workspace = workspace
        self._writing = writing
        self._adopt = adopt
        self._changing = asyncio.Lock()
        self._again_s = 0.0
        self.notes: tuple[str, ...] = ()
        """What was promoted and is not at work here."""

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
            except MomentaryError as error:
                detail = f"{error} The model at work goes on answering."
                raise Problem(409, detail, field="version") from None
            try:
                await asyncio.to_thread(self._promote, version, alias)
            except ArtifactError as error:
                raise Problem(409, str(error), field="version") from None
            except DataError as error:
                detail = f"Done here, but other machines cannot be told ({error}); ask once more."
                raise Problem(503, detail, headers=((b"retry-after", b"1"),)) from None
        return self.listed()

    async def follow(self, alias: str) -> None:
        """Follow another worker of the service that gave an alias a version.

        A model that is at work already is read again, as that worker did: what stands beside it,
        such as a likeness, may be new.
        """
        async with self._changing:
            version = self._store.aliases().get(PROD)
            if alias == PROD and version is not None:
                await self._bring(version)

    async def catch_up(self) -> None:
        """Follow what other machines promoted, as far as the models are in this one's folder.

        A model that is not here, or cannot be read, is looked for again at every call; the one at
        work goes on answering, and `notes` say so.

        Raises:
            StorageError: If the database does not answer.
            DataError: If it takes nothing.
        """
        # Read in this one's turn: what was read before may have been changed by `assign` or
        # `follow` meanwhile, and would take that back.
        async with self._changing:
            revision, aliases = await asyncio.to_thread(self._workspace.model_aliases.read)
            if revision == 0:
                return
            if revision == await asyncio.to_thread(seen, self._store):
                # What this folder says besides was promoted here since, such as by a script.
                await asyncio.to_thread(self._tell, revision)
                aliases = self._store.aliases()
            version = aliases.get(PROD)
            if version is not None and version != self._engine.model_version:
                await self._try(version)
            else:
                self.notes = ()
            await asyncio.to_thread(self._adopt_aliases)

    async def _try(self, version: str) -> None:
        """Put a model to work that another machine promoted, if it is here."""
        manifest = self._store.root / version / "manifest.json"
        if not await asyncio.to_thread(manifest.is_file):
            self._lacks(version, f"{manifest.parent} does not exist")
            return
        now_s = asyncio.get_running_loop().time()
        if self.notes and now_s < self._again_s:
            return
        self._again_s = now_s + _AGAIN_S
        try:
            await self._bring(version)
        except MomentaryError as error:
            self._lacks(version, str(error))
        else:
            _LOGGER.warning("model %s, promoted elsewhere, answers now", version)
            self.notes = ()

    def _lacks(self, version: str, why: str) -> None:
        note = f"Model {version} was promoted and cannot be loaded here; the one before answers."
        if self.notes != (note,):
            _LOGGER.warning("model %s was promoted elsewhere and is not taken: %s", version, why)
        self.notes = (note,)

    def _promote(self, version: str, alias: str) -> None:
        promote(self._store, version, self._workspace.model_aliases, alias=alias)

    def _adopt_aliases(self) -> None:
        adopt(self._store, self._workspace.model_aliases, prod=self._engine.model_version)

    def _tell(self, known: int) -> None:
        announce(self._store, self._workspace.model_aliases, known=known)

    async def _bring(self, version: str) -> None:
        """Read a model, try it, and let it answer from the next tick on."""
        assortment, recommender, fallback = await asyncio.to_thread(self._read, version)
        ids = list(recommender.items.ids)
        # The catalogue may have changed while the model was read; these are its latest facts, and
        # no other come between them and the model.
        async with self._writing:
            table = await asyncio.to_thread(self._workspace.catalog.table, ids)
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
