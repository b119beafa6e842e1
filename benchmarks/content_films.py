"""Cold films: MovieLens 1M with a fifth of the films held out whole, told by their content alone.

Recall@20 is over the cold films only: hits over min(20, films that the visitor chose), the mean
over visitors who chose any. A visitor's history is every warm film that he or she chose. What is
known of a film's fame afterwards (votes, ratings, awards, box office, counts of users) is never
content. Weights, products, ridges and shares were chosen on two sets of 652 pseudo-cold films that
are cold in no seed; their scores then were .50 and .45, so they are an easier set.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

import momentary.models.content_factor as content_factor
from benchmarks.content_peers import PEERS, Question, peer_factors
from benchmarks.content_runs import kept
from benchmarks.content_vectors import Table, picture_vectors, table, text_vectors
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.text import SentenceEncoder
from momentary.models.content_factor import (
    ContentFactor,
    ContentFactorConfig,
    View,
    autoencoder_factors,
    blend,
    clicked_factors,
)
from momentary.types import BoolArray, FloatArray, IntArray

DATA_SET = "movielens_multimodal"
K = 20
SEEDS = (0, 1, 2)
CLICKS = (1, 3, 10, 30)
CONTENT = ContentFactorConfig(
    weights={
        "genres": 2.0,
        "year": 4.0,
        "runtime": 0.5,
        "people": 2.0,
        "plot": 0.5,
        "title": 4.0,
        "title_words": 0.0,
    },
    products=(
        ("genres", "year", 1.0),
        ("genres", "title", 1.0),
        ("genres", "country", 1.0),
        ("country", "year", 1.0),
        ("genres", "poster", 1.0),
        ("year", "poster", 1.0),
        ("year", "title", 1.0),
        ("genres_omdb", "genres", 1.0),
        ("genres", "language", 1.0),
    ),
    ridge=8.0,
    length_power=0.6,
    length_share=0.3,
)
FACTORS, SHRINKAGE = 512, 2_000.0
CLICK_RIDGE, HALF = 3_000.0, 100.0
_TAGS = ("genres", "director", "actors")
_PEOPLE = (("director", "director"), ("actor", "actors"))
_ALS = {"factors": 64, "num_threads": 1, "random_state": 0}
_RIDGE, _NEIGHBOURS = 10.0, 20
_SEEN = -1e9
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


def run(cache: Path) -> None:
    """Measure, print and write the rows."""
    films = load(cache)
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        world = World.of(films, films.cold[seed])
        measured = {
            **_kept(
                f"ours seed {seed}", functools.partial(_ours, films, world, seed=seed), cache=cache
            ),
            **_kept(
                f"baselines seed {seed}",
                functools.partial(_baselines, films, world, seed=seed),
                cache=cache,
            ),
            **_peers(films, world, seed=seed, cache=cache),
        }
        for name, value in measured.items():
            found.setdefault(name, []).append(value)
            print(f"seed {seed}: {name} {value:.4f}", flush=True)
    ours = found.pop("content -> factors")
    rows = [_row("content -> factors", ours, target=0.44)]
    clicked = {name: found.pop(name) for name in list(found) if "clicks" in name}
    rows += [_row(name, values) for name, values in found.items()]
    peers = {name: float(np.mean(found[name])) for name in PEERS if name in found}
    if peers:
        best = max(peers, key=lambda name: peers[name])
        rows.append(
            Row(
                what="cold films: content -> factors over the best peer",
                value=float(np.mean(ours)) / peers[best],
                unit="times",
                target=1.25,
                peer=best,
                peer_value=1.0,
            )
        )
    rows += _clicked_rows(clicked)
    files = {name: data_folder() / DATA_SET / name for name in ("items.csv", "cold_splits.csv")}
    data = {name: sha256(file) for name, file in files.items()}
    finish_part("content", "films", rows, data=data, seeds=SEEDS)


def _kept(what: str, measure: Callable[[], dict[str, float]], *, cache: Path) -> dict[str, float]:
    """What was measured, from the cache if this very code measured it before."""

    def arrays() -> dict[str, NDArray[np.float64]]:
        return {name: np.array(value) for name, value in measure().items()}

    found = kept(cache, f"films {what}", arrays, code=(content_factor, Path(__file__)))
    return {name: float(value) for name, value in found.items()}


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


def _baselines(films: Films, world: World, *, seed: int) -> dict[str, float]:
    rng = np.random.default_rng([seed, 1])
    units = [_of_length_1(films.content[name]) for name in _TAGS]
    tags = scipy.sparse.csr_array(scipy.sparse.hstack(units))
    words = _of_length_1(_tf_idf([row["plot"] for row in films.rows]))
    found = {"random": recall(rng.random(world.wanted.shape, dtype=np.float32), world.wanted)}
    for name, view in (("metadata kNN", tags), ("plot TF-IDF kNN", words)):
        near = _nearest(view, world)
        found[name] = recall(np.asarray((world.history @ near).toarray()), world.wanted)
    als = AlternatingLeastSquares(**_ALS)
    als.fit(scipy.sparse.csr_matrix(world.history), show_progress=False)
    dense = [_of_length_1(tags).toarray(), films.content["plot"], films.content["poster"]]
    x = np.concatenate(dense, axis=1).astype(np.float64)
    known, unseen = x[world.warm], x[world.cold]
    predicted = unseen @ _ridge(known, als.item_factors, ridge=_RIDGE)
    found["ridge to 64 ALS factors"] = recall(als.user_factors @ predicted.T, world.wanted)
    found["warm: ALS that saw half of the visits"] = _warm(films, world, rng=rng)
    return found


def _peers(films: Films, world: World, *, seed: int, cache: Path) -> dict[str, float]:
    question = _question(films, world)
    found = {}
    for name in PEERS:
        answer = peer_factors(name, question, seed=seed, cache=cache)
        if answer is not None:
            visitors, items = answer
            found[name] = recall(visitors @ items[world.cold].T, world.wanted)
    return found


def _question(films: Films, world: World) -> Question:
    """What peers are given: the same tags, plots, titles and posters, nothing of cold visits."""
    pairs = films.visits.tocoo()
    told = world.warm[pairs.col]
    ones = np.ones(int(told.sum()), dtype=np.float32)
    visits = scipy.sparse.csr_array(
        (ones, (pairs.row[told], pairs.col[told])), shape=films.visits.shape
    )
    tags = [
        [f"genre {genre}" for genre in row["genres"].split("|")]
        + [f"{kind} {name}" for kind, column in _PEOPLE for name in split(row[column])]
        + [f"decade {row['title'][-5:-2]}0"]
        for row in films.rows
    ]
    joined = [" ".join(each.replace(" ", "_") for each in row) for row in tags]
    dense = [films.content[name] for name in ("plot", "title", "poster")]
    sparse = [films.content[name] for name in _TAGS]
    wide = scipy.sparse.csr_array(scipy.sparse.hstack([_of_length_1(each) for each in sparse]))
    narrow = scipy.sparse.linalg.svds(wide, k=64, random_state=0)
    return Question(
        visits=visits,
        tags=["|".join(row) for row in tags],
        words=[f"{tag} {row['plot']}" for tag, row in zip(joined, films.rows, strict=True)],
        vectors=np.concatenate([narrow[0] * narrow[1], *dense], axis=1).astype(np.float32),
    )


def _warm(films: Films, world: World, *, rng: np.random.Generator) -> float:
    """ALS that has seen half of the cold films' visits, asked for the other half."""
    pairs = films.visits.tocoo()
    hidden = world.cold[pairs.col] & (rng.random(pairs.nnz) < 0.5)
    shape = films.visits.shape
    told, asked = (
        scipy.sparse.csr_array(
            (np.ones(int(part.sum()), dtype=np.float32), (pairs.row[part], pairs.col[part])),
            shape=shape,
        )
        for part in (~hidden, hidden)
    )
    als = AlternatingLeastSquares(**_ALS)
    als.fit(scipy.sparse.csr_matrix(told), show_progress=False)
    scores = als.user_factors @ als.item_factors[world.cold].T
    scores[told[:, world.cold].toarray() > 0] = _SEEN
    return recall(scores, asked[:, world.cold])


def _ours(films: Films, world: World, *, seed: int) -> dict[str, float]:
    factors = autoencoder_factors(world.history, factors=FACTORS, shrinkage=SHRINKAGE)
    visitors = world.history @ factors
    rng = np.random.default_rng(seed)
    model = ContentFactor(CONTENT).fit(
        films.taken(world.warm), factors, visits=world.history, rng=rng
    )
    predicted = model.predict(films.taken(world.cold))
    found = {"content -> factors": recall(visitors @ predicted.T, world.wanted)}
    for n in CLICKS:
        known = _first_clicks(world.wanted, n, rng=rng)
        left = scipy.sparse.csr_array(world.wanted - known)
        left.eliminate_zeros()
        clicked = clicked_factors(known, visitors, predicted, ridge=CLICK_RIDGE)
        counts = np.asarray(known.sum(axis=0)).ravel()
        # Behaviour alone has no promise of content to be scaled to.
        alone = clicked_factors(known, visitors, 0 * predicted, ridge=CLICK_RIDGE)
        seen = known.toarray() > 0
        for name, item_factors in (
            ("content", predicted),
            ("behaviour", alone),
            ("blend", blend(predicted, clicked, counts, half=HALF)),
        ):
            scores = visitors @ item_factors.T
            scores[seen] = _SEEN
            found[f"{name} after {n} clicks"] = recall(scores, left)
    return found


def _first_clicks(
    wanted: scipy.sparse.csr_array, n: int, *, rng: np.random.Generator
) -> scipy.sparse.csr_array:
    """So many clicks of every film, at most half of what it has. Shape of `wanted`."""
    by_film = scipy.sparse.csc_array(wanted)
    drawn = [
        rng.choice(visitors, min(n, len(visitors) // 2), replace=False)
        for visitors in np.split(by_film.indices, by_film.indptr[1:-1])
    ]
    columns = np.repeat(np.arange(len(drawn)), [len(part) for part in drawn])
    ones = np.ones(len(columns), dtype=np.float32)
    return scipy.sparse.csr_array((ones, (np.concatenate(drawn), columns)), shape=wanted.shape)


def _clicked_rows(found: Mapping[str, Sequence[float]]) -> list[Row]:
    rows = []
    for n in CLICKS:
        parts = {
            name: np.array(found[f"{name} after {n} clicks"])
            for name in ("content", "behaviour", "blend")
        }
        better = np.maximum(parts["content"], parts["behaviour"])
        rows += [
            _row(f"{name} after {n} clicks", values.tolist()) for name, values in parts.items()
        ]
        rows.append(
            Row(
                what=f"cold films, {n} clicks: blend over the better of content and behaviour",
                value=float((parts["blend"] / better).min()),
                unit="times",
                target=0.98,
            )
        )
    return rows


def _row(what: str, values: Sequence[float], *, target: float | None = None) -> Row:
    return Row(
        what=f"cold films, Recall@20: {what}",
        value=float(np.mean(values)),
        spread=max(values) - min(values),
        target=target,
    )


def _nearest(unit: scipy.sparse.csr_array, world: World) -> scipy.sparse.csr_array:
    """Likeness of each cold film to its nearest warm ones. Shape (warm films, cold films)."""
    near = (unit[world.warm] @ unit[world.cold].T).toarray()
    floor = np.partition(near, -_NEIGHBOURS, axis=0)[-_NEIGHBOURS]
    return scipy.sparse.csr_array(np.where(near >= floor, near, 0))


def _tf_idf(texts: Sequence[str]) -> scipy.sparse.csr_array:
    """Words of three letters and more that two texts hold, rare ones count more."""
    held = multi_hot([re.findall(r"[a-z]{3,}", text.lower()) for text in texts], at_least=2)
    rarity = np.log(held.shape[0] / np.asarray(held.sum(axis=0)).ravel())
    return scipy.sparse.csr_array(held @ scipy.sparse.diags_array(rarity))


def _of_length_1(view: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    lengths = np.sqrt(np.asarray(view.multiply(view).sum(axis=1)).ravel())
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / np.maximum(lengths, 1e-9)) @ view)


def _ridge(x: FloatArray, y: FloatArray, *, ridge: float) -> FloatArray:
    system = x.T @ x
    system[np.diag_indices_from(system)] += ridge
    return np.asarray(scipy.linalg.solve(system, x.T @ y, assume_a="pos"), dtype=np.float32)


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
        "title_words": _tf_idf([row["title"].rpartition(" (")[0] for row in rows]),
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
