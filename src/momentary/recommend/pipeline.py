"""Scores to ranks and lists: the only place that ranks, offline and online alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec
import numpy as np

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.learn.graph import Graph
from momentary.models.protocol import Incremental
from momentary.recommend.arrangement import Arrangement, Exploration, Limit, Shape, Variety, arrange
from momentary.recommend.attributes import Attributes
from momentary.recommend.index import Index, index_of
from momentary.recommend.reasons import Reasons
from momentary.recommend.rules import (
    CONTENT,
    DEFAULT_RULES,
    Diversity,
    Rules,
    boosted,
    boosts,
    check_names,
    column,
)
from momentary.recommend.rules import allowed as allowed_items
from momentary.types import (
    BoolArray,
    FloatArray,
    IntArray,
    ItemTable,
    ObjectArray,
    Recommendation,
    Sessions,
)

Rows = tuple[IntArray, IntArray]
"""Item indices stored end to end and offsets: row r is `items[offsets[r]:offsets[r + 1]]`."""

_KEPT_MASKS = 128
_PINNED = "placed here by the shop"
_BOOSTED = "put forward by the shop"
_EXPLORED = "shown to find out whether it is liked"
_NOWHERE: BoolArray = np.zeros(0, dtype=np.bool_)
_WIDEST_BLOCK = 64
_SCORES_AT_ONCE = 2_000_000  # larger products leave the processor's cache and gain nothing


class Scores(Protocol):
    """The part of a `Scorer` that ranking needs."""

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item for every session, higher is better. Shape (sessions, items)."""
        ...


def ranks(
    scores: FloatArray,
    targets: IntArray,
    offsets: IntArray,
    *,
    allowed: BoolArray | None = None,
    per_row_excluded: Rows | None = None,
) -> IntArray:
    """Find the conservative rank of every target: ties count against it.

    A target's rank is the number of allowed items that score at least as high. Targets of one
    query do not beat each other by a tie: they stand after all equal items that are no targets,
    by index; so ranks within a query are distinct (Hidasi & Czapp, arXiv 2307.14956, on why ties
    matter).

    Args:
        scores: Higher is better. Shape (queries, items).
        targets: Item indices, distinct within a query. Shape (targets,).
        offsets: The targets of query q are `targets[offsets[q]:offsets[q + 1]]`.
        allowed: Items that may be recommended; None means all. Shape (items,).
        per_row_excluded: Items that one query may not be given, such as its history.

    Returns:
        Ranks from 1; items + 1 for a target that is not allowed. Shape (targets,).

    Raises:
        ValueError: If a score is NaN, or a target is unknown or asked for twice.

    >>> ranks(np.array([[.5, .9, .5]], dtype=np.float32), np.array([0]), np.array([0, 1])).tolist()
    [3]
    """
    queries, n_items = _shape(scores)
    _check_offsets(offsets, queries, len(targets))
    _check_targets(targets, offsets, n_items)
    everywhere = _mask_or_none(allowed, per_row_excluded, n_items=n_items)
    found = np.empty(len(targets), dtype=np.int64)
    for query in range(queries):
        row = scores[query]
        _refuse_nan(row, query)
        mask = None
        if everywhere is not None:
            mask = _row_mask(everywhere, per_row_excluded, query=query)
        wanted = slice(offsets[query], offsets[query + 1])
        found[wanted] = _row_ranks(row, targets[wanted], mask)
    return found


def top(
    scores: FloatArray,
    k: int,
    *,
    allowed: BoolArray | None = None,
    per_row_excluded: Rows | None = None,
) -> tuple[IntArray, FloatArray]:
    """Find the best `k` items of every row, best first, ties by lower index.

    Args:
        scores: Higher is better. Shape (queries, items).
        k: Length of a list.
        allowed: Items that may be recommended; None means all. Shape (items,).
        per_row_excluded: Items that one row may not be given, such as its history.

    Returns:
        Item indices and their scores, both of shape (queries, k). Where fewer than `k` items are
        allowed the row ends in index -1 and score -inf.

    Raises:
        ValueError: If a score is NaN or `k` is below 1.

    >>> top(np.array([[1.0, 3.0, 3.0]], dtype=np.float32), 2)[0].tolist()
    [[1, 2]]
    """
    queries, n_items = _shape(scores)
    everywhere = _mask_or_none(allowed, per_row_excluded, n_items=n_items)
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least 1 item.")
    indices = np.full((queries, k), -1, dtype=np.int64)
    values = np.full((queries, k), -np.inf, dtype=np.float32)
    for query in range(queries):
        row = scores[query]
        _refuse_nan(row, query)
        mask = None
        if everywhere is not None:
            mask = _row_mask(everywhere, per_row_excluded, query=query)
        best = _row_top(row, k, mask)
        indices[query, : len(best)] = best
        values[query, : len(best)] = row[best]
    return indices, values


class Recommender:
    """Turns a scorer into lists: scores, applies rules, ranks and gives reasons.

    Args:
        scorer: Scores the catalogue for sessions.
        items: Outside ids of the scorer's item indices.
        table: The catalogue in the same order.
        reasons: Explains the items of a list; None leaves reasons empty.
        vectors: The items' content, for variety by content: rows of length 1, or of zeros where
            an item has none. Shape (items, width).
        graph: Of the scorer's items, or the first of them; None searches exactly.
        before: A recommender over the same items, of which is kept what is the same.
    """

    def __init__(  # noqa: PLR0913 - each says something else
        self,
        scorer: Scores,
        *,
        items: Vocabulary,
        table: ItemTable,
        reasons: Reasons | None = None,
        vectors: FloatArray | None = None,
        graph: Graph | None = None,
        before: Recommender | None = None,
    ) -> None:
        if tuple(table.item_ids) != items.ids:
            raise ValueError(
                f"the table's {len(table)} items are not the vocabulary's {len(items)}; "
                "order the table by the vocabulary's ids."
            )
        self.scorer = scorer
        self.items = items
        self.table = table
        if vectors is not None and len(vectors) != len(items):
            raise ValueError(f"{len(vectors)} vectors but {len(items)} items; give one an item.")
        self.reasons = reasons
        self.vectors = vectors
        columns = None if before is None else before.attributes
        self.attributes: Attributes = Attributes(table, before=columns)
        self.index: Index | None = (
            before.index
            if before is not None and before.scorer is scorer
            else index_of(scorer, n_items=len(items), graph=graph)
        )
        self._masks: dict[bytes, BoolArray] = {}
        self._boosts: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    @property
    def search(self) -> Literal["graph", "exact", "scores"]:
        """How the best items are found where no rule needs a score of every item."""
        if self.index is None:
            return "scores"
        return "exact" if self.index.graph is None else "graph"

    def with_table(self, table: ItemTable) -> Recommender:
        """The same recommender over other facts of its items, such as new prices and stock.

        Raises:
            ValueError: If the table holds other items.
        """
        reasons = None if self.reasons is None else self.reasons.with_table(table)
        return Recommender(
            self.scorer,
            items=self.items,
            table=table,
            reasons=reasons,
            vectors=self.vectors,
            before=self,
        )

    def recommend(
        self,
        sessions: Sessions,
        *,
        k: int = 20,
        rules: Rules = DEFAULT_RULES,
        explain: bool = True,
        rng: np.random.Generator | None = None,
    ) -> list[list[Recommendation]]:
        """Make one list of at most `k` items for every session, best first.

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have.
        """
        if self.index is not None:
            states = self.index.states(sessions)
            return self.rank_states(states, sessions, k=k, rules=rules, explain=explain, rng=rng)
        scores = self.scorer.score(sessions)
        return self.rank_scores(scores, sessions, k=k, rules=rules, explain=explain, rng=rng)

    def is_direct(self, rules: Rules) -> bool:
        """Whether lists can be made from states without scoring whole rows."""
        needs_rows = rules.max_per or rules.boosts or rules.pins or rules.diversity or rules.explore
        return self.index is not None and not needs_rows

    def best(
        self, states: FloatArray, sessions: Sessions | None, *, k: int, rules: Rules
    ) -> tuple[IntArray, FloatArray] | None:
        """Find the items of `rank_states` and their scores, and nothing else of the lists.

        Args:
            states: Of the scorer. Shape (sessions, width).
            sessions: What each visitor did so far; None where `rules` list what was seen, too.
            k: Items a list.
            rules: What may stand on a list.

        Returns:
            Item indices and scores, both of shape (sessions, k); None where lists need whole rows.

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have.
        """
        if self.index is None or not self.is_direct(rules):
            return None
        seen = None if sessions is None else (sessions.items, sessions.offsets)
        found, scores = self.index.best(states, k, allowed=self._mask(rules), excluded=seen)
        # A list with room left may hold items that the index leaves out.
        return (found, scores) if found[:, -1:].min(initial=0) >= 0 else None

    def rank_states(
        self,
        states: FloatArray,
        sessions: Sessions,
        *,
        k: int = 20,
        rules: Rules = DEFAULT_RULES,
        explain: bool = True,
        rng: np.random.Generator | None = None,
    ) -> list[list[Recommendation]]:
        """Make the lists from the states of an incremental scorer.

        They are those of `rank_scores` for the states' scores. Where the scorer has an index and no
        rule needs whole rows, no row is scored.

        Args:
            states: Of the scorer. Shape (sessions, width).
            sessions: What each visitor did so far; seen items and reasons come from it.
            k: Most items a list.
            rules: What may stand on a list.
            explain: False leaves reasons empty, which is faster.
            rng: Draws the places that `rules.explore` leaves to chance.

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have.
            TypeError: If the scorer has no states.
        """
        if not isinstance(self.scorer, Incremental):
            raise TypeError(f"{type(self.scorer).__name__} has no states; use rank_scores.")
        direct = self.best(states, sessions if rules.exclude_seen else None, k=k, rules=rules)
        if direct is not None:
            return self._direct(*direct, sessions, explain=explain)
        found: list[list[Recommendation]] = []
        step = max(1, _SCORES_AT_ONCE // max(1, len(self.items)))
        for start in range(0, len(states), step):
            rows = np.arange(start, min(start + step, len(states)))
            found += self.rank_scores(
                self.scorer.score_states(states[rows]),
                sessions.take(rows),
                k=k,
                rules=rules,
                explain=explain,
                rng=rng,
            )
        return found

    def rank_scores(
        self,
        scores: FloatArray,
        sessions: Sessions,
        *,
        k: int = 20,
        rules: Rules = DEFAULT_RULES,
        explain: bool = True,
        rng: np.random.Generator | None = None,
    ) -> list[list[Recommendation]]:
        """Make the lists from scores that are there already, such as those of live states.

        Args:
            scores: Higher is better. Shape (sessions, items).
            sessions: What each visitor did so far; seen items and reasons come from it.
            k: Most items a list.
            rules: What may stand on a list.
            explain: False leaves reasons empty, which is faster.
            rng: Draws the places that `rules.explore` leaves to chance.

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have.
            ValueError: If places are left to chance and there is no `rng`.
        """
        if _shape(scores) != (len(sessions), len(self.items)):
            raise ValueError(
                f"scores have shape {scores.shape}; {len(sessions)} sessions and "
                f"{len(self.items)} items need ({len(sessions)}, {len(self.items)})."
            )
        seen = (sessions.items, sessions.offsets) if rules.exclude_seen else None
        scores, lifted = self._boosted(scores, rules)
        lists = self._listed(scores, k, self._mask(rules), rules=rules, excluded=seen, rng=rng)
        reasons = self.reasons if explain else None
        return [
            self._answer(
                best,
                row,
                None if reasons is None else reasons.explain(sessions.session(query), best.items),
                lifted=lifted,
                explain=explain,
            )
            for query, (best, row) in enumerate(zip(lists, scores, strict=True))
        ]

    def similar(
        self,
        item_id: str,
        *,
        k: int = 20,
        rules: Rules = DEFAULT_RULES,
        rng: np.random.Generator | None = None,
    ) -> list[Recommendation]:
        """List the items that are most like one item; the item itself is left out.

        When the reasons know which items occur together in the training data, only those are
        listed, by similarity. Otherwise the scorer ranks what fits a visit to that item alone.

        Raises:
            DataError: If the item, or an attribute named by a rule, is unknown.
        """
        item = self.items.index(item_id)
        if item < 0:
            raise DataError(
                f"item {item_id!r} is not in this model; add it to the catalogue and fit again."
            )
        mask = self._mask(rules).copy()
        mask[item] = False
        related = None if self.reasons is None else self.reasons.related
        if related is None:
            scores = self.scorer.score(Sessions.from_lists([[item]]))
        else:
            near = related.related(item, len(self.items))
            scores = np.zeros((1, len(self.items)), dtype=np.float32)
            scores[0, near.items] = near.similarities
            beside = np.zeros(len(self.items), dtype=np.bool_)
            beside[near.items] = True
            mask &= beside
        scores, lifted = self._boosted(scores, rules)
        (best,) = self._listed(scores, k, mask, rules=rules, excluded=None, rng=rng)
        reasons = None if self.reasons is None else self.reasons.explain_similar(item, best.items)
        return self._answer(best, scores[0], reasons, lifted=lifted, explain=True)

    def check(self, rules: Rules) -> None:
        """Refuse rules that could not be followed.

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have, or content
                where there is none.
        """
        check_names(rules, self.attributes)
        if rules.diversity is not None:
            self._variety(rules.diversity)

    def mask(self, rules: Rules) -> BoolArray:
        """The items that the rules let onto any list, whatever the visit. Shape (items,).

        Raises:
            DataError: If a rule names an attribute that the catalogue does not have.
        """
        return self._mask(rules).copy()

    def _direct(
        self, best: IntArray, values: FloatArray, sessions: Sessions, *, explain: bool
    ) -> list[list[Recommendation]]:
        """Lists that are the best items as they are."""
        ids, reasons = self.items.ids, self.reasons if explain else None
        found = []
        for query, (row, scores) in enumerate(zip(best.tolist(), values.tolist(), strict=True)):
            if reasons is None:
                found.append(
                    [
                        Recommendation(item_id=ids[item], score=score, rank=place)
                        for place, (item, score) in enumerate(zip(row, scores, strict=True), 1)
                    ]
                )
                continue
            said = reasons.explain(sessions.session(query), best[query])
            found.append(
                [
                    Recommendation(item_id=ids[item], score=score, rank=place, reasons=why)
                    for place, (item, score, why) in enumerate(
                        zip(row, scores, said, strict=True), 1
                    )
                ]
            )
        return found

    def _mask(self, rules: Rules) -> BoolArray:
        """`allowed` with what many requests share kept from the last time."""
        shared = rules
        if rules is not DEFAULT_RULES:
            names = () if rules.unknown == "empty" else (rules.max_per, rules.diversity)
            shared = Rules(
                in_stock=rules.in_stock,
                allow=rules.allow,
                deny=rules.deny,
                price_min=rules.price_min,
                price_max=rules.price_max,
                boosts=rules.boosts if names else (),
                max_per=rules.max_per if names else {},
                diversity=rules.diversity if names else None,
                unknown=rules.unknown,
            )
        key = msgspec.json.encode(shared, order="deterministic")
        mask = self._masks.get(key)
        if mask is None:
            mask = allowed_items(shared, self.table, attributes=self.attributes)
            if self.table.hidden is not None:
                mask &= ~self.table.hidden
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            self._masks[key] = mask
        if not rules.exclude_items:
            return mask
        unwanted = self.items.indices(rules.exclude_items)
        own = mask.copy()
        own[unwanted[unwanted >= 0]] = False
        return own

    def _boosted(self, scores: FloatArray, rules: Rules) -> tuple[FloatArray, BoolArray | None]:
        """Scores after the boosts, and which items were lifted."""
        if not rules.boosts:
            return scores, None
        key = msgspec.json.encode(rules.boosts)
        found = self._boosts.get(key)
        if found is None:
            if rules.unknown == "refuse":
                check_names(rules, self.attributes)
            found = boosts(rules, self.attributes)
            if len(self._boosts) >= _KEPT_MASKS:
                self._boosts.clear()
            self._boosts[key] = found
        lift, raised = found
        after = boosted(rules, scores, lift=lift, raised=raised)
        return after, (lift >= 1) & (raised >= 0) & ((lift > 1) | (raised > 0))

    def _listed(
        self,
        scores: FloatArray,
        k: int,
        mask: BoolArray,
        *,
        rules: Rules,
        excluded: Rows | None,
        rng: np.random.Generator | None,
    ) -> list[Arrangement]:
        """The places of every row's list."""
        explore = None if rules.explore is None or rules.explore.share == 0 else rules.explore
        if explore is not None and rng is None:
            raise ValueError("rules leave places to chance; give an rng to draw them with.")
        if not rules.pins and rules.diversity is None and explore is None:
            caps = self._caps(rules)
            plain = _lists(scores, k, allowed=mask, excluded=excluded, caps=caps)
            return [_certain(items) for items in plain]
        shape = Shape(
            pins=self._pinned(rules, mask),
            limits=[
                Limit(codes=self.attributes.column(name).codes, most=most)
                for name, most in rules.max_per.items()
            ],
            variety=None if rules.diversity is None else self._variety(rules.diversity),
            exploration=None
            if explore is None or rng is None
            else Exploration(share=explore.share, pool=explore.pool, rng=rng),
        )
        return [
            arrange(
                row, k, top=_best_first(row, _row_mask(mask, excluded, query=query)), shape=shape
            )
            for query, row in enumerate(scores)
        ]

    def _pinned(self, rules: Rules, mask: BoolArray) -> dict[int, int]:
        """Item by place, from 0, of the pins that may be shown."""
        found = {pin.rank - 1: self.items.index(pin.item_id) for pin in rules.pins}
        return {place: item for place, item in found.items() if item >= 0 and mask[item]}

    def _variety(self, diversity: Diversity) -> Variety:
        if diversity.by != CONTENT:
            codes = self.attributes.column(diversity.by).codes
            return Variety(strength=diversity.strength, codes=codes)
        if self.vectors is None:
            raise DataError(
                'diversity by "content" needs vectors of the items, and the model at work has '
                "none; name an attribute, such as category."
            )
        return Variety(strength=diversity.strength, vectors=self.vectors)

    def _caps(self, rules: Rules) -> list[tuple[ObjectArray, int]]:
        table = self.table
        return [
            (column(table, name), most)
            for name, most in rules.max_per.items()
            if rules.unknown == "refuse" or name in table.attributes
        ]

    def _answer(
        self,
        best: Arrangement,
        row: FloatArray,
        reasons: list[tuple[str, ...]] | None,
        *,
        lifted: BoolArray | None,
        explain: bool,
    ) -> list[Recommendation]:
        ids = self.items.ids
        values, chances = row[best.items].tolist(), best.propensities
        found = []
        for place, (item, score) in enumerate(zip(best.items.tolist(), values, strict=True)):
            said = () if reasons is None else reasons[place]
            if explain:
                said = (*_marks(best, place, lifted=lifted is not None and lifted[item]), *said)
            found.append(
                Recommendation(
                    item_id=ids[item],
                    score=score,
                    rank=place + 1,
                    reasons=said,
                    propensity=chances[place] if chances else 1.0,
                )
            )
        return found


def _certain(items: IntArray) -> Arrangement:
    """A list of which nothing was left to chance."""
    return Arrangement(items=items, propensities=(), explored=_NOWHERE, pinned=_NOWHERE)


def _marks(best: Arrangement, place: int, *, lifted: bool) -> tuple[str, ...]:
    """What the rules had to do with an item's place."""
    marks = (
        (_PINNED, len(best.pinned) > 0 and best.pinned[place]),
        (_EXPLORED, len(best.explored) > 0 and best.explored[place]),
        (_BOOSTED, lifted),
    )
    return tuple(words for words, applies in marks if applies)


def _best_first(row: FloatArray, mask: BoolArray) -> Callable[[int], IntArray]:
    def best(count: int) -> IntArray:
        _refuse_nan(row, 0)
        return _row_top(row, count, mask)

    return best


def _lists(
    scores: FloatArray,
    k: int,
    *,
    allowed: BoolArray,
    excluded: Rows | None,
    caps: list[tuple[ObjectArray, int]],
) -> list[IntArray]:
    """The best `k` items of every row as arrays without padding; `caps` limit equal values."""
    if caps:
        masks = (_row_mask(allowed, excluded, query=query) for query in range(len(scores)))
        return [
            _capped(scores[query : query + 1], k, allowed=mask, caps=caps)
            for query, mask in enumerate(masks)
        ]
    indices, _ = top(scores, k, allowed=allowed, per_row_excluded=excluded)
    return [row[row >= 0] for row in indices]


def _capped(
    scores: FloatArray, k: int, *, allowed: BoolArray, caps: list[tuple[ObjectArray, int]]
) -> IntArray:
    """Walk down one row's candidates, deeper and deeper, until `k` fit under the caps."""
    n_items = scores.shape[1]
    depth = 4 * k
    while True:
        indices, _ = top(scores, depth, allowed=allowed)
        kept = _under_caps(indices[0][indices[0] >= 0], k, caps)
        if len(kept) == k or depth >= n_items:
            return kept
        depth *= 4


def _under_caps(candidates: IntArray, k: int, caps: list[tuple[ObjectArray, int]]) -> IntArray:
    used: dict[tuple[int, str], int] = {}
    kept: list[int] = []
    for item in candidates.tolist():
        keys = [(at, values[item]) for at, (values, _) in enumerate(caps)]
        keys = [key for key in keys if key[1] is not None]
        if any(used.get(key, 0) >= caps[key[0]][1] for key in keys):
            continue
        for key in keys:
            used[key] = used.get(key, 0) + 1
        kept.append(item)
        if len(kept) == k:
            break
    return np.array(kept, dtype=np.int64)


def _row_ranks(row: FloatArray, targets: IntArray, mask: BoolArray | None) -> IntArray:
    values = row[targets]
    if mask is None:
        at_least = [np.count_nonzero(row >= value) for value in values]
        usable = np.ones(len(targets), dtype=np.bool_)
    else:
        at_least = [np.count_nonzero((row >= value) & mask) for value in values]
        usable = mask[targets]
    places = np.array(at_least, dtype=np.int64)
    if len(targets) > 1:
        equal = values[:, None] == values[None, :]
        later = targets[None, :] > targets[:, None]
        places -= (equal & later & usable[None, :]).sum(axis=1)
    places[~usable] = len(row) + 1
    return places


def _row_top(row: FloatArray, k: int, mask: BoolArray | None) -> IntArray:
    masked = row
    if mask is not None:
        # A bound from all items is found fast, and mostly leaves enough that are allowed.
        above = np.flatnonzero((row > _bound(row, 2 * k)) & mask)
        if len(above) >= k:
            return _best_of(above, row, k)
        masked = np.where(mask, row, np.float32(-np.inf))
    bound = _bound(masked, k)
    best = _best_of(np.flatnonzero(masked > bound), row, k)
    return np.concatenate([best, _first_equal(row, bound, k - len(best), mask=mask)])


def _best_of(items: IntArray, row: FloatArray, k: int) -> IntArray:
    return items[np.argsort(-row[items], kind="stable")[:k]]


def _first_equal(
    row: FloatArray, value: np.float32, count: int, *, mask: BoolArray | None
) -> IntArray:
    """The first `count` allowed items that score exactly `value`."""
    # Scores full of ties, such as zeros, hold them near the start: look there first.
    end = 64 * count
    while True:
        equal = row[:end] == value
        found = np.flatnonzero(equal if mask is None else equal & mask[:end])
        if len(found) >= count or end >= len(row):
            return found[:count]
        end *= 8


def _bound(row: FloatArray, k: int) -> np.float32:
    """A score that at least `k` items reach and few exceed: a maximum of blocks is cheap."""
    n_items = len(row)
    if k >= n_items:
        return np.float32(row.min(initial=np.inf))
    width = min(_WIDEST_BLOCK, n_items // (4 * k))
    if width < 2:
        return np.float32(np.partition(row, n_items - k)[n_items - k])
    blocks = n_items // width
    heads = row[: blocks * width].reshape(width, blocks).max(axis=0)
    heads = np.concatenate([heads, row[blocks * width :]])
    return np.float32(np.partition(heads, len(heads) - k)[len(heads) - k])


def _row_mask(allowed: BoolArray, excluded: Rows | None, *, query: int) -> BoolArray:
    if excluded is None:
        return allowed
    items, offsets = excluded
    mask = allowed.copy()
    mask[items[offsets[query] : offsets[query + 1]]] = False
    return mask


def _shape(scores: FloatArray) -> tuple[int, int]:
    if scores.ndim != 2:
        raise ValueError(
            f"scores have {scores.ndim} dimensions; they need 2: one row a query, one column an "
            "item."
        )
    return scores.shape[0], scores.shape[1]


def _check_offsets(offsets: IntArray, queries: int, n_targets: int) -> None:
    if len(offsets) != queries + 1 or offsets[0] != 0 or offsets[-1] != n_targets:
        raise ValueError(
            f"{len(offsets)} offsets end at {offsets[-1] if len(offsets) else None}; {queries} "
            f"queries with {n_targets} targets need {queries + 1}, from 0 to {n_targets}."
        )


def _check_targets(targets: IntArray, offsets: IntArray, n_items: int) -> None:
    if len(targets) == 0:
        return
    if targets.min() < 0 or targets.max() >= n_items:
        raise ValueError(
            f"targets run from {targets.min()} to {targets.max()} but the model has {n_items} "
            "items; leave out targets that the training data does not know."
        )
    query = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = np.sort(query * n_items + targets)
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice):
        at, item = divmod(int(keys[twice[0]]), n_items)
        raise ValueError(f"query {at} has target {item} twice; give each target once.")


def _mask_or_none(
    allowed: BoolArray | None, excluded: Rows | None, *, n_items: int
) -> BoolArray | None:
    """What every row may hold; None, which is faster, when nothing at all is limited."""
    if allowed is None:
        return None if excluded is None else np.ones(n_items, dtype=np.bool_)
    if allowed.shape != (n_items,):
        raise ValueError(
            f"allowed has shape {allowed.shape}; it needs one entry an item: ({n_items},)."
        )
    return allowed


def _refuse_nan(row: FloatArray, query: int) -> None:
    # A maximum is NaN as soon as one value is, and costs less than looking at each.
    if np.isnan(row.max(initial=-np.inf)):
        raise ValueError(
            f"query {query} has {int(np.isnan(row).sum())} NaN scores, which have no rank; "
            "look for an exploded training or a division by zero in the model."
        )
