"""The best items of several queries at once, exactly, without a row of scores for each.

Vectors are turned so that what queries have most of comes first. The leading part of a product
and the lengths of the rests bound a score: with w = (a, c) and h = (p, q) after the turn,

    w . h + b <= a . p + b + |c| |q|

(Cauchy-Schwarz; Li, Chan, Yiu, Mamoulis: "FEXIPRO: Fast and Exact Inner Product Retrieval in
Recommender Systems", SIGMOD 2017, bounds with a turn by singular vectors, too.) Leading parts are
multiplied block by block while a block is in the processor's cache; only items whose bound reaches
what as many items as are wanted are known to reach are scored in full. Nothing is lost, whatever
the vectors are. What may not be listed is passed over on the way, so rules cost nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from momentary.learn.arithmetic import kernel, largest, prefetch_row
from momentary.learn.block_bounds import (
    AT_ONCE,
    LANES,
    bound_four,
    bound_one,
    has_pairs,
    lowest_bit,
)
from momentary.learn.threads import one_blas_thread
from momentary.types import BoolArray, FloatArray, IntArray

Rows = tuple[IntArray, IntArray]
"""Item indices stored end to end and offsets: row r is `items[offsets[r]:offsets[r + 1]]`."""

_STEP = 16  # leading columns come in whole vector registers
_BLOCKS = 8  # of a tile; what may be wanted of one is asked for before any of it is scored
_TILE = _BLOCKS * LANES
_SCOUTS = 256
_WANTED = 20
_A_SCORE = 3_000  # what a score in full costs, in columns of a bound; twice that of integers
_PART = 16_384
_ITEM_STEPS, _QUERY_STEPS = 32_000, 16_000  # their product leaves two bits for what is rounded
_SHORTEST = 1e-12  # so that no step is too small for float32
_ROUNDING = 2.0**-21  # of float32, with room to spare


class BestItems:
    """Finds the best items for batches of queries.

    Args:
        vectors: Left as they are and not to be changed. Shape (items, width).
        biases: -inf leaves an item out. Shape (items,).
        samples: Queries like those to come; they decide how fast it is, never what is found.
            Shape (samples, width).
        leading: Columns that every item is bounded by; None chooses.
        packed: Whether leading parts are kept as 16-bit integers; None where that is faster.

    Raises:
        ValueError: If a vector or a bias is no number.
    """

    def __init__(
        self,
        vectors: FloatArray,
        biases: FloatArray,
        *,
        samples: FloatArray,
        leading: int | None = None,
        packed: bool | None = None,
    ) -> None:
        if np.isnan(biases).any() or not np.isfinite(
            vectors.max(initial=0) - vectors.min(initial=0)
        ):
            raise ValueError("the vectors hold NaN or infinity; look for an exploded training.")
        n_items, width = vectors.shape
        self._vectors = np.ascontiguousarray(vectors)
        spread = samples.T.astype(np.float64) @ samples
        # Ascending eigenvalues: the last columns are what queries have most of.
        turn = np.ascontiguousarray(np.linalg.eigh(spread)[1][:, ::-1].astype(np.float32))
        self._packed = has_pairs() if packed is None else packed
        if leading is None:
            some = samples[:: -(-len(samples) // 64)]
            a_score = _A_SCORE * (2 if self._packed else 1)
            leading = _cheapest((vectors, biases), some, turn=turn, a_score=a_score)
        columns = min(width, leading)
        self._turn = np.zeros((width, -(-columns // 4) * 4), dtype=np.float32)
        self._turn[:, :columns] = turn[:, :columns]
        tiles = -(-n_items // _TILE)
        self._longest = float(_lengths(vectors).max(initial=0))
        # The length of no leading part is then more than what 15 bits hold.
        self._step = max(self._longest, _SHORTEST) / _ITEM_STEPS
        parts = (
            (self._turn.shape[1] // 2, LANES, 2) if self._packed else (self._turn.shape[1], LANES)
        )
        kind = np.int16 if self._packed else np.float32
        self._heads = np.zeros((tiles * _BLOCKS, *parts), dtype=kind)
        self._biases = np.full((tiles, _TILE), -np.inf, dtype=np.float32)
        self._biases.reshape(-1)[:n_items] = biases
        self._rests = np.zeros((tiles, _TILE), dtype=np.float32)
        with one_blas_thread():
            for begin in range(0, n_items, _PART):
                self._keep(vectors[begin : begin + _PART], begin)
            likely = vectors @ samples.mean(axis=0) + biases
        self._largest_bias = float(np.abs(biases[np.isfinite(biases)]).max(initial=0))
        self._scouts = np.argsort(-likely, kind="stable")[:_SCOUTS]

    @property
    def leading(self) -> int:
        """Columns that every item is bounded by."""
        return int(self._turn.shape[1])

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, the vectors included."""
        held = (self._vectors, self._heads, self._biases, self._rests)
        return sum(each.nbytes for each in held)

    def best(
        self, queries: FloatArray, k: int, *, allowed: BoolArray, excluded: Rows | None = None
    ) -> tuple[IntArray, FloatArray]:
        """The best `k` items of every query, best first, ties by lower index, and their scores.

        A query alone is given what it is given among others, to the last bit.

        Args:
            queries: Shape (queries, width).
            k: Length of a list.
            allowed: Items that may be listed. Shape (items,).
            excluded: Items that one query may not be given, such as its history.

        Returns:
            Item indices and scores, both of shape (queries, k); a row with fewer items ends in
            index -1 and score -inf.

        Raises:
            ValueError: If a query holds no numbers, or `k` is below 1.
        """
        search = self._asked(queries, k, allowed=allowed, excluded=excluded)
        with one_blas_thread():
            leads = search.queries @ self._turn
            missed = _lengths(search.queries - leads @ self._turn.T)
            _search(self._with_leads(search._replace(missed=missed), leads))
        return search.items, search.scores

    def among(
        self,
        queries: FloatArray,
        k: int,
        *,
        near: IntArray,
        allowed: BoolArray,
        excluded: Rows | None = None,
    ) -> tuple[IntArray, FloatArray]:
        """The best `k` of some items for every query, with the scores that `best` gives them.

        Args:
            queries: Shape (queries, width).
            k: Length of a list.
            near: The items of each query, ascending, so that ties go to the lower index; -1 stands
                for none. Shape (queries, candidates).
            allowed: Items that may be listed. Shape (items,).
            excluded: Items that one query may not be given, such as its history.

        Returns:
            As `best`.

        Raises:
            ValueError: If a query holds no numbers, or `k` is below 1.
        """
        search = self._asked(queries, k, allowed=allowed, excluded=excluded)
        _choose(search, near)
        return search.items, search.scores

    def _with_leads(self, search: _Search, leads: FloatArray) -> _Search:
        """What is asked, with the leading parts of the queries as those of the items are kept."""
        if not self._packed:
            return search._replace(leads=leads)
        lengths = np.maximum(_lengths(leads).astype(np.float64), _SHORTEST)
        steps = lengths / _QUERY_STEPS
        whole = np.rint(leads / steps[:, None])
        # Each number is off by half a step at most, on either side of a product.
        apart = leads.shape[1] ** 0.5 / 2
        longest = self._longest + apart * self._step
        slack = search.slack + apart * (self._step * lengths + steps * longest)
        return search._replace(
            leads=whole.astype(np.int16),
            scales=(self._step * steps).astype(np.float32),
            slack=(slack * (1 + _ROUNDING)).astype(np.float32),
        )

    def _asked(
        self, queries: FloatArray, k: int, *, allowed: BoolArray, excluded: Rows | None
    ) -> _Search:
        """What is asked, without the leading parts of the queries and with room for answers."""
        if k < 1:
            raise ValueError(f"k is {k}; a list has at least 1 item.")
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        lengths = np.linalg.norm(asked.astype(np.float64), axis=1)
        if not np.isfinite(lengths).all():
            raise ValueError("a query holds NaN or infinity; look for an exploded training.")
        count = len(asked)
        none = np.zeros(0, dtype=np.int64), np.zeros(count + 1, dtype=np.int64)
        held, offsets = none if excluded is None else excluded
        # Products and turns are rounded, in whatever order they are taken.
        slack = _ROUNDING * asked.shape[1] * (self._longest * lengths + self._largest_bias)
        return _Search(
            heads=self._heads,
            vectors=self._vectors,
            biases=self._biases,
            rests=self._rests,
            leads=np.empty((count, 0), dtype=np.float32),
            queries=asked,
            missed=np.empty(0, dtype=np.float32),
            scales=np.empty(0, dtype=np.float32),
            slack=slack.astype(np.float32),
            allowed=allowed,
            held=held,
            offsets=offsets,
            scouts=self._scouts,
            items=np.full((count, k), -1, dtype=np.int64),
            scores=np.full((count, k), -np.inf, dtype=np.float32),
            bars=np.empty(count, dtype=np.float32),
            least=np.empty(count, dtype=np.float32),
            bounds=np.empty(AT_ONCE * LANES, dtype=np.float32),
            near=np.empty((AT_ONCE, _TILE), dtype=np.int64),
            near_bounds=np.empty((AT_ONCE, _TILE), dtype=np.float32),
            found=np.zeros(AT_ONCE, dtype=np.int64),
        )

    def _keep(self, vectors: FloatArray, begin: int) -> None:
        """Store the leading parts of some items, and the lengths of what they lack."""
        heads = vectors @ self._turn
        lengths = _lengths(vectors - heads @ self._turn.T)
        self._rests.reshape(-1)[begin : begin + len(vectors)] = lengths
        blocks = -(-len(vectors) // LANES)
        padded = np.zeros((blocks * LANES, heads.shape[1]), dtype=self._heads.dtype)
        padded[: len(heads)] = np.rint(heads / self._step) if self._packed else heads
        split = padded.reshape(blocks, LANES, *self._heads.shape[1:2], -1)
        kept = self._heads[begin // LANES :][:blocks]
        kept[...] = split.transpose(0, 2, 1, 3).reshape(kept.shape)


def _cheapest(
    items: tuple[FloatArray, FloatArray], samples: FloatArray, *, turn: FloatArray, a_score: float
) -> int:
    """Columns that cost least together with the items that they leave to be scored in full.

    Args:
        items: Their vectors and biases.
        samples: Queries.
        turn: What queries have most of first.
        a_score: What a score in full costs, in columns of a bound.
    """
    vectors, biases = items
    rows = slice(None, None, -(-len(vectors) // _PART))
    turned, queries = vectors[rows] @ turn, samples @ turn
    scores = queries @ turned.T + biases[rows]
    place = min(max(1, round(_WANTED * len(turned) / max(1, len(vectors)))), len(turned))
    bars = np.partition(scores, -place, axis=1)[:, -place, None]
    costs = {}
    for columns in range(_STEP, vectors.shape[1] + _STEP, _STEP):
        bounds = queries[:, :columns] @ turned[:, :columns].T + biases[rows]
        bounds += _lengths(queries[:, columns:])[:, None] * _lengths(turned[:, columns:])
        costs[columns] = columns + a_score * float((bounds >= bars).mean())
    return min(costs, key=lambda columns: costs[columns], default=_STEP)


def _lengths(rows: FloatArray) -> FloatArray:
    """Lengths, rounded up. Shape (rows,)."""
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return (lengths * (1 + _ROUNDING)).astype(np.float32)


class _Search(NamedTuple):
    """What compiled code needs of a search.

    Attributes:
        heads: Leading parts of the items' vectors; see `block_bounds`.
        biases: -inf for no item. Shape (tiles, tile).
        rests: Lengths of what the leading parts lack. Shape (tiles, tile).
        leads: Leading parts of the queries. Shape (queries, leading).
        missed: Lengths of what they lack. Shape (queries,).
        scales: What a product of integers stands for. Shape (queries,).
        slack: Of rounding. Shape (queries,).
        held: Items that one query may not be given, by `offsets`.
        scouts: Items that are likely to be wanted.
        items, scores: What is found. Shape (queries, k).
        bars: What an item must reach. Shape (queries,).
        least: What a bound must reach: `bars` less `slack`. Shape (queries,).
        bounds: Room for those of one block. Shape (64,).
        near, near_bounds: Room for what may be among the best of a tile. Shape (4, tile).
        found: How many there are. Shape (4,).
    """

    heads: FloatArray
    vectors: FloatArray
    biases: FloatArray
    rests: FloatArray
    leads: FloatArray
    queries: FloatArray
    missed: FloatArray
    scales: FloatArray
    slack: FloatArray
    allowed: BoolArray
    held: IntArray
    offsets: IntArray
    scouts: IntArray
    items: IntArray
    scores: FloatArray
    bars: FloatArray
    least: FloatArray
    bounds: FloatArray
    near: IntArray
    near_bounds: FloatArray
    found: IntArray


@kernel
def _search(search: _Search) -> None:
    """Fill the items and the scores."""
    count = len(search.leads)
    for row in range(count):
        search.bars[row] = _reached(search, row)
        search.least[row] = search.bars[row] - search.slack[row]
    together = count // AT_ONCE * AT_ONCE
    for tile in range(len(search.biases)):
        for row in range(0, together, AT_ONCE):
            _gather_four(search, tile, row)
            for at in range(AT_ONCE):
                _look(search, row + at, at)
        for row in range(together, count):
            _gather_one(search, tile, row)
            _look(search, row, 0)


@kernel
def _choose(search: _Search, near: IntArray) -> None:
    """Fill the items and the scores from what is near."""
    for row in range(len(near)):
        items, scores = search.items[row], search.scores[row]
        last = len(items) - 1
        for item in near[row]:
            if item < 0 or not _free(search, item, row):
                continue
            score = _score(search, item, row)
            if score > scores[last]:
                items[last], scores[last] = item, score
                _sift(items, scores)


@kernel
def _reached(search: _Search, row: int) -> np.float32:
    """What as many scouts as are wanted reach that may be listed."""
    k = search.scores.shape[1]
    best = np.full(k, -np.inf, dtype=np.float32)
    for item in search.scouts:
        if _free(search, item, row):
            _raise(best, _score(search, item, row))
    least: np.float32 = best[k - 1]
    return least


@kernel
def _gather_four(search: _Search, tile: int, row: int) -> None:
    """Find what may be among the best of a tile for four queries."""
    for block in range(tile * _BLOCKS, (tile + 1) * _BLOCKS):
        hits = bound_four(search, block, row)
        while hits:
            place = lowest_bit(hits)
            hits &= hits - np.uint64(1)
            at = place // LANES
            item = block * LANES + place % LANES
            _note(search, (item, row + at, at), search.bounds[place])


@kernel
def _gather_one(search: _Search, tile: int, row: int) -> None:
    """Find it for one query."""
    for block in range(tile * _BLOCKS, (tile + 1) * _BLOCKS, AT_ONCE):
        hits = bound_one(search, block, row)
        while hits:
            place = lowest_bit(hits)
            hits &= hits - np.uint64(1)
            _note(search, (block * LANES + place, row, 0), search.bounds[place])


@kernel
def _note(search: _Search, spot: tuple[int, int, int], bound: np.float32) -> None:
    """Keep an item that may be among the best of a row, and ask for its vector."""
    item, row, at = spot
    if bound > -np.inf and _free(search, item, row):
        place = search.found[at]
        search.near[at, place] = item
        search.near_bounds[at, place] = bound
        search.found[at] = place + 1
        prefetch_row(search.vectors, item)


@kernel
def _look(search: _Search, row: int, at: int) -> None:
    """Keep what is best of what was found."""
    items, scores = search.items[row], search.scores[row]
    last = len(items) - 1
    for place in range(search.found[at]):
        if search.near_bounds[at, place] < search.least[row]:
            continue
        item = search.near[at, place]
        score = _score(search, item, row)
        if score > scores[last]:
            items[last], scores[last] = item, score
            _sift(items, scores)
            search.bars[row] = largest(search.bars[row], scores[last])
            search.least[row] = search.bars[row] - search.slack[row]
    search.found[at] = 0


@kernel
def _free(search: _Search, item: int, row: int) -> bool:
    """Whether an item may be on the list of a query."""
    if not search.allowed[item]:
        return False
    for place in range(search.offsets[row], search.offsets[row + 1]):
        if search.held[place] == item:
            return False
    return True


@kernel
def _score(search: _Search, item: int, row: int) -> np.float32:
    vector, query = search.vectors[item], search.queries[row]
    total = np.float32(0)
    for j in range(len(vector)):
        total += vector[j] * query[j]
    score: np.float32 = total + search.biases[item // _TILE, item % _TILE]
    return score


@kernel
def _sift(items: IntArray, scores: FloatArray) -> None:
    """Move the last entry to its place; what is equal and came before stays before."""
    place = len(items) - 1
    item, score = items[place], scores[place]
    while place > 0 and scores[place - 1] < score:
        scores[place], items[place] = scores[place - 1], items[place - 1]
        place -= 1
    scores[place], items[place] = score, item


@kernel
def _raise(values: FloatArray, value: np.float32) -> None:
    """Keep the largest values so far, the largest first."""
    place = len(values) - 1
    if value <= values[place]:
        return
    while place > 0 and values[place - 1] < value:
        values[place] = values[place - 1]
        place -= 1
    values[place] = value
