"""What is bought together: purchases of one visitor on one day are one basket."""

from __future__ import annotations

from dataclasses import dataclass

from momentary.data.scratch import scratch
from momentary.data.workspace import Workspace

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """An item that is bought with another.

    Attributes:
        baskets: How many hold both.
        lift: How much more often than if the two had nothing to do with each other.
    """

    item_id: str
    baskets: int
    lift: float


def bought_together(
    workspace: Workspace, item_id: str, *, limit: int, least: int = 2
) -> list[Companion]:
    """Items that are bought with one item, the most telling first.

    Order: by the lower end of what the lift may be, log(lift) - 1 / sqrt(baskets), so that one
    common basket of two rare items does not win.

    Args:
        workspace: Whose events count, imported and live.
        item_id: The item.
        limit: Most items.
        least: Fewer common baskets than this tell nothing.
    """
    query = f"""
        WITH bought AS (
            SELECT DISTINCT visitor, timestamp_us // {_DAY_US} AS day, item_id
            FROM events WHERE event_type = 'purchase'
        ),
        baskets AS (SELECT visitor, day FROM bought WHERE item_id = ?),
        sizes AS (SELECT count(*) AS all_baskets FROM (SELECT DISTINCT visitor, day FROM bought)),
        own AS (SELECT count(*) AS holding FROM baskets),
        common AS (
            SELECT item_id, count(*) AS shared FROM bought SEMI JOIN baskets USING (visitor, day)
            WHERE item_id <> ? GROUP BY item_id HAVING shared >= ?
        ),
        counts AS (SELECT item_id, count(*) AS alone FROM bought SEMI JOIN common USING (item_id)
            GROUP BY item_id)
        SELECT item_id, shared, shared::DOUBLE * all_baskets / (holding::DOUBLE * alone) AS lift
        FROM common JOIN counts USING (item_id), sizes, own
        ORDER BY ln(lift) - 1 / sqrt(shared) DESC, item_id LIMIT ?
    """
    with scratch() as connection:
        connection.execute("SET threads = 1")
        workspace.events_view(connection)
        rows = connection.execute(query, [item_id, item_id, least, limit]).fetchall()
    return [Companion(item_id=each, baskets=shared, lift=lift) for each, shared, lift in rows]
