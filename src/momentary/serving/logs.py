"""What the service writes about itself: warnings and errors, as text or as lines of JSON."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Literal

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        time: ISO 8601, in UTC.
        process: Which of several workers.
        trace: Where an error came from, as Python writes it.
    """

    time: str
    level: str
    logger: str
    message: str
    process: int
    trace: str | None = None


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        trace = self.formatException(record.exc_info) if record.exc_info else None
        line = Line(
            time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
            process=record.process or os.getpid(),
            trace=trace,
        )
        return msgspec.json.encode(line).decode()


def write_logs(kind: Literal["text", "json"]) -> None:
    """Write warnings and errors to the standard error; who set up logging already is left alone.

    Args:
        kind: How; what was said before is replaced.
    """
    root = logging.getLogger()
    for each in [each for each in root.handlers if isinstance(each, _Standard)]:
        root.removeHandler(each)
    if root.handlers:
        return
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler = _Standard()
    handler.setFormatter(JsonLines() if kind == "json" else plain)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


class _Standard(logging.StreamHandler):  # type: ignore[type-arg] # no parameter before 3.12
    """What `write_logs` set up."""
