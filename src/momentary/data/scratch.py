"""A DuckDB of one's own for one piece of work.

It is imported where it is opened: a service that starts needs none of it, and it takes a tenth of
a second.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def scratch(file: Path | None = None) -> closing[duckdb.DuckDBPyConnection]:
    """A new database, in memory or in a file, that is closed at the end of the block."""
    import duckdb

    return closing(duckdb.connect() if file is None else duckdb.connect(str(file)))
