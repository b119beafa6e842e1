"""A made-up shop to try the moments on: drawn pictures, simulated shoppers, known effects.

Everything here is simulated. Better items get brighter pictures, so plain comparison says that
brightness sells, which it does not; in each fortnight three fifths of the items draw one of their
pictures anew. True effects: warmer pictures are looked at, clicked and reviewed more; those with a
larger subject are clicked more and sent back more often (an over-promise). People have lasting
tastes and also go back to the brand they chose last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.edits import edit
from momentary.moments.estimates import Matrix
from momentary.moments.pixels import Pixels, encode_png
from momentary.types import IntArray

EFFECTS: Mapping[str, Mapping[str, float]] = {
    "click": {"warmth": 0.25, "subject_size": 0.35},
    "return": {"subject_size": 0.50},
    "review": {"warmth": 0.30},
    "detail": {"warmth": 0.20},
}
"""True effects: logarithm of the rate per SD of an attribute over what is shown."""

POSITIONS = 8
_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_PERIOD_DAYS = 14
_CATEGORIES = ("coat", "dress", "shirt", "shoe")
_STOCKS = (0.2, 0.6, 1.0)
_EDITS = ("warmth", "warmth", "brightness", "saturation")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleConfig:
    """How large the shop is.

    Attributes:
        items: How many.
        versions: Pictures of an item, over time.
        impressions: In all.
        visitors: How many people.
        periods: Fortnights.
        height: Of a picture, in pixels; its width is three quarters of that.
    """

    items: int = 160
    versions: int = 3
    impressions: int = 200_000
    visitors: int = 6_000
    periods: int = 4
    height: int = 96

    def __post_init__(self) -> None:
        for name in ("items", "versions", "impressions", "visitors", "periods"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 2 or more.")
        if self.height < 64:
            raise ValueError(f"height is {self.height}; it must be 64 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Which item shows which picture when.

    Attributes:
        quality: Of each item; nobody measured it. Shape (items,).
        log_price: List price. Shape (items,).
        version: Shape (items, periods).
        promoted: Shape (items, periods).
        stock: From 0 to 1. Shape (items, periods).
        signal: By outcome, what an item's version does to its rate. Each (items, versions).
    """

    quality: Matrix
    log_price: Matrix
    version: IntArray
    promoted: NDArray[np.bool_]
    stock: Matrix
    signal: Mapping[str, Matrix]


def write_example(
    folder: Path, *, rng: np.random.Generator, config: ExampleConfig | None = None
) -> tuple[Path, ...]:
    """Write photos/, and events, versions, facts, pictures and choices as Parquet.

    Args:
        folder: Made if it is not there.
        rng: Makes everything.
        config: How large the shop is.

    Returns:
        What was written.
    """
    chosen = config or ExampleConfig()
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    quality = rng.normal(size=chosen.items)
    values = np.empty((chosen.items, chosen.versions, len(ATTRIBUTES)))
    for item in range(chosen.items):
        for version, pixels in enumerate(_pictures(float(quality[item]), rng=rng, config=chosen)):
            values[item, version] = measure(pixels)
            (photos / _picture(item, version)).write_bytes(encode_png(pixels))
    shelf = stock_shelf(values, quality=quality, rng=rng, periods=chosen.periods)
    price = np.exp(shelf.log_price)
    names = [f"item-{item:03d}" for item in range(chosen.items)]
    pairs = [(item, version) for item in range(chosen.items) for version in range(chosen.versions)]
    kinds = [_CATEGORIES[item % len(_CATEGORIES)] for item in range(chosen.items)]
    tables = {
        "events": simulate_log(shelf, rng=rng, config=chosen),
        "versions": versions_of(shelf),
        "facts": pa.table({"item_id": names, "category": kinds, "log_price": shelf.log_price}),
        "pictures": pa.table(
            {
                "picture": [_picture(*pair) for pair in pairs],
                "category": [kinds[item] for item, _ in pairs],
                "price": [float(price[item]) for item, _ in pairs],
            }
        ),
        "choices": simulate_choices(rng),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return (photos, *(folder / f"{name}.parquet" for name in tables))


def stock_shelf(
    values: Matrix, *, quality: Matrix, rng: np.random.Generator, periods: int
) -> Shelf:
    """Decide which version each item shows in each period.

    Args:
        values: Attributes of every picture. Shape (items, versions, attributes).
        quality: Shape (items,).
        rng: Makes it.
        periods: How many.
    """
    items, versions = values.shape[:2]
    at = {name: place for place, name in enumerate(ATTRIBUTES)}
    version = np.zeros((items, periods), dtype=np.int64)
    for period in range(1, periods):
        fresh = rng.integers(versions, size=items)
        version[:, period] = np.where(rng.random(items) < 0.6, fresh, version[:, period - 1])
    shown = values[np.arange(items)[:, None], version].reshape(-1, values.shape[2])
    standard = (values - shown.mean(axis=0)) / shown.std(axis=0)
    return Shelf(
        quality=quality,
        log_price=3.0 + 0.4 * rng.normal(size=items) + 0.2 * quality,
        version=version,
        promoted=rng.random((items, periods)) < 0.15,
        stock=rng.choice(_STOCKS, size=(items, periods)),
        signal={
            outcome: sum(
                (size * standard[:, :, at[name]] for name, size in sizes.items()),
                np.zeros((items, versions)),
            )
            for outcome, sizes in EFFECTS.items()
        },
    )


def versions_of(shelf: Shelf) -> pa.Table:
    """When each item's picture changed: item_id, picture, since_us."""
    rows = [
        (item, int(shelf.version[item, period]), period)
        for item in range(len(shelf.version))
        for period in range(shelf.version.shape[1])
        if period == 0 or shelf.version[item, period] != shelf.version[item, period - 1]
    ]
    return pa.table(
        {
            "item_id": [f"item-{item:03d}" for item, _, _ in rows],
            "picture": [_picture(item, version) for item, version, _ in rows],
            "since_us": [period * _PERIOD_DAYS * _DAY_US for _, _, period in rows],
        }
    )


def simulate_log(shelf: Shelf, *, rng: np.random.Generator, config: ExampleConfig) -> pa.Table:
    """Impressions, searches and what came of them, as an event log."""
    shown = _View(shelf, config.impressions, rng=rng, config=config)
    searched = _View(shelf, config.impressions // 5, rng=rng, config=config)
    examined = 1.0 / (1.0 + shown.position) ** 0.7
    pull = np.exp(-2.1 + shown.interest + shown.of(shelf.signal["click"])) * examined
    clicked = rng.random(len(pull)) < np.minimum(pull, 0.95)
    carted = clicked & (rng.random(len(pull)) < 0.8)
    bought = carted & (rng.random(len(pull)) < 0.9)
    looked = rng.random(len(searched.item)) < np.minimum(
        np.exp(-1.6 + searched.interest + searched.of(shelf.signal["detail"])), 0.95
    )
    after = {
        name: bought & (rng.random(len(pull)) < np.minimum(chance, 0.95))
        for name, chance in {
            "refund": 0.25 * np.exp(shown.of(shelf.signal["return"])),
            "rate": np.full(len(pull), 0.5),
            "review": 0.2 * np.exp(shown.of(shelf.signal["review"])),
            "share": np.full(len(pull), 0.15),
            "purchase": np.full(len(pull), 0.15),
        }.items()
    }
    later = {"refund": 4, "rate": 5, "review": 6, "share": 3, "purchase": 12}
    parts = [
        shown.events("view_item_list", properties=True, placed=True, priced=True),
        searched.events("search", properties=True),
        searched.events("view_item", looked, after_us=8 * _SECOND_US, dwell=True),
        shown.events("select_item", clicked, after_us=5 * _SECOND_US),
        shown.events("add_to_cart", carted, after_us=60 * _SECOND_US),
        shown.events("purchase", bought, after_us=300 * _SECOND_US, priced=True),
        *(
            shown.events(name, happened, after_us=later[name] * _DAY_US)
            for name, happened in after.items()
        ),
    ]
    table = pa.concat_tables(parts)
    rated = np.array(table["event_type"].to_pylist()) == "rate"
    stars = rng.choice([2.0, 3.0, 4.0, 5.0], p=[0.1, 0.2, 0.4, 0.3], size=table.num_rows)
    return table.append_column("value", pa.array(np.where(rated, stars, np.nan), from_pandas=True))


def simulate_choices(
    rng: np.random.Generator, *, people: int = 120, choices: int = 10, brands: int = 4
) -> pa.Table:
    """People choosing one of four brands again and again, one row an alternative."""
    taste, last = 0.9 * rng.normal(size=(people, brands)), np.full(people, -1)
    everybody, rows = np.arange(people), []
    for turn in range(choices):
        price, bright = rng.normal(size=(2, people, brands))
        position = np.argsort(rng.random((people, brands)), axis=1)
        loyal = np.arange(brands) == last[:, None]
        utility = taste + 0.6 * loyal - 0.7 * price - 0.5 * np.log1p(position) + 0.4 * bright
        chosen = (utility + rng.gumbel(size=utility.shape)).argmax(axis=1)
        last = chosen
        rows.append(
            {
                "person": np.repeat(everybody, brands),
                "choice": np.full(people * brands, turn),
                "chosen": (np.arange(brands) == chosen[:, None]).astype(np.int64).ravel(),
                "brand": np.tile([f"brand {each}" for each in range(brands)], people),
                "category": np.full(people * brands, "shirt"),
                "price": price.ravel(),
                "position": position.ravel(),
                "brightness": bright.ravel(),
            }
        )
    return pa.table({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


class _View:
    """Many times that somebody saw an item, with everything drawn that led to it."""

    def __init__(
        self, shelf: Shelf, count: int, *, rng: np.random.Generator, config: ExampleConfig
    ) -> None:
        items, self.periods = shelf.version.shape
        chance = np.exp(0.3 * shelf.quality)
        self.item = rng.choice(items, size=count, p=chance / chance.sum())
        self.visitor = rng.integers(config.visitors, size=count)
        days = rng.random(count) * _PERIOD_DAYS * self.periods
        self.time = (days * _DAY_US).astype(np.int64)
        self.period = (days // _PERIOD_DAYS).astype(np.int64)
        self.version = shelf.version[self.item, self.period]
        # Better items stand higher.
        place = rng.gumbel(size=(count, POSITIONS))
        place -= 0.15 * shelf.quality[self.item, None] * np.arange(POSITIONS)
        self.position = place.argmax(axis=1)
        self.promoted = shelf.promoted[self.item, self.period]
        self.stock = shelf.stock[self.item, self.period]
        self.price = np.exp(shelf.log_price[self.item]) * np.where(self.promoted, 0.8, 1.0)
        self.interest = (
            0.5 * shelf.quality[self.item] + 0.3 * self.promoted + 0.2 * (self.stock - 0.6)
        )

    def of(self, values: Matrix) -> Matrix:
        """A value of each item's version, for each view."""
        found: Matrix = values[self.item, self.version]
        return found

    def events(  # noqa: PLR0913 - what an event may carry
        self,
        kind: str,
        happened: NDArray[np.bool_] | None = None,
        *,
        after_us: int = 0,
        properties: bool = False,
        placed: bool = False,
        priced: bool = False,
        dwell: bool = False,
    ) -> pa.Table:
        """Events of one kind, for the views in which it happened."""
        rows = np.arange(len(self.item)) if happened is None else np.flatnonzero(happened)
        names = np.array([f"item-{item:03d}" for item in range(int(self.item.max()) + 1)])
        told = pa.nulls(len(rows), pa.string())
        if properties:
            code = self.promoted[rows] * 3 + np.searchsorted(_STOCKS, self.stock[rows])
            texts = [
                f'{{"promoted": {str(promoted).lower()}, "stock": {stock}}}'
                for promoted in (False, True)
                for stock in _STOCKS
            ]
            told = pa.array(np.array(texts)[code])
        elif dwell:
            told = pa.array(['{"dwell_s": 12}'] * len(rows), pa.string())
        visitors = np.array([f"v{each}" for each in range(int(self.visitor.max()) + 1)])
        empty = pa.nulls(len(rows), pa.string())
        return pa.table(
            {
                "event_type": pa.array([kind] * len(rows), pa.string()),
                "item_id": pa.array(names[self.item[rows]]),
                "timestamp_us": pa.array(self.time[rows] + after_us),
                "user_id": pa.array(visitors[self.visitor[rows]]),
                "anonymous_id": empty,
                "session_id": empty,
                "position": pa.array(self.position[rows])
                if placed
                else pa.nulls(len(rows), pa.int64()),
                "price": pa.array(self.price[rows])
                if priced
                else pa.nulls(len(rows), pa.float64()),
                "properties": told,
            }
        )


def _picture(item: int, version: int) -> str:
    return f"item-{item:03d}-{version}.png"


def _pictures(quality: float, *, rng: np.random.Generator, config: ExampleConfig) -> list[Pixels]:
    """A drawn product, and edits of it."""
    height, width = config.height, config.height * 3 // 4
    rows, columns = np.mgrid[0:height, 0:width]
    level = np.clip(190 + 25 * quality + 15 * rng.normal(), 110, 245)
    ground = level + rng.uniform(-10, 10, 3)
    picture = ground + rng.normal(0, 3, (height, width, 1)) + 6 * np.sin(rows / 30)[..., None]
    centre = np.array([height, width]) * rng.uniform(0.4, 0.6, 2)
    radius = width * rng.uniform(0.23, 0.33)
    body = ((rows - centre[0]) / 1.4) ** 2 + (columns - centre[1]) ** 2 < radius**2
    stripes = rng.uniform(5, 35) * np.sin(columns * rng.uniform(0.2, 0.6) + rows * 0.1)
    colour = rng.integers(10, 190, 3)
    product = colour + stripes[..., None] + rng.normal(0, 7, (height, width, 3))
    picture = np.where(body[..., None], product, picture)
    first = picture.clip(0, 255).astype(np.uint8)
    found = [first]
    for _ in range(config.versions - 1):
        changed = first
        for name in ("subject_size", str(rng.choice(_EDITS))):
            changed = edit(changed, name, float(rng.uniform(-0.9, 0.9)))
        found.append(changed)
    return found
