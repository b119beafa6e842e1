"""The visits in Redis, so that several processes answer one visitor alike.

Redis is a cache: the log alone holds the truth, and what Redis has not, or answers too late, is
read there. Each visit is a hash of a number `g`, which every change raises, and the visit `d`.
A process raises `g` and deletes `d` before it commits a click, and stores the visit afterwards if
`g` is still what it knows: if two processes changed a visit at once, neither's version stays.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import redis
from msgspec.structs import replace
from redis.backoff import NoBackoff
from redis.retry import Retry

from momentary.data.vocabulary import Vocabulary
from momentary.serving.state import EMPTY, ID_COLUMNS, Key, LiveSessions, Undo, Visit
from momentary.types import Event

_LOGGER = logging.getLogger(__name__)
_TIMEOUT_S = 0.05
"""Redis answers within a fraction of a millisecond; later than this it is taken for dead."""

_AGAIN_S = 1.0
_LEAST_TTL_S = 3_600
_MOST_OWED = 10_000
_SCAN_AT_ONCE = 1_000

_STORE = """
if (redis.call('HGET', KEYS[1], 'g') or '0') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'd', ARGV[2])
else
  redis.call('HDEL', KEYS[1], 'd')
end
redis.call('HINCRBY', KEYS[1], 'g', 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
_REVOKE = """
redis.call('HDEL', KEYS[1], 'd')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'g', 1)
"""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A visit as Redis holds it."""

    version: str
    epoch: int
    items: tuple[int, ...]
    times_us: tuple[int, ...]
    types: tuple[int, ...]
    pending: tuple[int, ...]
    hidden: bytes | None
    dtype: str
    door: bytes | None
    past: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]
    account: str


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Kept).decode


class SharedVisits:
    """Visits that several processes share.

    While Redis does not answer, visits are read from the log with each tick, and Redis is asked
    again a second later; visits that changed meanwhile are revoked first.

    Args:
        local: Holds the visits of one tick.
        url: Such as "redis://127.0.0.1:6379/0".
        version: Names the model whose hidden states and indices the visits hold.
        identity: Keeps the visits of several shops apart.
        idle_s: Silence that ends a visit; visits are kept a while longer.
        clock_s: Seconds that never go back.
    """

    def __init__(
        self,
        local: LiveSessions,
        url: str,
        *,
        version: str,
        identity: str,
        idle_s: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self._version = version
        self._prefix = f"momentary:{identity}:"
        self._ttl_s = max(2 * idle_s, _LEAST_TTL_S)
        self._clock_s = clock_s
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._epoch = 0
        self._numbers: dict[Key, int] = {}
        self._again_s = float("-inf")
        self._owed: set[Key] = set()
        self._owes_all = False

    def __len__(self) -> int:
        return len(self._local)

    def load(self, keys: Iterable[Key]) -> None:
        """Fetch visits, all in one journey; those that are not there are read from the log."""
        wanted = list(keys)

        def ask(pipeline: redis.client.Pipeline) -> None:
            pipeline.get(self._prefix + "epoch")
            for key in wanted:
                pipeline.hmget(self._name(key), "g", "d")

        answers = self._journey(ask) if wanted else None
        if answers is not None:
            epoch, *found = answers
            self._epoch = int(epoch or 0)
            for key, (number, kept) in zip(wanted, found, strict=True):
                self._numbers[key] = int(number or 0)
                visit = None if kept is None else self._read(kept, self._local.blank(key))
                if visit is not None:
                    self._local.adopt(key, visit)
        self._local.load(wanted)

    def get(self, key: Key | None) -> Visit:
        """A visit that is at hand, or an empty one."""
        return self._local.get(key)

    def put(self, key: Key, visit: Visit) -> None:
        """Replace a visit that is at hand."""
        self._local.put(key, visit)

    def record(self, events: Iterable[Event]) -> Undo:
        """Let the visits at hand know what happened."""
        return self._local.record(events)

    def restore(self, before: Undo) -> None:
        """Undo what one call of `record` did."""
        self._local.restore(before)

    def forget(self, keys: Iterable[Key]) -> None:
        """Let go of some visits, here and in Redis."""
        gone = list(keys)
        self._local.forget(gone)
        self._revoke(gone)

    def announce(self, events: Iterable[Event]) -> None:
        """Revoke the visits of these events before the log holds them."""
        keys: dict[Key, None] = {}
        for event in events:
            for column in ID_COLUMNS:
                value = getattr(event, column)
                if value is not None:
                    keys[column, value] = None
        self._revoke(list(keys))

    def publish(self) -> None:
        """Store the visits at hand whose number is still what this process knows."""
        numbers = self._numbers

        def tell(pipeline: redis.client.Pipeline) -> None:
            for key, number in numbers.items():
                visit = self._local.get(key)
                if visit is not EMPTY:
                    kept = self._written(visit)
                    pipeline.eval(_STORE, 1, self._name(key), number, kept, self._ttl_s)

        if numbers:
            self._journey(tell)

    def trim(self) -> None:
        """Nothing stays at hand: another process may change any visit."""
        self._numbers = {}
        self._local.forget_all()

    def clear(self, items: Vocabulary, *, version: str) -> None:
        """Let go of every visit, in Redis at once: what others store later counts no more."""
        self.switch(items, version=version)
        self._owes_all = True
        self._journey(lambda pipeline: pipeline.get(self._prefix + "epoch"), patience_s=5.0)
        self._sweep()

    def switch(self, items: Vocabulary, *, version: str, remembers: bool | None = None) -> None:
        """Let another model's indices count; visits that hold the former one's are read anew."""
        self._version = version
        self._numbers = {}
        self._local.switch(items, version=version, remembers=remembers)

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()

    def _name(self, key: Key) -> str:
        # The id itself does not belong into a cache that nobody erases from.
        digest = hashlib.blake2b("\0".join(key).encode(), digest_size=16).hexdigest()
        return f"{self._prefix}{digest}"

    def _read(self, kept: bytes, blank: Visit) -> Visit | None:
        """The visit; whose it is stays out of Redis, and only `blank` knows."""
        try:
            found = _DECODE(kept)
        except msgspec.DecodeError:
            return None
        if (found.version, found.epoch) != (self._version, self._epoch):
            return None
        hidden, door = (
            None if state is None else np.frombuffer(state, dtype=found.dtype)
            for state in (found.hidden, found.door)
        )
        return replace(
            blank,
            items=found.items,
            times_us=found.times_us,
            types=found.types,
            pending=found.pending,
            hidden=hidden,
            door=door,
            past=tuple(
                Visit(items=items, times_us=times, types=types)
                for items, times, types in found.past
            ),
            account=found.account,
        )

    def _written(self, visit: Visit) -> bytes:
        hidden, door = visit.hidden, visit.door
        state = door if hidden is None else hidden
        return _ENCODE(
            _Kept(
                version=self._version,
                epoch=self._epoch,
                items=visit.items,
                times_us=visit.times_us,
                types=visit.types,
                pending=visit.pending,
                hidden=None if hidden is None else hidden.tobytes(),
                dtype="" if state is None else state.dtype.str,
                door=None if door is None else door.tobytes(),
                past=tuple((each.items, each.times_us, each.types) for each in visit.past),
                account=visit.account,
            )
        )

    def _revoke(self, keys: Sequence[Key]) -> None:
        if not keys:
            return

        def tell(pipeline: redis.client.Pipeline) -> None:
            for key in keys:
                pipeline.eval(_REVOKE, 1, self._name(key), self._ttl_s)

        answers = self._journey(tell)
        if answers is None:
            self._owe(keys)
        else:
            for key, number in zip(keys, answers, strict=True):
                if key in self._numbers:
                    self._numbers[key] = int(number)

    def _owe(self, keys: Iterable[Key]) -> None:
        """Remember what to revoke once Redis answers again."""
        self._owed.update(keys)
        if len(self._owed) > _MOST_OWED:
            self._owed.clear()
            self._owes_all = True

    def _journey(
        self,
        ask: Callable[[redis.client.Pipeline], object],
        *,
        patience_s: float = 0.0,
    ) -> list[Any] | None:
        """Send commands together; None while Redis does not answer.

        Args:
            ask: Adds the commands.
            patience_s: Ask even if Redis failed a moment ago, and again for so many seconds.
        """
        end_s = self._clock_s() + patience_s
        if not patience_s and self._clock_s() < self._again_s:
            return None
        while True:
            try:
                return self._settled(ask)
            except (redis.RedisError, OSError) as error:
                if self._clock_s() < end_s:
                    time.sleep(_TIMEOUT_S)
                    continue
                self._again_s = self._clock_s() + _AGAIN_S
                _LOGGER.warning("Redis does not answer; visits are read from the log: %s", error)
                return None

    def _settled(self, ask: Callable[[redis.client.Pipeline], object]) -> list[Any]:
        """Send commands after what is still owed."""
        with self._redis.pipeline(transaction=False) as pipeline:
            if self._owes_all:
                pipeline.incr(self._prefix + "epoch")
            for key in self._owed:
                pipeline.eval(_REVOKE, 1, self._name(key), self._ttl_s)
            owed = len(pipeline)
            ask(pipeline)
            answers = pipeline.execute() if len(pipeline) else []
        self._owed.clear()
        self._owes_all = False
        return list(answers[owed:])

    def _sweep(self) -> None:
        """Delete what the last epoch left; it counts no more, but it tells of somebody."""
        try:
            names = self._redis.scan_iter(match=f"{self._prefix}*", count=_SCAN_AT_ONCE)
            gone = (name for name in names if not name.endswith(b":epoch"))
            # Many in one journey: requests wait for this.
            while part := list(islice(gone, _SCAN_AT_ONCE)):
                self._redis.unlink(*part)
        except (redis.RedisError, OSError) as error:
            _LOGGER.warning("visits stay in Redis for %d s at most: %s", self._ttl_s, error)
