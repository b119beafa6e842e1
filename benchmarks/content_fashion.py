"""Look-alikes among 7,946 product photos: do ten neighbours have the same type, colour, gender?

1,500 queries stand for items that nobody described: only their photo is read, or photo and title.
800 other photos choose settings; the rest is the gallery. Rows say what each method reads:
"photo" reads pixels alone; "learned" reads pixels alone, too, by a network that learned from the
labels of the gallery; a label of a query is never read, only scored. "gaps filled by titles" learns
what a title names where the gallery's label was removed, as `momentary train-likeness` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import momentary.models.likeness as likeness
import momentary.recommend.naming as naming
from benchmarks.content_runs import kept
from benchmarks.content_vectors import picture_vectors, table, text_vectors
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.data.tags import TAGS
from momentary.encoders import colour
from momentary.encoders.colour import ColourHistogram, LabColours
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.text import SentenceEncoder
from momentary.models.likeness import Likeness, LikenessConfig
from momentary.recommend.content import ContentIndex, learn_weights
from momentary.types import FloatArray, IntArray, ObjectArray

DATA_SET = "fashion_products"
SEEDS = (0, 1, 2)
TARGETS = {"type": 0.85, "colour": 0.55, "gender": 0.90}
MISSING = (0.0, 0.3, 0.6, 0.9)
K = 10
_COLUMNS = {"type": "articleType", "colour": "baseColour", "gender": "gender"}
_QUERIES, _TRIED = 1_500, 800

PHOTO = ("photo", "colours")
TITLED = (*PHOTO, "title")
LEARNED = LikenessConfig(lacking=0.0)
TAGS_WEIGHT = 2.0
"""Of .5, 1 and 2 the best on tried photos of seed 0, whatever share of the tags was removed."""
_FULL_VIEWS = ("photo", "hues", "title")
_FULL = "photo, colours and title"
_FILLED = ", gaps filled by titles"
_GAPS = ("", _FILLED)
_TAGGED = f"{_FULL}, and the tags of the query itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The set.

    Attributes:
        views: Vectors by name. Shapes (products, width).
        labels: By kind, from 0. Shapes (products,).
        values: By kind, what the labels mean, by number.
        titles: Of the products.
    """

    views: Mapping[str, FloatArray]
    labels: Mapping[str, IntArray]
    values: Mapping[str, tuple[str, ...]]
    titles: tuple[str, ...]

    def taken(self, names: Sequence[str], rows: IntArray) -> dict[str, FloatArray]:
        """Some views of some products."""
        return {name: self.views[name][rows] for name in names}

    def labelled(self, rows: IntArray) -> dict[str, IntArray]:
        """The labels of some products."""
        return {kind: each[rows] for kind, each in self.labels.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One split, rows of the products."""

    queries: IntArray
    tried: IntArray
    gallery: IntArray

    @classmethod
    def of(cls, seed: int, *, products: int) -> Parts:
        """Drawn by a seed."""
        order = np.random.default_rng(seed).permutation(products)
        stop = _QUERIES + _TRIED
        return cls(
            queries=order[:_QUERIES], tried=order[_QUERIES:stop], gallery=np.sort(order[stop:])
        )


def load(cache: Path) -> Products:
    """Read the set; photos and titles are encoded once."""
    rows = table(DATA_SET)
    photos = [row["image"] for row in rows]
    titles = tuple(row["productDisplayName"] for row in rows)
    lab = picture_vectors(DATA_SET, photos, LabColours(), cache=cache)
    found = {
        kind: np.unique([row[column] for row in rows], return_inverse=True)
        for kind, column in _COLUMNS.items()
    }
    return Products(
        views={
            "photo": picture_vectors(DATA_SET, photos, EfficientNetLite(), cache=cache),
            "colours": lab,
            "hues": picture_vectors(DATA_SET, photos, ColourHistogram(), cache=cache),
            "title": text_vectors(DATA_SET, titles, SentenceEncoder(), cache=cache),
        },
        labels={kind: codes.astype(np.int64) for kind, (_, codes) in found.items()},
        values={kind: tuple(map(str, values)) for kind, (values, _) in found.items()},
        titles=titles,
    )


def agreement(similarities: FloatArray, wanted: IntArray, held: IntArray) -> float:
    """P@10: share of the ten nearest that have the query's label."""
    best = np.argpartition(-similarities, K, axis=1)[:, :K]
    return float((held[best] == wanted[:, None]).mean())


def run(cache: Path, *, seeds: tuple[int, ...] = SEEDS) -> None:
    """Measure, print and write the rows."""
    products = load(cache)
    found: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        parts = Parts.of(seed, products=len(products.labels["type"]))
        methods = {
            **_plain(products, parts),
            **_with_tags(products, parts, seed=seed),
            **_learned(products, parts, seed=seed, cache=cache),
            **_by_tags(products, parts, seed=seed),
        }
        for method, similarities in methods.items():
            for kind, labels in products.labels.items():
                value = agreement(similarities, labels[parts.queries], labels[parts.gallery])
                found.setdefault((method, kind), []).append(value)
                print(f"seed {seed}: {method}, {kind} {value:.4f}", flush=True)
    rows = [_row(method, kind, values) for (method, kind), values in found.items()]
    rows += _losses(found)
    data = {"items.csv": sha256(data_folder() / DATA_SET / "items.csv")}
    finish_part("content", "fashion", rows, data=data, seeds=seeds)


def _plain(products: Products, parts: Parts) -> dict[str, FloatArray]:
    """No label is learned from; the weights of the views are chosen on other photos."""
    found = {}
    for name, views in (
        ("photo", ("photo",)),
        ("colours", ("hues",)),
        ("photo and colours", ("photo", "hues")),
        (_FULL, _FULL_VIEWS),
    ):
        index = _index(products, parts, views)
        found[name] = index.similarities(products.taken(views, parts.queries))
    return found


def _index(products: Products, parts: Parts, views: Sequence[str]) -> ContentIndex:
    """The gallery; the weights of several views are chosen on the tried photos."""
    ids = [str(row) for row in parts.gallery]
    index = ContentIndex(ids, products.taken(views, parts.gallery))
    if len(views) > 1:
        kinds = products.labels.values()
        index.weights = learn_weights(
            index,
            products.taken(views, parts.tried),
            labels=np.stack([each[parts.tried] for each in kinds], axis=1),
            item_labels=np.stack([each[parts.gallery] for each in kinds], axis=1),
        )
    return index


def _learned(products: Products, parts: Parts, *, seed: int, cache: Path) -> dict[str, FloatArray]:
    found = {}
    for (views, name), missing in product(
        ((PHOTO, "learned, photo alone"), (TITLED, "learned, photo and title")), MISSING
    ):
        labels = _without(products.labelled(parts.gallery), missing, seed=seed)
        what = f"fashion {LEARNED} {views} without {missing} seed {seed}"
        code = (likeness, colour)
        lessons = [("", what, labels, code)]
        if missing:
            filled = _filled(products, parts, labels)
            lessons.append((_FILLED, f"{what} filled", filled, (*code, naming)))
        for how, called, taught, read in lessons:
            vectors = kept(
                cache,
                called,
                partial(_embedded, products, parts, views=views, labels=taught, seed=seed),
                code=read,
            )
            found[f"{name}{_said(missing)}{how}"] = vectors["queries"] @ vectors["gallery"].T
    return found


def _embedded(
    products: Products,
    parts: Parts,
    *,
    views: Sequence[str],
    labels: Mapping[str, IntArray],
    seed: int,
) -> dict[str, FloatArray]:
    """Queries and gallery by what the gallery's labels teach."""
    gallery = products.taken(views, parts.gallery)
    model = Likeness(LEARNED).fit(gallery, labels, rng=np.random.default_rng(seed))
    return {
        "queries": model.embed(products.taken(views, parts.queries)),
        "gallery": model.embed(gallery),
    }


def _filled(
    products: Products, parts: Parts, labels: Mapping[str, IntArray]
) -> dict[str, IntArray]:
    """Labels with gaps filled by titles; the names of values that none of them has are unknown."""
    titles = [products.titles[row] for row in parts.gallery.tolist()]
    filled = {}
    for kind, codes in labels.items():
        there = set(codes.tolist())
        values = [each if n in there else "" for n, each in enumerate(products.values[kind])]
        filled[kind] = naming.filled_by_name(codes, titles, values)
    return filled


def _with_tags(products: Products, parts: Parts, *, seed: int) -> dict[str, FloatArray]:
    """Photo, colours, title and tags by the product's own index; a tag that is missing is guessed.

    The views' weights are those of the row without tags.
    """
    found = {}
    plain = _index(products, parts, _FULL_VIEWS)
    for missing in MISSING:
        held = _without(products.labelled(parts.gallery), missing, seed=seed)
        asked = _without(products.labelled(parts.queries), missing, seed=seed + 100)
        index = ContentIndex(
            plain.item_ids,
            products.taken(_FULL_VIEWS, parts.gallery),
            weights={**plain.weights, TAGS: TAGS_WEIGHT},
            attributes=_named(held),
        )
        query = products.taken(_FULL_VIEWS, parts.queries)
        found[f"{_TAGGED}{_said(missing)}"] = index.similarities(query, attributes=_named(asked))
    return found


def _named(labels: Mapping[str, IntArray]) -> dict[str, ObjectArray]:
    return {
        kind: np.array([None if each < 0 else str(each) for each in values], dtype=np.object_)
        for kind, values in labels.items()
    }


def _by_tags(products: Products, parts: Parts, *, seed: int) -> dict[str, FloatArray]:
    """The baseline that compares tags: gallery and queries lose the same share of them."""
    found = {}
    for missing in MISSING:
        held = _without(products.labelled(parts.gallery), missing, seed=seed)
        asked = _without(products.labelled(parts.queries), missing, seed=seed + 100)
        rng = np.random.default_rng(seed)
        ties = rng.random((len(parts.queries), len(parts.gallery)), dtype=np.float32)
        agreed = sum(
            ((asked[kind][:, None] == held[kind]) & (asked[kind][:, None] >= 0)).astype(np.float32)
            for kind in held
        )
        found[f"tags of the query itself{_said(missing)}"] = agreed + 0.01 * ties
    return found


def _without(labels: Mapping[str, IntArray], share: float, *, seed: int) -> dict[str, IntArray]:
    """The labels with a share of them made unknown."""
    rng = np.random.default_rng([seed, round(100 * share)])
    return {
        kind: np.where(rng.random(len(each)) < share, -1, each) for kind, each in labels.items()
    }


def _said(missing: float) -> str:
    return f", {missing:.0%} of tags removed" if missing else ""


def _row(method: str, kind: str, values: Sequence[float]) -> Row:
    return Row(
        what=f"fashion look-alikes, P@10 by {kind}: {method}",
        value=float(np.mean(values)),
        spread=max(values) - min(values),
        target=TARGETS[kind] if method.startswith("learned") and "removed" not in method else None,
    )


def _losses(found: Mapping[tuple[str, str], Sequence[float]]) -> list[Row]:
    """What is left, over all three kinds, when tags are removed."""

    def mean(method: str) -> float:
        return float(np.mean([found[method, kind] for kind in _COLUMNS]))

    rows = []
    for missing in MISSING[1:]:
        for method, how in product(("learned, photo alone", "learned, photo and title"), _GAPS):
            rows.append(
                Row(
                    what=f"fashion, {missing:.0%} of tags removed: what {method}{how} keeps",
                    value=mean(f"{method}{_said(missing)}{how}") / mean(method),
                    target=0.98,
                    peer="tags themselves",
                    peer_value=mean(f"tags of the query itself{_said(missing)}")
                    / mean("tags of the query itself"),
                )
            )
        tagged = mean(f"{_TAGGED}{_said(missing)}")
        for named, kept_share, target in (
            (f"{_FULL} keep, which read no tag", 1.0, 0.98),
            (f"{_TAGGED}, keep", tagged / mean(_TAGGED), None),
            (f"these have of {_FULL} alone", tagged / mean(_FULL), 0.98),
        ):
            rows.append(
                Row(
                    what=f"fashion, {missing:.0%} of tags removed: what {named}",
                    value=kept_share,
                    target=target,
                    peer="tags themselves",
                    peer_value=mean(f"tags of the query itself{_said(missing)}")
                    / mean("tags of the query itself"),
                )
            )
    return rows
