"""Whether a service answers from a workspace's folder, told by a lock that dies with it.

A service keeps visits in memory. A second one on the same folder would not know of its clicks, and
an erasure beside it would leave what it remembers: so who needs the folder alone says so here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from momentary.errors import SettingsError

_FILE = "serve.lock"
_EVERY_S = 0.05
_WAIT_S = 5.0


@contextmanager
def served(root: Path, *, shared: bool, wait_s: float | None = None) -> Iterator[None]:
    """Answer from a folder for the time being; processes that are forked meanwhile do so, too.

    Args:
        root: The workspace's folder.
        shared: Whether other services may answer from it as well, because they share what
            visitors do.
        wait_s: How long a service that is ending is waited for; None for a few seconds.

    Raises:
        SettingsError: If another service answers from the folder, and one of the two is not
            shared.
    """
    busy = (
        f"another service answers from {root}, and neither would know of the other's visitors; "
        "stop it, or set serve.workers to use more cores, or serve.state_url for several services."
    )
    patience_s = _WAIT_S if wait_s is None else wait_s
    with _locked(root, shared=shared, wait_s=patience_s, busy=busy):
        yield


@contextmanager
def unserved(root: Path, *, instead: str) -> Iterator[None]:
    """Keep services from answering from a folder for the time being.

    Args:
        root: The workspace's folder.
        instead: What to do while one does, for the error.

    Raises:
        SettingsError: If a service answers from the folder.
    """
    with _locked(root, shared=False, wait_s=0, busy=f"a service answers from {root}; {instead}"):
        yield


@contextmanager
def _locked(root: Path, *, shared: bool, wait_s: float, busy: str) -> Iterator[None]:
    if os.name == "nt":
        yield  # there are no such locks; the guide says that one service is the rule
        return
    import fcntl

    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    handle = os.open(root / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end_s:
                    raise SettingsError(busy) from None
                time.sleep(_EVERY_S)
        yield
    finally:
        os.close(handle)
