"""What stands beside the cold films' factors: neighbours, a ridge, and ALS that has seen them.

The settings were chosen on the same pseudo-cold films as ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares

from benchmarks.content_films import SEEN, TAGS, Films, World, of_length_1, recall, tf_idf
from momentary.types import FloatArray

_ALS = {"factors": 64, "num_threads": 1, "random_state": 0}
_TAG_NEIGHBOURS, _WORD_NEIGHBOURS, _RIDGE = 10, 50, 3.0


def baselines(films: Films, world: World, *, seed: int) -> dict[str, float]:
    """Recall@20 by name."""
    rng = np.random.default_rng([seed, 1])
    units = [of_length_1(films.content[name]) for name in TAGS]
    tags = scipy.sparse.csr_array(scipy.sparse.hstack(units))
    words = of_length_1(tf_idf([row["plot"] for row in films.rows]))
    als = AlternatingLeastSquares(**_ALS)
    als.fit(scipy.sparse.csr_matrix(world.history), show_progress=False)
    dense = [tags.toarray(), films.content["plot"], films.content["poster"]]
    x = np.concatenate(dense, axis=1).astype(np.float64)
    fitted = _ridge(x[world.warm], als.item_factors, ridge=_RIDGE)
    predicted: dict[str, Callable[[], FloatArray]] = {
        "metadata kNN": lambda: _mean_of_near(tags, world, als.item_factors, k=_TAG_NEIGHBOURS),
        "plot TF-IDF kNN": lambda: _mean_of_near(
            words, world, als.item_factors, k=_WORD_NEIGHBOURS
        ),
        "ridge to 64 ALS factors": lambda: x[world.cold] @ fitted,
    }
    found = {"random": recall(rng.random(world.wanted.shape, dtype=np.float32), world.wanted)}
    for name, predict in predicted.items():
        found[name] = recall(als.user_factors @ predict().T, world.wanted)
    found["warm: ALS that saw half of the visits"] = _warm(films, world, rng=rng)
    return found


def _mean_of_near(
    unit: scipy.sparse.csr_array, world: World, factors: FloatArray, *, k: int
) -> FloatArray:
    """The mean of the factors of each cold film's nearest warm ones. Shape (cold, factors)."""
    near = (unit[world.cold] @ unit[world.warm].T).toarray()
    floor = np.partition(near, -k, axis=1)[:, -k, None]
    near = np.where(near >= floor, near, 0)
    return np.asarray(near @ factors / np.maximum(near.sum(axis=1, keepdims=True), 1e-9))


def _warm(films: Films, world: World, *, rng: np.random.Generator) -> float:
    """ALS that has seen half of the cold films' visits, asked for the other half."""
    pairs = films.visits.tocoo()
    hidden = world.cold[pairs.col] & (rng.random(pairs.nnz) < 0.5)
    told, asked = (
        scipy.sparse.csr_array(
            (np.ones(int(part.sum()), dtype=np.float32), (pairs.row[part], pairs.col[part])),
            shape=films.visits.shape,
        )
        for part in (~hidden, hidden)
    )
    als = AlternatingLeastSquares(**_ALS)
    als.fit(scipy.sparse.csr_matrix(told), show_progress=False)
    scores = als.user_factors @ als.item_factors[world.cold].T
    scores[told[:, world.cold].toarray() > 0] = SEEN
    return recall(scores, asked[:, world.cold])


def _ridge(x: FloatArray, y: FloatArray, *, ridge: float) -> FloatArray:
    system = x.T @ x
    system[np.diag_indices_from(system)] += ridge
    return np.asarray(scipy.linalg.solve(system, x.T @ y, assume_a="pos"), dtype=np.float32)
