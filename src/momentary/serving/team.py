"""The workers of one service: what each tells the others, and whose turn it is to write.

A service of several processes shares the listening socket, the event log and the catalogue. What
a process keeps in memory besides, the others must hear of: a model that was put to work, an item
that changed, a person to forget. Each process has an inbox, a datagram socket that is made before
they part; whoever changes something tells the others and answers once they have followed.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec

_LOGGER = logging.getLogger(__name__)
_LARGEST = 4_000_000
_ANSWER, _FAILED = "", "!"
_FULL_S = 0.005
PATIENCE_S = 60.0
"""How long a worker waits for the others to follow; a model may have to be read."""


class News(msgspec.Struct, frozen=True, array_like=True):
    """One message.

    Attributes:
        sender: Of the message.
        number: Names it among the sender's; an answer has the number of what it answers.
        kind: Names the handler; "" for an answer, "!" for one that says that the handler failed.
        what: Such as an item's id; of an answer, what the handler gave.
    """

    sender: int
    number: int
    kind: str
    what: bytes = b""


Handler = Callable[[bytes], Awaitable[bytes]]
"""Follows what another worker did; what it gives goes back to that worker."""

_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(News).decode


class Turn:
    """A lock that one process at a time holds; one that dies lets go of it.

    Args:
        path: An empty file, made if it is missing. Every process opens it for itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._held = False

    def take(self) -> None:
        """Wait for the turn; nothing happens if this process has it."""
        if self._handle is None:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._held:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            self._held = True

    def give(self) -> None:
        """Let others have their turn."""
        if self._held and self._handle is not None:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._held = False

    def close(self) -> None:
        """Let go of the file."""
        self.give()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Team:
    """What workers share; made before they part.

    Args:
        size: How many there are.
        turn: File of the lock around writes of the log.
        keys: API keys of the service.
    """

    def __init__(self, size: int, *, turn: Path, keys: int) -> None:
        self.size = size
        self._turn_path = turn
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(size)]
        for pair in pairs:
            for end in pair:
                end.settimeout(0)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LARGEST)
        self._inboxes = [pair[0] for pair in pairs]
        self._doors = [pair[1] for pair in pairs]
        # Memory of all processes: how much each key may still ask, see `Access`.
        self.allowances = memoryview(mmap.mmap(-1, 16 * (keys + 1))).cast("d")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def member(self, index: int) -> Member:
        """The part of one worker, in its process."""
        turn = Turn(self._turn_path)
        return Member(index, inbox=self._inboxes[index], doors=self._doors, turn=turn, team=self)

    def close(self) -> None:
        """Close every socket."""
        for each in (*self._inboxes, *self._doors):
            each.close()


class Member:
    """One worker's part in a team.

    Args:
        index: Which of them, from 0.
        inbox: Where its news arrives.
        doors: Where those of each worker go in.
        turn: To write the log.
        team: What all of them share.
    """

    def __init__(
        self,
        index: int,
        *,
        inbox: socket.socket,
        doors: list[socket.socket],
        turn: Turn,
        team: Team,
    ) -> None:
        self.index = index
        self.turn = turn
        self.team = team
        self._inbox = inbox
        self._doors = doors
        self._handlers: Mapping[str, Handler] = {}
        # An answer to an earlier life of this worker is to no question of this one.
        self._number = os.getpid() << 32
        self._answers: dict[int, dict[int, bytes | None]] = {}
        self._complete: dict[int, asyncio.Future[None]] = {}
        self._following: set[asyncio.Task[None]] = set()

    def listen(self, handlers: Mapping[str, Handler]) -> None:
        """Follow the others from now on, in the running event loop."""
        self._handlers = handlers
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), self._read)

    def leave(self) -> None:
        """Follow no more."""
        asyncio.get_running_loop().remove_reader(self._inbox.fileno())
        self.turn.close()

    async def tell(
        self, kind: str, what: bytes = b"", *, patience_s: float = PATIENCE_S
    ) -> dict[int, bytes]:
        """Tell the others, and wait until they have followed.

        Returns:
            What each of them answered; one that did not in time, or failed, is missing, and the
            log says so.
        """
        self._number += 1
        number = self._number
        others = [index for index in range(len(self._doors)) if index != self.index]
        self._answers[number] = {}
        self._complete[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience_s):
                news = News(self.index, number, kind, what)
                for index in others:
                    await self._send(index, news)
                if others:
                    await self._complete[number]
        except TimeoutError:
            late = sorted(set(others) - set(self._answers[number]))
            _LOGGER.error("workers %s did not follow %r within %g s", late, kind, patience_s)
        finally:
            del self._complete[number]
            found = self._answers.pop(number)
        failed = sorted(index for index, answer in found.items() if answer is None)
        if failed:
            _LOGGER.error("workers %s failed to follow %r; they say why", failed, kind)
        return {index: answer for index, answer in found.items() if answer is not None}

    async def _send(self, index: int, news: News) -> None:
        while True:
            try:
                self._doors[index].send(_ENCODE(news))
            except BlockingIOError:
                # The inbox is full: its worker is busy, or is being started again.
                await asyncio.sleep(_FULL_S)
            else:
                return

    def _read(self) -> None:
        while True:
            try:
                news = _DECODE(self._inbox.recv(_LARGEST))
            except BlockingIOError:
                return
            if news.kind not in (_ANSWER, _FAILED):
                task = asyncio.get_running_loop().create_task(self._follow(news))
                self._following.add(task)
                task.add_done_callback(self._following.discard)
            else:
                self._take_answer(news)

    def _take_answer(self, news: News) -> None:
        answers, complete = self._answers.get(news.number), self._complete.get(news.number)
        if answers is None or complete is None:
            return
        answers[news.sender] = None if news.kind == _FAILED else news.what
        if len(answers) == len(self._doors) - 1 and not complete.done():
            complete.set_result(None)

    async def _follow(self, news: News) -> None:
        try:
            found = await self._handlers[news.kind](news.what)
            kind = _ANSWER
        except Exception:
            _LOGGER.exception("worker %d could not follow %r", self.index, news.kind)
            # Whoever told it need not wait until patience ends.
            kind, found = _FAILED, b""
        await self._send(news.sender, News(self.index, news.number, kind, found))
