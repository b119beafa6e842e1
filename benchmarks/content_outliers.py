"""What leaving out outliers by content does to lists of similar items that visits made.

Real product photos with simulated visits: every type of product has an intruder, a product of a
type of its own, that comes along in a third of the type's visits and is like none of it, as an
intro track is. What is in a list of ten that should not be is thus known.

Real films with real visits: nobody knows what is an outlier, so other visitors say what the option
costs. Lists come from one half of the visitors; of the other half, those who chose the film that a
list is about chose how many of the ten, too?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import content_fashion, content_films
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import make
from momentary.recommend.alike import AlikeConfig, items_like
from momentary.recommend.content import ContentIndex
from momentary.recommend.pipeline import Recommender
from momentary.recommend.playlist import TOLERANCE
from momentary.recommend.reasons import Reasons
from momentary.types import IntArray, ItemTable, Sessions

SEEDS = (0, 1, 2)
TYPES, OF_A_TYPE, VISITS, CHOSEN, ALONG = 25, 40, 3_000, 5, 1 / 3
"""Simulated: types, products a type, visits, products a visit, share of visits with an intruder."""

LISTS, K = 100, 10
WAYS = {"every item": None, "without outliers": TOLERANCE}


def run(cache: Path) -> None:
    """Measure, print and write the rows."""
    found: dict[tuple[str, str], list[float]] = {}
    products, films = content_fashion.load(cache), content_films.load(cache)
    for seed in SEEDS:
        said = {
            **_photos(products, rng=np.random.default_rng(seed)),
            **_films(films, rng=np.random.default_rng(seed)),
        }
        for what, value in said.items():
            found.setdefault(what, []).append(value)
            print(f"seed {seed}: {', '.join(what)} {value:.4f}", flush=True)
    rows = [
        Row(
            what=f"lists of similar items, {what}: {way}",
            value=float(np.mean(values)),
            spread=max(values) - min(values),
        )
        for (what, way), values in found.items()
    ]
    data = {
        "products": sha256(data_folder() / content_fashion.DATA_SET / "items.csv"),
        "films": sha256(data_folder() / content_films.DATA_SET / "items.csv"),
    }
    finish_part("content", "outliers", rows, data=data, seeds=SEEDS)


def _photos(
    products: content_fashion.Products, *, rng: np.random.Generator
) -> dict[tuple[str, str], float]:
    """Shares of the lists' places that intruders and products of the right type have."""
    kinds = products.labels["type"]
    counts = np.bincount(kinds)
    often = rng.permutation(np.flatnonzero(counts >= OF_A_TYPE))[:TYPES]
    seldom = rng.permutation(np.flatnonzero(counts < OF_A_TYPE))[:TYPES]
    own = np.stack([rng.permutation(np.flatnonzero(kinds == kind))[:OF_A_TYPE] for kind in often])
    intruders = np.array([rng.choice(np.flatnonzero(kinds == kind)) for kind in seldom])
    rows = np.concatenate([own.ravel(), intruders])  # index of a product: where it stands here
    visits = []
    for _ in range(VISITS):
        kind = int(rng.integers(len(often)))
        visit = kind * OF_A_TYPE + rng.choice(OF_A_TYPE, CHOSEN, replace=False)
        along = [own.size + kind] if rng.random() < ALONG else []
        visits.append([*along, *visit.tolist()])
    views = products.taken(("photo", "hues"), rows)
    ids = [str(row) for row in range(len(rows))]
    shop = _shop(ids, Sessions.from_lists(visits))
    index = ContentIndex(ids, views)
    asked = rng.permutation(own.size)[:LISTS]
    found = {}
    for way, tolerance in WAYS.items():
        listed = np.stack([_listed(ids[item], shop, index, tolerance=tolerance) for item in asked])
        own_kind = listed // OF_A_TYPE == asked[:, None] // OF_A_TYPE
        found["intruders (simulated visits of real photos)", way] = float(
            (listed >= own.size).mean()
        )
        found["right type (simulated visits of real photos)", way] = float(own_kind.mean())
    return found


def _films(films: content_films.Films, *, rng: np.random.Generator) -> dict[tuple[str, str], float]:
    """How many of a list's films its film's other visitors chose, too."""
    visitors = rng.permutation(films.visits.shape[0])
    told, others = (films.visits[np.sort(half)] for half in np.array_split(visitors, 2))
    ids = [str(film) for film in range(films.visits.shape[1])]
    sessions = [
        told.indices[a:b].tolist() for a, b in zip(told.indptr, told.indptr[1:], strict=False)
    ]
    shop = _shop(ids, Sessions.from_lists(sessions))
    index = ContentIndex(ids, {name: films.content[name] for name in ("plot", "title", "poster")})
    often = np.flatnonzero(np.asarray(others.sum(axis=0)).ravel() >= K)
    asked = rng.permutation(often)[:LISTS]
    chosen = others.toarray() > 0
    found = {}
    for way, tolerance in WAYS.items():
        shares = [
            chosen[chosen[:, film]][:, _listed(ids[film], shop, index, tolerance=tolerance)].mean()
            for film in asked
        ]
        found["films that other visitors chose, too", way] = float(np.mean(shares))
    return found


def _shop(ids: list[str], sessions: Sessions) -> Recommender:
    related = make("item_knn")
    related.fit(sessions, n_items=len(ids), rng=np.random.default_rng(0))
    table = ItemTable.unknown(ids)
    reasons = Reasons(table, related=related)  # type: ignore[arg-type]
    return Recommender(related, items=Vocabulary(ids), table=table, reasons=reasons)


def _listed(
    item_id: str, shop: Recommender, index: ContentIndex, *, tolerance: float | None
) -> IntArray:
    """The items of a list, by their numbers. Shape (k,)."""
    found = items_like(
        item_id,
        recommender=shop,
        index=index,
        facts=ItemTable.unknown,
        k=K,
        config=AlikeConfig(tolerance=tolerance),
    )
    return np.array([int(each.item_id) for each in found])
