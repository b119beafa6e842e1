"""Looking at media in a process of its own: slow or hostile files hold up no request.

The encoders' memory and the decoders' faults stay there, too. The process starts with the first
look, ends with the service, even by a kill, and is replaced if it dies or takes too long.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from momentary.encoders.media import MediaLimits
from momentary.encoders.protocol import Modality
from momentary.errors import DataError, SettingsError
from momentary.types import FloatArray

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from momentary.encoders.defaults import Kit


_END_S = 5.0
"""Longest wait for the end of a process that was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What encoders say of one content.

    Attributes:
        digest: SHA-256 of the content.
        vectors: By view, the encoder's version and its vector.
        reason: Why it cannot be used; "" where it can.
    """

    digest: bytes = b""
    vectors: Mapping[str, tuple[str, FloatArray]] = field(default_factory=dict)
    reason: str = ""


class Looker:
    """Encodes contents in another process, one after the other.

    Args:
        limits: What may be opened.
        most_s: Longest look; the process is replaced after it.

    Attributes:
        models: Of the hub, by what they look at; the default encoders look at the rest.
    """

    def __init__(self, limits: MediaLimits, *, most_s: float = 60.0) -> None:
        self._limits = limits
        self.models: Mapping[Modality, str] = {}
        self._most_s = most_s
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()

    async def look(self, modality: Modality, source: str | bytes) -> Seen:
        """What encoders say of a content, or of what a path or an address holds."""
        async with self._turn:  # so that waiting for others does not count as time of this one
            return await self._look(modality, source)

    async def _look(self, modality: Modality, source: str | bytes) -> Seen:
        try:
            waiting = asyncio.wrap_future(
                self._started().submit(_look, modality, source, self._limits, dict(self.models))
            )
            return await asyncio.wait_for(waiting, self._most_s)
        except TimeoutError:
            self._stop()
            return Seen(reason=f"it took longer than {self._most_s:g} s to read.")
        except BrokenProcessPool:
            self._stop()
            return Seen(reason="its decoder broke down.")

    async def warm(self, modalities: Sequence[Modality]) -> None:
        """Load encoders before they are needed; what cannot be loaded is told by the first look."""
        for modality in modalities:
            async with self._turn:
                try:
                    waiting = asyncio.wrap_future(
                        self._started().submit(_warm, modality, self.models.get(modality))
                    )
                    await asyncio.wait_for(waiting, self._most_s)
                except (TimeoutError, BrokenProcessPool):
                    self._stop()
                    return

    def close(self) -> None:
        """Stop the process at once, and wait for what goes with it."""
        thread = self._stop()
        # Its thread gives back the semaphores, which a worker that ends before it would leak.
        if thread is not None:
            thread.join(_END_S)

    def _stop(self) -> threading.Thread | None:
        """Stop the process at once; the thread that cleans up behind it."""
        pool, self._pool = self._pool, None
        if pool is None:
            return None
        # There is no public way to stop, nor to wait a limited time.
        processes = list((pool._processes or {}).values())  # noqa: SLF001
        thread = cast("threading.Thread | None", pool._executor_manager_thread)  # noqa: SLF001
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        return thread

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # A process that is forked would hold the service's sockets and locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                max_workers=1, mp_context=context, initializer=_end_with_the_service
            )
        return self._pool


_KITS: dict[tuple[Modality, str | None], Kit] = {}
"""Of the process that looks."""


def _end_with_the_service() -> None:
    """Let the process that looks end when the service is killed, which cannot tell it any more."""
    service = multiprocessing.parent_process()
    if service is not None:
        threading.Thread(target=_wait_for, args=(service,), daemon=True).start()


def _wait_for(service: BaseProcess) -> None:
    service.join()
    os._exit(0)


def _kit(modality: Modality, model: str | None) -> Kit:
    from momentary.encoders.defaults import load_kit

    if (modality, model) not in _KITS:
        _KITS[modality, model] = load_kit(modality, model=model)
    return _KITS[modality, model]


def _warm(modality: Modality, model: str | None) -> None:
    kit = _kit(modality, model)
    if modality == "text":
        kit.encode("warm")


def _look(  # noqa: PLR0917 - an executor passes nothing by name
    modality: Modality, source: str | bytes, limits: MediaLimits, models: Mapping[Modality, str]
) -> Seen:
    """Runs in the other process; gives reasons instead of errors, which might not travel."""
    # Decoders and encoders load in this process alone.
    from momentary.encoders.catalogue import read_source
    from momentary.encoders.defaults import decoder

    try:
        content = source if isinstance(source, bytes) else read_source(source, limits=limits)
        if len(content) > limits.max_bytes:
            raise DataError(f"it has {len(content):,} bytes; at most {limits.max_bytes:,} are read")
        opened = decoder(modality, limits=limits)("", content)
        found = _encoded(modality, opened, models.get(modality))
        if modality == "video" and opened.sound is not None:
            found = _encoded("audio", opened.sound, models.get("audio")) | found
    except (DataError, SettingsError) as error:
        return Seen(reason=str(error))
    except MemoryError:
        return Seen(reason="it needs more memory than there is.")
    return Seen(digest=hashlib.sha256(content).digest(), vectors=found)


def _encoded(
    modality: Modality, content: object, model: str | None
) -> dict[str, tuple[str, FloatArray]]:
    kit = _kit(modality, model)
    versions = {view.name: view.encoder.version for view in kit.views}
    return {name: (versions[name], vector) for name, vector in kit.encode(content).items()}
