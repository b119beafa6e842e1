"""Erasing a person: from the live log, the imported segments, the rejects and the staging area.

What a browser or a visit did counts as the person's where it was never anybody else's: a person
who logs in is known by the anonymous id and the session ids of the same events. An id that other
users share keeps the events that are not the person's.

The wish is written down before anything is deleted and struck out at the end, so an erasure that
a crash cut off is finished by `finish_pending`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from momentary.data.catalog import next_revision, writing
from momentary.data.events import Erased, EventLog, new_id
from momentary.data.scratch import scratch
from momentary.data.segments import ORDER, sweep_segments, sync_file, sync_folder
from momentary.data.workspace import (
    KINDS,
    LOCK_WAIT_S,
    SEGMENTS,
    Workspace,
    parquet_sql,
    sql_text,
)

if TYPE_CHECKING:
    import duckdb

TOPIC = "erasures"
"""Has a new revision with each erasure, so that services on other machines forget, too."""

_PENDING = "erasure.pending"
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """The ids that mean one person, and nobody else.

    Attributes:
        user_ids: As the shop names the person.
        anonymous_ids: Browsers that no other user was seen with.
        session_ids: Visits that no other user was seen with.
        event_ids: Of events in segments; `erase` fills them in, because they may tell of somebody.
    """

    user_ids: tuple[str, ...] = ()
    anonymous_ids: tuple[str, ...] = ()
    session_ids: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.user_ids) + len(self.anonymous_ids) + len(self.session_ids)

    def ids(self) -> Iterable[str]:
        """All of them."""
        return (*self.user_ids, *self.anonymous_ids, *self.session_ids)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure did; it does not name the person.

    Attributes:
        receipt_id: To be kept as the proof.
        events: Events that are gone.
        exposures: Answers that are gone.
        segments: Imported files that were written anew.
        rejects: Rows that imports had set aside and that are gone.
        erased_us: When, in microseconds since 1970.
        retrain_by_us: Models that learned from the events must be replaced by then.
        models: Versions that were trained before and are still there.
    """

    receipt_id: str
    events: int
    exposures: int
    segments: int
    rejects: int
    erased_us: int
    retrain_by_us: int
    models: tuple[str, ...]


def person_of(workspace: Workspace, user_id: str) -> Person:
    """The ids that are this user's and never another's; the user id alone for a stranger."""
    with scratch() as connection:
        workspace.events_view(connection)
        own = {
            column: tuple(
                value
                for (value,) in connection.execute(
                    f"SELECT {column} FROM events WHERE {column} IN "
                    f"(SELECT {column} FROM events WHERE user_id = ? AND {column} IS NOT NULL) "
                    f"GROUP BY {column} "
                    "HAVING bool_and(user_id IS NULL OR user_id = ?) ORDER BY 1",
                    [user_id, user_id],
                ).fetchall()
            )
            for column in ("anonymous_id", "session_id")
        }
    return Person(
        user_ids=(user_id,), anonymous_ids=own["anonymous_id"], session_ids=own["session_id"]
    )


def erase(
    workspace: Workspace,
    person: Person,
    *,
    erase_log: Callable[[Person], Erased] | None = None,
    now_us: int,
    retrain_days: int = 30,
    models: tuple[str, ...] = (),
) -> Receipt:
    """Delete everything that the person did, down to the last byte of an id.

    Args:
        workspace: Where.
        person: From `person_of`.
        erase_log: Deletes the person from the live log, which a running server holds open; without
            it the log is opened here.
        now_us: The time now, in microseconds since 1970.
        retrain_days: Days that models which know the events may stay.
        models: Versions that were trained before.

    Raises:
        ValueError: If the person has no id.
        SettingsError: If an import is running for too long.
        DataError: If a database takes nothing; `finish_pending` goes on from there.
    """
    if not len(person):
        raise ValueError("nobody is named; give a person at least one id.")
    with workspace.exclusive("import", wait_s=LOCK_WAIT_S):
        person = replace(person, event_ids=_imported(workspace, person))
        _note(workspace, person)
        segments, imported, shown = _erase_segments(workspace, person)
        sweep_segments(workspace)
        rejects = _erase_rejects(workspace, person)
        gone = (erase_log or partial(_erase_log, workspace))(person)
        # What an import left half-done may hold anything; it is read again from its source.
        shutil.rmtree(workspace.root / "staging", ignore_errors=True)
        with writing(workspace.engine) as database:
            next_revision(database, TOPIC)
        (workspace.root / _PENDING).unlink()
        sync_folder(workspace.root)
    return Receipt(
        receipt_id=new_id(now_us),
        events=gone.events + imported,
        exposures=gone.exposures + shown,
        segments=segments,
        rejects=rejects,
        erased_us=now_us,
        retrain_by_us=now_us + retrain_days * _DAY_US,
        models=models,
    )


def finish_pending(workspace: Workspace, *, now_us: int) -> bool:
    """Finish an erasure that a crash cut off; whether there was one."""
    pending = workspace.root / _PENDING
    if not pending.is_file():
        return False
    person = msgspec.json.decode(pending.read_bytes(), type=Person)
    erase(workspace, person, now_us=now_us)
    return True


def _note(workspace: Workspace, person: Person) -> None:
    draft = workspace.root / f"{_PENDING}.draft"
    with draft.open("wb") as stream:
        stream.write(msgspec.json.encode(person))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(workspace.root / _PENDING)
    sync_folder(workspace.root)


def _columns(person: Person) -> Mapping[str, tuple[str, ...]]:
    return {
        "user_id": person.user_ids,
        "anonymous_id": person.anonymous_ids,
        "session_id": person.session_ids,
    }


def _theirs(person: Person) -> tuple[str, list[Any]]:
    """A condition on the rows of segments, and its values."""
    clauses = [f"coalesce({column} IN (SELECT unnest(?)), false)" for column in _columns(person)]
    return " OR ".join(clauses), [list(ids) for ids in _columns(person).values()]


def _imported(workspace: Workspace, person: Person) -> tuple[str, ...]:
    """The event ids of the person in segments, and those that are known of an earlier try."""
    paths = workspace.segments()
    if not paths:
        return person.event_ids
    theirs, values = _theirs(person)
    query = f"SELECT event_id FROM {parquet_sql(paths)} WHERE {theirs} ORDER BY event_id"
    with scratch() as connection:
        found = connection.execute(query, values).fetchall()
    return tuple(sorted({*person.event_ids, *(event_id for (event_id,) in found)}))


def _erase_segments(workspace: Workspace, person: Person) -> tuple[int, int, int]:
    """Write the segments anew that hold something of the person.

    Returns:
        How many; events gone; answers gone.
    """
    theirs, values = _theirs(person)
    erased = dict.fromkeys(KINDS, 0)
    rewritten = 0
    with scratch() as connection:
        for kind in KINDS:
            paths = workspace.segments(kind=kind)
            if not paths:
                continue
            found = connection.execute(
                f"SELECT filename, count(*) FROM {_with_names(paths)} WHERE {theirs} "
                "GROUP BY filename ORDER BY filename",
                values,
            ).fetchall()
            for name, rows in found:
                keep = f"SELECT * FROM {parquet_sql([Path(name)])} WHERE NOT ({theirs}) "
                keep += f"ORDER BY {ORDER[kind]}"
                _rewrite(workspace, connection, Path(name), keep=keep, values=values)
                erased[kind] += rows
            rewritten += len(found)
    return rewritten, erased["events"], erased["exposures"]


def _with_names(paths: list[Path]) -> str:
    return parquet_sql(paths).removesuffix(")") + ", filename = true)"


def _rewrite(
    workspace: Workspace,
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    *,
    keep: str,
    values: list[Any],
) -> None:
    """Replace one segment by what a query keeps of it; the database changes over at once."""
    old = path.relative_to(workspace.root).as_posix()
    stem = path.stem.partition("~")[0]
    fresh = path.with_name(f"{stem}~{new_id(0)[14:26]}.parquet")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE kept AS {keep}", values)
    ((events, first_us, last_us),) = connection.execute(
        "SELECT count(*), min(timestamp_us), max(timestamp_us) FROM kept"
    ).fetchall()
    if events:
        connection.execute(
            f"COPY kept TO {sql_text(str(fresh))} (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()
        sync_file(fresh)
        sync_folder(fresh.parent)
    here = SEGMENTS.c.path == old
    with workspace.engine.begin() as database:
        if events:
            name = fresh.relative_to(workspace.root).as_posix()
            changed = {"path": name, "events": events, "first_us": first_us, "last_us": last_us}
            database.execute(sa.update(SEGMENTS).where(here).values(changed))
        else:
            database.execute(sa.delete(SEGMENTS).where(here))
    path.unlink()
    sync_folder(path.parent)


def _erase_rejects(workspace: Workspace, person: Person) -> int:
    """Drop the lines that hold one of the ids as text; too many rather than too few."""
    gone = 0
    # An id may stand there as it is, or as JSON writes it, once or twice over.
    needles = {form.encode() for each in person.ids() for form in _spellings(each)}
    for path in sorted((workspace.root / "rejects").glob("*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not any(needle in line for needle in needles)]
        if len(kept) == len(lines):
            continue
        gone += len(lines) - len(kept)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(b"".join(kept))
        sync_file(draft)
        draft.replace(path)
        sync_folder(path.parent)
    return gone


def _spellings(text: str) -> set[str]:
    once = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return once | {json.dumps(each, ensure_ascii=False)[1:-1] for each in once}


def erase_from_log(log: EventLog, person: Person) -> Erased:
    """Delete the person's events and exposures from an open log."""
    return log.erase(
        user_ids=person.user_ids,
        anonymous_ids=person.anonymous_ids,
        session_ids=person.session_ids,
        moved_ids=person.event_ids,
    )


def _erase_log(workspace: Workspace, person: Person) -> Erased:
    if not workspace.database.has_log():
        return Erased(events=0, exposures=0)
    with closing(workspace.open_log()) as log:
        return erase_from_log(log, person)
