"""What a mailer page or a display does to sales: first sight on real data.

dunnhumby's Complete Journey tells, for 112 stores and a year of weeks, where in the mailer and
where in the store each product was shown. One row is a product in a store in a week. The estimate
compares a product in a store with itself in other weeks (Poisson with a fixed effect for each
product and store, errors clustered by product), with the price and the time of year held fixed;
what it is per is the number of shopping trips to that store in that week.

Nobody drew lots: rung 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from scipy import stats

from momentary.errors import DataError
from momentary.moments.estimates import Estimate, Matrix
from momentary.moments.multiplicity import benjamini_hochberg, romano_wolf
from momentary.moments.poisson import informative, varies_within, within_poisson
from momentary.moments.refute import leads_p, robustness_value
from momentary.moments.results import (
    Effect,
    EffectTable,
    Fit,
    Interval,
    Outcome,
    Scale,
    percent,
)
from momentary.types import BoolArray, IntArray, ObjectArray, Progress, silent

PLACES: Mapping[str, tuple[str, str, str]] = {
    "mailer_front": ("front page of the mailer", "mailer", "D"),
    "mailer_back": ("back page of the mailer", "mailer", "F"),
    "mailer_wrap": ("wrap of the mailer", "mailer", "HJLZ"),
    "mailer_inside": ("inside page of the mailer", "mailer", "ACPX"),
    "store_front": ("display at the store's front", "display", "1"),
    "end_cap": ("end-of-aisle display", "display", "3456"),
    "in_aisle": ("display in the aisle or elsewhere", "display", "279"),
    "in_shelf": ("display in the shelf", "display", "A"),
}
"""Where a product can be shown: label, kind, and dunnhumby's codes."""

OUTCOME = Outcome(
    name="purchase",
    moment="first_sight",
    label="purchases per shopping trip",
    per="shopping trip",
)

_LEADS_FROM = 0.01  # below, sales differ before a promotion already
_CUT = 0.95  # of the usual price: below it a price counts as cut

_CELLS = """
WITH bought AS (
  SELECT product_id, store_id, week, count(DISTINCT basket_id) AS baskets
  FROM read_parquet($transactions)
  WHERE quantity > 0 AND store_id IN (SELECT DISTINCT store_id FROM read_parquet($promotions))
  GROUP BY ALL
), kept AS (
  SELECT product_id, store_id FROM bought
  GROUP BY ALL HAVING sum(baskets) >= $min_purchases AND count(*) >= 2
), sold AS (
  SELECT product_id, min(week) AS first_week, max(week) AS last_week FROM bought GROUP BY ALL
), trips AS (
  SELECT store_id, week, count(DISTINCT basket_id) AS trips
  FROM read_parquet($transactions) GROUP BY ALL
), prices AS (
  SELECT product_id, week, sum(sales_value) / sum(quantity) AS price
  FROM read_parquet($transactions) WHERE quantity > 0 AND sales_value > 0 GROUP BY ALL
), usual AS (
  SELECT product_id, quantile_cont(price, 0.75) AS usual FROM prices GROUP BY ALL
), shown AS (
  SELECT product_id, store_id, week, string_agg(display_location, '') AS display,
         string_agg(mailer_location, '') AS mailer
  FROM read_parquet($promotions) SEMI JOIN kept USING (product_id, store_id) GROUP BY ALL
)
SELECT kept.product_id AS product, kept.store_id AS store, trips.week AS week, trips.trips AS trips,
       coalesce(bought.baskets, 0) AS baskets, coalesce(shown.display, '') AS display,
       coalesce(shown.mailer, '') AS mailer,
       coalesce(ln(prices.price / usual.usual), 0) AS log_price
FROM kept JOIN sold USING (product_id)
JOIN trips ON trips.store_id = kept.store_id
  AND trips.week BETWEEN sold.first_week AND sold.last_week
LEFT JOIN bought ON bought.product_id = kept.product_id AND bought.store_id = kept.store_id
  AND bought.week = trips.week
LEFT JOIN shown ON shown.product_id = kept.product_id AND shown.store_id = kept.store_id
  AND shown.week = trips.week
LEFT JOIN prices ON prices.product_id = kept.product_id AND prices.week = trips.week
LEFT JOIN usual ON usual.product_id = kept.product_id
ORDER BY product, store, week
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionConfig:
    """How much is analysed.

    Attributes:
        min_purchases: A product in a store with fewer purchases in the year is left out.
        month_weeks: Weeks that share one level of the season.
        fdr: False-discovery rate over the places.
        level: Coverage of the intervals.
    """

    min_purchases: int = 12
    month_weeks: int = 4
    fdr: float = 0.10
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.min_purchases < 2:
            raise ValueError(f"min_purchases is {self.min_purchases}; it must be 2 or more.")
        if self.month_weeks < 1:
            raise ValueError(f"month_weeks is {self.month_weeks}; it must be 1 or more.")
        for name, value in (("fdr", self.fdr), ("level", self.level)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionCells:
    """A product in a store in a week.

    Attributes:
        product: Shape (cells,).
        pair: Index of product and store together. Shape (cells,).
        week: Shape (cells,).
        purchases: Baskets that held the product. Shape (cells,).
        trips: Baskets of the store in the week. Shape (cells,).
        places: 1 where it was shown there, in the order of `PLACES`. Shape (cells, places).
        log_price: Against the product's usual price, chain-wide. Shape (cells,).
    """

    product: IntArray
    pair: IntArray
    week: IntArray
    purchases: Matrix
    trips: Matrix
    places: Matrix
    log_price: Matrix


def promotion_cells(folder: Path, *, config: PromotionConfig | None = None) -> PromotionCells:
    """Read promotions and sales.

    Args:
        folder: Holds promotions.parquet and transactions.parquet
            (`momentary.data.datasets.complete_journey_folder`).
        config: How much is analysed.

    Raises:
        DataError: If a file is missing, or nothing is left.
    """
    chosen = config or PromotionConfig()
    files = {name: folder / f"{name}.parquet" for name in ("transactions", "promotions")}
    for file in files.values():
        if not file.is_file():
            raise DataError(f"{file} is not there; install it with: pip install 'momentary[demo]'")
    with duckdb.connect() as connection:
        rows = connection.execute(
            _CELLS,
            {
                **{name: str(file) for name, file in files.items()},
                "min_purchases": chosen.min_purchases,
            },
        ).fetchnumpy()
    if not len(rows["product"]):
        raise DataError(
            f"No product was bought {chosen.min_purchases} times in a store; lower min_purchases."
        )
    product, store = rows["product"].astype(np.int64), rows["store"].astype(np.int64)
    pair = np.concatenate([[0], np.cumsum((np.diff(product) != 0) | (np.diff(store) != 0))])
    places = np.stack([_any_of(rows[kind], codes) for _, kind, codes in PLACES.values()], axis=1)
    return PromotionCells(
        product=product,
        pair=pair.astype(np.int64),
        week=rows["week"].astype(np.int64),
        purchases=rows["baskets"].astype(np.float64),
        trips=rows["trips"].astype(np.float64),
        places=places,
        log_price=np.clip(rows["log_price"].astype(np.float64), -1.5, 1.5),
    )


def _any_of(codes: ObjectArray, wanted: str) -> Matrix:
    values, place = np.unique(codes.astype(str), return_inverse=True)
    told = np.array([any(code in wanted for code in value) for value in values.tolist()])
    shown: Matrix = told.astype(np.float64)[place]
    return shown


def promotion_effects(
    folder: Path, *, config: PromotionConfig | None = None, progress: Progress = silent
) -> EffectTable:
    """What each place does to purchases, within product and store, beside plain correlation.

    Args:
        folder: As for `promotion_cells`.
        config: How much is analysed.
        progress: Told after each of four steps.
    """
    chosen = config or PromotionConfig()
    progress(0, 4, "read")
    cells = promotion_cells(folder, config=chosen)
    used = informative(cells.purchases, exposure=cells.trips, group=cells.pair)
    season = _season(cells.week, weeks=chosen.month_weeks)
    progress(1, 4, "within product and store")
    held = np.concatenate([cells.log_price[:, None], season], axis=1)
    estimate, told = _within(cells, used, held)
    progress(2, 4, "without the price")
    bare, _ = _within(cells, used, season)
    progress(3, 4, "a week ahead")
    leads = leads_p(
        cells.purchases[used],
        exposure=cells.trips[used],
        attributes=cells.places[used][:, told],
        controls=cells.log_price[used][:, None],
        item=cells.pair[used],
        period=cells.week[used],
    )
    progress(4, 4)
    return _table(cells, used, (estimate, bare, told, leads), config=chosen)


def _season(week: IntArray, *, weeks: int) -> Matrix:
    block = (week - week.min()) // weeks
    season: Matrix = np.eye(int(block.max()) + 1)[block][:, 1:]
    return season


def _within(cells: PromotionCells, used: BoolArray, controls: Matrix) -> tuple[Estimate, IntArray]:
    columns = np.concatenate([controls, cells.places], axis=1)[used]
    kept = varies_within(columns, weight=cells.trips[used], group=cells.pair[used])
    count = controls.shape[1]
    told = np.flatnonzero(kept[count:])
    if not len(told):
        raise DataError("No product was shown in a place in some weeks and not in others.")
    ordered = np.concatenate(
        [columns[:, count:][:, kept[count:]], columns[:, :count][:, kept[:count]]], axis=1
    )
    estimate = within_poisson(
        cells.purchases[used],
        exposure=cells.trips[used],
        columns=ordered,
        group=cells.pair[used],
        cluster=cells.product[used],
    )
    return estimate.first(len(told)), told


def _table(
    cells: PromotionCells,
    used: BoolArray,
    found: tuple[Estimate, Estimate, IntArray, float | None],
    *,
    config: PromotionConfig,
) -> EffectTable:
    estimate, bare, told, leads = found
    names = [list(PLACES)[place] for place in told]
    q = benjamini_hochberg(estimate.p_values)
    family = romano_wolf(estimate.coefficients, estimate.influence, rng=np.random.default_rng(0))
    effects = tuple(
        _effect(
            cells,
            used,
            _Found(
                name=name,
                column=int(told[place]),
                estimate=estimate.take(np.array([place])),
                bare=float(bare.coefficients[place]),
                q=float(q[place]),
                family=float(family[place]),
                settled=leads is None or leads >= _LEADS_FROM,
            ),
            config=config,
        )
        for place, name in enumerate(names)
    )
    rate = float(cells.purchases[used].sum() / cells.trips[used].sum())
    return EffectTable(
        title="What a mailer page or a display does to sales",
        source=(
            "dunnhumby, The Complete Journey: promotions and transactions of "
            f"{len(np.unique(cells.product[used])):,} products over {len(np.unique(cells.week))} "
            "weeks (real data)"
        ),
        outcomes=(OUTCOME,),
        scales=tuple(_scale(name) for name in names),
        effects=effects,
        fits=(
            Fit(
                outcome=OUTCOME.name,
                rung=3,
                method="within product and store, Poisson",
                attributes=tuple(names),
                coefficients=tuple(estimate.coefficients.tolist()),
                covariance=tuple(tuple(row) for row in estimate.covariance.tolist()),
                rate=rate,
                items=len(np.unique(cells.product[used])),
                exposures=float(cells.trips[used].sum()),
                events=float(cells.purchases[used].sum()),
                switchers=_switchers(cells, used),
            ),
        ),
        exposure_noun="promotion",
        fdr=config.fdr,
        level=config.level,
        warnings=_warnings(cells, used, leads),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One place's estimate, with the price held fixed and without.

    `settled` says that sales do not differ before a promotion already.
    """

    name: str
    column: int
    estimate: Estimate
    bare: float
    q: float
    family: float
    settled: bool


def _effect(
    cells: PromotionCells, used: BoolArray, found: _Found, *, config: PromotionConfig
) -> Effect:
    value, error = float(found.estimate.coefficients[0]), float(found.estimate.errors[0])
    low, high = (float(end[0]) for end in found.estimate.interval(config.level))
    reach = (high - value) / max(error, 1e-300)
    interval = Interval(percent=percent(value), low=percent(low), high=percent(high))
    there = cells.places[used][:, found.column] > 0
    cut = cells.log_price[used] < np.log(_CUT)
    discovered = found.q <= config.fdr
    return Effect(
        attribute=found.name,
        outcome=OUTCOME.name,
        rung=3,
        method="within product and store, Poisson",
        percent=interval.percent,
        low=interval.low,
        high=interval.high,
        coefficient=value,
        standard_error=error,
        p=float(found.estimate.p_values[0]),
        q=found.q,
        discovered=discovered,
        family_p=found.family,
        robustness=robustness_value(
            value / max(error, 1e-300), freedom=len(found.estimate.clusters) - 1, reach=reach
        ),
        naive=_naive(cells, used, there, level=config.level),
        words=_sentence(
            PLACES[found.name][0], interval, discovered=discovered, settled=found.settled
        ),
        warnings=(
            f"{100 * cut[there].mean():.0f} % of these weeks have a price cut, against "
            f"{100 * cut[~there].mean():.0f} % of the others; without holding the price fixed the "
            f"number would be {percent(found.bare):+.0f} %.",
        ),
    )


def _naive(cells: PromotionCells, used: BoolArray, there: BoolArray, *, level: float) -> Interval:
    """Mean rate with against without, all cells as if they had nothing to do with each other."""
    counts, trips = cells.purchases[used], cells.trips[used]
    events = np.array([counts[there].sum(), counts[~there].sum()])
    rates = events / np.array([trips[there].sum(), trips[~there].sum()])
    middle = float(np.log(rates[0] / rates[1]))
    reach = float(stats.norm.ppf(0.5 + level / 2.0) * np.sqrt((1.0 / events).sum()))
    return Interval(
        percent=percent(middle), low=percent(middle - reach), high=percent(middle + reach)
    )


def _sentence(label: str, found: Interval, *, discovered: bool, settled: bool) -> str:
    numbers = f"{found.percent:+.0f} % ({found.low:+.0f} to {found.high:+.0f})"
    if not discovered:
        return f"No clear effect of the {label} on {OUTCOME.label}: {numbers}."
    if not settled:
        more = "higher" if found.percent > 0 else "lower"
        return (
            f"In weeks with the {label}, {OUTCOME.label} are {abs(found.percent):.0f} % {more} "
            f"({found.low:+.0f} to {found.high:+.0f}) than in the same product's other weeks in "
            "the same store at the same price: a contrast, because sales differ the week before "
            "already."
        )
    verb = "raises" if found.percent > 0 else "lowers"
    return (
        f"The {label} {verb} {OUTCOME.label} by {abs(found.percent):.0f} % ({found.low:+.0f} to "
        f"{found.high:+.0f}), the same product in the same store being compared with itself in "
        "other weeks at the same price."
    )


def _switchers(cells: PromotionCells, used: BoolArray) -> int:
    """Products that were shown in some place in some of their weeks and not in others."""
    shown = cells.places[used].any(axis=1)
    products = cells.product[used]
    return len(np.intersect1d(products[shown], products[~shown]))


def _warnings(cells: PromotionCells, used: BoolArray, leads: float | None) -> tuple[str, ...]:
    shown = cells.places[used].any(axis=1)
    cut = cells.log_price[used] < np.log(_CUT)
    found = [
        "Nobody drew lots for places: this is rung 3, each product and store against itself. What "
        "else came with a promotion and is not in the data may be behind a number.",
        f"Promotions coincide with price cuts ({100 * cut[shown].mean():.0f} % of promoted weeks, "
        f"{100 * cut[~shown].mean():.0f} % of others); the price is held fixed.",
    ]
    if leads is not None and leads < _LEADS_FROM:
        found.append(
            f"Sales already differ in the week before a promotion (p {leads:.2g}): customers wait "
            "or stock up, and promotions of several weeks run on. Read the numbers as contrasts "
            "with unpromoted weeks, not as sales that would otherwise never have come."
        )
    return tuple(found)


def _scale(name: str) -> Scale:
    return Scale(
        attribute=name,
        label=PLACES[name][0],
        unit="",
        mean=0.0,
        sd=1.0,
        low=0.0,
        high=1.0,
        binary=True,
    )
