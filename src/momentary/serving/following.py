"""What other processes change in the shop's database, followed within a second.

The workers of one service tell each other at once (`team`); a service on another machine, or a
command, knows of none of them. So every process looks at the numbers of the revisions twice a
second, in a thread, and reads what is new: items and their facts, the vectors of items that were
looked at elsewhere, which model answers, and what visitors chose beside new items. Where a person
was erased, the visits in memory are let go of. While the database is silent, everything goes on as
it is.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from momentary.data import erasure, item_vectors, model_aliases
from momentary.data.catalog import ITEMS, Changes
from momentary.data.workspace import Workspace
from momentary.errors import MomentaryError
from momentary.serving.content import LiveContent
from momentary.serving.discovery import Discovery
from momentary.serving.engine import Engine
from momentary.serving.models import Models
from momentary.types import ItemTable

_LOGGER = logging.getLogger(__name__)
_LOOK_S = 0.5
_ONE_BY_ONE = 50


class Following:
    """Follows one shop's database for one engine.

    Args:
        engine: Is told of facts.
        workspace: Whose database.
        discovery: Is told of what the search should find.
        content: Is told of vectors.
        models: Are told of promotions.
        writing: Held while this process changes the catalogue, so that no older facts follow.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        *,
        discovery: Discovery,
        content: LiveContent,
        models: Models,
        writing: asyncio.Lock,
    ) -> None:
        self._engine = engine
        self._workspace = workspace
        self._discovery = discovery
        self._content = content
        self._models = models
        self._writing = writing
        self._items = engine.recommender.table.revision
        self._vectors = -1
        self._aliases = -1
        self._erasures = -1
        self._silent = False
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow from now on, in the running event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Follow no more."""
        if self._watching is not None:
            self._watching.cancel()

    async def look(self) -> None:
        """Follow what changed since the last look."""
        try:
            now = await asyncio.to_thread(self._workspace.catalog.revisions)
            self._follow_erasures(now.get(erasure.TOPIC, 0))
            await self._follow_items(now.get(ITEMS.name, 0))
            await self._follow_vectors(now.get(item_vectors.TOPIC, 0))
            await self._follow_models(now.get(model_aliases.TOPIC, 0))
            await self._content.count()
        except MomentaryError as error:
            if not self._silent:
                _LOGGER.warning("what other machines change is not followed: %s", error)
            self._silent = True
        else:
            self._silent = False

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look()
            except Exception:
                _LOGGER.exception("what other machines changed could not be followed")

    def _follow_erasures(self, revision: int) -> None:
        """Forget whom another machine erased; what was erased before the first look is not here."""
        if self._erasures not in (-1, revision):
            self._engine.let_go()
        self._erasures = revision

    async def _follow_items(self, revision: int) -> None:
        if self._items < 0:
            self._items = revision  # whoever made the table read it from no catalogue
        if revision == self._items:
            return
        async with self._writing:
            changes = await asyncio.to_thread(
                self._workspace.catalog.changes, self._items, most=_ONE_BY_ONE
            )
            if changes.more:
                changes = await self._follow_all(changes)
            else:
                rows = await asyncio.to_thread(self._rows, changes)
                for item_id, row in rows.items():
                    self._refresh(row)
                    self._discovery.changed(item_id, changes.items[item_id])
            self._items = changes.revision
        for item_id, item in changes.items.items():
            if item is None:
                await self._content.forget(item_id)

    async def _follow_all(self, changes: Changes) -> Changes:
        """Read every item's facts anew: after an import, one by one would take too long."""
        items = self._engine.recommender.items
        table = await asyncio.to_thread(self._workspace.catalog.table, items.ids)
        if self._engine.recommender.items != items:
            # Another model came to work meanwhile: the next look tells it.
            return Changes(revision=self._items, items={}, more=True)
        self._engine.retable(table)
        self._discovery.changed_much()
        gone = () if table.deleted is None else np.flatnonzero(table.deleted).tolist()
        deleted = [items.ids[each] for each in gone if self._content.has(items.ids[each])]
        return changes._replace(items=dict.fromkeys(deleted))

    def _rows(self, changes: Changes) -> dict[str, ItemTable]:
        return {item_id: self._workspace.catalog.table([item_id]) for item_id in changes.items}

    def _refresh(self, row: ItemTable) -> None:
        """Let the engine know an item's facts, unless it does; a new table costs a copy."""
        recommender = self._engine.recommender
        index = recommender.items.index(row.item_ids[0])
        if index >= 0 and not recommender.table.holds(index, row):
            self._engine.refresh(row)

    async def _follow_vectors(self, revision: int) -> None:
        behind = self._content.behind
        if revision == self._vectors and not behind:
            return
        self._content.behind = False  # another model that comes meanwhile says so again
        try:
            since = -1 if behind else self._vectors
            changed = await asyncio.to_thread(self._workspace.item_vectors.since, since)
            await self._content.receive(changed)
        except BaseException:
            self._content.behind |= behind
            raise
        # Those that came while this was read have a later number.
        self._vectors = max([revision, *changed.values()]) if changed else revision

    async def _follow_models(self, revision: int) -> None:
        if revision == self._aliases and not self._models.notes:
            return
        await self._models.catch_up()
        self._aliases = revision
