"""What a mailer page or a display does to sales: first sight on real data.

dunnhumby's Complete Journey tells, for 112 stores and a year of weeks, where in the mailer and
where in the store each product was shown. One row is a product in a store in a week. The estimate
compares a product in a store with itself in other weeks of the same quarter of a year (Poisson with
a fixed effect for each product, store and quarter, errors clustered by product), with the price and
the time of year held fixed; what it is per is the number of shopping trips to that store in that
week. The two weeks before and after a promotion have numbers of their own, so that it is compared
with weeks that nobody waits in or has stocked up for.

Nobody drew lots: rung 3. Where sales differ the week before already, the number is not the place's
alone; every interval allows for as large a difference (`around`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from momentary.errors import DataError
from momentary.moments.around import Allowed, allow_for_before, known, neighbours
from momentary.moments.estimates import Estimate, Matrix
from momentary.moments.multiplicity import benjamini_hochberg, romano_wolf
from momentary.moments.poisson import comparable, informative, within_poisson
from momentary.moments.refute import robustness_value
from momentary.moments.results import (
    Effect,
    EffectTable,
    Fit,
    Interval,
    Outcome,
    Scale,
    WeeksAround,
    percent,
    words_of,
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

_METHOD = "within product, store and quarter, Poisson"
_WEEKS = (-2, -1, 1, 2)  # from the promotion: what has a number of its own
_BEFORE_SIZE = 0.05  # p below which sales are said to differ the week before
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
        local_weeks: A product in a store is compared with itself within so many weeks.
        fdr: False-discovery rate over the places.
        level: Coverage of the intervals.
    """

    min_purchases: int = 12
    month_weeks: int = 4
    local_weeks: int = 13
    fdr: float = 0.10
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.min_purchases < 2:
            raise ValueError(f"min_purchases is {self.min_purchases}; it must be 2 or more.")
        if self.month_weeks < 1:
            raise ValueError(f"month_weeks is {self.month_weeks}; it must be 1 or more.")
        if self.local_weeks < 2:
            raise ValueError(f"local_weeks is {self.local_weeks}; it must be 2 or more.")
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
        progress: Told after each of three steps.
    """
    chosen = config or PromotionConfig()
    progress(0, 3, "read")
    cells = promotion_cells(folder, config=chosen)
    weeks = _weeks_around(cells)
    compared = _compared(cells, weeks, config=chosen)
    season = _season(cells.week, weeks=chosen.month_weeks)
    progress(1, 3, "within product and store")
    held = np.concatenate([cells.log_price[:, None], season], axis=1)
    found = _within(cells, compared, weeks, controls=held)
    progress(2, 3, "without the price")
    bare = _within(cells, compared, weeks, controls=season)
    progress(3, 3)
    return _table(cells, compared.rows, found=found, bare=bare, config=chosen)


class _Compared(NamedTuple):
    """Cells that say something, and whose fixed effect each has."""

    rows: BoolArray
    group: IntArray


class _Around(NamedTuple):
    """The joint fit: places now and in the weeks around.

    Attributes:
        estimate: Of the columns below.
        columns: Place and week of each coefficient, 0 being the promotion's own week.
    """

    estimate: Estimate
    columns: tuple[tuple[int, int], ...]

    def at(self, place: int, week: int) -> int | None:
        """Where a coefficient stands; None where the data cannot tell it."""
        return self.columns.index((place, week)) if (place, week) in self.columns else None


def _weeks_around(cells: PromotionCells) -> Mapping[int, NDArray[np.floating]]:
    """By week from the promotion: where a product without promotion now will be or was shown."""
    quiet = np.asarray(cells.places.sum(axis=1) == 0)
    found: dict[int, NDArray[np.floating]] = {0: cells.places}
    for week in _WEEKS:
        other = neighbours(cells.places, group=cells.pair, period=cells.week, ahead=-week)
        found[week] = (other * quiet[:, None]).astype(np.float32)
    return found


def _compared(
    cells: PromotionCells, weeks: Mapping[int, NDArray[np.floating]], *, config: PromotionConfig
) -> _Compared:
    told = known(np.concatenate(list(weeks.values()), axis=1))
    block = (cells.week - cells.week.min()) // config.local_weeks
    group = cells.pair * (int(block.max()) + 1) + block
    exposure = np.where(told, cells.trips, 0.0)
    return _Compared(informative(cells.purchases, exposure=exposure, group=group), group)


def _season(week: IntArray, *, weeks: int) -> Matrix:
    block = (week - week.min()) // weeks
    season: Matrix = np.eye(int(block.max()) + 1)[block][:, 1:]
    return season


def _within(
    cells: PromotionCells,
    compared: _Compared,
    weeks: Mapping[int, NDArray[np.floating]],
    *,
    controls: Matrix,
) -> _Around:
    rows = compared.rows
    order = sorted(weeks, key=lambda week: (abs(week), week))
    columns = np.concatenate([controls[rows], *(weeks[week][rows] for week in order)], axis=1)
    used, kept = comparable(
        cells.purchases[rows],
        exposure=cells.trips[rows],
        columns=columns,
        group=compared.group[rows],
    )
    count = controls.shape[1]
    names = [(place, week) for week in order for place in range(cells.places.shape[1])]
    told = tuple(name for name, use in zip(names, kept[count:], strict=True) if use)
    if not any(week == 0 for _, week in told):
        raise DataError("No product was shown in a place in some weeks and not in others.")
    shown = np.flatnonzero(kept[count:]) + count
    order_of = [*shown.tolist(), *np.flatnonzero(kept[:count]).tolist()]
    ordered = columns[:, order_of] if used.all() else columns[used][:, order_of]
    del columns
    estimate = within_poisson(
        cells.purchases[rows][used],
        exposure=cells.trips[rows][used],
        columns=ordered,
        group=compared.group[rows][used],
        cluster=cells.product[rows][used],
    )
    return _Around(estimate.first(len(told)), told)


def _table(
    cells: PromotionCells,
    used: BoolArray,
    *,
    found: _Around,
    bare: _Around,
    config: PromotionConfig,
) -> EffectTable:
    told = [place for place, week in found.columns if week == 0]
    names = [list(PLACES)[place] for place in told]
    own = np.array([found.at(place, 0) for place in told])
    allowed = [
        allow_for_before(
            found.estimate, exposure=int(at), before=found.at(place, -1), level=config.level
        )
        for place, at in zip(told, own.tolist(), strict=True)
    ]
    q = benjamini_hochberg(np.array([each.p for each in allowed]))
    family = romano_wolf(
        np.array([each.least for each in allowed]),
        np.stack([each.influence for each in allowed], axis=1),
        rng=np.random.default_rng(0),
    )
    effects = tuple(
        _effect(
            cells,
            used,
            _Found(
                name=names[at],
                column=place,
                allowed=allowed[at],
                bare=float(bare.estimate.coefficients[bare.columns.index((place, 0))]),
                error=float(found.estimate.errors[own[at]]),
                clusters=len(found.estimate.clusters),
                q=float(q[at]),
                family=float(family[at]),
            ),
            config=config,
        )
        for at, place in enumerate(told)
    )
    estimate = found.estimate.take(own)
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
                method=_METHOD,
                attributes=tuple(names),
                coefficients=tuple(estimate.coefficients.tolist()),
                covariance=tuple(tuple(row) for row in estimate.covariance.tolist()),
                rate=float(cells.purchases[used].sum() / cells.trips[used].sum()),
                items=len(np.unique(cells.product[used])),
                exposures=float(cells.trips[used].sum()),
                events=float(cells.purchases[used].sum()),
                switchers=_switchers(cells, used),
            ),
        ),
        exposure_noun="promotion",
        fdr=config.fdr,
        level=config.level,
        around=tuple(_around(found, place, name, level=config.level)
                     for place, name in zip(told, names, strict=True)),
        warnings=_warnings(cells, used, dict(zip(names, allowed, strict=True))),
    )  # fmt: skip


def _around(found: _Around, place: int, name: str, *, level: float) -> WeeksAround:
    """What is far from a promotion is 0, and what could not be told is left out."""
    weeks = sorted(week for where, week in found.columns if where == place)
    at = np.array([found.at(place, week) for week in weeks])
    low, high = (end[at] for end in found.estimate.interval(level))
    middle = found.estimate.coefficients[at]
    return WeeksAround(
        attribute=name,
        outcome=OUTCOME.name,
        weeks=tuple(weeks),
        percent=tuple(percent(value) for value in middle.tolist()),
        low=tuple(percent(value) for value in low.tolist()),
        high=tuple(percent(value) for value in high.tolist()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One place's number, with the price held fixed, and what it would be without (`bare`)."""

    name: str
    column: int
    allowed: Allowed
    bare: float
    error: float
    clusters: int
    q: float
    family: float


def _effect(
    cells: PromotionCells, used: BoolArray, found: _Found, *, config: PromotionConfig
) -> Effect:
    allowed = found.allowed
    interval = Interval(
        percent=percent(allowed.coefficient), low=percent(allowed.low), high=percent(allowed.high)
    )
    there = cells.places[used][:, found.column] > 0
    cut = cells.log_price[used] < np.log(_CUT)
    discovered = found.q <= config.fdr
    reach = float(stats.norm.ppf(0.5 + config.level / 2.0))
    return Effect(
        attribute=found.name,
        outcome=OUTCOME.name,
        rung=3,
        method=_METHOD,
        percent=interval.percent,
        low=interval.low,
        high=interval.high,
        coefficient=allowed.coefficient,
        standard_error=found.error,
        p=allowed.p,
        q=found.q,
        discovered=discovered,
        family_p=found.family,
        robustness=robustness_value(
            allowed.least / max(found.error, 1e-300), freedom=found.clusters - 1, reach=reach
        ),
        naive=_naive(cells, used, there, level=config.level),
        words=_sentence(PLACES[found.name][0], interval, discovered=discovered),
        warnings=(
            _before(allowed),
            f"{100 * cut[there].mean():.0f} % of these weeks have a price cut, against "
            f"{100 * cut[~there].mean():.0f} % of the others; without holding the price fixed the "
            f"number would be {percent(found.bare):+.0f} %.",
        ),
    )


def _before(allowed: Allowed) -> str:
    """What the week before says, in one sentence."""
    if allowed.before_p is None:
        return "What sales did the week before cannot be told: no such week is without promotion."
    change = f"{percent(allowed.before):+.0f} %"
    if allowed.before_p >= _BEFORE_SIZE:
        return f"The week before, sales do not differ ({change}, p {allowed.before_p:.2g})."
    return (
        f"Sales differ the week before already ({change}, p {allowed.before_p:.2g}): it may have "
        "begun before its date or have followed demand. The interval allows for as much; the "
        f"number less that is {percent(allowed.least):+.0f} %."
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


def _sentence(label: str, found: Interval, *, discovered: bool) -> str:
    numbers = f"{found.percent:+.0f} % ({found.low:+.0f} to {found.high:+.0f})"
    if not discovered:
        return f"No clear effect of the {label} on {OUTCOME.label}: {numbers}."
    verb = "raises" if found.percent > 0 else "lowers"
    return (
        f"The {label} {verb} {OUTCOME.label} by {abs(found.percent):.0f} % ({found.low:+.0f} to "
        f"{found.high:+.0f}) against the same product's other weeks of the quarter in the same "
        "store at the same price."
    )


def _switchers(cells: PromotionCells, used: BoolArray) -> int:
    """Products that were shown in some place in some of their weeks and not in others."""
    shown = cells.places[used].any(axis=1)
    products = cells.product[used]
    return len(np.intersect1d(products[shown], products[~shown]))


def _warnings(
    cells: PromotionCells, used: BoolArray, allowed: Mapping[str, Allowed]
) -> tuple[str, ...]:
    shown = cells.places[used].any(axis=1)
    cut = cells.log_price[used] < np.log(_CUT)
    found = [
        "Nobody drew lots for places: this is rung 3, each product and store against itself. What "
        "else came with a promotion and is not in the data may be behind a number. Every interval "
        "allows for sales that differed as much as they did the week before.",
        f"Promotions coincide with price cuts ({100 * cut[shown].mean():.0f} % of promoted weeks, "
        f"{100 * cut[~shown].mean():.0f} % of others); the price is held fixed.",
    ]
    early = [
        f"{PLACES[name][0]} ({percent(each.before):+.0f} %)"
        for name, each in allowed.items()
        if each.before_p is not None and each.before_p < _BEFORE_SIZE
    ]
    if early:
        found.append(
            f"Sales differ the week before already: {words_of(early)}. These numbers are not the "
            "place's alone."
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
