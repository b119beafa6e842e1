import duckdb
import numpy as np
import pytest

from momentary.data.datasets import complete_journey_folder
from momentary.errors import DataError
from momentary.moments import promotions
from momentary.moments.promotions import PromotionConfig, promotion_cells, promotion_effects


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
    assert "price cut" in effect.warnings[0]
    assert any("rung 3" in each for each in table.warnings)
    assert table.scale("mailer_front").binary
    assert "raises purchases per shopping trip" in effect.words


def test_sales_that_differ_before_a_promotion_are_told_as_a_contrast(shop, monkeypatch):
    monkeypatch.setattr(promotions, "leads_p", lambda *_, **__: 1e-6)
    table = promotion_effects(shop, config=PromotionConfig(min_purchases=5))
    (effect,) = table.effects
    assert "raises" not in effect.words
    assert "a contrast, because sales differ the week before already" in effect.words
    assert any("Sales already differ in the week before" in each for each in table.warnings)


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
