"""A graph of items that leads a query to its best ones without looking at most of the others.

Hierarchical navigable small worlds (Malkov and Yashunin, TPAMI 2020) by faiss, an extra of its own.
The graph names candidates only: `learn.best_items` scores them, so that a score is the exact one to
the last bit and what is missed is missed by the walk alone. Vectors lie beside it with the bias as
one more column.

Two graphs of the same vectors are the same. A graph is saved as plain numbers without the vectors,
which the model has.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from momentary.errors import ArtifactError, SettingsError
from momentary.types import FloatArray, IntArray, Progress, silent

LINKS = 32
"""Of an item to others; twice as many on the lowest level."""
_TRIED = 100  # candidates for the links of a new item
_AT_ONCE = 5_000
_LEAST_LOOKED_AT = 128
_DEEPER = 2  # a walk that keeps twice what is wanted misses less at the end of the list


def is_there() -> bool:
    """Whether the extra is installed."""
    return find_spec("faiss") is not None


class Graph:
    """Finds candidates for the best items of queries.

    Args:
        vectors: Of all items. Shape (items, width).
        biases: -inf leaves an item out. Shape (items,).
        state: Links, as `state` gave them; None finds them, which takes minutes for a million.
        progress: Told of the items that have their links.

    Attributes:
        n_items: How many items it was made from, those left out included.

    Raises:
        SettingsError: The extra is missing.
        ArtifactError: The links are not those of these items.
    """

    def __init__(
        self,
        vectors: FloatArray,
        biases: FloatArray,
        *,
        state: Mapping[str, NDArray[Any]] | None = None,
        progress: Progress = silent,
    ) -> None:
        self._faiss = _library()
        self.n_items = len(vectors)
        self._items: IntArray = np.flatnonzero(np.isfinite(biases))
        inner = self._faiss.METRIC_INNER_PRODUCT
        self._index = self._faiss.IndexHNSWFlat(vectors.shape[1] + 1, LINKS, inner)
        self._index.hnsw.efConstruction = _TRIED
        # Threads are of the process that asks, and a second one would change the graph.
        self._faiss.omp_set_num_threads(1)
        if state is not None:
            self._take(state)
        into = self._index if state is None else self._index.storage
        for begin in range(0, len(self._items), _AT_ONCE):
            some = self._items[begin : begin + _AT_ONCE]
            into.add(np.column_stack([vectors[some], biases[some]]).astype(np.float32))
            if state is None:
                progress(min(begin + _AT_ONCE, len(self._items)), len(self._items))
        self._index.ntotal = len(self._items)

    @classmethod
    def from_state(
        cls, state: Mapping[str, NDArray[Any]], *, vectors: FloatArray, biases: FloatArray
    ) -> Self:
        """The graph that gave `state`, over the same vectors.

        Raises:
            SettingsError: The extra is missing.
            ArtifactError: The links are not those of these items.
        """
        return cls(vectors, biases, state=state)

    def state(self) -> dict[str, NDArray[Any]]:
        """The links; numbers only."""
        hnsw, of = self._index.hnsw, self._faiss.vector_to_array
        return {
            "levels": of(hnsw.levels).astype(np.int32),
            "links": of(hnsw.neighbors).astype(np.int32),
            "entry": np.array([hnsw.entry_point], dtype=np.int64),
        }

    @property
    def size_bytes(self) -> int:
        """Memory that it holds."""
        held = self._index.hnsw
        links = 4 * (held.neighbors.size() + held.levels.size()) + 8 * held.offsets.size()
        vectors = self._index.ntotal * self._index.storage.sa_code_size()
        return int(links + vectors + self._items.nbytes)

    def near(self, queries: FloatArray, count: int) -> IntArray:
        """Items that may be among the best `count` of each query, by ascending index.

        A query alone is given what it is given among others.

        Args:
            queries: Shape (queries, width).
            count: So many best items are looked for; more are given.

        Returns:
            Shape (queries, at least `count`); a row with fewer begins with -1.
        """
        looked_at = max(_LEAST_LOOKED_AT, _DEEPER * count)
        if len(self._items) == 0:
            return np.full((len(queries), looked_at), -1, dtype=np.int64)
        asked = np.ones((len(queries), queries.shape[1] + 1), dtype=np.float32)
        asked[:, :-1] = queries
        self._faiss.omp_set_num_threads(1)
        chosen = self._faiss.SearchParametersHNSW(efSearch=looked_at)
        places = self._index.search(asked, looked_at, params=chosen)[1]
        found = np.where(places >= 0, self._items[np.maximum(places, 0)], -1)
        return np.sort(found, axis=1)

    def _take(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put saved links in place, once it is sure that none leads nowhere."""
        levels, links, entry = (_array(state, name) for name in ("levels", "links", "entry"))
        if not _fits(levels, links, entry, count=len(self._items)):
            raise ArtifactError(
                "the graph's links are not those of the model's items; build it again: "
                "momentary index"
            )
        hnsw, put = self._index.hnsw, self._faiss.copy_array_to_vector
        put(levels, hnsw.levels)
        put(_ends(levels).astype(np.uint64), hnsw.offsets)
        put(links, hnsw.neighbors)
        hnsw.entry_point = int(entry[0])
        hnsw.max_level = int(levels.max(initial=0)) - 1


def _library() -> Any:  # noqa: ANN401 - an extra without types
    try:
        import faiss
    except ImportError as error:
        raise SettingsError(
            f"A graph needs a package that is missing ({error}); "
            "run: pip install 'momentary[graph]'"
        ) from error
    return faiss


def _array(state: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    return np.ascontiguousarray(state[name]) if name in state else np.zeros(0, dtype=np.int32)


def _ends(levels: NDArray[Any]) -> IntArray:
    """Where each item's links begin, and the last ones end. Shape (items + 1,)."""
    counts = LINKS * (levels.astype(np.int64) + 1)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _fits(levels: NDArray[Any], links: NDArray[Any], entry: NDArray[Any], *, count: int) -> bool:
    """Whether a walk along these links stays among the items; what reads them does not look."""
    if levels.shape != (count,) or levels.min(initial=1) < 1 or entry.shape != (1,):
        return False
    ends = _ends(levels)
    if links.shape != (ends[-1],) or links.min(initial=-1) < -1 or links.max(initial=-1) >= count:
        return False
    if count == 0:
        return int(entry[0]) == -1
    if not 0 <= entry[0] < count or levels[entry[0]] != levels.max():
        return False
    for level in range(1, int(levels.max())):
        # Above the lowest level, whoever is linked must be there, too.
        begins = ends[:-1][levels > level] + LINKS * (level + 1)
        linked = links[begins[:, None] + np.arange(LINKS)]
        if (levels[linked[linked >= 0]] <= level).any():
            return False
    return True
