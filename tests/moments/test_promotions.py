from pathlib import Path

import duckdb
import numpy as np
import pytest

from momentary.data.datasets import complete_journey_folder
from momentary.errors import DataError
from momentary.moments import promotions
from momentary.moments.promotions import (
    PLACES,
    PromotionCells,
    PromotionConfig,
    promotion_cells,
    promotion_effects,
)
from momentary.moments.report import summary


def write(folder, transactions, promotions):
    with duckdb.connect() as connection:
        for name, rows in (("transactions", transactions), ("promotions", promotions)):
            connection.register(name, rows)
            connection.execute(f"COPY {name} TO '{folder / name}.parquet' (FORMAT parquet)")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The front page doubles sales; it comes with a price cut that adds half again.

    Popular products are shown more often, so plain comparison exaggerates.
    """
    import pyarrow as pa

    rng = np.random.default_rng(0)
    sold, shown, basket = [], [], 0
    for week in range(1, 31):
        on_front = rng.random(60) < np.where(np.arange(60) >= 30, 0.4, 0.1)
        on_cut = on_front & (rng.random(60) < 0.8) | (rng.random(60) < 0.15)
        for store in (1, 2):
            trips = [basket + each for each in range(120)]
            basket += 120
            sold += [(trip, store, week, 999, 1, 1.0) for trip in trips]
            for product in range(60):
                popular = product >= 30
                front, cut = on_front[product], on_cut[product]
                rate = 0.03 * (3 if popular else 1) * (2 if front else 1) * (1.5 if cut else 1)
                if front:
                    shown.append((product, store, "0", "D", week))
                buyers = rng.choice(trips, rng.binomial(120, rate), replace=False)
                price = 0.8 if cut else 1.0
                sold += [(int(trip), store, week, product, 1, price) for trip in buyers]
    columns = ("basket_id", "store_id", "week", "product_id", "quantity", "sales_value")
    transactions = pa.table(dict(zip(columns, map(list, zip(*sold, strict=True)), strict=True)))
    columns = ("product_id", "store_id", "display_location", "mailer_location", "week")
    promotions = pa.table(dict(zip(columns, map(list, zip(*shown, strict=True)), strict=True)))
    folder = tmp_path_factory.mktemp("promotions")
    write(folder, transactions, promotions)
    return folder


def test_the_front_page_is_told_from_the_price_and_the_product(shop):
    table = promotion_effects(shop, config=PromotionConfig(min_purchases=5))
    (effect,) = table.effects
    assert (effect.attribute, effect.rung, effect.discovered) == ("mailer_front", 3, True)
    assert effect.low < 100 < effect.high
    assert effect.low > 60
    assert effect.naive.low > effect.high  # plain comparison gets product and price as well
    assert "price cut" in effect.warnings[1]
    assert any("rung 3" in each for each in table.warnings)
    assert table.scale("mailer_front").binary
    assert "raises purchases per shopping trip" in effect.words


def panel(seed, *, early, items=400, weeks=26):
    """Cells of places that raise sales by half, and by `early` in the week before already."""
    rng = np.random.default_rng(seed)
    shown = rng.random((items, weeks)) < 0.12
    before = np.roll(shown, -1, axis=1) & ~shown
    before[:, -1] = False
    rate = np.exp(-3 + 0.5 * rng.normal(size=(items, 1)) + np.log(1.5) * shown + early * before)
    places = np.zeros((items * weeks, len(PLACES)))
    places[:, 0] = shown.ravel()
    pair = np.repeat(np.arange(items), weeks)
    return PromotionCells(
        product=pair,
        pair=pair,
        week=np.tile(np.arange(weeks), items),
        purchases=rng.poisson(120 * rate).ravel().astype(float),
        trips=np.full(items * weeks, 120.0),
        places=places,
        log_price=np.where(rng.random(items * weeks) < 0.2, -0.3, 0.0),
    )


def effect_of(cells, monkeypatch):
    monkeypatch.setattr(promotions, "promotion_cells", lambda *_, **__: cells)
    table = promotion_effects(Path())
    return table, table.effects[0]


def test_what_differs_the_week_before_widens_the_interval(monkeypatch):
    calm, effect = effect_of(panel(0, early=0.0), monkeypatch)
    assert effect.low < 50 < effect.high
    assert effect.discovered
    assert "sales do not differ" in effect.warnings[0]
    table, early = effect_of(panel(1, early=0.25), monkeypatch)
    assert early.high - early.low > 2 * (effect.high - effect.low)
    assert early.low < 100 * np.expm1(np.log(1.5) - 0.25) < early.high
    assert "Sales differ the week before already" in early.warnings[0]
    assert any("Sales differ the week before already: front page" in w for w in table.warnings)
    around = dict(zip(table.around[0].weeks, table.around[0].percent, strict=True))
    assert sorted(around) == [-2, -1, 0, 1, 2]
    assert around[-1] == pytest.approx(100 * np.expm1(0.25), abs=8)
    assert abs(around[2]) < 8
    assert "1 of 1 possible effects stand" in summary(calm)[-1]


def test_what_is_no_larger_than_the_week_before_does_not_stand(monkeypatch):
    table, effect = effect_of(panel(2, early=np.log(1.5)), monkeypatch)
    assert effect.low < 0
    assert not effect.discovered
    assert "No clear effect" in effect.words
    assert "0 of 1 possible effects stand" in summary(table)[-1]


def test_every_week_between_first_and_last_sale_is_a_cell(shop):
    cells = promotion_cells(shop, config=PromotionConfig(min_purchases=5))
    assert len(cells.week) == len(cells.purchases) == len(cells.places)
    assert (cells.trips == 120).all()
    pairs = len(np.unique(cells.pair))
    assert 0.9 * pairs * 30 <= len(cells.week) <= pairs * 30
    assert (cells.purchases == 0).any()


def test_missing_files_and_thin_data_say_what_to_do(shop, tmp_path):
    with pytest.raises(DataError, match="momentary\\[demo\\]"):
        promotion_cells(tmp_path)
    with pytest.raises(DataError, match="lower min_purchases"):
        promotion_cells(shop, config=PromotionConfig(min_purchases=10**6))


def test_real_promotions_have_cells_for_every_place():
    cells = promotion_cells(complete_journey_folder(), config=PromotionConfig(min_purchases=60))
    assert (cells.places.sum(axis=0) >= 50).all()
    assert np.isfinite(cells.log_price).all()
