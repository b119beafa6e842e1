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
from momentary.learn.threads import one_blas_thread
from momentary.types import BoolArray, FloatArray, IntArray

Rows = tuple[IntArray, IntArray]
"""Item indices stored end to end and offsets: row r is `items[offsets[r]:offsets[r + 1]]`."""

_STEP = 16  # leading columns come in whole vector registers
_TILE = 128  # items whose leading parts lie together, column by column
_AT_ONCE = 4
_SCOUTS = 256
_WANTED = 20
_A_SCORE = 1_500  # what a score in full costs, in columns of a bound
_PART = 16_384
_ROUNDING = 2.0**-21  # of float32, with room to spare


class BestItems:
    """Finds the best items for batches of queries.

    Args:
        vectors: Left as they are and not to be changed. Shape (items, width).
        biases: -inf leaves an item out. Shape (items,).
        samples: Queries like those to come; they decide how fast it is, never what is found.
            Shape (samples, width).
        leading: Columns that every item is bounded by; None chooses.

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
        if leading is None:
            leading = _cheapest(vectors, biases, samples[:: -(-len(samples) // 64)], turn=turn)
        columns = min(width, leading)
        self._turn = np.zeros((width, -(-columns // 4) * 4), dtype=np.float32)
        self._turn[:, :columns] = turn[:, :columns]
        tiles = -(-n_items // _TILE)
        self._heads = np.zeros((tiles, self._turn.shape[1], _TILE), dtype=np.float32)
        self._biases = np.full((tiles, _TILE), -np.inf, dtype=np.float32)
        self._biases.reshape(-1)[:n_items] = biases
        self._rests = np.zeros((tiles, _TILE), dtype=np.float32)
        with one_blas_thread():
            for begin in range(0, n_items, _PART):
                self._keep(vectors[begin : begin + _PART], begin)
            likely = vectors @ samples.mean(axis=0) + biases
        self._longest = float(_lengths(vectors).max(initial=0))
        self._largest_bias = float(np.abs(biases[np.isfinite(biases)]).max(initial=0))
        self._scouts = np.argsort(-likely, kind="stable")[:_SCOUTS]

    @property
    def leading(self) -> int:
        """Columns that every item is bounded by."""
        return int(self._turn.shape[1])

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
            _search(search._replace(leads=leads, missed=missed))
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
            slack=slack.astype(np.float32),
            allowed=allowed,
            held=held,
            offsets=offsets,
            scouts=self._scouts,
            items=np.full((count, k), -1, dtype=np.int64),
            scores=np.full((count, k), -np.inf, dtype=np.float32),
            bars=np.empty(count, dtype=np.float32),
            bounds=np.empty((_AT_ONCE, _TILE), dtype=np.float32),
            near=np.empty(_TILE, dtype=np.int64),
        )

    def _keep(self, vectors: FloatArray, begin: int) -> None:
        """Store the leading parts of some items, and the lengths of what they lack."""
        heads = vectors @ self._turn
        lengths = _lengths(vectors - heads @ self._turn.T)
        self._rests.reshape(-1)[begin : begin + len(vectors)] = lengths
        tiles = -(-len(vectors) // _TILE)
        padded = np.zeros((tiles * _TILE, heads.shape[1]), dtype=np.float32)
        padded[: len(heads)] = heads
        first = begin // _TILE
        self._heads[first : first + tiles] = padded.reshape(tiles, _TILE, -1).transpose(0, 2, 1)


def _cheapest(
    vectors: FloatArray, biases: FloatArray, samples: FloatArray, *, turn: FloatArray
) -> int:
    """Columns that cost least together with the items that they leave to be scored in full."""
    rows = slice(None, None, -(-len(vectors) // _PART))
    items, queries = vectors[rows] @ turn, samples @ turn
    scores = queries @ items.T + biases[rows]
    place = max(1, round(_WANTED * len(items) / max(1, len(vectors))))
    bars = np.partition(scores, -min(place, len(items)), axis=1)[:, -min(place, len(items)), None]
    costs = {}
    for columns in range(_STEP, vectors.shape[1] + _STEP, _STEP):
        bounds = queries[:, :columns] @ items[:, :columns].T + biases[rows]
        bounds += _lengths(queries[:, columns:])[:, None] * _lengths(items[:, columns:])
        costs[columns] = columns + _A_SCORE * float((bounds >= bars).mean())
    return min(costs, key=lambda columns: costs[columns], default=_STEP)


def _lengths(rows: FloatArray) -> FloatArray:
    """Lengths, rounded up. Shape (rows,)."""
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return (lengths * (1 + _ROUNDING)).astype(np.float32)


class _Search(NamedTuple):
    """What compiled code needs of a search.

    Attributes:
        heads: Leading parts of the items' vectors. Shape (tiles, leading, tile).
        biases: -inf for no item. Shape (tiles, tile).
        rests: Lengths of what the leading parts lack. Shape (tiles, tile).
        leads: Leading parts of the queries. Shape (queries, leading).
        missed: Lengths of what they lack. Shape (queries,).
        slack: Of rounding. Shape (queries,).
        held: Items that one query may not be given, by `offsets`.
        scouts: Items that are likely to be wanted.
        items, scores: What is found. Shape (queries, k).
        bars: What an item must reach. Shape (queries,).
        bounds: Room for those of one tile. Shape (4, tile).
        near: Room for what may be among the best of a tile. Shape (tile,).
    """

    heads: FloatArray
    vectors: FloatArray
    biases: FloatArray
    rests: FloatArray
    leads: FloatArray
    queries: FloatArray
    missed: FloatArray
    slack: FloatArray
    allowed: BoolArray
    held: IntArray
    offsets: IntArray
    scouts: IntArray
    items: IntArray
    scores: FloatArray
    bars: FloatArray
    bounds: FloatArray
    near: IntArray


@kernel
def _search(search: _Search) -> None:
    """Fill the items and the scores."""
    count = len(search.leads)
    for row in range(count):
        search.bars[row] = _reached(search, row)
    together = count // _AT_ONCE * _AT_ONCE
    for tile in range(len(search.heads)):
        for row in range(0, together, _AT_ONCE):
            _bound_four(search, tile, row)
            for at in range(row, row + _AT_ONCE):
                _look(search, tile, at)
        for row in range(together, count):
            _bound_one(search, tile, row)
            _look(search, tile, row)


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
def _bound_one(search: _Search, tile: int, row: int) -> None:
    """Bound the scores of a tile's items for one query from above, but for rounding."""
    head, bias, rest = search.heads[tile], search.biases[tile], search.rests[tile]
    lead, missed, bounds = search.leads[row], search.missed[row], search.bounds[row % _AT_ONCE]
    for i in range(_TILE):
        bounds[i] = bias[i] + rest[i] * missed
    for j in range(0, len(head), 4):
        h0, h1, h2, h3 = head[j], head[j + 1], head[j + 2], head[j + 3]
        q0, q1, q2, q3 = lead[j], lead[j + 1], lead[j + 2], lead[j + 3]
        for i in range(_TILE):
            bounds[i] += q0 * h0[i] + q1 * h1[i] + q2 * h2[i] + q3 * h3[i]


@kernel
def _bound_four(search: _Search, tile: int, row: int) -> None:
    """Bound them for four queries, which share what is read of the items."""
    head, bias, rest = search.heads[tile], search.biases[tile], search.rests[tile]
    a, b, c, d = search.bounds[0], search.bounds[1], search.bounds[2], search.bounds[3]
    leads, missed = search.leads, search.missed
    m0, m1, m2, m3 = missed[row], missed[row + 1], missed[row + 2], missed[row + 3]
    l0, l1, l2, l3 = leads[row], leads[row + 1], leads[row + 2], leads[row + 3]
    for i in range(_TILE):
        a[i] = bias[i] + rest[i] * m0
        b[i] = bias[i] + rest[i] * m1
        c[i] = bias[i] + rest[i] * m2
        d[i] = bias[i] + rest[i] * m3
    for j in range(0, len(head), 2):
        h0, h1 = head[j], head[j + 1]
        a0, a1, b0, b1 = l0[j], l0[j + 1], l1[j], l1[j + 1]
        c0, c1, d0, d1 = l2[j], l2[j + 1], l3[j], l3[j + 1]
        for i in range(_TILE):
            a[i] += a0 * h0[i] + a1 * h1[i]
            b[i] += b0 * h0[i] + b1 * h1[i]
            c[i] += c0 * h0[i] + c1 * h1[i]
            d[i] += d0 * h0[i] + d1 * h1[i]


@kernel
def _look(search: _Search, tile: int, row: int) -> None:
    """Keep what is best of a tile."""
    items, scores = search.items[row], search.scores[row]
    bounds, slack = search.bounds[row % _AT_ONCE], search.slack[row]
    begin, last = tile * _TILE, len(items) - 1
    for item in search.near[: _gather(search, tile, row)]:
        if bounds[item - begin] < search.bars[row] - slack:
            continue
        score = _score(search, item, row)
        if score > scores[last]:
            items[last], scores[last] = item, score
            _sift(items, scores)
            search.bars[row] = largest(search.bars[row], scores[last])


@kernel
def _gather(search: _Search, tile: int, row: int) -> int:
    """Find what may be among the best of a tile, and ask for its vectors; how many."""
    bounds, least = search.bounds[row % _AT_ONCE], search.bars[row] - search.slack[row]
    reach = np.int32(0)
    for i in range(_TILE):
        reach |= np.int32(bounds[i] >= least)
    if reach == 0:
        return 0
    found, begin = 0, tile * _TILE
    for i in range(_TILE):
        if bounds[i] >= least and bounds[i] > -np.inf and _free(search, begin + i, row):
            search.near[found] = begin + i
            prefetch_row(search.vectors, begin + i)
            found += 1
    return found


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
