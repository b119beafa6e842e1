"""Cold films: MovieLens 1M with a fifth of the films held out whole, told by their content alone.

Recall@20 is over the cold films only: hits over min(20, films that the visitor chose), the mean
over visitors who chose any. A visitor's history is every warm film that he or she chose. What is
known of a film's fame afterwards (votes, ratings, awards, box office, counts of users) is never
content.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import scipy.sparse

from benchmarks.content_vectors import Table, picture_vectors, table, text_vectors
from benchmarks.report import data_folder
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.text import SentenceEncoder
from momentary.models.content_factor import View
from momentary.types import BoolArray, FloatArray, IntArray

DATA_SET = "movielens_multimodal"
K = 20
SEEDS = (0, 1, 2)
TAGS = ("genres", "director", "actors")
SEEN = -1e9
_YEARS_APART = 4.0
_MINUTES_APART = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """The set.

    Attributes:
        visits: 1 where a visitor chose a film. Shape (visitors, films).
        content: Views of the films by name.
        cold: By seed, which films are held out. Shapes (films,).
    """

    visits: scipy.sparse.csr_array
    content: Mapping[str, View]
    cold: Mapping[int, BoolArray]
    rows: Table

    def taken(self, films: IntArray | BoolArray) -> dict[str, View]:
        """The content of some films."""
        return {name: view[films] for name, view in self.content.items()}


def load(cache: Path) -> Films:
    """Read the set; texts and posters are encoded once."""
    rows = table(DATA_SET)
    place = {int(row["movie_id"]): at for at, row in enumerate(rows)}
    read = pyarrow.parquet.read_table(data_folder() / DATA_SET / "ml1m_interactions.parquet")
    users = np.unique(read["user_id"].to_numpy(), return_inverse=True)[1]
    films = np.array([place[film] for film in read["movie_id"].to_pylist()])
    visits = scipy.sparse.csr_array(
        (np.ones(len(films), dtype=np.float32), (users, films)), shape=(users.max() + 1, len(rows))
    )
    visits.data[:] = 1
    cold = {seed: np.zeros(len(rows), dtype=np.bool_) for seed in range(3)}
    for row in table(DATA_SET, "cold_splits.csv"):
        cold[int(row["seed"])][place[int(row["movie_id"])]] = True
    return Films(visits=visits, content=_content(rows, cache), cold=cold, rows=rows)


def recall(scores: FloatArray, chosen: scipy.sparse.csr_array) -> float:
    """Recall@20. Shapes (visitors, cold films).

    Scores of equal height are ranked against the visitor's films.
    """
    wanted = chosen.toarray() > 0
    asked = wanted.any(axis=1)
    wanted = wanted[asked]
    lowered = scores[asked].astype(np.float64)
    # The smallest difference that a double holds puts what was not chosen before its equals.
    lowered[wanted] = np.nextafter(lowered[wanted], -np.inf)
    best = np.argpartition(-lowered, K, axis=1)[:, :K]
    hits = np.take_along_axis(wanted, best, axis=1).sum(axis=1)
    return float((hits / np.minimum(K, wanted.sum(axis=1))).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One split.

    Attributes:
        warm: Films with behaviour to learn from. Shape (films,).
        cold: Films held out whole. Shape (films,).
        history: Visits of the warm films. Shape (visitors, warm films).
        wanted: Visits of the cold films. Shape (visitors, cold films).
    """

    warm: BoolArray
    cold: BoolArray
    history: scipy.sparse.csr_array
    wanted: scipy.sparse.csr_array

    @classmethod
    def of(cls, films: Films, cold: BoolArray) -> World:
        """The split that holds some films out."""
        warm = ~cold & (np.asarray(films.visits.sum(axis=0)).ravel() > 0)
        return cls(
            warm=warm,
            cold=cold,
            history=scipy.sparse.csr_array(films.visits[:, warm]),
            wanted=scipy.sparse.csr_array(films.visits[:, cold]),
        )


def tf_idf(texts: Sequence[str]) -> scipy.sparse.csr_array:
    """Words of three letters and more that two texts hold, rare ones count more."""
    held = multi_hot([re.findall(r"[a-z]{3,}", text.lower()) for text in texts], at_least=2)
    rarity = np.log(held.shape[0] / np.asarray(held.sum(axis=0)).ravel())
    return scipy.sparse.csr_array(held @ scipy.sparse.diags_array(rarity))


def of_length_1(view: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Every row brought to length 1; rows of zeros stay."""
    lengths = np.sqrt(np.asarray(view.multiply(view).sum(axis=1)).ravel())
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / np.maximum(lengths, 1e-9)) @ view)


def multi_hot(values: Sequence[Sequence[str]], *, at_least: int = 1) -> scipy.sparse.csr_array:
    """A column for every value that `at_least` items have. Shape (items, values)."""
    names, columns = np.unique([each for row in values for each in row], return_inverse=True)
    items = np.repeat(np.arange(len(values)), [len(row) for row in values])
    hot = scipy.sparse.csr_array(
        (np.ones(len(items), dtype=np.float32), (items, columns)), shape=(len(values), len(names))
    )
    hot.data[:] = np.minimum(hot.data, 1)
    often = np.asarray(hot.sum(axis=0)).ravel() >= at_least
    return scipy.sparse.csr_array(hot[:, np.flatnonzero(often)])


def split(text: str, mark: str = ",") -> list[str]:
    """Names in one cell, without what stands in brackets."""
    names = (part.partition("(")[0].strip() for part in text.split(mark))
    return sorted({name for name in names if name and name != "N/A"})


def _content(rows: Table, cache: Path) -> dict[str, View]:
    text = SentenceEncoder()
    encode = functools.partial(text_vectors, DATA_SET, encoder=text, cache=cache)
    return {
        "genres": multi_hot([row["genres"].split("|") for row in rows]),
        "genres_omdb": multi_hot([split(row["omdb_genres"]) for row in rows], at_least=2),
        "year": _bumps([row["title"][-5:-1] for row in rows], apart=_YEARS_APART),
        "runtime": _bumps([row["runtime"] for row in rows], apart=_MINUTES_APART),
        "rated": multi_hot([split(row["rated"]) for row in rows], at_least=5),
        "director": multi_hot([split(row["director"]) for row in rows], at_least=2),
        "writer": multi_hot([split(row["writer"]) for row in rows], at_least=2),
        "actors": multi_hot([split(row["actors"]) for row in rows], at_least=2),
        "country": multi_hot([split(row["country"]) for row in rows], at_least=2),
        "language": multi_hot([split(row["language"]) for row in rows], at_least=2),
        "production": multi_hot([split(row["production"]) for row in rows], at_least=2),
        "people": multi_hot([_people(row) for row in rows], at_least=2),
        "plot": encode([row["plot"] for row in rows]),
        "title": encode([row["title"].rpartition(" (")[0] for row in rows]),
        "poster": picture_vectors(
            DATA_SET, [row["poster"] for row in rows], EfficientNetLite(), cache=cache
        ),
    }


def _people(row: Mapping[str, str]) -> list[str]:
    """Whoever made a film, in whatever part."""
    return sorted({name for part in ("director", "writer", "actors") for name in split(row[part])})


def _bumps(values: Sequence[str], *, apart: float) -> FloatArray:
    """Numbers as overlapping bumps, so that near ones are alike; zeros where there is none."""
    numbers = np.array([_number(value) for value in values])
    known = np.isfinite(numbers)
    centers = np.arange(numbers[known].min(), numbers[known].max() + apart, apart)
    bumps = np.exp(-0.5 * ((numbers[:, None] - centers) / apart) ** 2)
    return np.nan_to_num(bumps, nan=0.0).astype(np.float32)


def _number(value: str) -> float:
    found = re.search(r"\d+", value)
    return float(found[0]) if found else float("nan")
