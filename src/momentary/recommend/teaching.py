"""Learning from a catalogue's own tags what its shop calls alike; see `models.likeness`.

Which attributes count, and how much each view counts beside what was learned, is settled on items
whose labels are hidden: for every item of a tenth (of a fifth after the other where there are few),
the ten nearest of the others are found by its content alone, with and without the learned part.

    agreement of a kind = mean over hidden items of the share of the ten (of as many as there are,
                          where fewer have it) that have the item's value

A tag that is missing is filled where the item's name tells it (`recommend.naming`); agreement is
measured on tags that somebody gave, never on filled ones.

An attribute stays if the network tells it better than always saying the most frequent value, by two
standard errors: what is told by luck alone would be claimed of every item. What was learned is of
use unless it lowers the mean agreement by more than a hundredth. The weights of the views are
chosen on the same items, so the figures flatter it a little: a handful of numbers against hundreds
of items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from momentary.errors import DataError
from momentary.models.learned_likeness import LEARNED, LearnedLikeness
from momentary.models.likeness import Likeness, LikenessConfig
from momentary.recommend.content import ContentIndex
from momentary.recommend.encoded import Encoded
from momentary.recommend.naming import filled_by_name
from momentary.types import FloatArray, IntArray, Progress, silent

LEAST_NAMED = 5
"""A value that fewer items have is not learned."""

LEAST_ITEMS = 30
"""Fewer items with a value of some attribute teach nothing that could be checked."""

_NOT_TELLING = ("group_id",)
_TOGETHER = (("image", "colour"), ("music", "sound", "timbre"))
_NEAREST = 10
_FEW, _FOLDS, _SHARE, _MOST_HIDDEN = 1_000, 5, 10, 1_000
_LEAST_STEPS = 400
_MOST_VALUES = 2_000
_GRID = (0.0, 0.03, 0.1, 0.3, 1.0)
_START = 0.1
_TOLERANCE = 0.01
_ERRORS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What came of it.

    Attributes:
        learned: To be put to use; None where it is worse than content alone.
        figures: By attribute, "items" that have it, "named" ones whose name filled it, "values",
            and the agreement "plain" and "learned"; see the module.
        left_out: Attributes that were not learned, and why.
    """

    learned: LearnedLikeness | None
    figures: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """One attribute as numbers.

    Attributes:
        codes: -1 where unknown or rare. Shape (items,).
        taught: The same with gaps filled by the items' names; the network learns these.
        values: By number.
    """

    codes: IntArray
    taught: IntArray
    values: tuple[str, ...]


def learn_likeness(
    encoded: Encoded,
    *,
    by: Mapping[str, float] | None = None,
    rng: np.random.Generator,
    config: LikenessConfig | None = None,
    progress: Progress = silent,
) -> Taught:
    """Learn from the tags of the items that something was seen of.

    Args:
        encoded: Items with their views and attributes.
        by: Attributes to learn, and what each weighs; None takes all that content tells.
        rng: Draws which labels are hidden, and what the network draws.
        config: Of the network.
        progress: Told after every epoch of every network.

    Raises:
        DataError: If nothing is encoded, or there is no attribute to learn.
    """
    if not encoded.views:
        raise DataError("no item has content yet; run: momentary encode")
    seen = np.any(np.stack([np.any(each != 0, axis=1) for each in encoded.views.values()]), axis=0)
    rows = np.flatnonzero(seen)
    kinds, left_out = _kinds(encoded, rows, by)
    if not kinds:
        said = "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "there is none"
        raise DataError(
            f"no attribute can be learned ({said}). Give the items attributes that several share, "
            "such as a category or a colour."
        )
    views = {name: each[rows] for name, each in encoded.views.items()}
    wanted = replace(
        config or LikenessConfig(),
        weights=dict(by or {}),
        together=tuple(group for group in _TOGETHER if set(group) <= views.keys()),
    )
    lesson = _Lesson(
        ids=[encoded.item_ids[row] for row in rows.tolist()],
        views=views,
        encoders={name: encoded.encoders[name] for name in views},
        config=wanted,
    )
    parts = list(_hidden(len(rows), rng))
    tell = _Steps(progress, networks=2 * len(parts) + 1)
    tried = _tried(lesson, kinds, parts, rng=rng, tell=tell)
    untold = _untold(lesson, kinds, tried)
    left_out |= untold
    kinds = {name: each for name, each in kinds.items() if name not in untold}
    if not kinds:
        said = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise DataError(f"content tells none of the attributes ({said}).")
    if untold:
        tried = _tried(lesson, kinds, parts, rng=rng, tell=tell)
    else:
        tell.skip(len(parts))
    weights, figures = _weighed(lesson, kinds, tried)
    learned = lesson.taught(
        kinds, np.arange(len(rows)), rng=rng, progress=tell.next(), weights=weights
    )
    gained = np.mean([each["learned"] - each["plain"] for each in figures.values()])
    return Taught(
        learned=replace(learned, figures=figures) if gained >= -_TOLERANCE else None,
        figures=figures,
        left_out=left_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """Items that something was seen of."""

    ids: list[str]
    views: Mapping[str, FloatArray]
    encoders: Mapping[str, str]
    config: LikenessConfig

    def taught(
        self,
        kinds: Mapping[str, _Labels],
        rows: IntArray,
        *,
        rng: np.random.Generator,
        progress: Progress,
        weights: Mapping[str, float] | None = None,
    ) -> LearnedLikeness:
        """What some of the items teach."""
        labelled = np.any([each.taught[rows] >= 0 for each in kinds.values()], axis=0)
        count = max(int(np.count_nonzero(labelled)), 1)
        batch = int(np.clip(count // 4, 2, self.config.batch_size))
        epochs = max(self.config.epochs, _LEAST_STEPS // max(count // batch, 1))
        weighed = self.config.weights or {}
        own = {name: weighed[name] for name in kinds if name in weighed}
        model = Likeness(replace(self.config, batch_size=batch, epochs=epochs, weights=own)).fit(
            {name: each[rows] for name, each in self.views.items()},
            {name: each.taught[rows] for name, each in kinds.items()},
            values={name: len(each.values) for name, each in kinds.items()},
            rng=rng,
            progress=progress,
        )
        return LearnedLikeness(
            model=model,
            values={name: each.values for name, each in kinds.items()},
            encoders=self.encoders,
            weights=dict(weights or dict.fromkeys(self.views, _START) | {LEARNED: 1.0}),
        )

    def index(self, rows: IntArray, learned: LearnedLikeness) -> ContentIndex:
        """Some of the items by likeness, their attributes unread."""
        views = {name: each[rows] for name, each in self.views.items()}
        return ContentIndex([self.ids[row] for row in rows.tolist()], views, learned=learned)

    def query(self, rows: IntArray) -> dict[str, FloatArray]:
        """The views of some of the items."""
        return {name: each[rows] for name, each in self.views.items()}


def _kinds(
    encoded: Encoded, rows: IntArray, by: Mapping[str, float] | None
) -> tuple[dict[str, _Labels], dict[str, str]]:
    """The attributes that can be learned, and why others cannot."""
    for name in by or {}:
        if name not in encoded.attributes:
            there = ", ".join(sorted(encoded.attributes)) or "none"
            raise DataError(
                f"no attribute {name!r} groups the items; there are: {there}. An attribute whose "
                "values hardly any two items share cannot be learned."
            )
    names = [encoded.items[row].name for row in rows.tolist()]
    found: dict[str, _Labels] = {}
    left_out: dict[str, str] = {}
    for name, column in encoded.attributes.items():
        if name in _NOT_TELLING or (by is not None and name not in by):
            continue
        texts = np.array(["" if each is None else str(each) for each in column[rows]])
        values, codes = np.unique(texts, return_inverse=True)
        told = np.where(texts == "", -1, codes)
        filled = filled_by_name(told, names, values.tolist())
        counts = np.bincount(filled[filled >= 0], minlength=len(values))
        kept = np.flatnonzero(counts >= LEAST_NAMED)
        # One more place, which unknown values take: they stand at -1.
        place = np.full(len(values) + 1, -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        known = int((place[told] >= 0).sum())
        if len(kept) < 2:
            left_out[name] = f"no two values that {LEAST_NAMED} items have"
        elif known < LEAST_ITEMS:
            left_out[name] = f"{known} items have it; at least {LEAST_ITEMS} are needed"
        elif len(kept) > _MOST_VALUES:
            left_out[name] = f"{len(kept):,} values; at most {_MOST_VALUES:,} are learned"
        else:
            found[name] = _Labels(
                codes=place[told], taught=place[filled], values=tuple(map(str, values[kept]))
            )
    return found, left_out


def _hidden(count: int, rng: np.random.Generator) -> Iterator[tuple[IntArray, IntArray]]:
    """Items whose labels are hidden, and the others."""
    order = rng.permutation(count)
    if count >= _FEW:
        many = min(count // _SHARE, _MOST_HIDDEN)
        yield np.sort(order[:many]), np.sort(order[many:])
        return
    for fold in range(_FOLDS):
        yield np.sort(order[fold::_FOLDS]), np.sort(np.delete(order, np.s_[fold::_FOLDS]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What the others teach of items whose labels are hidden; rows of a lesson."""

    hidden: IntArray
    rest: IntArray
    learned: LearnedLikeness

    def agreement(self, near: FloatArray, labels: _Labels) -> FloatArray:
        """Of each hidden item with a label, the share of its nearest that have the same."""
        k = min(_NEAREST, len(self.rest) - 1)
        best = np.argpartition(-near, k, axis=1)[:, :k]
        own, held = labels.codes[self.hidden], labels.codes[self.rest]
        there = np.bincount(held[held >= 0], minlength=len(labels.values))
        own_there = np.where(own >= 0, there[own], 0)
        same = (held[best] == own[:, None]).sum(axis=1) / np.clip(own_there, 1, k)
        return np.asarray(same[own_there > 0])


def _tried(
    lesson: _Lesson,
    kinds: Mapping[str, _Labels],
    parts: Sequence[tuple[IntArray, IntArray]],
    *,
    rng: np.random.Generator,
    tell: _Steps,
) -> list[_Trial]:
    return [
        _Trial(
            hidden=hidden,
            rest=rest,
            learned=lesson.taught(kinds, rest, rng=rng, progress=tell.next()),
        )
        for hidden, rest in parts
    ]


def _untold(
    lesson: _Lesson, kinds: Mapping[str, _Labels], tried: Sequence[_Trial]
) -> dict[str, str]:
    """Attributes that content does not tell, and why; see the module."""
    found = {}
    for name, labels in kinds.items():
        right, counts = 0, np.zeros(len(labels.values), dtype=np.int64)
        for trial in tried:
            own = trial.hidden[labels.codes[trial.hidden] >= 0]
            said = trial.learned.model.chances(lesson.query(own))[name].argmax(axis=1)
            right += int((said == labels.codes[own]).sum())
            counts += np.bincount(labels.codes[own], minlength=len(counts))
        # Of all parts together: the value that is most frequent beside a part is rare in it.
        usual, total = int(counts.max()), int(counts.sum())
        error = np.sqrt(max(usual * (total - usual), 1) / max(total, 1))
        if right <= usual + _ERRORS * error:
            found[name] = (
                f"content tells it of {right / max(total, 1):.0%} of the hidden items, the most "
                f"frequent value of {usual / max(total, 1):.0%}"
            )
    return found


def _weighed(
    lesson: _Lesson, kinds: Mapping[str, _Labels], tried: Sequence[_Trial]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The weights of the views under which agreement is highest, and the figures."""
    indices = [lesson.index(trial.rest, trial.learned) for trial in tried]
    queries = [lesson.query(trial.hidden) for trial in tried]
    asked = [index.asked(query) for index, query in zip(indices, queries, strict=True)]

    def agreement(found: Sequence[FloatArray]) -> dict[str, float]:
        pairs = list(zip(tried, found, strict=True))
        shares = {
            name: np.concatenate([trial.agreement(near, labels) for trial, near in pairs])
            for name, labels in kinds.items()
        }
        return {name: float(each.mean()) for name, each in shares.items()}

    def with_weights(weights: Mapping[str, float]) -> dict[str, float]:
        pairs = zip(indices, asked, strict=True)
        return agreement([index.fuse(compared, weights) for index, compared in pairs])

    weights = {**dict.fromkeys(lesson.views, _START), LEARNED: 1.0}
    best = with_weights(weights)
    for name in lesson.views:
        for value in _GRID:
            now = {**weights, name: value}
            found = with_weights(now)
            if sum(found.values()) > sum(best.values()):
                weights, best = now, found
    pairs = zip(indices, queries, strict=True)
    before = agreement([index.similarities(query, plain=True) for index, query in pairs])
    figures = {
        name: {
            "items": float((labels.codes >= 0).sum()),
            "named": float(((labels.codes < 0) & (labels.taught >= 0)).sum()),
            "values": float(len(labels.values)),
            "plain": round(before[name], 4),
            "learned": round(best[name], 4),
        }
        for name, labels in kinds.items()
    }
    return weights, figures


class _Steps:
    """One progress over several networks."""

    def __init__(self, progress: Progress, *, networks: int) -> None:
        self._progress, self._networks, self._at = progress, networks, 0

    def next(self) -> Progress:
        """The progress of the next network."""
        at, self._at = self._at, self._at + 1

        def tell(done: int, total: int, note: str = "") -> None:
            self._progress(at * total + done, self._networks * total, note)

        return tell

    def skip(self, count: int) -> None:
        """Networks that are not needed."""
        self._at += count
