"""Several processes that do the same work: one that dies is replaced, all end together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

from momentary.errors import SettingsError

_LOGGER = logging.getLogger(__name__)
_QUICK_S = 2.0
_QUICK_DEATHS = 5
_GRACE_S = 5.0
_ORDERS = (signal.SIGTERM, signal.SIGINT)


class Workers:
    """Runs `work` in several processes until SIGINT or SIGTERM.

    They are copies of this process (fork), so what it has in memory they share until they change
    it. It should have no threads, and no open database.

    Args:
        count: How many.
        work: Told which of them it is, from 0, how often that one was started before, and a file
            descriptor that ends when this process does. Returns once the process should end.
        grace_s: Seconds that they are given to end.

    Raises:
        SettingsError: This system cannot copy processes.
    """

    def __init__(
        self, count: int, work: Callable[[int, int, int], None], *, grace_s: float
    ) -> None:
        if not hasattr(os, "fork"):
            raise SettingsError(
                f"serve.workers is {count}, and this system cannot copy processes; use 1."
            )
        self._count = count
        self._work = work
        self._grace_s = grace_s
        self._lifeline = self._keep = -1
        self._of: dict[int, tuple[int, float]] = {}
        self._starts = [0] * count
        self._quick = 0
        self._ending = False

    def run(self) -> int:
        """Start them, and wait for the end; how many ended badly.

        Raises:
            SettingsError: They die as soon as they are started.
        """
        self._lifeline, self._keep = os.pipe()
        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, self._end),
                (signal.SIGINT, self._end),
                (signal.SIGALRM, self._kill),
            )
        }
        try:
            for index in range(self._count):
                self._start(index)
            failed = 0
            while self._of:
                pid, status = os.wait()
                failed += self._ended(pid, os.waitstatus_to_exitcode(status))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._lifeline)
            os.close(self._keep)
        if self._quick >= _QUICK_DEATHS:
            raise SettingsError(
                f"workers ended {self._quick} times within {_QUICK_S:g} s of their start; the log "
                "says why."
            )
        return failed

    def _start(self, index: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # An order that came between the copy and the note of its name would never reach it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)
        try:
            if self._ending:
                return
            pid = os.fork()
            if pid == 0:
                os.close(self._keep)
                self._be(index)
            self._starts[index] += 1
            self._of[pid] = index, time.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS)

    def _be(self, index: int) -> None:
        """Do the work of one process, and end it."""
        status = 1
        try:
            for number in _ORDERS:
                signal.signal(number, _leave)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS)
            self._work(index, self._starts[index], self._lifeline)
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 0
        except BaseException:  # noqa: BLE001 - nothing above this would say it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # The way out of the process that this is a copy of is not this one's.
            os._exit(status)

    def _ended(self, pid: int, status: int) -> int:
        """Replace a process that ended, unless all are to; 1 if the last of its kind failed."""
        index, started_s = self._of.pop(pid)
        if self._ending:
            return int(status != 0)
        quick = time.monotonic() - started_s < _QUICK_S
        self._quick = self._quick + 1 if quick else 0
        _LOGGER.error("worker %d ended with %d", index, status)
        if self._quick >= _QUICK_DEATHS:
            self._end()
            return 1
        self._start(index)
        return 0

    def _end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Ask all to end; those that do not are killed."""
        self._ending = True
        for pid in self._of:
            os.kill(pid, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, self._grace_s + _GRACE_S)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        for pid in self._of:
            os.kill(pid, signal.SIGKILL)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End a process, whatever it does; a server that ended in good order is told once more."""
    raise SystemExit(0)
