"""Our exact index beside graphs (HNSW) at 43 thousand, 300 thousand and a million items.

The first size is the catalogue of diginetica with vectors of a GRU4Rec trained on it. The larger
ones are simulated: every further item is a copy of a trained one that differs from it by as much
as its nearest neighbour does, and is a little less likely. Queries are the memories of test visits
after their last click. Graphs take the bias as a further column, one thread each, as a worker has.
"graph" is the product's way: candidates along the graph, scored exactly, and the exact search where
rules leave little. Each size is a part of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.report import Row, data_folder, finish_part, sha256
from benchmarks.session_speed import load
from momentary.data.splits import Split
from momentary.learn.best_items import BestItems
from momentary.learn.graph import Graph
from momentary.learn.threads import one_blas_thread
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
from momentary.recommend.index import Index, states_after
from momentary.recommend.pipeline import top
from momentary.types import BoolArray, FloatArray, IntArray

K = 20
LINKS, BUILD, LOOKED_AT = 32, 100, 128
"""Of a graph: edges an item, candidates while it is built, and while it is searched."""
BATCHES = (1, 8, 32)
EPOCHS, QUERIES = 1, 256
SHARES = (0.5, 0.25, 0.1, 0.01)
"""What rules allow of the catalogue."""

Search = Callable[[FloatArray, BoolArray | None], IntArray]
"""Queries and what is allowed (None: everything) to the best items. Shape (queries, K)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What is searched and what for.

    Attributes:
        vectors: Shape (items, width).
        biases: Shape (items,).
        queries: Shape (queries, width).
        samples: Queries of other visits, which an index may learn from.
    """

    vectors: FloatArray
    biases: FloatArray
    queries: FloatArray
    samples: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An index, and what it took.

    Attributes:
        search: Asks it.
        cpu_s: To build it.
        mib: That it holds.
        filtered: Whether it can be told what is allowed.
    """

    search: Search
    cpu_s: float
    mib: float
    filtered: bool = True


def trained(split: Split, *, epochs: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Vectors and biases of a trained network, and memories of test visits."""
    model = GRU4Rec(GRU4RecConfig(epochs=epochs))
    model.fit(split.train.sessions, n_items=len(split.train.items), rng=np.random.default_rng(0))
    vectors, biases = model.item_vectors()
    visits = split.test.sessions.take(np.arange(min(4_000, len(split.test.sessions))))
    return vectors, biases, model.queries(states_after(model, visits))


def grown(
    vectors: FloatArray, biases: FloatArray, *, n_items: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """More items like those that there are."""
    more = n_items - len(vectors)
    if more <= 0:
        return vectors, biases
    some = rng.choice(len(vectors), 500, replace=False)
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    apart = lengths[some, None] + lengths - 2 * vectors[some] @ vectors.T
    apart[np.arange(len(some)), some] = np.inf
    step = np.sqrt(np.maximum(apart.min(axis=1), 0)).mean() / vectors.shape[1] ** 0.5
    of = rng.integers(len(vectors), size=more)
    copies = vectors[of] + np.float32(step) * rng.standard_normal(
        (more, vectors.shape[1]), dtype=np.float32
    )
    spread = np.float32(biases[np.isfinite(biases)].std())
    lower = spread * np.abs(rng.standard_normal(more, dtype=np.float32))
    return np.concatenate([vectors, copies]), np.concatenate([biases, biases[of] - lower])


def exact(items: Items) -> Built:
    """Ours."""
    before = time.process_time()
    index = BestItems(items.vectors, items.biases, samples=items.samples)
    cpu_s = time.process_time() - before
    everything = np.ones(len(items.vectors), dtype=np.bool_)

    def search(queries: FloatArray, allowed: BoolArray | None) -> IntArray:
        return index.best(queries, K, allowed=everything if allowed is None else allowed)[0]

    return Built(search=search, cpu_s=cpu_s, mib=index.size_bytes / 2**20)


def product(items: Items) -> Built:
    """Whole rows of scores by NumPy, and the best of each."""

    def search(queries: FloatArray, allowed: BoolArray | None) -> IntArray:
        scores = queries @ items.vectors.T + items.biases
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        return np.stack([top(row[None], K)[0] for row in scores])

    return Built(search=search, cpu_s=0.0, mib=items.vectors.nbytes / 2**20)


class _Plain:
    """Vectors and biases as a model whose states are its queries."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def item_vectors(self) -> tuple[FloatArray, FloatArray]:
        return self._items.vectors, self._items.biases

    def queries(self, states: FloatArray) -> FloatArray:
        return states

    def start(self, count: int) -> FloatArray:
        return self._items.samples[:count]

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        del items
        return states

    def score_states(self, states: FloatArray) -> FloatArray:
        return states @ self._items.vectors.T + self._items.biases


def graph(items: Items) -> Built:
    """Ours along a graph; the exact index stays beside it, and so does its memory."""
    before = time.process_time()
    links = Graph(items.vectors, items.biases)
    cpu_s = time.process_time() - before
    index = Index(_Plain(items), n_items=len(items.vectors), graph=links)
    everything = np.ones(len(items.vectors), dtype=np.bool_)

    def search(queries: FloatArray, allowed: BoolArray | None) -> IntArray:
        chosen = everything if allowed is None else allowed
        return index.best(queries, K, allowed=chosen, excluded=None)[0]

    return Built(search=search, cpu_s=cpu_s, mib=links.size_bytes / 2**20)


def usearch(items: Items) -> Built:
    """The graph of usearch in half precision; its Python cannot be told what is allowed."""
    from usearch.index import Index

    index = Index(
        ndim=items.vectors.shape[1] + 1,
        metric="ip",
        dtype="f16",
        connectivity=LINKS,
        expansion_add=BUILD,
        expansion_search=LOOKED_AT,
    )
    before = time.process_time()
    index.add(np.arange(len(items.vectors)), _with_bias(items), threads=1)
    cpu_s = time.process_time() - before

    def search(queries: FloatArray, allowed: BoolArray | None) -> IntArray:
        del allowed
        found = index.search(_asked(queries), K, threads=1).keys
        return np.atleast_2d(found).astype(np.int64)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph"
        index.save(str(file))
        size = file.stat().st_size
    return Built(search=search, cpu_s=cpu_s, mib=size / 2**20, filtered=False)


def faiss(items: Items) -> Built:
    """The graph of faiss, with a mask of what is allowed."""
    import faiss as library

    library.omp_set_num_threads(1)
    index = library.IndexHNSWFlat(items.vectors.shape[1] + 1, LINKS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = BUILD, LOOKED_AT
    before = time.process_time()
    index.add(_with_bias(items))
    cpu_s = time.process_time() - before

    def search(queries: FloatArray, allowed: BoolArray | None) -> IntArray:
        if allowed is None:
            return np.asarray(index.search(_asked(queries), K)[1])
        mask = np.packbits(allowed, bitorder="little")
        chosen = library.SearchParametersHNSW(
            sel=library.IDSelectorBitmap(mask), efSearch=LOOKED_AT
        )
        return np.asarray(index.search(_asked(queries), K, params=chosen)[1])

    size = len(library.serialize_index(index))
    return Built(search=search, cpu_s=cpu_s, mib=size / 2**20)


WAYS: dict[str, Callable[[Items], Built]] = {  # the first must be exact
    "exact": exact,
    "graph": graph,
    "rows": product,
    "usearch": usearch,
    "faiss": faiss,
}


AT: dict[int, tuple[str, ...]] = {
    43_097: ("exact", "graph", "rows", "usearch", "faiss"),
    300_000: ("exact", "graph", "rows", "usearch"),
    1_000_000: ("exact", "graph", "rows"),
}
"""What is measured at each size; a graph of a million takes many minutes to build."""


def _with_bias(items: Items) -> FloatArray:
    # A graph needs numbers: what may never be listed is merely very unlikely.
    finite = items.biases[np.isfinite(items.biases)]
    biases = np.where(np.isfinite(items.biases), items.biases, finite.min() - 10)
    return np.column_stack([items.vectors, biases]).astype(np.float32)


def _asked(queries: FloatArray) -> FloatArray:
    ones = np.ones((len(queries), 1), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate([queries, ones], axis=1))


def cpu_us(search: Search, queries: FloatArray, *, batch: int, allowed: BoolArray | None) -> float:
    """CPU a query, median over batches."""
    taken = []
    for begin in range(0, len(queries) - batch + 1, batch):
        before = time.process_time()
        search(queries[begin : begin + batch], allowed)
        taken.append((time.process_time() - before) / batch)
    return 1e6 * float(np.median(taken[1:] or taken))


def recall(found: IntArray, right: IntArray) -> float:
    """Share of the right items that were found."""
    hits = [len(np.intersect1d(row, wanted)) for row, wanted in zip(found, right, strict=True)]
    return float(np.mean(hits)) / K


def measured(items: Items, ways: Sequence[str]) -> Iterator[Row]:
    """Every way at one size, asked for everything and for what rules allow."""
    n_items = len(items.vectors)
    rng = np.random.default_rng(1)
    masks = {1.0: None, **{share: rng.random(n_items) < share for share in SHARES}}
    right: dict[float, IntArray] = {}
    for name in ways:
        with one_blas_thread():
            built = WAYS[name](items)
            at = f"{n_items:,} items, {name}:"
            yield Row(what=f"{at} to build, CPU", value=built.cpu_s, unit="s", better="lower")
            yield Row(what=f"{at} memory", value=built.mib, unit="MiB", better="lower")
            for share, allowed in masks.items():
                if allowed is not None and not built.filtered:
                    continue
                found = built.search(items.queries, allowed)
                right.setdefault(share, found)
                some = "" if allowed is None else f" {100 * share:g} % allowed,"
                yield Row(what=f"{at}{some} recall@{K}", value=recall(found, right[share]))
                for batch in BATCHES if allowed is None else BATCHES[-1:]:
                    value = cpu_us(built.search, items.queries, batch=batch, allowed=allowed)
                    what = f"{at}{some} a query of {batch}, CPU"
                    yield Row(what=what, value=value, unit="us", better="lower")


def main() -> None:
    """Run the benchmark, or the part of one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(AT))
    parser.add_argument("--ways", nargs="*", choices=WAYS, help="Others than the size's own.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--queries", type=int, default=QUERIES)
    options = parser.parse_args()
    missing = [name for name in ("usearch", "faiss") if find_spec(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} missing; run: pip install usearch faiss-cpu")
    split = load("diginetica")
    digests = {"diginetica": sha256(data_folder() / "diginetica" / "events.parquet")}
    vectors, biases, memories = trained(split, epochs=options.epochs)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(memories))
    queries = memories[chosen[: options.queries]]
    samples = memories[chosen[options.queries : options.queries + 512]]
    whole = (options.ways, options.epochs, options.queries) == (None, EPOCHS, QUERIES)
    for size in options.sizes:
        own = np.random.default_rng(size)
        more, offsets = grown(vectors, biases, n_items=size, rng=own)
        items = Items(vectors=more, biases=offsets, queries=queries, samples=samples)
        rows: list[Row] = []
        for row in measured(items, options.ways or AT.get(size, tuple(WAYS))):
            print(f"{row.what} {row.value:,.4g} {row.unit}", flush=True)
            rows.append(row)
        part = f"{size:,} items"
        complete = whole and size in AT
        finish_part("index_sizes", part, rows, data=digests, seeds=[0], whole=complete)


if __name__ == "__main__":
    main()
