"""Films that nobody has rated, among those that many have, in the lists of session models.

MovieLens 100k: a fifth of the films that five training visitors rated is taken out of the training
visits and placed by plot, title, poster, genres and year. The last days test: every next film of
their visits is asked for after the known films before it. Recall@20 is over the whole catalogue;
"share of the first twenty" is what the new films take of the lists, beside their share of the next
clicks. How they are mixed in is chosen inside the training visits (`recommend.placing`).

Beside it: the same films placed with nothing tuned, and the model that has seen their visits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import momentary.models.content_factor as content_factor
import momentary.models.gru4rec as gru4rec
import momentary.models.placement as placement
import momentary.models.session_knn as session_knn
import momentary.recommend.placed as placed
import momentary.recommend.placing as placing
from benchmarks.content_runs import kept
from benchmarks.content_vectors import picture_vectors, text_vectors
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.data import datasets
from momentary.data.sessions import renumber_items
from momentary.data.vocabulary import Vocabulary
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.text import SentenceEncoder
from momentary.models.artifact import Bundle, make
from momentary.models.placement import Placement
from momentary.models.protocol import Scorer
from momentary.recommend.assortment import Assortment
from momentary.recommend.encoded import Encoded
from momentary.recommend.placing import learn_placement
from momentary.types import BoolArray, FloatArray, IntArray, Item, Sessions

SET = "movielens_100k"
SEEDS = (0, 1, 2)
MODELS: Mapping[str, Mapping[str, Any]] = {
    "gru4rec": {"batch_size": 64, "n_sample": 256, "epochs": 3, "learning_rate": 0.1},
    "vstan": {},
}
"""Those of `session_features`; nothing was chosen here."""

K = 20
TEST_DAYS = 20.0
_NEW_SHARE, _LEAST_EVENTS = 0.2, 5
_QUESTIONS, _LATEST = 4_000, 30
_DAY_US = 86_400_000_000
_BESIDE = {
    "alone": "without new films",
    "placed": "beside new ones placed",
    "placed, nothing tuned": "beside new ones placed, nothing tuned",
    "whose visits it has seen": "beside new ones whose visits it has seen",
}
_IMAGES = "movielens_multimodal"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One draw of new films; indices run over the known ones and then the new ones.

    Attributes:
        items: The known films.
        new: Ids of the new ones.
        past: Visits before the test, with new films in them.
        asked: Beginnings of test visits, in known films.
        targets: What came next. Shape (questions,).
    """

    items: Vocabulary
    new: tuple[str, ...]
    past: Sessions
    asked: Sessions
    targets: IntArray

    @property
    def known(self) -> Sessions:
        """The training visits as if the new films had never been."""
        kept_items = np.arange(len(self.items) + len(self.new))
        kept_items[len(self.items) :] = -1
        found = renumber_items(self.past, kept_items)
        return found.take(np.flatnonzero(found.lengths > 0))


def run(cache: Path, *, seeds: tuple[int, ...] = SEEDS) -> None:
    """Measure, print and write the rows."""
    encoded = films(cache)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for kind, settings in MODELS.items():

            def figures(
                seed: int = seed, kind: str = kind, settings: Mapping[str, Any] = settings
            ) -> dict[str, FloatArray]:
                world = draw(encoded, seed=seed)
                each = measure(encoded, world, kind=kind, settings=settings, seed=seed)
                return {name: np.array(value) for name, value in each.items()}

            code = (content_factor, gru4rec, placed, placement, placing, session_knn)
            what = f"placement {kind} {settings} seed {seed}"
            for name, value in kept(cache, what, figures, code=(*code, Path(__file__))).items():
                found.setdefault(f"{kind}: {name}", []).append(float(value))
                print(f"seed {seed}: {kind}: {name} {float(value):.4f}", flush=True)
    rows = [
        Row(
            what=f"new films among known ones, {name}",
            value=float(np.mean(values)),
            spread=max(values) - min(values),
        )
        for name, values in found.items()
    ]
    file = data_folder() / _IMAGES / "ml100k_ratings.parquet"
    finish_part("content", "placement", rows, data={file.name: sha256(file)}, seeds=seeds)


def films(cache: Path) -> Encoded:
    """Every film with its plot and title, its poster, its genres and its year."""
    table = datasets.load(SET, data=data_folder()).items
    if table is None:
        raise ValueError(f"{SET} has no catalogue.")
    rows = sorted(table.to_pylist(), key=lambda row: str(row["item_id"]))
    texts = [f"{row['name'] or ''} {row['description'] or ''}" for row in rows]
    posters = [row["image"] or "" for row in rows]
    text, image = SentenceEncoder(), EfficientNetLite()
    items = tuple(
        Item(
            item_id=row["item_id"],
            name=row["name"],
            category=row["category"],
            properties={"year": json.loads(row["properties"]).get("year")},
        )
        for row in rows
    )
    return Encoded(
        items=items,
        views={
            "text": text_vectors(_IMAGES, texts, text, cache=cache),
            "image": picture_vectors(_IMAGES, posters, image, cache=cache),
        },
        attributes={"category": np.array([item.category for item in items], dtype=np.object_)},
        encoders={"text": text.version, "image": image.version},
    )


def draw(encoded: Encoded, *, seed: int) -> World:
    """Take some films out of the past, and ask about the visits of the last days."""
    log = datasets.load(SET, data=data_folder()).sessions()
    last_us = log.sessions.last_times_us
    late = last_us > last_us.max() - int(TEST_DAYS * _DAY_US)
    past, test = (log.sessions.take(np.flatnonzero(rows)) for rows in (~late, late))
    counts = np.bincount(past.items, minlength=len(log.items))
    there = np.isin(np.array(log.items.ids, dtype=np.object_), encoded.item_ids)
    rng = np.random.default_rng(seed)
    drawable = np.flatnonzero((counts >= _LEAST_EVENTS) & there)
    is_new = np.zeros(len(counts), dtype=np.bool_)
    is_new[rng.choice(drawable, int(_NEW_SHARE * len(drawable)), replace=False)] = True
    known = np.flatnonzero((counts > 0) & ~is_new)
    order = np.concatenate([known, np.flatnonzero(is_new)])
    renumbered = np.full(len(counts), -1)
    renumbered[order] = np.arange(len(order))
    asked, targets = _questions(renumber_items(test, renumbered), known=len(known), rng=rng)
    return World(
        items=Vocabulary([log.items.ids[item] for item in known.tolist()]),
        new=tuple(log.items.ids[item] for item in np.flatnonzero(is_new).tolist()),
        past=renumber_items(past, renumbered),
        asked=asked,
        targets=targets,
    )


def measure(
    encoded: Encoded, world: World, *, kind: str, settings: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """Recalls and shares of one model, by what it knows of the new films."""
    rng = np.random.default_rng(seed)
    n_known = len(world.items)
    is_new = world.targets >= n_known
    bare = _bundle(world.known, world.items, kind=kind, settings=settings, rng=rng)
    learned = learn_placement(bare, world.known, encoded, rng=rng)
    if learned is None:
        raise ValueError("too few films have content.")
    seen = make(kind, settings).fit(world.past, n_items=n_known + len(world.new), rng=rng)
    config = learned.config
    plain = Placement(
        replace(config, scale=1.0, offset=0.0),
        learned.factors,
        learned._company,  # noqa: SLF001 - the same placement with nothing tuned
    )
    own = bare.scorers["main"].score(world.asked)
    nothing = np.full((len(own), len(world.new)), -np.inf, dtype=np.float32)
    ways = {
        "alone": np.concatenate([own, nothing], axis=1),
        "placed": _placed(bare, learned, encoded, world=world),
        "placed, nothing tuned": _placed(bare, plain, encoded, world=world),
        "whose visits it has seen": seen.score(world.asked),
    }
    found = {"new films, share of the next clicks": float(is_new.mean())}
    for name, scores in ways.items():
        hits, share = _first(scores, world.targets, n_known=n_known)
        found[f"known films, Recall@20 {_BESIDE[name]}"] = float(hits[~is_new].mean())
        if name != "alone":
            found[f"new films {name}, Recall@20"] = float(hits[is_new].mean())
            found[f"new films {name}, share of the first twenty"] = share
            found[f"all films, Recall@20 with new ones {name}"] = float(hits.mean())
    found["new films, Recall@20 at random in the places they have"] = (
        K * found["new films placed, share of the first twenty"] / len(world.new)
    )
    return found


def _bundle(
    sessions: Sessions,
    items: Vocabulary,
    *,
    kind: str,
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> Bundle:
    scorers: dict[str, Scorer] = {
        "main": make(kind, settings),
        "related": make("item_knn"),
        "fallback": make("popularity"),
    }
    for scorer in scorers.values():
        scorer.fit(sessions, n_items=len(items), rng=rng)
    return Bundle(scorers=scorers, items=items, facts={})


def _placed(bare: Bundle, learned: Placement, encoded: Encoded, *, world: World) -> FloatArray:
    """Scores of known and new films, as a service would have them. (questions, films)."""
    extended = Assortment(replace(bare, placement=learned), encoded).extended()
    columns = extended.items.indices([*world.items.ids, *world.new])
    if (columns < 0).any():
        raise ValueError("a film was not placed.")
    scores = extended.scorers["main"].score(world.asked)
    return np.asarray(scores[:, columns])


def _first(scores: FloatArray, targets: IntArray, *, n_known: int) -> tuple[BoolArray, float]:
    """Which targets are among the first twenty, ties against them, and the share of new films."""
    said = scores[np.arange(len(scores)), targets][:, None]
    hits = (scores >= said).sum(axis=1) <= K
    best = np.argpartition(-scores, K, axis=1)[:, :K]
    return hits, float((best >= n_known).mean())


def _questions(
    test: Sessions, *, known: int, rng: np.random.Generator
) -> tuple[Sessions, IntArray]:
    beginnings, targets = [], []
    for row in range(len(test)):
        visit = test.session(row)
        for place in range(1, len(visit)):
            before = visit[:place][visit[:place] < known]
            if len(before):
                beginnings.append(before[-_LATEST:])
                targets.append(int(visit[place]))
    chosen = np.sort(rng.permutation(len(targets))[:_QUESTIONS])
    asked = Sessions.from_lists([beginnings[row] for row in chosen.tolist()])
    return asked, np.array(targets, dtype=np.int64)[chosen]
