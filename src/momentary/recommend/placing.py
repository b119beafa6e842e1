"""Learn, from a trained model and encoded content, where items stand that nobody touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from momentary.data.tags import tag_rows
from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import Bundle
from momentary.models.content_factor import Content, ContentFactor, ContentFactorConfig
from momentary.models.placement import Placement, PlacementConfig, calibrate
from momentary.models.protocol import Placeable, Scorer
from momentary.recommend.content import ContentIndex
from momentary.recommend.encoded import Encoded
from momentary.recommend.nearness import TAGS, nearest_known
from momentary.recommend.reasons import Related
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

Floats: TypeAlias = NDArray[np.float64]

LEAST_ITEMS = 20
"""With fewer known items that have content, there is nothing to learn from."""

_NEW = 0.25
_VISITS = 600
_LATEST = 20
_LANDMARKS = 1_500
_RIDGES = (2.0, 8.0, 32.0)
_MOST_JUDGED = 1_000
_WEIGHED = 200
_GRID = (1.0, 0.5, 2.0, 0.25, 0.0)  # of equals, the first is taken
_NEAR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Items that the model knows and that have content, with their places in both.

    Attributes:
        rows: Row of each in what was encoded. Shape (known,).
        columns: Item index of each. Shape (known,).
    """

    rows: IntArray
    columns: IntArray


def content_of(encoded: Encoded, rows: IntArray | None = None) -> dict[str, object]:
    """The views of items for `content_factor`, their tags among them.

    Args:
        encoded: What encoders have seen.
        rows: Which items; None means all.
    """
    chosen = np.arange(len(encoded.items), dtype=np.int64) if rows is None else rows
    items = [encoded.items[row] for row in chosen.tolist()]
    return {
        **{name: vectors[chosen] for name, vectors in encoded.views.items()},
        TAGS: tag_rows(items),
    }


def learn_placement(
    bundle: Bundle,
    sessions: Sessions,
    encoded: Encoded,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Placement | None:
    """Learn how content says where an item stands for the bundle's main model.

    Args:
        bundle: Fitted models.
        sessions: What they were fitted on.
        encoded: Views of the catalogue.
        rng: Draws the items that are treated as new, and the visits that judge.
        progress: Told of the steps.

    Returns:
        None where fewer than `LEAST_ITEMS` known items have content.
    """
    scorer = bundle.scorers["main"]
    counts = np.bincount(sessions.items, minlength=len(bundle.items)).astype(np.float64)
    known = _known(encoded, bundle.items, scorer, counts=counts)
    if len(known.rows) < LEAST_ITEMS or not encoded.views:
        return None
    asked, targets = _questions(sessions, rng)
    new = np.sort(rng.permutation(len(known.rows))[: int(_NEW * len(known.rows))])
    steps = 3 + len(_RIDGES) if isinstance(scorer, Placeable) else 3
    progress(1, steps, "weights")
    weights = likeness_weights(bundle, encoded, known.columns, rng=rng)
    index = encoded.index(weights)
    if isinstance(scorer, Placeable):
        return _by_rows(
            scorer,
            _Lesson(
                known=known, counts=counts, asked=asked, targets=targets, new=new, weights=weights
            ),
            encoded,
            progress=progress,
        )
    progress(2, steps, "calibration")
    config = PlacementConfig(
        way="neighbours", encoders=dict(encoded.encoders), weights=weights, neighbours=_NEAR
    )
    judged = new[rng.permutation(len(new))[:_MOST_JUDGED]]
    own = scorer.score(asked)
    columns = known.columns[judged]
    means = _means_of_neighbours(own, index, columns, items=bundle.items)
    found = calibrate(own, means, columns, targets=targets, shift=False)
    progress(steps, steps)
    return Placement(replace(config, scale=found.scale, offset=found.offset, figures=found.figures))


def likeness_weights(
    bundle: Bundle, encoded: Encoded, columns: IntArray, *, rng: np.random.Generator
) -> dict[str, float]:
    """Weights of the views under which items are alike that visitors choose together.

    For a few hundred items, the ten that occur most together with each are looked for among the
    items most like it: one view's weight after the other is set to what finds most of them.
    """
    related = cast(Related, bundle.scorers["related"])
    index = encoded.index()
    views = [*index.views, TAGS]
    some = rng.permutation(columns)[:_WEIGHED]
    cases = []
    ids = np.array(index.item_ids, dtype=np.object_)
    for item in some.tolist():
        beside = related.related(item, _NEAR).items
        wanted = {bundle.items.ids[each] for each in beside.tolist()}
        parts = index.parts(bundle.items.ids[item])
        wanted_rows = np.flatnonzero(np.isin(ids, list(wanted)))
        if len(wanted_rows):
            cases.append((parts, wanted_rows))
    weights = dict.fromkeys(views, 1.0)
    if len(cases) < LEAST_ITEMS:
        return weights
    for name in views:
        tried = [{**weights, name: weight} for weight in _GRID]
        usable = [each for each in tried if any(each.values())]
        weights = max(usable, key=lambda each: _agreement(cases, each))
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """What rows are learned from and judged by."""

    known: _Known
    counts: Floats
    asked: Sessions
    targets: IntArray
    new: IntArray
    weights: Mapping[str, float]


def _by_rows(
    scorer: Placeable, lesson: _Lesson, encoded: Encoded, *, progress: Progress
) -> Placement:
    known = lesson.known
    rows, _ = scorer.item_rows()
    targets = rows[known.columns]
    content = content_of(encoded, known.rows)
    counts = lesson.counts[known.columns]
    learned = np.ones(len(known.rows), dtype=np.bool_)
    learned[lesson.new] = False
    columns = known.columns[lesson.new]
    own = scorer.score(lesson.asked)
    steps = 3 + len(_RIDGES)
    best = None
    for step, ridge in enumerate(_RIDGES, start=2):
        progress(step, steps, f"ridge {ridge:g}")
        config = _factor_config(ridge, lesson.weights, content)
        tried = _fitted(config, content, targets=targets, counts=counts, chosen=learned)
        predicted = tried.predict(_rows_of(content, ~learned))
        error = ((predicted - targets[~learned]) ** 2).mean(axis=0)
        spread = targets[~learned].var(axis=0) + 1e-12
        missed = float((error / spread).mean())
        if best is None or missed < best[0]:
            best = (missed, config, predicted)
    assert best is not None
    missed, config, predicted = best
    bigger = scorer.with_items(predicted)
    new = bigger.score(lesson.asked)[:, len(rows) :]
    found = calibrate(own, new, columns, targets=lesson.targets)
    progress(steps - 1, steps, "all items")
    everything = np.ones(len(known.rows), dtype=np.bool_)
    factors = _fitted(config, content, targets=targets, counts=counts, chosen=everything)
    progress(steps, steps)
    return Placement(
        PlacementConfig(
            way="rows",
            encoders=dict(encoded.encoders),
            weights=dict(lesson.weights),
            scale=found.scale,
            offset=found.offset,
            factors=config,
            figures={**found.figures, "unexplained": missed},
        ),
        factors,
    )


def _factor_config(
    ridge: float, weights: Mapping[str, float], content: Content
) -> ContentFactorConfig:
    return ContentFactorConfig(
        weights={name: weights.get(name, 1.0) for name in content},
        ridge=ridge,
        count_power=0.5,
        landmarks=_LANDMARKS,
    )


def _fitted(
    config: ContentFactorConfig,
    content: Content,
    *,
    targets: FloatArray,
    counts: Floats,
    chosen: BoolArray,
) -> ContentFactor:
    # One visitor who chose everything as often as all did: the squared loss reads counts alone.
    visits = scipy.sparse.csr_array(counts[chosen][None])
    return ContentFactor(config).fit(
        _rows_of(content, chosen), targets[chosen], visits=visits, rng=np.random.default_rng(0)
    )


def _rows_of(content: Content, chosen: BoolArray) -> Content:
    return {name: view[np.flatnonzero(chosen)] for name, view in content.items()}


def _known(encoded: Encoded, items: Vocabulary, scorer: Scorer, *, counts: Floats) -> _Known:
    columns = items.indices(encoded.item_ids)
    usable = columns >= 0
    there = np.zeros(len(columns), dtype=np.bool_)
    for vectors in encoded.views.values():
        there |= np.any(vectors != 0, axis=1)
    usable &= there
    usable[usable] = counts[columns[usable]] > 0
    if isinstance(scorer, Placeable):
        _, trained = scorer.item_rows()
        usable[usable] = trained[columns[usable]]
    rows = np.flatnonzero(usable)
    return _Known(rows=rows, columns=columns[rows])


def _questions(sessions: Sessions, rng: np.random.Generator) -> tuple[Sessions, IntArray]:
    """Beginnings of visits, and what came next in each."""
    long = np.flatnonzero(sessions.lengths >= 2)
    rows = np.sort(rng.permutation(long)[:_VISITS])
    whole = [sessions.session(row) for row in rows.tolist()]
    targets = np.array([each[-1] for each in whole], dtype=np.int64)
    return Sessions.from_lists([each[-_LATEST - 1 : -1] for each in whole]), targets


def _means_of_neighbours(
    own: FloatArray, index: ContentIndex, columns: IntArray, *, items: Vocabulary
) -> FloatArray:
    """Scores of items as their likest others have them. Shape (visits, columns)."""
    found = np.zeros((len(own), len(columns)), dtype=np.float32)
    for place, column in enumerate(columns.tolist()):
        near, weights = nearest_known(index, items.ids[column], items, count=_NEAR)
        found[:, place] = own[:, near] @ weights
    return found


def _agreement(
    cases: Sequence[tuple[Mapping[str, tuple[FloatArray, BoolArray]], IntArray]],
    weights: Mapping[str, float],
) -> float:
    """Mean share of the wanted items among the first twenty."""
    hits = 0.0
    for parts, wanted in cases:
        total = sum(np.float32(weights[name]) * there for name, (_, there) in parts.items())
        mixed = sum(np.float32(weights[name]) * near for name, (near, _) in parts.items())
        fused = np.asarray(mixed) / np.maximum(np.asarray(total), 1e-9)
        best = np.argpartition(-fused, min(20, len(fused) - 1))[:20]
        hits += len(np.intersect1d(best, wanted)) / len(wanted)
    return hits / len(cases)
