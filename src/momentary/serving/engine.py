"""What waits in one tick of the event loop is answered together: one product, one commit."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from momentary.data.events import Erased, EventLog, Exposure, new_ids
from momentary.errors import StorageError
from momentary.recommend.pipeline import Recommender
from momentary.serving.log_visits import LogVisits
from momentary.serving.measures import Measures
from momentary.serving.problems import Problem
from momentary.serving.ranking import Ranked, Ranking, Wish
from momentary.serving.returning import stitched, under_way
from momentary.serving.schemas import Answer, EventsOut, ItemOut
from momentary.serving.state import ID_COLUMNS, Key, LiveSessions, Visit, clicked
from momentary.serving.visits import open_visits
from momentary.settings import ServeSettings
from momentary.types import INTEREST_TYPES, Event, FloatArray, ItemTable, Recommendation

if TYPE_CHECKING:
    from momentary.serving.team import Turn

_LOGGER = logging.getLogger(__name__)
_MOST_AT_ONCE = 64


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a list, and what for.

    Attributes:
        ids: The ids that were given, by column.
        basket: Item ids that count as clicked in this answer only.
    """

    ids: dict[str, str]
    wish: Wish
    basket: Sequence[str] = ()

    @property
    def key(self) -> Key | None:
        """The name of the visit; None for a stranger."""
        return next(iter(self.keys), None)

    @property
    def keys(self) -> list[Key]:
        """Every name of the visit and of the visitor."""
        return [(column, self.ids[column]) for column in ID_COLUMNS if column in self.ids]


Outcome = tuple[EventsOut, Answer | None]
"""What became of the events of a request, and the answer to its question if it asked one."""


class Waiting(Protocol):
    """Who waits for an outcome, on the event loop: a future, or what takes it as one does."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: Outcome, /) -> None:
        """The events are on the disk; it must not raise."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """The request is refused with a Problem; it must not raise."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    done: Waiting
    events: Sequence[Event]
    question: Question | None = None
    ranked: Ranked | None = None
    listed: tuple[str, ...] = ()
    recommendation_id: str = ""


class Watcher(Protocol):
    """Told of what happens, on the event loop; it must be quick and must not raise."""

    def recorded(self, events: Sequence[Event]) -> None:
        """Events are on the disk that were not there before."""
        ...

    def forgotten(self) -> None:
        """Somebody was erased from the log."""
        ...


class Engine:
    """Records events and answers questions, for one event loop.

    Within a tick all events count before any question is answered. The events and the exposures
    of a tick are committed together, and nothing is answered before that. If the commit fails,
    no event has happened. `measures` counts the engine's work.

    Args:
        recommender: The model at work.
        log: Where events and exposures go; `close` closes it.
        model_version: Names the model in answers and exposures.
        fallback: Answers when the model fails.
        settings: Limits of the live state.
        clock_us: The time now, in microseconds since 1970.
    """

    def __init__(
        self,
        recommender: Recommender,
        log: EventLog,
        *,
        model_version: str,
        fallback: Recommender | None,
        settings: ServeSettings,
        clock_us: Callable[[], int],
    ) -> None:
        self._log = log
        self.measures = Measures()
        self._clock_us = clock_us
        self._settings = settings
        self._jobs: list[_Job] = []
        self.watcher: Watcher | None = None
        self._writable = True
        self._ranking = self._ranked_by(recommender, fallback, model_version=model_version)
        self._shelf = _shelf(model_version, recommender)
        self._visits = open_visits(
            settings,
            items=recommender.items,
            version=self._shelf,
            history=self._history,
            identity=log.identity,
            remembers=self._ranking.remembers,
        )
        self._know_items()
        self.measures.model.labels(model_version).set(1)

    def share(self, turn: Turn) -> None:
        """Reckon with other processes that write the same log; called before the first request.

        Args:
            turn: Held while the log is written.
        """
        # Redis has its own way of keeping processes equal.
        if isinstance(self._visits, LiveSessions):
            self._visits = LogVisits(self._visits, self._log, turn=turn)

    @property
    def recommender(self) -> Recommender:
        """The model at work."""
        return self._ranking.recommender

    @property
    def model_version(self) -> str:
        """The name of the model at work."""
        return self._ranking.model_version

    def writable(self) -> bool:
        """Whether the log takes writes; after it refused one, by trying."""
        if not self._writable:
            try:
                self._log.check()
            except StorageError:
                return False
            self._writable = True
        return True

    def now_us(self) -> int:
        """The time now, in microseconds since 1970."""
        return self._clock_us()

    def swap(
        self, recommender: Recommender, *, model_version: str, fallback: Recommender | None = None
    ) -> None:
        """Put another model to work from the next tick on; no answer mixes the two."""
        self.measures.count_searches(self.recommender.index)
        self._ranking = self._ranked_by(recommender, fallback, model_version=model_version)
        self._shelf = _shelf(model_version, recommender)
        self._visits.switch(
            recommender.items, version=self._shelf, remembers=self._ranking.remembers
        )
        self._know_items()
        self.measures.model.clear()
        self.measures.model.labels(model_version).set(1)

    def extend(self, recommender: Recommender, *, fallback: Recommender) -> None:
        """Let the same model answer over more items, behind those it has, from the next tick on.

        Where no item is new, such as when new ones only moved, visits go on as they are.
        """
        self.measures.count_searches(self.recommender.index)
        before = self.recommender.items
        version = self.model_version
        self._ranking = self._ranked_by(recommender, fallback, model_version=version)
        if recommender.items != before:
            self._shelf = _shelf(version, recommender)
            self._visits.switch(
                recommender.items, version=self._shelf, remembers=self._ranking.remembers
            )
            shown = self._covered
            self._know_items()
            self._covered[: len(shown)] = shown

    def refresh(self, row: ItemTable) -> None:
        """Let the next tick know one item as the catalogue does now: its price, stock, brand.

        Args:
            row: The item's facts: a table of that item alone; nothing happens if the model does
                not know it.
        """
        index = self.recommender.items.index(row.item_ids[0])
        if index >= 0:
            table = self.recommender.table.with_row(index, row)
            self._ranking = self._ranking.with_table(table)

    def retable(self, table: ItemTable) -> None:
        """Let the next tick know all items as the catalogue does now.

        Raises:
            ValueError: If the table holds other items than the model.
        """
        self._ranking = self._ranking.with_table(table)

    def listed(self, item_id: str) -> bool:
        """Whether the model knows an item that the catalogue has not deleted."""
        index, deleted = self.recommender.items.index(item_id), self.recommender.table.deleted
        return index >= 0 and (deleted is None or not deleted[index])

    async def record(self, events: Sequence[Event]) -> EventsOut:
        """Append events; they are on the disk on return.

        Raises:
            Problem: 503 if the log cannot be written; then no event has happened.
        """
        outcome, _ = await self._wait(events, None)
        return outcome

    async def answer(self, question: Question, *, events: Sequence[Event] = ()) -> Answer:
        """Record events, which count at once, and answer.

        Raises:
            Problem: 422 if the rules fit the catalogue not at all, 503 if the log cannot be
                written; then no event has happened.
        """
        _, answer = await self._wait(events, question)
        if answer is None:
            raise RuntimeError("a question was settled without an answer.")
        return answer

    def named(self, recommendations: Iterable[Recommendation]) -> list[ItemOut]:
        """Items as an answer holds them, with the names that the catalogue knows."""
        items, names = self.recommender.items, self.recommender.table.names
        found = []
        for each in recommendations:
            index = items.index(each.item_id)
            found.append(
                ItemOut(
                    item_id=each.item_id,
                    score=each.score,
                    rank=each.rank,
                    reasons=each.reasons,
                    name=names[index] if index >= 0 else None,
                    propensity=each.propensity if each.propensity < 1 else None,
                )
            )
        return found

    async def forget(self, erase: Callable[[EventLog], Erased]) -> Erased:
        """Delete a person from the log, and let go of every visit: any may be the person's.

        Args:
            erase: Given the open log.
        """
        self._flush()
        try:
            self._visits.announce([])
            return erase(self._log)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Read every visit anew: another process may have deleted some of it."""
        self._flush()
        self._visits.clear(self.recommender.items, version=self._shelf)
        self._visits.trim()
        if self.watcher is not None:
            self.watcher.forgotten()

    def last_logged(self) -> int:
        """Number of the newest event in the log, whoever wrote it."""
        return self._log.last()

    @property
    def ordered(self) -> bool:
        """Whether an event that appears in the log later always has a higher number."""
        return self._log.ordered

    def logged(self, after: int, *, start_us: int) -> Iterator[tuple[int, Event]]:
        """Number and event of those with a later number, since a time; from any thread."""
        yield from self._log.arrivals(after, start_us=start_us)

    def counts(self, start_us: int, end_us: int) -> dict[str, int]:
        """Events of interest by item with `start_us` <= time < `end_us`; from any thread."""
        return self._log.counts(start_us=start_us, end_us=end_us, event_types=INTEREST_TYPES)

    def exposure(self, recommendation_id: str) -> Exposure | None:
        """One answer that was given, None if there is none of that name."""
        return self._log.exposure(recommendation_id)

    @property
    def popularity(self) -> FloatArray:
        """What a newcomer is shown where nothing has happened yet. Shape (items,)."""
        return self._ranking.popularity()

    def measure(self) -> bytes:
        """The counters in Prometheus' text format."""
        measures = self.measures
        measures.waiting.set(len(self._jobs))
        measures.visits.set(len(self._visits))
        measures.count_searches(self.recommender.index)
        measures.covered.set(float(self._covered.mean()) if len(self._covered) else 0.0)
        return measures.text()

    def close(self) -> None:
        """Settle what waits and close the log."""
        self._flush()
        self._visits.close()
        self._log.close()

    def _ranked_by(
        self, recommender: Recommender, fallback: Recommender | None, *, model_version: str
    ) -> Ranking:
        return Ranking(
            recommender,
            fallback=fallback,
            model_version=model_version,
            max_history=self._settings.max_history,
        )

    def _history(self, key: Key, limit: int) -> list[Event]:
        column, value = key
        return self._log.history(column, value, limit=limit, event_types=INTEREST_TYPES)

    async def _wait(self, events: Sequence[Event], question: Question | None) -> Outcome:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(events, question, done)
        return await done

    def submit(self, events: Sequence[Event], question: Question | None, done: Waiting) -> None:
        """Record events and answer a question, if there is one, with the next tick.

        Raises:
            Problem: 429 if too many wait; `done` is not told.
        """
        if len(self._jobs) >= self._settings.max_waiting:
            detail = f"{len(self._jobs)} requests wait already; come again in a second."
            raise Problem(429, detail, headers=((b"retry-after", b"1"),))
        if not self._jobs:
            loop = asyncio.get_running_loop()
            # Runs after the requests that this tick has read.
            loop.call_soon(self._flush_when_all_came, loop, 1)
        self._jobs.append(_Job(done=done, events=events, question=question))

    def _flush_when_all_came(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Settle once a turn of the loop has brought no more; a lone request never waits."""
        waiting = len(self._jobs)
        if before < waiting < _MOST_AT_ONCE:
            loop.call_soon(self._flush_when_all_came, loop, waiting)
        else:
            self._flush()

    def _flush(self) -> None:
        jobs, self._jobs = self._jobs, []
        if jobs:
            self.measures.batch.observe(len(jobs))
        try:
            self._settle(jobs)
        except StorageError:
            _LOGGER.exception("the event log failed; %d requests are refused", len(jobs))
            self._writable = False
            detail = "The event log cannot be written; nothing was recorded. Try again later."
            _refuse(jobs, 503, detail, headers=((b"retry-after", b"1"),))
        except Exception:
            _LOGGER.exception("%d requests failed", len(jobs))
            _refuse(jobs, 500, "The server failed and recorded nothing; its log says why.")
        self._visits.trim()

    def _settle(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        stage = self.measures.stage
        asked = (self._read_for(job.question) for job in jobs if job.question is not None)
        with stage.labels("recall").time():
            self._visits.load({key: None for keys in asked for key in keys})
            before = self._visits.record(self._fresh(jobs))
        try:
            with stage.labels("rank").time():
                kept = self._rank(jobs)
            with stage.labels("commit").time():
                added = [] if len(kept) < len(jobs) else self._commit(kept)
        except StorageError:
            # Whether a commit happened may be unknown, so the log is asked again.
            self._visits.forget(before)
            raise
        except BaseException:
            self._visits.restore(before)
            raise
        if len(kept) < len(jobs):
            # A refused request must leave no trace, so the others start again without it.
            self._visits.restore(before)
            self._settle(kept)
            return
        self._resolve(jobs, added)

    def _fresh(self, jobs: Sequence[_Job]) -> list[Event]:
        events: dict[str, Event] = {}
        for job in jobs:
            for event in job.events:
                events.setdefault(event.event_id, event)
        known = self._log.known(list(events)) if events else set()
        return [event for event in events.values() if event.event_id not in known]

    def _rank(self, jobs: Sequence[_Job]) -> list[_Job]:
        """Rank for all questions; the jobs that were not refused."""
        asking = [(job, job.question) for job in jobs if job.question is not None]
        if not asking:
            return list(jobs)
        since_us = self.now_us() - self._settings.idle_s * 1_000_000
        visits = [self._visit(question, since_us=since_us) for _, question in asking]
        wishes = [question.wish for _, question in asking]
        found = self._ranking.answer([visit for visit, _ in visits], wishes)
        refused: set[_Job] = set()
        for (job, question), (_, key), ranked in zip(asking, visits, found, strict=True):
            if isinstance(ranked, Problem):
                refused.add(job)
                if not job.done.done():
                    job.done.set_exception(ranked)
                continue
            job.ranked = ranked
            if key is not None and not question.basket:
                self._visits.put(key, ranked.visit)
        return [job for job in jobs if job not in refused]

    def _read_for(self, question: Question) -> list[Key]:
        """The visits that a question may be about."""
        keys = question.keys
        named = bool(keys) and keys[0][0] == "session_id"
        return keys[:1] if named and not self._ranking.remembers else keys

    def _visit(self, question: Question, *, since_us: int) -> tuple[Visit, Key | None]:
        """What is asked about, and the key under which it may be kept."""
        if self._ranking.remembers:
            visit, key = stitched(
                question.ids, self._visits, knows=self._ranking.knows, since_us=since_us
            )
        else:
            visit, key = under_way(question.keys, self._visits, since_us=since_us)
        if not question.basket:
            return visit, key
        indices = self.recommender.items.indices(question.basket)
        last_us = visit.times_us[-1] if visit.times_us else 0
        clicks = [(index, last_us, -1) for index in indices.tolist() if index >= 0]
        return clicked(visit, clicks, max_seen=self._settings.max_seen), key

    def _commit(self, jobs: Sequence[_Job]) -> list[bool]:
        now_us = self.now_us()
        exposures = []
        names = iter(new_ids(now_us, len(jobs)))
        ids = self.recommender.items.ids
        for job in jobs:
            if job.question is not None and job.ranked is not None:
                job.recommendation_id = next(names)
                job.listed = tuple([ids[item] for item in job.ranked.items])
                exposures.append(self._exposure(job, job.question, job.ranked, now_us=now_us))
        events = [event for job in jobs for event in job.events]
        # Known ones, too: an earlier try may have ended between the commit and its publication.
        self._visits.announce(events)
        added = self._log.append(events, exposures=exposures)
        self._writable = True
        self._visits.publish()
        return added

    def _exposure(self, job: _Job, question: Question, ranked: Ranked, *, now_us: int) -> Exposure:
        chances = ranked.propensities
        return Exposure(
            recommendation_id=job.recommendation_id,
            items=job.listed,
            model_version=self.model_version,
            variant=ranked.variant,
            # An arm that draws no lots gives its list for certain, and a long list of small
            # chances is smaller than any number, but not impossible.
            propensity=1.0 if chances is None else max(math.prod(chances), sys.float_info.min),
            propensities=chances,
            timestamp_us=now_us,
            **question.ids,
        )

    def _resolve(self, jobs: Sequence[_Job], added: list[bool]) -> None:
        start = 0
        self._count(jobs, accepted=sum(added), events=len(added))
        if self.watcher is not None and any(added):
            events = (event for job in jobs for event in job.events)
            new = [event for event, is_new in zip(events, added, strict=True) if is_new]
            self.watcher.recorded(new)
        for job in jobs:
            end = start + len(job.events)
            accepted = sum(added[start:end])
            outcome = EventsOut(accepted=accepted, duplicates=end - start - accepted)
            start = end
            # A request whose client has gone may have been cancelled; its events count.
            if not job.done.done():
                job.done.set_result((outcome, self._answer(job)))

    def _know_items(self) -> None:
        """Begin to count which items of the model are shown."""
        self._cold = self._ranking.cold()
        self._covered = np.zeros(len(self._cold), dtype=np.bool_)

    def _count(self, jobs: Sequence[_Job], *, accepted: int, events: int) -> None:
        self.measures.events.labels("accepted").inc(accepted)
        self.measures.events.labels("duplicate").inc(events - accepted)
        ranked = [job.ranked for job in jobs if job.ranked is not None]
        for variant, count in Counter(each.variant for each in ranked).items():
            self.measures.answers.labels(variant).inc(count)
        shown = np.fromiter(chain.from_iterable(each.items for each in ranked), dtype=np.int64)
        self.measures.shown.inc(len(shown))
        self.measures.cold.inc(int(self._cold[shown].sum()))
        self._covered[shown] = True

    def _answer(self, job: _Job) -> Answer | None:
        ranked = job.ranked
        if ranked is None:
            return None
        names = self.recommender.table.names
        listed = zip(job.listed, ranked.scores, ranked.items, strict=True)
        if ranked.reasons is None and ranked.propensities is None:
            items = [
                ItemOut(item_id=item_id, score=score, rank=rank, reasons=(), name=names[item])
                for rank, (item_id, score, item) in enumerate(listed, 1)
            ]
        else:
            nothing = [()] * len(ranked.items), [1.0] * len(ranked.items)
            said = zip(
                listed, ranked.reasons or nothing[0], ranked.propensities or nothing[1], strict=True
            )
            items = [
                ItemOut(
                    item_id=item_id,
                    score=score,
                    rank=rank,
                    reasons=reasons,
                    name=names[item],
                    propensity=chance if chance < 1 else None,
                )
                for rank, ((item_id, score, item), reasons, chance) in enumerate(said, 1)
            ]
        return Answer(
            recommendation_id=job.recommendation_id,
            model_version=self.model_version,
            variant=ranked.variant,
            items=items,
        )


def _shelf(version: str, recommender: Recommender) -> str:
    """Names a model and the items that its indices mean; other processes may have placed others."""
    ids = "\0".join(recommender.items.ids).encode()
    return f"{version}/{hashlib.blake2b(ids, digest_size=8).hexdigest()}"


def _refuse(
    jobs: Sequence[_Job],
    status: int,
    detail: str,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(Problem(status, detail, headers=headers))
