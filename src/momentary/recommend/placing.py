"""Learn, from a trained model and encoded content, where items stand that nobody touched.

How high new items stand is chosen on the newest visits by a model that has never seen those visits,
nor a quarter of the items: the settings of the model at hand are fitted once more for that, on the
older visits, at most `PROBED` events of them. A model that takes new items itself is not fitted
here; it is asked about visits that it learned from, and its figures say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from momentary.data.sessions import renumber_items
from momentary.data.tags import TAGS, tag_rows
from momentary.data.vocabulary import Vocabulary
from momentary.models.artifact import Bundle
from momentary.models.content_factor import (
    Content,
    ContentFactor,
    ContentFactorConfig,
    autoencoder_factors,
)
from momentary.models.placement import (
    Calibration,
    Placement,
    PlacementConfig,
    calibrate,
    company_of,
    spread_root,
)
from momentary.models.protocol import Described, Placeable, Scorer
from momentary.recommend.content import ContentIndex
from momentary.recommend.encoded import Encoded
from momentary.recommend.fusion import Compared
from momentary.recommend.reasons import Related
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

Floats: TypeAlias = NDArray[np.float64]

LEAST_ITEMS = 20
"""With fewer known items that have content, there is nothing to learn from."""

PROBED = 300_000
"""Newest events that the model which is asked about new items is fitted on."""

_NEW = 0.25
_NEWEST = 0.1
_QUESTIONS = 2_000
_LATEST = 20
_LANDMARKS = 1_500
_RIDGES = (8.0, 2.0, 32.0)  # of equals, the first is taken
_FACTORS, _SHRINKAGE = 128, 30.0
_GRAM = 3_000
_WEIGHED = 200
_BESIDE = 3_000
_GRID = (1.0, 0.5, 2.0, 0.25, 0.0)  # of equals, the first is taken
_NEAR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Items that the model knows and that have content, with their places in both.

    Attributes:
        rows: Row of each in what was encoded. Shape (known,).
        columns: Item index of each. Shape (known,).
        content: Their views.
        counts: Their events. Shape (known,).
        items: How many the model knows, those without content included.
    """

    rows: IntArray
    columns: IntArray
    content: Content
    counts: Floats
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A model, and questions about items that are to be taken for new.

    Attributes:
        scorer: Fitted.
        learned: What it was fitted on.
        asked: Beginnings of visits.
        targets: The item that came next in each. Shape (visits,).
        new: Which of the known items are taken for new. Shape (known,).
        familiar: Beginnings of visits that it was fitted on.
        unseen: Whether the model has seen neither the visits nor those items.
    """

    scorer: Scorer
    learned: Sessions
    asked: Sessions
    targets: IntArray
    new: BoolArray
    familiar: Sessions
    unseen: bool


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
    steps = 4 + len(_RIDGES)
    progress(1, steps, "weights")
    weights = likeness_weights(bundle, encoded, known.columns, rng=rng)
    progress(2, steps, "a model without the newest visits")
    new = np.zeros(len(known.rows), dtype=np.bool_)
    new[rng.permutation(len(new))[: int(_NEW * len(new))]] = True
    trial = _trial(scorer, sessions, known, new=new, rng=rng)
    tried = {}
    for step, ridge in enumerate(_RIDGES, start=3):
        progress(step, steps, f"ridge {ridge:g}")
        config = ContentFactorConfig(
            weights={name: weights.get(name, 1.0) for name in known.content},
            ridge=ridge,
            count_power=0.5,
            landmarks=_LANDMARKS,
            lacking="guessed",
        )
        tried[ridge] = config, _calibrated(trial, known, config)
    config, found = max(tried.values(), key=lambda each: each[1].gain)
    progress(steps, steps, "all items")
    again = replace(trial, scorer=scorer, learned=sessions)
    if isinstance(scorer, Placeable):
        # Scores of visits that a model learned from are spread wider; both learned from these.
        wider = _spread(again, known) / max(_spread(trial, known), 1e-12)
        found = replace(found, moved=found.moved * wider)
    return _placement(again, known, config, found=found, encoders=encoded.encoders)


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
    ids = index.item_ids
    others = ids[:: max(len(ids) // _BESIDE, 1)]
    cases = []
    for item in some.tolist():
        own = bundle.items.ids[item]
        beside = related.related(item, _NEAR).items
        wanted = [bundle.items.ids[each] for each in beside.tolist()]
        wanted = [each for each in wanted if each in index and each != own]
        if wanted:
            looked = [*wanted, *(each for each in others if each not in {*wanted, own})]
            cases.append((index.compared(own, looked), len(wanted)))
    weights = dict.fromkeys(views, 1.0)
    if len(cases) < LEAST_ITEMS:
        return weights
    for name in views:
        tried = [{**weights, name: weight} for weight in _GRID]
        usable = [each for each in tried if any(each.values())]
        weights = max(usable, key=lambda each: _agreement(index, cases, each))
    return weights


def _trial(
    scorer: Scorer, sessions: Sessions, known: _Known, *, new: BoolArray, rng: np.random.Generator
) -> _Trial:
    """A model of the same settings that knows neither the newest visits nor the new items."""
    order = np.argsort(sessions.last_times_us, kind="stable")
    stop = len(order) - max(int(_NEWEST * len(order)), 1)
    older, newest = order[:stop], order[stop:]
    sizes = np.cumsum(sessions.lengths[older][::-1])
    older = older[len(older) - max(int(np.searchsorted(sizes, PROBED)), 1) :]
    kept = np.arange(known.items)
    kept[known.columns[new]] = -1
    past = renumber_items(sessions.take(np.sort(older)), kept)
    past = past.take(np.flatnonzero(past.lengths > 0))
    seen = np.zeros(known.items, dtype=np.bool_)
    seen[past.items] = True
    newer = sessions.take(np.sort(newest))
    asked, targets = _questions(newer, known, new, rng=rng, seen=seen)
    takes_new = isinstance(scorer, Described) and scorer.takes_new_items
    if takes_new or not len(targets):
        asked, targets = _questions(sessions, known, new, rng=rng)
        return _Trial(
            scorer=scorer,
            learned=sessions,
            asked=asked,
            targets=targets,
            new=new,
            familiar=asked,
            unseen=False,
        )
    familiar, _ = _questions(past, known, new, rng=rng)
    make = cast("Callable[[Any], Scorer]", type(scorer))  # every model is made from its settings
    probe = make(scorer.config)
    if isinstance(probe, Described):
        probe.describe(cast("Described", scorer).features)
    probe.fit(past, n_items=known.items, rng=rng)
    return _Trial(
        scorer=probe,
        learned=past,
        asked=asked,
        targets=targets,
        new=new,
        familiar=familiar,
        unseen=True,
    )


def _calibrated(trial: _Trial, known: _Known, config: ContentFactorConfig) -> Calibration:
    """What new items score for the trial, and how that has to be tuned."""
    own = trial.scorer.score(trial.asked)
    taken = known.columns[trial.new]
    others = np.setdiff1d(np.arange(own.shape[1]), taken)
    place = np.full(own.shape[1], -1)
    place[others], place[taken] = np.arange(len(others)), len(others) + np.arange(len(taken))
    new = _scores_of_new(trial, known, config, own=own)
    own = own[:, others]
    if not isinstance(trial.scorer, Placeable):
        root = spread_root(own)
        own, new = own / root, new / root**2
    return calibrate(own, new, targets=place[trial.targets])


def _scores_of_new(
    trial: _Trial, known: _Known, config: ContentFactorConfig, *, own: FloatArray
) -> FloatArray:
    """Scores that content alone gives the items that are taken for new. (visits, new)."""
    told = _rows_of(known.content, trial.new)
    if isinstance(trial.scorer, Placeable):
        rows, trained = trial.scorer.item_rows()
        learned = ~trial.new & trained[known.columns]
        model = _fitted(config, known, rows, chosen=learned)
        bigger = trial.scorer.with_items(model.predict(told))
        return bigger.score(trial.asked)[:, own.shape[1] :]
    factors = _factors(trial.learned, n_items=own.shape[1])
    factors[known.columns[trial.new]] = 0
    model = _fitted(config, known, factors, chosen=~trial.new)
    company = company_of(model.predict(told), factors, count=PlacementConfig().neighbours)
    return np.stack([own[:, near] @ weights for near, weights in company], axis=1)


def _placement(
    trial: _Trial,
    known: _Known,
    config: ContentFactorConfig,
    *,
    found: Calibration,
    encoders: Mapping[str, str],
) -> Placement:
    """The placement of the trial's model: learned from all items, tuned as was found."""
    everything = np.ones(len(known.rows), dtype=np.bool_)
    if isinstance(trial.scorer, Placeable):
        own = trial.scorer.score(trial.asked)
        level = float(np.median(_scores_of_new(trial, known, config, own=own)))
        targets, _ = trial.scorer.item_rows()
        company = None
    else:
        level = found.level
        targets = company = _factors(trial.learned, n_items=known.items)
    factors = _fitted(config, known, targets, chosen=everything)
    settings = PlacementConfig(
        way="rows" if company is None else "neighbours",
        encoders=dict(encoders),
        weights=dict(config.weights or {}),
        scale=found.scale,
        offset=found.offset(level=level),
        factors=config,
        figures={**found.figures, "unseen": float(trial.unseen)},
    )
    return Placement(settings, factors, company)


def _spread(trial: _Trial, known: _Known) -> float:
    """Standard deviation of the scores of the items that are not taken for new."""
    scores = trial.scorer.score(trial.familiar)
    others = np.ones(scores.shape[1], dtype=np.bool_)
    others[known.columns[trial.new]] = False
    return float(scores[:, others].std())


def _factors(sessions: Sessions, *, n_items: int) -> FloatArray:
    """Collaborative factors of the items, as their visits have them. Shape (items, factors)."""
    rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
    ones = np.ones(len(rows), dtype=np.float32)
    visits = scipy.sparse.csr_array((ones, (rows, sessions.items)), shape=(len(sessions), n_items))
    visits.data[:] = 1
    if n_items <= _GRAM or len(sessions) <= _FACTORS:
        return autoencoder_factors(visits, factors=_FACTORS, shrinkage=_SHRINKAGE)
    # The same without the whole matrix of items by items, which a large catalogue cannot hold.
    _, lengths, vectors = scipy.sparse.linalg.svds(visits, k=_FACTORS, random_state=0)
    values = lengths.astype(np.float64) ** 2
    return np.asarray(vectors.T * np.sqrt(values / (values + _SHRINKAGE)), dtype=np.float32)


def _fitted(
    config: ContentFactorConfig, known: _Known, targets: FloatArray, *, chosen: BoolArray
) -> ContentFactor:
    """From the content of some known items to what stands in `targets` for them."""
    # One visitor who chose everything as often as all did: the squared loss reads counts alone.
    visits = scipy.sparse.csr_array(known.counts[chosen][None])
    rng = np.random.default_rng(0)
    return ContentFactor(config).fit(
        _rows_of(known.content, chosen), targets[known.columns[chosen]], visits=visits, rng=rng
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
    return _Known(
        rows=rows,
        columns=columns[rows],
        content=content_of(encoded, rows),
        counts=counts[columns[rows]],
        items=len(items),
    )


def _questions(
    sessions: Sessions,
    known: _Known,
    new: BoolArray,
    *,
    rng: np.random.Generator,
    seen: BoolArray | None = None,
) -> tuple[Sessions, IntArray]:
    """Beginnings of visits, without the new items, and what came next in each.

    What came next is new or was seen; without `seen`, everything was.
    """
    fresh = np.zeros(known.items, dtype=np.bool_)
    fresh[known.columns[new]] = True
    begun = np.repeat(sessions.offsets[:-1], sessions.lengths)
    usable = np.arange(len(sessions.items)) > begun
    if seen is not None:
        usable &= fresh[sessions.items] | seen[sessions.items]
    beginnings, targets = [], []
    for event in rng.permutation(np.flatnonzero(usable)).tolist():
        before = sessions.items[max(begun[event], event - _LATEST) : event]
        before = before[~fresh[before]]
        if len(before):
            beginnings.append(before)
            targets.append(int(sessions.items[event]))
        if len(targets) == _QUESTIONS:
            break
    return Sessions.from_lists(beginnings), np.array(targets, dtype=np.int64)


def _agreement(
    index: ContentIndex, cases: Sequence[tuple[Compared, int]], weights: Mapping[str, float]
) -> float:
    """Mean share of the wanted items, which stand first in every case, among the first twenty."""
    hits = 0.0
    for compared, wanted in cases:
        fused = index.fuse(compared, weights)[0]
        best = np.argpartition(-fused, min(_LATEST, len(fused) - 1))[:_LATEST]
        hits += float((best < wanted).sum()) / wanted
    return hits / len(cases)
