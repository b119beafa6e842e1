"""From the event log to item x picture-version spells.

An impression is a `view_item_list` event with its position; a research view is a `search` event
that names the item. What follows is laid to the visitor's last view of the item within a while, so
that it counts for the picture that was seen and not for the one that came after; what follows a
purchase (ratings, returns, reviews, shares, the next purchase) is laid to that purchase.

Read from `properties`: `picture` (the version shown, where a page shows several), `randomized`
(chance chose the picture for this visitor), `random_position` (chance chose the slot), `promoted`,
`stock` (0 to 1), `dwell_s` (of a detail view).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from momentary.data.workspace import VISITOR_SQL
from momentary.errors import DataError
from momentary.moments.estimates import Matrix
from momentary.moments.examination import examination
from momentary.moments.spells import Spells
from momentary.types import BoolArray, IntArray, Progress, silent

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureConfig:
    """How a log becomes spells.

    Attributes:
        period_days: Length of a calendar period.
        view_hours: A click or purchase later than this after a view is not laid to it.
        dwell_s: A detail view shorter than this is no research; views without it count.
        good_rating: Lowest `value` of a rating that counts as good.
        positions: How many positions to tell apart.
    """

    period_days: float = 14.0
    view_hours: float = 24.0
    dwell_s: float = 5.0
    good_rating: float = 4.0
    positions: int = 20

    def __post_init__(self) -> None:
        for name in ("period_days", "view_hours"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.positions < 2:
            raise ValueError(f"positions is {self.positions}; it must be 2 or more; 20 is usual.")


_EVENTS = f"""
CREATE TEMP TABLE logged AS
SELECT item_id, event_type AS kind, timestamp_us AS t, value, price, position,
       hash({VISITOR_SQL}) AS visitor,
       json_extract_string(properties, '$.picture') AS named,
       coalesce(json_extract_string(properties, '$.randomized') = 'true', false) AS randomized,
       coalesce(json_extract_string(properties, '$.random_position') = 'true', false) AS free,
       coalesce(json_extract_string(properties, '$.promoted') = 'true', false) AS promoted,
       TRY_CAST(json_extract_string(properties, '$.stock') AS DOUBLE) AS stock,
       TRY_CAST(json_extract_string(properties, '$.dwell_s') AS DOUBLE) AS dwell_s
FROM rows WHERE item_id IN (SELECT item_id FROM versions)
"""

_VIEWS = """
CREATE TEMP TABLE views AS
SELECT logged.* EXCLUDE (named), coalesce(named, versions.picture) AS picture,
       floor((t - $start) / $period)::BIGINT AS period
FROM logged ASOF LEFT JOIN versions
  ON logged.item_id = versions.item_id AND logged.t >= versions.since_us
WHERE kind IN ('view_item_list', 'search')
"""

_FOLLOWING = """
CREATE TEMP TABLE following AS
SELECT e.item_id, e.kind, e.t, e.visitor, e.value, e.dwell_s, v.picture, v.period,
       v.randomized,
       v.position, v.kind AS seen_as
FROM (SELECT * FROM logged WHERE kind IN ('view_item', 'select_item', 'add_to_cart', 'purchase')) e
ASOF JOIN (SELECT * FROM views WHERE picture IS NOT NULL) v
  ON e.visitor = v.visitor AND e.item_id = v.item_id AND e.t >= v.t
WHERE e.t - v.t <= $reach
"""

# A log of purchases alone has no views: its purchases belong to the picture of their time.
_PURCHASES = """
CREATE TEMP TABLE purchases AS
SELECT l.item_id, l.t, l.visitor, coalesce(f.picture, l.picture) AS picture,
       floor((l.t - $start) / $period)::BIGINT AS period,
       coalesce(f.randomized, false) AS randomized
FROM (
  SELECT logged.item_id, logged.t, logged.visitor, coalesce(named, versions.picture) AS picture
  FROM logged ASOF LEFT JOIN versions
    ON logged.item_id = versions.item_id AND logged.t >= versions.since_us
  WHERE kind = 'purchase'
) l
LEFT JOIN (
  SELECT item_id, t, visitor, any_value(picture) AS picture, any_value(randomized) AS randomized
  FROM following WHERE kind = 'purchase' GROUP BY ALL
) f USING (item_id, t, visitor)
"""

_AFTER = """
CREATE TEMP TABLE after AS
SELECT p.item_id, p.picture, p.period, p.randomized, e.kind, e.value
FROM (
  SELECT item_id, visitor, t, kind, value FROM logged
  WHERE kind IN ('rate', 'refund', 'review', 'share')
  UNION ALL
  SELECT item_id, visitor, t - 1 AS t, 'again' AS kind, NULL AS value FROM purchases
) e ASOF JOIN purchases p ON e.visitor = p.visitor AND e.item_id = p.item_id AND e.t >= p.t
WHERE p.picture IS NOT NULL
"""

_SPELLS = """
WITH parts AS (
  SELECT item_id, picture, period, randomized,
         count(*) FILTER (kind = 'view_item_list') AS impressions,
         count(*) FILTER (kind = 'search') AS research, 0 AS bought,
         0 AS detail, 0 AS click, 0 AS cart, 0 AS purchase,
         0 AS rating, 0 AS return, 0 AS repurchase, 0 AS review, 0 AS share,
         sum(ln(price)) FILTER (price > 0) AS prices, count(*) FILTER (price > 0) AS priced,
         sum(promoted::INT) AS promoted, sum(stock) AS stocks, count(stock) AS stocked,
         sum(ln(1 + position)) AS ranks, count(position) AS ranked, count(*) AS seen
  FROM views WHERE picture IS NOT NULL GROUP BY ALL
  UNION ALL
  SELECT item_id, picture, period, randomized, 0, 0, 0,
         count(*) FILTER (kind = 'view_item' AND seen_as = 'search'
                          AND coalesce(dwell_s >= $dwell_s, true)),
         count(*) FILTER (kind = $click AND seen_as = 'view_item_list'),
         count(*) FILTER (kind = 'add_to_cart' AND seen_as = 'view_item_list'),
         count(*) FILTER (kind = 'purchase' AND seen_as = 'view_item_list'),
         0, 0, 0, 0, 0, NULL, 0, 0, NULL, 0, NULL, 0, 0
  FROM following GROUP BY ALL
  UNION ALL
  SELECT item_id, picture, period, randomized, 0, 0, count(*), 0, 0, 0, 0, 0, 0, 0, 0, 0,
         NULL, 0, 0, NULL, 0, NULL, 0, 0
  FROM purchases WHERE picture IS NOT NULL GROUP BY ALL
  UNION ALL
  SELECT item_id, picture, period, randomized, 0, 0, 0, 0, 0, 0, 0,
         count(*) FILTER (kind = 'rate' AND value >= $good_rating),
         count(*) FILTER (kind = 'refund'), count(*) FILTER (kind = 'again'),
         count(*) FILTER (kind = 'review'), count(*) FILTER (kind = 'share'),
         NULL, 0, 0, NULL, 0, NULL, 0, 0
  FROM after GROUP BY ALL
)
SELECT item_id, picture, period, randomized, sum(impressions) AS impressions,
       sum(research) AS research, sum(bought) AS bought, sum(detail) AS detail,
       sum(click) AS click, sum(cart) AS cart, sum(purchase) AS purchase, sum(rating) AS rating,
       sum(return) AS return, sum(repurchase) AS repurchase, sum(review) AS review,
       sum(share) AS share, sum(prices) / nullif(sum(priced), 0) AS log_price,
       sum(promoted) / nullif(sum(seen), 0) AS promoted,
       sum(stocks) / nullif(sum(stocked), 0) AS stock,
       sum(ranks) / nullif(sum(ranked), 0) AS log_rank
FROM parts GROUP BY ALL ORDER BY item_id, period, picture, randomized
"""

_CELLS = """
WITH shown AS (
  SELECT item_id, picture, period, randomized, position, count(*) AS impressions,
         count(*) FILTER (free) AS free
  FROM views WHERE picture IS NOT NULL AND position IS NOT NULL AND kind = 'view_item_list'
  GROUP BY ALL
), clicked AS (
  SELECT item_id, picture, period, randomized, position, count(*) AS clicks
  FROM following WHERE kind = $click AND position IS NOT NULL AND seen_as = 'view_item_list'
  GROUP BY ALL
)
SELECT item_id, picture, period, randomized, position, impressions, free,
       coalesce(clicks, 0) AS clicks
FROM shown LEFT JOIN clicked USING (item_id, picture, period, randomized, position)
"""

_OUTCOMES = (
    *("detail", "click", "cart", "purchase", "rating", "return"),
    *("repurchase", "review", "share"),
)
_NUMBERS = ("log_price", "promoted", "stock", "log_rank")


def collect(
    events: pa.Table,
    versions: pa.Table,
    *,
    config: ExposureConfig | None = None,
    progress: Progress = silent,
) -> Spells:
    """Count what was shown and what came of it.

    Args:
        events: Columns of `momentary.types.Event`, properties as JSON text.
        versions: When which picture was an item's: `item_id`, `picture`, `since_us`.
        config: How a log becomes spells.
        progress: Told after each of five steps.

    Raises:
        DataError: If columns are missing, or no event falls on a known picture.
    """
    chosen = config or ExposureConfig()
    _check(versions, {"item_id", "picture", "since_us"}, "versions")
    _check(events, {"item_id", "event_type", "timestamp_us", "position", "properties"}, "events")
    with duckdb.connect() as connection:
        connection.register("rows", events)
        connection.register("versions", versions)
        steps = {
            "read": (_EVENTS, {}),
            "views": (_VIEWS, _window(events, chosen)),
            "clicks": (_FOLLOWING, {"reach": int(chosen.view_hours * 3_600_000_000)}),
            "purchases": (_PURCHASES, _window(events, chosen)),
            "afterwards": (_AFTER, {}),
        }
        for done, (name, (query, values)) in enumerate(steps.items()):
            progress(done, len(steps), name)
            connection.execute(query, values)
        selects = connection.execute(
            "SELECT count(*) > 0 FROM logged WHERE kind = 'select_item'"
        ).fetchone()
        click = "select_item" if selects and selects[0] else "view_item"
        spells = connection.execute(
            _SPELLS,
            {"click": click, "dwell_s": chosen.dwell_s, "good_rating": chosen.good_rating},
        ).fetchnumpy()
        cells = connection.execute(_CELLS, {"click": click}).fetchnumpy()
        progress(len(steps), len(steps))
    if not len(spells["item_id"]):
        raise DataError(
            "No event falls on a known picture; check that versions names the items of the log, "
            "and that since_us is not after the events."
        )
    return _spells(spells, cells, positions=chosen.positions)


def _check(table: pa.Table, needed: set[str], name: str) -> None:
    missing = sorted(needed - set(table.column_names))
    if missing:
        raise DataError(f"{name} lacks the columns {', '.join(missing)}.")


def _window(events: pa.Table, config: ExposureConfig) -> dict[str, int]:
    times = events["timestamp_us"].to_numpy()
    start = int(times.min()) if len(times) else 0
    return {"start": start, "period": int(config.period_days * _DAY_US)}


def _spells(
    rows: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
    cells: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
    *,
    positions: int,
) -> Spells:
    items, item = np.unique(np.asarray(rows["item_id"]).astype(str), return_inverse=True)
    pictures, picture = np.unique(np.asarray(rows["picture"]).astype(str), return_inverse=True)
    period = np.asarray(rows["period"]).astype(np.int64)
    period -= period.min()
    randomized = np.asarray(rows["randomized"]).astype(np.bool_)
    impressions = np.asarray(rows["impressions"]).astype(np.float64)
    key = _key(
        item.astype(np.int64), picture.astype(np.int64), period=period, randomized=randomized
    )
    examined, kappa, warnings = _examined(
        impressions,
        key,
        cell_key=_cell_key(cells, items, pictures, period_of=rows),
        cells=cells,
        positions=positions,
    )
    numbers, names = _numbers(rows)
    return Spells(
        item=item.astype(np.int64),
        picture=picture.astype(np.int64),
        period=period,
        items=tuple(items.tolist()),
        pictures=tuple(pictures.tolist()),
        exposure={
            "impression": examined,
            "research view": np.asarray(rows["research"]).astype(np.float64),
            "purchase": np.asarray(rows["bought"]).astype(np.float64),
        },
        counts={name: np.asarray(rows[name]).astype(np.float64) for name in _OUTCOMES},
        numbers=numbers,
        names=names,
        randomized=randomized,
        examination=kappa,
        warnings=warnings,
    )


def _key(item: IntArray, picture: IntArray, *, period: IntArray, randomized: BoolArray) -> IntArray:
    wide = item.astype(np.int64) * (int(picture.max(initial=0)) + 1) + picture
    key: IntArray = (wide * 100_000 + period) * 2 + randomized.astype(np.int64)
    return key


def _cell_key(
    cells: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
    items: np.ndarray[tuple[int], np.dtype[np.str_]],
    pictures: np.ndarray[tuple[int], np.dtype[np.str_]],
    *,
    period_of: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
) -> IntArray:
    item = np.searchsorted(items, np.asarray(cells["item_id"]).astype(str))
    picture = np.searchsorted(pictures, np.asarray(cells["picture"]).astype(str))
    first = int(np.asarray(period_of["period"]).astype(np.int64).min())
    period = np.asarray(cells["period"]).astype(np.int64) - first
    wide = item.astype(np.int64) * len(pictures) + picture
    key: IntArray = (wide * 100_000 + period) * 2 + np.asarray(cells["randomized"]).astype(np.int64)
    return key


def _examined(
    impressions: Matrix,
    key: IntArray,
    *,
    cell_key: IntArray,
    cells: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
    positions: int,
) -> tuple[Matrix, tuple[float, ...], tuple[str, ...]]:
    """Impressions weighted by examination; those without a position count as the average one."""
    if not len(cell_key):
        return impressions, (), ("Positions are not in the log: every impression counts as seen.",)
    shown = np.asarray(cells["impressions"]).astype(np.float64)
    free = np.asarray(cells["free"]).astype(np.float64)
    clicks = np.asarray(cells["clicks"]).astype(np.float64)
    position = np.asarray(cells["position"]).astype(np.int64)
    count = min(positions, int(position.max()) + 1)
    chance = (free == shown) & (shown > 0)
    drawn = bool(chance.sum() >= count and shown[chance].sum() >= 0.01 * shown.sum())
    used = chance if drawn else np.ones(len(shown), dtype=np.bool_)
    kappa = examination(
        shown[used],
        clicks=clicks[used],
        position=position[used],
        spell=cell_key[used],
        positions=count,
    )
    if kappa is None:
        warning = "Items never moved between positions: how likely each is to be seen is unknown."
        return impressions, (), (warning,)
    order = np.argsort(key)
    place = order[np.searchsorted(key[order], cell_key)]
    weight = kappa[np.minimum(position, count - 1)]
    seen = np.bincount(place, weights=shown * weight, minlength=len(key))
    placed = np.bincount(place, weights=shown, minlength=len(key))
    mean = float((shown * weight).sum() / shown.sum())
    warnings = (
        ()
        if drawn
        else (
            "Positions are not randomised: how likely each is to be seen comes from pictures that "
            "were shown at several positions.",
        )
    )
    return seen + (impressions - placed) * mean, tuple(kappa.tolist()), warnings


def _numbers(
    rows: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
) -> tuple[Matrix, tuple[str, ...]]:
    """Confounders that vary; a missing value becomes the mean."""
    columns, names = [], []
    for name in _NUMBERS:
        raw = rows[name]
        values = np.ma.filled(np.ma.asarray(raw).astype(np.float64), np.nan)
        there = np.isfinite(values)
        if not there.any() or values[there].std() < 1e-12:
            continue
        columns.append(np.where(there, values, values[there].mean()))
        names.append(name.replace("_", " "))
    joined = np.stack(columns, axis=1) if columns else np.empty((len(rows["period"]), 0))
    return joined, tuple(names)
