"""Rows of Parquet files, by row groups; nested tracker records (GA4) go the way of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momentary.data.columns import any_text, plain_values
from momentary.data.json_rows import json_rows
from momentary.data.layouts import TRACKERS, Layout
from momentary.data.rows import Cursor, RawRows, json_extras, shown
from momentary.errors import DataError


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file.

    Raises:
        DataError: If it breaks off.
    """
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a whole Parquet file ({str(error)[:200]}); get the file again."
        ) from error


def read_parquet(
    path: Path,
    layout: Layout,
    start: Cursor | None,
    *,
    columns: Sequence[str],
    chunk_rows: int,
) -> Iterator[RawRows]:
    """Read a Parquet file.

    Args:
        path: The file.
        layout: How it is written.
        start: The `end` of the last rows that are safe; None begins at the top.
        columns: Which columns are wanted.
        chunk_rows: How many rows come at once at most.

    Raises:
        DataError: If the file is damaged.
    """
    cursor = start or Cursor()
    wanted = (
        None if layout.name in TRACKERS else list(dict.fromkeys([*columns, *layout.properties]))
    )
    with open_parquet(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        first = int(np.searchsorted(ends, cursor.offset, side="right"))
        skip = cursor.offset - (int(ends[first - 1]) if first else 0)
        groups = list(range(first, len(sizes)))
        try:
            for batch in file.iter_batches(chunk_rows, row_groups=groups, columns=wanted):
                fresh = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - fresh.num_rows
                rows = cursor.offset + fresh.num_rows
                end = Cursor(offset=rows, lines=rows)
                if fresh.num_rows:
                    yield _raw(fresh, layout, columns=columns, start=cursor, end=end)
                cursor = end
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged ({str(error)[:200]}); get it again.") from error


def _raw(
    batch: pa.RecordBatch, layout: Layout, *, columns: Sequence[str], start: Cursor, end: Cursor
) -> RawRows:
    if layout.name in TRACKERS:
        lines = [msgspec.json.encode(row, enc_hook=str) for row in batch.to_pylist()]
        return json_rows(lines, layout, columns=columns, start=start, end=end)
    return RawRows(
        columns={name: batch[name] for name in columns},
        extras=json_extras({name: plain_values(batch[name]) for name in layout.properties}),
        lines=np.arange(start.lines + 1, end.lines + 1, dtype=np.int64),
        excerpts=lambda rows: _excerpts(batch, rows),
        end=end,
    )


def _excerpts(batch: pa.RecordBatch, rows: list[int]) -> list[str]:
    names = batch.schema.names
    taken = batch.take(pa.array(rows, pa.int64()))
    columns = [any_text(column).to_pylist() for column in taken.columns]
    return [
        shown(", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]
