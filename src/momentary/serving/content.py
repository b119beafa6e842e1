"""New items in a running service: seen, placed, compared, and moved as clicks arrive."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from momentary.data.item_vectors import Kept
from momentary.data.workspace import Workspace
from momentary.encoders.defaults import models_of
from momentary.encoders.media import MediaLimits
from momentary.encoders.protocol import MODALITIES, Modality
from momentary.encoders.store import FILE, VectorStore
from momentary.encoders.text import item_text
from momentary.errors import DataError, MomentaryError, StorageError
from momentary.recommend.alike import items_like
from momentary.recommend.assortment import Assortment
from momentary.recommend.finding import MEANINGLESS, found_by_content
from momentary.recommend.pipeline import Recommender
from momentary.recommend.rules import Rules
from momentary.recommend.tables import joined
from momentary.recommend.walks import Walk, Walked, walk
from momentary.serving.company import CompanyBook, CountedLog
from momentary.serving.engine import Engine
from momentary.serving.looking import Looker, Seen
from momentary.serving.problems import Problem
from momentary.serving.schemas import Likeness
from momentary.settings import ServeSettings
from momentary.types import Event, FloatArray, Item, Recommendation

_LOGGER = logging.getLogger(__name__)
_NO_GRAPH = "The model's graph is not at work, so lists come from the exact search."
_WAIT_S = 0.9
_MOST_WAITING = 32
MOST_SENT_BYTES = 64_000_000
"""Of pictures and sounds that wait to be looked at; one that is larger waits alone."""

_GATHER_S = 0.3
_REMEMBERED_US = 90 * 86_400 * 1_000_000
_VIEWS: Mapping[Modality, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("image", "colour"),
    "audio": ("music", "sound", "timbre"),
    "video": ("film",),
}


class ItemContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the service has seen of an item.

    Attributes:
        state: `pending` while it is being looked at.
        views: What items are compared by that this one has.
        placed: Whether the model recommends it by its content.
        visits: Visits with it since the model was trained, if it is new to the model.
        set_aside: Why a text, a picture, a sound or a film could not be used.
    """

    item_id: str
    state: Literal["pending", "ready"]
    views: tuple[str, ...]
    placed: bool
    visits: int
    set_aside: Mapping[str, str]


class LiveContent:
    """The content side of one service.

    Args:
        engine: Answers with what is placed here.
        workspace: Where items and vectors are.
        assortment: What the model and the encoders know; None where nothing is encoded.
        settings: What may be read.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        assortment: Assortment | None,
        *,
        settings: ServeSettings,
    ) -> None:
        self._engine = engine
        self._workspace = workspace
        self._settings = settings
        limits = MediaLimits(
            folders=tuple(Path(each) for each in settings.media_folders),
            urls=settings.media_urls,
            max_bytes=settings.max_media_bytes,
        )
        # Texts have a process of their own: a search by meaning waits for no hostile file.
        self._looker, self._reader = Looker(limits), Looker(limits)
        self._lock = threading.Lock()
        self._applying = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: dict[str, int] = {}
        self._aside: dict[str, dict[str, str]] = {}
        self._revisions: dict[str, int] = {}
        self.behind = True
        """Whether vectors in the database may be unknown here, however old they are."""
        self._stale = False
        self._sent_bytes = 0
        self._coming: set[object] = set()
        self._later: asyncio.TimerHandle | None = None
        self.placed: Callable[[str], Awaitable[None]] | None = None
        """Told of every item that was looked at, so that the other workers may follow."""
        self._assortment: Assortment | None = None
        self._counted: CountedLog | None = None
        self._counting = asyncio.Lock()
        self.adopt(assortment)

    @property
    def on(self) -> bool:
        """Whether anything is compared by content."""
        return self._assortment is not None and self._assortment.index is not None

    def notes(self) -> tuple[str, ...]:
        """What the model at work lacks."""
        lacks = self._assortment is not None and self._assortment.bundle.graph_note
        return (_NO_GRAPH,) if lacks else ()

    def adopt(self, assortment: Assortment | None) -> None:
        """Go on with what another model knows."""
        self._assortment = assortment
        # What was looked at while its content was read, it lacks.
        self._revisions = {}
        self.behind = True
        if assortment is not None and assortment.trouble:
            _LOGGER.warning("%s", assortment.trouble)
        models = {} if assortment is None else models_of(assortment.encoders)
        self._looker.models = self._reader.models = models
        self._counted = self._uncounted()
        self._engine.watcher = self if self._counted is not None else None

    def start(self) -> None:
        """Load the encoders, and count what is in the log, while requests are answered already."""
        if self.on:
            self._spawn(self._begin())

    def close(self) -> None:
        """Stop looking."""
        if self._later is not None:
            self._later.cancel()
        for task in self._tasks:
            task.cancel()
        self._looker.close()
        self._reader.close()

    def recorded(self, events: Sequence[Event]) -> None:
        """Events are on the disk; new items among them move soon."""
        counted = self._counted
        if counted is None or self._later is not None:
            return
        if any(counted.book.concerns(event) for event in events):
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(_GATHER_S, self._gathered)

    def forgotten(self) -> None:
        """A person was erased: what they chose beside new items is counted anew."""
        self._spawn(self._recount())

    async def count(self) -> None:
        """Count what any process appended to the log since, and move the new items it concerns.

        Raises:
            StorageError: If the log cannot be read.
        """
        async with self._counting:
            counted = self._counted
            if counted is None:
                return
            last = self._engine.last_logged()
            if last == counted.read:
                return
            if 0 < counted.read < last:
                news = await asyncio.to_thread(lambda: list(counted.news()))
                changed = counted is self._counted and counted.count(news, until=last)
            else:
                changed = await self._count_all()
        if changed:
            self._stale = True
            await self._apply()

    @contextmanager
    def room(self) -> Iterator[object]:
        """Keep a place for one more item to look at, before anything is written of it.

        Raises:
            Problem: 429 while many are being looked at.
        """
        waiting = len(self._coming) + sum(1 for task in self._tasks if not task.done())
        if waiting >= _MOST_WAITING:
            detail = f"{waiting} items are being looked at; put this one again in a moment."
            raise Problem(429, detail, headers=((b"retry-after", b"1"),))
        place = object()
        self._coming.add(place)
        try:
            yield place
        finally:
            self._coming.discard(place)

    async def put(self, item: Item, looked: Mapping[Modality, Seen], *, place: object) -> None:
        """Look at an item; returns when it is placed, or after a second while it is looked at.

        Args:
            item: Which; the catalogue knows it already.
            looked: What was sent with it and looked at already.
            place: From `room`.
        """
        if not self.on:
            return
        self._coming.discard(place)  # the task stands for it now
        turn = self._turns[item.item_id] = self._turns.get(item.item_id, 0) + 1
        task = self._spawn(self._take_in(item, looked, turn=turn), name=f"item {item.item_id}")
        await asyncio.wait([task], timeout=_WAIT_S)

    async def delete(self, item_id: str) -> None:
        """Let an item be like nothing."""
        assortment = self._assortment
        if not self.on or assortment is None:
            return
        self._turns[item_id] = self._turns.get(item_id, 0) + 1
        self._aside.pop(item_id, None)
        await asyncio.to_thread(self._drop, assortment, item_id)

    async def forget(self, item_id: str) -> None:
        """Follow another worker that deleted an item."""
        assortment = self._assortment
        if assortment is not None:
            await asyncio.to_thread(self._remove, assortment, item_id)

    async def follow(self, item: Item) -> None:
        """Follow another worker that looked at an item: its vectors are there already."""
        if not self.on:
            return
        await self._settle(partial(self._fetch, item=item))
        await self._apply()

    async def receive(self, changed: Mapping[str, int]) -> None:
        """Follow another machine that looked at items: its vectors are in the database.

        Args:
            changed: The revision of each item's vectors.

        Raises:
            StorageError: If the database does not answer.
        """
        assortment = self._assortment
        if assortment is None or not self.on:
            return
        known = self._revisions
        news = [
            item_id
            for item_id, revision in changed.items()
            if revision > known.get(item_id, 0) and not assortment.knew(item_id, revision=revision)
        ]
        try:
            for item_id in news:
                await self._take(item_id, revision=changed[item_id])
        finally:
            # What could not be read comes again; what was taken in need not wait for it.
            await self._apply()

    async def see(self, modality: Modality, content: bytes, *, field: str) -> Seen:
        """What the encoders say of something that was sent.

        Raises:
            Problem: 422 if it cannot be used, or nothing is compared by content; 429 while what
                was sent before fills the memory that there is for it.
        """
        if not self.on:
            detail = (
                "This service compares nothing by content: run momentary encode, then momentary "
                "train, and start it again."
            )
            raise Problem(422, detail, field=field)
        size = len(content)
        if self._sent_bytes and self._sent_bytes + size > MOST_SENT_BYTES:
            detail = f"{self._sent_bytes} bytes wait to be looked at; send {field} again later."
            raise Problem(429, detail, field=field, headers=((b"retry-after", b"1"),))
        self._sent_bytes += size
        try:
            seen = await self._look(modality, content)
        finally:
            self._sent_bytes -= size
        if seen.reason:
            raise Problem(422, f"{field} cannot be used: {seen.reason}", field=field)
        return seen

    def likeness(self, wanted: Likeness, views: Iterable[str]) -> Literal["learned", "plain"]:
        """How what has these views is compared.

        Raises:
            Problem: 422 if it shall be by what was learned, and that cannot be.
        """
        index = None if self._assortment is None else self._assortment.index
        learned = None if index is None else index.learned
        usable = learned is not None and bool(learned.model.centers.keys() & set(views))
        if wanted == "learned" and not usable:
            if learned is not None:
                detail = f"What was learned reads {', '.join(learned.model.centers)}, not this."
            elif self._assortment is not None and self._assortment.trouble:
                detail = f"{self._assortment.trouble}, then start the service again."
            else:
                detail = (
                    "No likeness was learned: run momentary train-likeness, then start the service "
                    "again."
                )
            raise Problem(422, detail, field="likeness")
        return "learned" if usable and wanted != "plain" else "plain"

    async def like_this(
        self, seen: Seen, *, k: int, field: str, plain: bool = False
    ) -> list[Recommendation]:
        """Items like something that was sent; `plain` leaves out what was learned."""
        assortment = self._assortment
        query = {name: vector for name, (_, vector) in self._comparable(seen).items()}

        def search() -> list[Recommendation]:
            if assortment is None or assortment.index is None:
                return []
            with self._lock:
                return found_by_content(assortment.index, query, k=2 * k, plain=plain)

        try:
            return await asyncio.to_thread(search)
        except DataError as error:
            raise Problem(422, str(error), field=field) from None

    async def by_meaning(self, text: str, *, k: int, plain: bool = False) -> list[str]:
        """Ids of items that mean what a text means; none where no sentence encoder is at work."""
        assortment = self._assortment
        version = None if assortment is None else assortment.encoders.get("text")
        if assortment is None or version is None or version.startswith(MEANINGLESS):
            return []
        seen = await self._look("text", text.encode())
        query = {name: vector for name, (_, vector) in self._comparable(seen).items()}

        def search() -> list[str]:
            if assortment.index is None or not query:
                return []
            with self._lock:
                found = assortment.index.search(query, k, plain=plain)
                return [each.item_id for each in found]

        return await asyncio.to_thread(search)

    async def similar(
        self, item_id: str, *, k: int, rules: Rules, plain: bool = False, by: str | None = None
    ) -> list[Recommendation]:
        """Items like one: by visits where there are many, by content where there are few.

        `plain` leaves out of the content what was learned; `by` names a view that counts alone.

        Raises:
            DataError: If nothing is known of the item, or a rule names an unknown attribute.
        """
        assortment, recommender = self._assortment, self._engine.recommender

        def find() -> list[Recommendation]:
            with self._lock:
                return items_like(
                    item_id,
                    recommender=recommender,
                    index=None if assortment is None else assortment.index,
                    facts=self._workspace.catalog.table,
                    k=k,
                    rules=rules,
                    plain=plain,
                    by=by,
                )

        return await asyncio.to_thread(find)

    async def walk(self, wanted: Walk) -> Walked:
        """Make a playlist.

        Raises:
            DataError: If it cannot be made.
        """
        assortment = self._assortment

        def make() -> Walked:
            if assortment is None or assortment.index is None:
                raise DataError("nothing is encoded yet; run momentary encode and start again.")
            with self._lock:
                return walk(assortment.index, wanted, facts=self._workspace.catalog.table)

        return await asyncio.to_thread(make)

    def has(self, item_id: str) -> bool:
        """Whether an item can be compared by content."""
        assortment = self._assortment
        return (
            assortment is not None
            and assortment.index is not None
            and (item_id in assortment.index)
        )

    def parts_of(self, item_id: str) -> list[str]:
        """What an item that `has` content can be compared by, its attributes among it."""
        assortment = self._assortment
        if assortment is None or assortment.index is None or item_id not in assortment.index:
            return []
        return assortment.index.parts_of(item_id)

    def of_item(self, item_id: str) -> ItemContent:
        """What is known of an item's content."""
        assortment, counted = self._assortment, self._counted
        views: tuple[str, ...] = ()
        placed = False
        if assortment is not None and assortment.index is not None:
            if item_id in assortment.index:
                parts = assortment.index.views_of(item_id)
                views = tuple(sorted(parts))
            placed = assortment.placed is not None and item_id in assortment.placed
        company = None if counted is None else counted.book.companies.get(item_id)
        names = {task.get_name() for task in self._tasks if not task.done()}
        return ItemContent(
            item_id=item_id,
            state="pending" if f"item {item_id}" in names else "ready",
            views=views,
            placed=placed and self._engine.recommender.items.index(item_id) >= 0,
            visits=0 if company is None else company.visits,
            set_aside=self._aside.get(item_id, {}),
        )

    async def _begin(self) -> None:
        await self._recount()
        if self._settings.workers > 1:
            return  # each would hold the encoders; they load when something is to be looked at
        encoders = {} if self._assortment is None else self._assortment.encoders
        wanted = [each for each in MODALITIES if set(_VIEWS[each]) & set(encoders)]
        await self._reader.warm([each for each in wanted if each == "text"])
        await self._looker.warm([each for each in wanted if each != "text"])

    async def _look(self, modality: Modality, source: str | bytes) -> Seen:
        looker = self._reader if modality == "text" else self._looker
        return await looker.look(modality, source)

    async def _recount(self) -> None:
        """Count the company of new items anew, from the log's last months."""
        async with self._counting:
            changed = await self._count_all()
        if changed:
            self._stale = True
            await self._apply()

    async def _count_all(self) -> bool:
        """Count everything in a thread; False if another model came to work meanwhile."""
        assortment, counted = self._assortment, self._uncounted()
        if counted is None:
            return False
        last = self._engine.last_logged()
        await asyncio.to_thread(lambda: counted.count(counted.news(), until=last))
        if assortment is not self._assortment:
            return False
        self._counted = counted
        return True

    def _uncounted(self) -> CountedLog | None:
        assortment = self._assortment
        if assortment is None or assortment.placed is None:
            return None
        book = CompanyBook(assortment.bundle.items, idle_us=self._settings.idle_s * 1_000_000)
        start_us = self._engine.now_us() - _REMEMBERED_US
        logged = partial(self._engine.logged, start_us=start_us)
        return CountedLog(book, logged, ordered=self._engine.ordered)

    async def _take_in(self, item: Item, looked: Mapping[Modality, Seen], *, turn: int) -> None:
        seen: dict[Modality, Seen] = {}
        for modality, source in _sources(item):
            seen[modality] = looked.get(modality) or await self._look(modality, source)
        seen |= looked
        if self._turns.get(item.item_id) != turn:
            return  # it was put again, or deleted, in the meantime
        self._aside[item.item_id] = {
            modality: each.reason for modality, each in seen.items() if each.reason
        }

        def keep(assortment: Assortment) -> bool:
            return self._keep(assortment, item, seen=seen, found=self._views_in(seen))

        try:
            await self._settle(keep)
        except MomentaryError:
            _LOGGER.exception("item %r could not be placed", item.item_id)
            return
        await self._apply()
        if self.placed is not None:
            await self.placed(item.item_id)

    def _views_in(self, seen: Mapping[Modality, Seen]) -> dict[str, tuple[str, FloatArray]]:
        found: dict[str, tuple[str, FloatArray]] = {}
        for modality in ("video", "audio", "image", "text"):
            if modality in seen:  # an item's own sound wins over that of its film
                found |= self._comparable(seen[modality])
        return found

    def _comparable(self, seen: Seen) -> dict[str, tuple[str, FloatArray]]:
        """What compares with the vectors at work; a view that nobody has yet begins here."""
        encoders = {} if self._assortment is None else self._assortment.encoders
        return {
            name: (version, vector)
            for name, (version, vector) in seen.vectors.items()
            if encoders.get(name, version) == version
        }

    def _keep(
        self,
        assortment: Assortment,
        item: Item,
        *,
        seen: Mapping[Modality, Seen],
        found: Mapping[str, tuple[str, FloatArray]],
    ) -> bool:
        digests = {
            name: each.digest for each in seen.values() for name in each.vectors if each.digest
        }
        kept = {
            name: Kept(version, digests[name], np.asarray(vector, dtype="<f4").tobytes())
            for name, (version, vector) in found.items()
        }
        self._store(item.item_id, kept)
        revision = 0
        try:
            revision = self._workspace.item_vectors.put(item.item_id, kept)
        except DataError:
            _LOGGER.exception("other machines do not hear of item %r", item.item_id)
        row = self._workspace.catalog.table([item.item_id])
        with self._lock:
            placed = assortment.put(item, {name: each for name, (_, each) in found.items()}, row)
        self._know(item.item_id, revision)
        return placed

    def _store(self, item_id: str, kept: Mapping[str, Kept]) -> None:
        """Let an item have these vectors, and no others, on this machine."""
        with VectorStore(self._workspace.root / FILE) as store:
            known = store.views()
            for view, each in kept.items():
                if view not in known:
                    store.use(view, each.encoder)
            # At once: other workers read it.
            store.replace(
                item_id,
                [
                    (each.encoder, each.content, np.frombuffer(each.vector, dtype="<f4"))
                    for each in kept.values()
                ],
            )

    async def _settle(self, work: Callable[[Assortment], bool]) -> None:
        """Do something to the content in a thread, and again if another model came meanwhile."""
        while (assortment := self._assortment) is not None:
            if await asyncio.to_thread(work, assortment):
                self._stale = True
            if assortment is self._assortment:
                return

    async def _take(self, item_id: str, *, revision: int) -> None:
        """Take in one item of another machine, unless something is wrong with it for good.

        Raises:
            StorageError: If a database does not answer; the item is tried again.
        """
        try:
            await self._settle(partial(self._receive, item_id=item_id))
        except StorageError:
            raise
        except sqlite3.OperationalError as error:
            detail = f"the file of vectors takes nothing now ({error}); see to its disk."
            raise StorageError(detail) from error
        except Exception:
            # One bad item must not stand before all that comes after it.
            _LOGGER.exception("item %r of another machine cannot be placed", item_id)
            self._know(item_id, revision)

    def _receive(self, assortment: Assortment, item_id: str) -> bool:
        """Take in what another machine saw of an item; True if it is placed."""
        revision, kept = self._workspace.item_vectors.of(item_id)
        item = self._workspace.catalog.get(item_id)
        encoders = assortment.encoders
        mine = {
            view: each
            for view, each in kept.items()
            if encoders.get(view, each.encoder) == each.encoder
        }
        placed = False
        if item is not None:
            self._store(item_id, mine)
            row = self._workspace.catalog.table([item_id])
            vectors = {
                view: np.frombuffer(each.vector, dtype="<f4").astype(np.float32)
                for view, each in mine.items()
            }
            with self._lock:
                placed = assortment.put(item, vectors, row)
        self._know(item_id, revision)
        return placed

    def _drop(self, assortment: Assortment, item_id: str) -> None:
        with VectorStore(self._workspace.root / FILE) as store:
            store.forget(item_id)
        try:
            self._workspace.item_vectors.delete(item_id)
        except DataError:
            # Whoever reads them sees that the catalogue has deleted the item.
            _LOGGER.exception("the vectors of item %r stay in the database", item_id)
        self._remove(assortment, item_id)

    def _remove(self, assortment: Assortment, item_id: str) -> None:
        with self._lock:
            assortment.remove(item_id)

    def _fetch(self, assortment: Assortment, item: Item) -> bool:
        """Take in an item whose vectors are kept; True if it is placed."""
        encoders, found = assortment.encoders, dict[str, FloatArray]()
        # Read first: what another machine writes meanwhile is not known here.
        revision = self._workspace.item_vectors.of(item.item_id)[0]
        with VectorStore(self._workspace.root / FILE) as store:
            for name, version in store.views().items():
                vectors, there = store.read(version, [item.item_id])
                if there[0] and encoders.get(name, version) == version:
                    found[name] = vectors[0]
        row = self._workspace.catalog.table([item.item_id])
        with self._lock:
            placed = assortment.put(item, found, row)
        self._know(item.item_id, revision)
        return placed

    def _know(self, item_id: str, revision: int) -> None:
        """Note what is taken in, once it is: what fails before comes again."""
        self._revisions[item_id] = max(revision, self._revisions.get(item_id, 0))

    def _gathered(self) -> None:
        self._later = None
        self._spawn(self.count())

    async def _apply(self) -> None:
        """Let the next answers know where the new items stand now."""
        async with self._applying:
            assortment = self._assortment
            if not self._stale or assortment is None or assortment.placed is None:
                return
            self._stale = False
            version, table = self._engine.model_version, self._engine.recommender.table
            counted = self._counted
            companies = {} if counted is None else dict(counted.book.companies)
            assortment.set_company(
                {
                    item_id: replace(each, beside=dict(each.beside))
                    for item_id, each in companies.items()
                    if item_id in assortment.placed
                }
            )

            def make() -> tuple[Recommender, Recommender]:
                with self._lock:
                    bundle = assortment.extended()
                    more = self._workspace.catalog.table(bundle.items.ids[len(table) :])
                    whole = joined(table, more)
                    return (
                        assortment.recommender(whole, bundle=bundle),
                        assortment.recommender(whole, bundle=bundle, role="fallback"),
                    )

            try:
                recommender, fallback = await asyncio.to_thread(make)
            except BaseException:
                self._stale = True  # the next time brings it
                raise
            if self._engine.model_version != version or assortment is not self._assortment:
                return
            now = self._engine.recommender.table
            if now is not table:  # an item's facts changed in the meantime
                ids = recommender.items.ids[len(now) :]
                whole = joined(now, self._workspace.catalog.table(ids))
                recommender, fallback = recommender.with_table(whole), fallback.with_table(whole)
            self._engine.extend(recommender, fallback=fallback)

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str = "") -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOGGER.error("content work failed", exc_info=task.exception())


def _sources(item: Item) -> list[tuple[Modality, str | bytes]]:
    """What an item gives to look at."""
    found: list[tuple[Modality, str | bytes]] = []
    text = item_text(item)
    if text:
        found.append(("text", text.encode()))
    if item.image:
        found.append(("image", item.image))
    if item.audio:
        found.append(("audio", item.audio))
    if item.video:
        found.append(("video", item.video))
    return found
