"""Vectors by content hash and encoder version, so that nothing is encoded twice.

SQLite keeps them: a batch is there whole or not at all, also after the process was killed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np

from momentary.encoders.protocol import Encoder
from momentary.errors import DataError
from momentary.types import BoolArray, FloatArray, Progress, silent

Content = TypeVar("Content")

FILE = "vectors.sqlite"
"""Where a workspace keeps the vectors of its items."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
  encoder TEXT NOT NULL, content BLOB NOT NULL, vector BLOB NOT NULL,
  PRIMARY KEY (encoder, content)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
  encoder TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (encoder, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS views (view TEXT PRIMARY KEY, encoder TEXT NOT NULL);
"""
_LOOKUP = 500


class VectorStore:
    """Vectors in one file; use it in a `with` block, in one thread.

    Raises:
        DataError: If the file is no vector store.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, timeout=30)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise DataError(f"{file} is no vector store ({error}); move it away.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def known(self, encoder: str, hashes: Sequence[bytes]) -> set[bytes]:
        """Which contents have a vector."""
        found: set[bytes] = set()
        for start in range(0, len(hashes), _LOOKUP):
            part = list(hashes[start : start + _LOOKUP])
            marks = ",".join("?" * len(part))
            query = f"SELECT content FROM vectors WHERE encoder = ? AND content IN ({marks})"
            found.update(row[0] for row in self._connection.execute(query, [encoder, *part]))
        return found

    def digests(self, encoder: str, names: Sequence[str]) -> dict[str, bytes]:
        """The content hash of those names that have one."""
        query = (
            "SELECT name, content FROM names WHERE encoder = ? AND name IN "
            "(SELECT value FROM json_each(?))"
        )
        return dict(self._connection.execute(query, (encoder, json.dumps(list(names)))).fetchall())

    def use(self, view: str, encoder: str) -> None:
        """Remember whose vectors a view consists of from now on."""
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO views VALUES (?, ?)", (view, encoder))

    def views(self) -> dict[str, str]:
        """View to encoder, as `use` was told."""
        query = "SELECT view, encoder FROM views ORDER BY view"
        return dict(self._connection.execute(query).fetchall())

    def forget(self, name: str) -> None:
        """Let go of a name, whatever encoder gave it a vector; the vectors stay for others."""
        with self._connection:
            self._connection.execute("DELETE FROM names WHERE name = ?", (name,))

    def replace(self, name: str, vectors: Iterable[tuple[str, bytes, FloatArray]]) -> None:
        """Let a name have these vectors and no others: a reader sees the old ones or the new ones.

        Args:
            name: Such as an item's id.
            vectors: Encoder, content hash and vector of each.
        """
        kept = list(vectors)
        with self._connection:
            self._connection.execute("DELETE FROM names WHERE name = ?", (name,))
            self._write(
                [
                    (encoder, digest, np.ascontiguousarray(vector, dtype="<f4").tobytes())
                    for encoder, digest, vector in kept
                ],
                [(encoder, name, digest) for encoder, digest, _ in kept],
            )

    def put(
        self,
        encoder: str,
        *,
        vectors: dict[bytes, FloatArray],
        names: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Keep vectors, and which name has which content, all of them or none."""
        rows = [
            (encoder, digest, np.ascontiguousarray(vector, dtype="<f4").tobytes())
            for digest, vector in vectors.items()
        ]
        with self._connection:
            self._write(rows, [(encoder, name, digest) for name, digest in names])

    def _write(
        self, vectors: Iterable[tuple[str, bytes, bytes]], names: Iterable[tuple[str, str, bytes]]
    ) -> None:
        """Write rows inside the caller's transaction."""
        self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", vectors)
        self._connection.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", names)

    def read(self, encoder: str, names: Sequence[str]) -> tuple[FloatArray, BoolArray]:
        """The vectors of names, zeros where there is none, and where there is one.

        Shapes (names, dim), (names,); dim is 0 while the encoder has no vector at all.
        """
        query = (
            "SELECT vector FROM names JOIN vectors USING (encoder, content) "
            "WHERE encoder = ? AND name = ?"
        )
        rows = [self._connection.execute(query, (encoder, name)).fetchone() for name in names]
        there = np.array([row is not None for row in rows], dtype=np.bool_)
        any_row = self._connection.execute(
            "SELECT length(vector) FROM vectors WHERE encoder = ? LIMIT 1", (encoder,)
        ).fetchone()
        vectors = np.zeros((len(names), any_row[0] // 4 if any_row else 0), dtype=np.float32)
        for place in np.flatnonzero(there):
            vectors[place] = np.frombuffer(rows[place][0], dtype="<f4")
        return vectors, there


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeReport:
    """What an encoding did.

    Attributes:
        encoded: Contents that got a vector now.
        known: Names whose content had one already, or twice in this run.
        set_aside: Name and reason of what cannot be encoded.
    """

    encoded: int
    known: int
    set_aside: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Opened(Generic[Content]):
    name: str
    digest: bytes
    content: Content | None
    reason: str


def encode_all(  # noqa: PLR0913 - each says something else
    sources: Iterable[tuple[str, bytes | DataError]],
    encoder: Encoder[Content] | Sequence[Encoder[Content]],
    store: VectorStore,
    *,
    decode: Callable[[str, bytes], Content],
    batch: int = 32,
    batch_bytes: int = 64_000_000,
    total: int = 0,
    progress: Progress = silent,
) -> EncodeReport:
    """Encode what has no vector yet; a batch is stored as soon as it is encoded.

    Files are read and decoded one batch ahead, in a second thread, while a batch is encoded.

    Args:
        sources: Names with what they hold, or why that cannot be read.
        encoder: Whose version is the key; several encoders look at each content, read once.
        store: Where the vectors go.
        decode: A name and what it holds to the content; a `DataError` sets it aside.
        batch: Contents that are encoded and stored together, at most.
        batch_bytes: A batch is full as well once its files hold as much, for at most three batches
            are in memory.
        total: How many sources there are, for the progress.
        progress: Told after every batch.
    """
    encoders = list(encoder) if isinstance(encoder, Sequence) else [encoder]
    encoded, done, aside = 0, 0, list[tuple[str, str]]()
    parts = _batches(sources, batch, batch_bytes)
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting = ahead.submit(next, parts, None)
        while (part := waiting.result()) is not None:
            digests = [hashlib.sha256(raw).digest() for _, raw in part if isinstance(raw, bytes)]
            known = {each.version: store.known(each.version, digests) for each in encoders}
            opened = ahead.submit(_open, part, set.intersection(*known.values()), decode)
            waiting = ahead.submit(next, parts, None)
            contents = opened.result()
            new = {each.digest: each.content for each in contents if each.content is not None}
            named = [(each.name, each.digest) for each in contents if not each.reason]
            for each in encoders:
                lacking = [digest for digest in new if digest not in known[each.version]]
                rows = each.encode([new[digest] for digest in lacking]) if lacking else ()
                vectors = dict(zip(lacking, rows, strict=True))
                store.put(each.version, vectors=vectors, names=named)
            aside += [(each.name, each.reason) for each in contents if each.reason]
            encoded += len(new)
            done += len(part)
            progress(done, max(total, done), f"{len(aside)} set aside")
    return EncodeReport(encoded=encoded, known=done - encoded - len(aside), set_aside=tuple(aside))


def _batches(
    sources: Iterable[tuple[str, bytes | DataError]], size: int, most_bytes: int
) -> Iterator[list[tuple[str, bytes | DataError]]]:
    part: list[tuple[str, bytes | DataError]] = []
    held = 0
    for name, raw in sources:
        part.append((name, raw))
        held += len(raw) if isinstance(raw, bytes) else 0
        if len(part) == size or held >= most_bytes:
            yield part
            part, held = [], 0
    if part:
        yield part


def _open(
    part: list[tuple[str, bytes | DataError]],
    known: set[bytes],
    decode: Callable[[str, bytes], Content],
) -> list[_Opened[Content]]:
    opened: list[_Opened[Content]] = []
    seen = set(known)
    for name, raw in part:
        if isinstance(raw, DataError):
            opened.append(_Opened(name, b"", None, str(raw)))
            continue
        digest = hashlib.sha256(raw).digest()
        content: Content | None = None
        reason = ""
        if digest not in seen:
            try:
                content = decode(name, raw)
                seen.add(digest)
            except DataError as error:
                reason = str(error)
        opened.append(_Opened(name, digest, content, reason))
    return opened
