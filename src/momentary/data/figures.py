"""What the rows of a file amount to: visitors, visits, items, and what they can be used for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from momentary.data.diagnosis import Problem, Report, Scenario, bad_rows, scenario
from momentary.data.formats import Chunk
from momentary.data.layouts import Layout
from momentary.data.rows import Reject

_EXAMPLES = 3


class Figures:
    """Figures of the good rows and the first examples of the bad ones, in one pass."""

    def __init__(self, layout: Layout, database: duckdb.DuckDBPyConnection) -> None:
        self.layout = layout
        self.rows = 0
        self.good = 0
        self.skipped = 0
        self.backwards = 0
        self.last_us: int | None = None
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Reject]] = {}
        self.database = database

    def add(self, chunk: Chunk) -> None:
        """Take note of some rows."""
        self.rows += chunk.rows
        self.skipped += chunk.skipped
        self.good += chunk.table.num_rows
        for reject in chunk.rejects:
            self.counts[reject.code] += 1
            kept = self.examples.setdefault(reject.code, [])
            if len(kept) < _EXAMPLES:
                kept.append(reject)
        if self.layout.kind == "events":
            self._count_backwards(chunk.table)
        self._keep(chunk.table)

    def _count_backwards(self, table: pa.Table) -> None:
        times = table["timestamp_us"].to_numpy()
        if not len(times):
            return
        before = [self.last_us] if self.last_us is not None else []
        self.backwards += int((np.diff(np.concatenate([before, times])) < 0).sum())
        self.last_us = int(times[-1])

    def _keep(self, table: pa.Table) -> None:
        """Keep what the figures need: hashes instead of texts."""
        self.database.register("chunk", table)
        if self.layout.kind == "events":
            wanted = (
                "hash(item_id) AS item, user_id IS NULL AND anonymous_id IS NULL AS nobody, "
                "hash(coalesce(user_id, anonymous_id)) AS visitor, session_id IS NULL AS loose, "
                "hash(session_id) AS visit, event_type, timestamp_us, position IS NOT NULL AS "
                "placed, value IS NOT NULL AS valued, price IS NOT NULL AS priced"
            )
        else:
            wanted = (
                "hash(item_id) AS item, name IS NOT NULL OR description IS NOT NULL AS told, "
                "image IS NOT NULL AS pictured, audio IS NOT NULL AS sounding, "
                "price IS NOT NULL AS priced"
            )
        query = f"SELECT {wanted}, hash({self._content()}) AS content FROM chunk"
        exists = (
            "INSERT INTO seen" if self.good > table.num_rows else "CREATE OR REPLACE TABLE seen AS"
        )
        self.database.execute(f"{exists} {query}").fetchall()
        self.database.unregister("chunk")

    def _content(self) -> str:
        """The columns that tell rows apart; the others are the same in every row."""
        fields = {"timestamp_us" if role == "timestamp" else role for role in self.layout.columns}
        if self.layout.order_as_time:
            fields.add("timestamp_us")
        if self.layout.properties:
            fields.add("properties")
        return ", ".join(f'"{name}"' for name in sorted(fields))

    def problems(self) -> list[Problem]:
        """What kept rows from being read, most frequent first."""
        found = [
            bad_rows(code, count, self.examples[code]) for code, count in self.counts.most_common()
        ]
        if not self.rows:
            what = "there is a header but no row"
            remedy = "export the file again, with its rows"
            found.append(Problem(code="header_only", what=what, count=1, remedy=remedy, fatal=True))
        elif not self.good and self.rows > self.skipped:
            what, remedy = "not one row can be read", "mend the problems above"
            found.append(
                Problem(code="no_good_row", what=what, count=self.rows, remedy=remedy, fatal=True)
            )
        return found

    def report(self, base: Report) -> Report:
        """The base with figures and scenarios."""
        counted = msgspec.structs.replace(base, rows=self.rows, good_rows=self.good)
        if not self.good:
            return counted
        if self.layout.kind == "items":
            return self._items_report(counted)
        return self._events_report(counted)

    def _one(self, query: str) -> tuple[int, ...]:
        row = self.database.execute(query).fetchall()[0]
        return tuple(int(value or 0) for value in row)

    def _items_report(self, base: Report) -> Report:
        items, repeated, told, pictured, sounding, priced = self._one(
            "SELECT count(DISTINCT item), count(*) - count(DISTINCT content), "
            "count_if(told), count_if(pictured), count_if(sounding), count_if(priced) FROM seen"
        )
        scenarios = (
            scenario(
                "texts", f"{told:,} items have a name or a text", "recommend new items by text"
            ),
            scenario(
                "pictures", f"{pictured:,} items name a picture", "recommend new items by looks"
            ),
            scenario("sounds", f"{sounding:,} items name a sound", "recommend new items by sound"),
            scenario("prices", f"{priced:,} items have a price", "price bands, filters and rules"),
            Scenario(
                name="sessions",
                possible=False,
                why="this is a catalogue; what visitors did belongs into a file of events",
                use="",
            ),
        )
        return msgspec.structs.replace(base, items=items, duplicates=repeated, scenarios=scenarios)

    def _events_report(self, base: Report) -> Report:
        items, users, sessions, repeated, first, last = self._one(
            "SELECT count(DISTINCT item), count(DISTINCT CASE WHEN NOT nobody THEN visitor END), "
            "count(DISTINCT CASE WHEN NOT loose THEN visit END), "
            "count(*) - count(DISTINCT content), min(timestamp_us), max(timestamp_us) FROM seen"
        )
        by = "visit" if sessions else "visitor"
        known = "NOT loose" if sessions else "NOT nobody"
        found = self.database.execute(
            f"SELECT median(n) FROM (SELECT count(*) AS n FROM seen WHERE {known} GROUP BY {by})"
        ).fetchall()
        types = self.database.execute(
            "SELECT event_type, count(*) FROM seen GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        clock = not self.layout.order_as_time
        return msgspec.structs.replace(
            base,
            items=items,
            users=users,
            sessions=sessions or None,
            median_session=float(found[0][0] or 0),
            duplicates=repeated,
            event_types=dict(types),
            first_time=_iso(first) if clock else None,
            last_time=_iso(last) if clock else None,
            scenarios=self._scenarios(sessions=sessions, types=dict(types)),
        )

    def _scenarios(self, *, sessions: int, types: dict[str, int]) -> tuple[Scenario, ...]:
        shown, rated, priced = self._one(
            "SELECT count_if(event_type = 'view_item_list' AND placed), "
            "count_if(event_type = 'rate' AND valued), count_if(priced) FROM seen"
        )
        bought = types.get("purchase", 0)
        return (
            self._visits(sessions),
            self._returning(),
            scenario("purchases", f"{bought:,} purchases", "what is bought next, bought together"),
            scenario("ratings", f"{rated:,} ratings with a value", "factorisation of ratings"),
            scenario("prices", f"{priced:,} events with a price", "price bands and revenue"),
            scenario(
                "exposures",
                f"{shown:,} impressions with their position",
                "position bias, off-policy estimates, bandits",
            ),
            Scenario(
                name="texts and pictures",
                possible=False,
                why="these belong into a file of items; import one beside the events",
                use="",
            ),
        )

    def _visits(self, sessions: int) -> Scenario:
        by, known = ("visit", "NOT loose") if sessions else ("visitor", "NOT nobody")
        (several,) = self._one(
            f"SELECT count(*) FROM (SELECT 1 FROM seen WHERE {known} GROUP BY {by} "
            "HAVING count(*) > 1)"
        )
        what = "visits" if sessions else "visitors"
        cut = "" if sessions else "; visits are cut from their times, at half an hour of silence"
        if not sessions and self.layout.order_as_time:
            return Scenario(
                name="sessions",
                possible=False,
                why="there are neither session ids nor times to cut visits from",
                use="",
            )
        return scenario(
            "sessions",
            f"{several:,} {what} with two events or more{cut if several else ''}",
            "next item of this visit: GRU4Rec, session kNN, item kNN",
        )

    def _returning(self) -> Scenario:
        day = 86_400_000_000
        (back,) = self._one(
            "SELECT count(*) FROM (SELECT 1 FROM seen WHERE NOT nobody GROUP BY visitor "
            f"HAVING count(DISTINCT CASE WHEN loose THEN timestamp_us // {day} ELSE visit END) > 1)"
        )
        return scenario(
            "returning visitors",
            f"{back:,} visitors come back",
            "taste across visits: factorisation, personal answers",
        )

    def remarks(self, report: Report) -> list[str]:
        """Worth knowing about the rows."""
        remarks = []
        if self.backwards:
            remarks.append(
                f"times go backwards {self.backwards:,} times; they are sorted on import"
            )
        if report.duplicates:
            remarks.append(
                f"{report.duplicates:,} rows repeat an earlier row; without event ids each counts"
            )
        if self.skipped:
            remarks.append(f"{self.skipped:,} rows have no item (page views and the like)")
        return remarks


def _iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
