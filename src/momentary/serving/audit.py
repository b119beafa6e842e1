"""Who changed what: one line of JSON for every action that needs an admin's key."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from momentary.serving.access import Caller


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit log.

    Attributes:
        key: Start of the digest of the key, "" where no key is asked for.
        action: What was done, such as "put_item".
        target: To what; never the id of a person.
        time_us: When, in microseconds since 1970.
    """

    time_us: int
    key: str
    action: str
    target: str


class AuditLog:
    """Appends to a file; a line is on the disk when `record` returns.

    Args:
        path: The file; made with the first line, for its owner's eyes only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, caller: Caller, action: str, target: str, *, now_us: int) -> None:
        """Write down who did what.

        Raises:
            OSError: If the line cannot be written.
        """
        entry = Entry(time_us=now_us, key=caller.name, action=action, target=target)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        handle = os.open(self._path, flags, 0o600)
        try:
            os.write(handle, msgspec.json.encode(entry) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    def entries(self) -> list[Entry]:
        """All lines, oldest first; a last line that a crash cut is left out."""
        if not self._path.is_file():
            return []
        whole = self._path.read_bytes().rpartition(b"\n")[0]
        decode = msgspec.json.Decoder(Entry).decode
        return [decode(line) for line in whole.split(b"\n") if line]
