"""How fast an event log is cut into sessions: DuckDB over Parquet in visitor buckets.

The log is simulated: visitors with visits of a few clicks over a month.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np

from benchmarks.report import Row, finish
from momentary.data.sessions import load_sessions, sessionize

TARGET = 2e6
BUCKETS = 16


def simulate(folder: Path, events: int) -> None:
    """Write a simulated log into buckets by visitor, as an import does."""
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            COPY (
              SELECT 'u:visitor-' || visitor AS visitor, NULL::VARCHAR AS session_id,
                     'item-' || (hash(i * 7) % 50000) AS item_id, 'view_item' AS event_type,
                     1700000000000000 + (hash(visitor, i // 5) % 2592000)::BIGINT * 1000000
                       + (hash(i) % 900)::BIGINT * 1000000 AS timestamp_us,
                     md5(i::VARCHAR) AS event_id, visitor % {BUCKETS} AS b
              FROM (SELECT i, (hash(i // 5) % {max(events // 20, 1)})::BIGINT AS visitor
                    FROM range({events}) r(i))
              ORDER BY b, visitor, timestamp_us
            ) TO '{folder}' (FORMAT parquet, PARTITION_BY (b), COMPRESSION zstd)
            """
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    walls, cpus, loads = [], [], []
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        folder = Path(scratch) / "events"
        simulate(folder, options.events)
        connection.execute(
            f"CREATE VIEW events AS SELECT * EXCLUDE b FROM read_parquet('{folder}/*/*.parquet')"
        )
        for _ in range(options.runs):
            wall, cpu = time.perf_counter(), time.process_time()
            cut = sessionize(connection)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            wall = time.perf_counter()
            log = load_sessions(connection)
            loads.append(time.perf_counter() - wall)
            print(f"{cut.starts.sum():,} sessions in {walls[-1]:.1f} s, {cpus[-1]:.1f} CPU s")
            if len(log.sessions) != cut.starts.sum():
                raise RuntimeError("the two ways of counting sessions disagree.")
    cores = min(2, os.cpu_count() or 1)
    rows = [
        Row(
            what=f"sessionize {options.events:,} simulated events, {cores} cores, wall",
            value=options.events / float(np.median(walls)),
            unit="events/s",
            target=TARGET,
        ),
        Row(
            what="the same per CPU second, on two cores",
            value=2 * options.events / float(np.median(cpus)),
            unit="events/s",
        ),
        Row(
            what="with vocabularies, into arrays, wall",
            value=options.events / float(np.median(loads)),
            unit="events/s",
        ),
    ]
    finish("sessionize", rows, data={"simulated": ""}, seeds=[])


if __name__ == "__main__":
    main()
