"""Content kNN: the module's equation in NumPy, and the laws with content in place."""

from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.models.artifact import Bundle, load, save
from momentary.models.content_knn import ContentKNN, ContentKNNConfig
from momentary.types import Sessions
from tests.contract.test_laws import LAWS, N_ITEMS

RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(N_ITEMS, 3))
PICTURE = RNG.normal(size=(N_ITEMS, 6)).astype(np.float32)
PICTURE[2] = np.nan
FEATURES = {"text": TEXT, "picture": PICTURE}
SMALL = ContentKNNConfig(width=4)


def shop(rng, *, groups=12, size=6, sessions=120):
    """Visits keep to a group of items that only content shows; two steps never repeat."""
    rows = []
    for _ in range(sessions):
        start = size * rng.integers(groups)
        rows.append(start + rng.permutation(size)[:4])
    vectors = np.repeat(rng.normal(size=(groups, 8)), size, axis=0)
    vectors += 0.3 * rng.normal(size=vectors.shape)
    times = [(100 * place + np.arange(4)) * 1_000_000 for place in range(sessions)]
    return Sessions.from_lists(rows, times_us=times), vectors.astype(np.float32)


def fitted(sessions, features, *, config=SMALL, n_items=None, seed=0):
    model = ContentKNN(config, features=features)
    some = N_ITEMS if n_items is None else n_items
    return model.fit(sessions, n_items=some, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_it_keeps_the_laws_with_content(law):
    rng = np.random.default_rng(0)
    rows = [rng.choice(3 if day % 2 else N_ITEMS, size=3 + day % 4) for day in range(11)]
    times = [(24 * day + np.arange(len(row))) * 3_600_000_000 for day, row in enumerate(rows)]
    log = Sessions.from_lists(rows, times_us=times, users=[0, 1, -1, 1, 0, -1, 2, 3, 2, 3, -1])
    for array in (log.items, log.offsets, log.times_us, log.users):
        array.flags.writeable = False

    class Told(ContentKNN):
        """Told of the items under whatever names they have."""

        names = np.random.default_rng(1).permutation(N_ITEMS)  # as in the law of renaming

        def fit(self, sessions, *, n_items, rng, **rest):
            renamed = law.__name__ == "law_renaming_items_renames_scores"
            order = np.arange(N_ITEMS)
            if renamed and not np.array_equal(sessions.items, log.items):
                order[self.names] = np.arange(N_ITEMS)
            more = [
                np.full((n_items - N_ITEMS, rows.shape[1]), np.nan) for rows in FEATURES.values()
            ]
            self.describe(
                {
                    name: np.concatenate([rows[order], extra])
                    for (name, rows), extra in zip(FEATURES.items(), more, strict=True)
                }
            )
            return super().fit(sessions, n_items=n_items, rng=rng, **rest)

    law(lambda: Told(SMALL), log)


def test_scores_are_those_of_the_equation():
    sessions = Sessions.from_lists([[0, 1, 2, 3], [2, 3, 4], [4, 5, 6, 0, 1], [6, 0], [1, 5]])
    model = fitted(sessions, FEATURES)
    (a, b, d), (e, f, g), (c, r) = np.split(model.state()["weights"].astype(np.float64), [3, 6])
    visit = [5, 2, 0]
    popularity = np.log1p(np.bincount(sessions.items, minlength=N_ITEMS))
    expected = c * popularity
    for (last, mean, known), rows in zip(
        ((a, b, d), (e, f, g)), model.features.values(), strict=True
    ):
        latest = rows[0] + 0.7 * rows[2] + 0.49 * rows[5]
        expected = expected + rows @ (last * rows[0] + mean * latest / np.linalg.norm(latest))
        expected = expected + known * rows.any(axis=1)
    expected[visit] = r + c * popularity[visit]
    np.testing.assert_allclose(model.score(Sessions.from_lists([visit]))[0], expected, rtol=1e-4)


def test_content_finds_what_no_visit_tells():
    sessions, vectors = shop(np.random.default_rng(0))
    n_items = len(vectors)
    taught, asked = sessions.take(np.arange(100)), sessions.take(np.arange(100, 120))
    history = Sessions.from_lists([asked.session(row)[:2] for row in range(20)])
    wanted = [asked.session(row)[2:] for row in range(20)]

    def found(model):
        best = np.argsort(-model.score(history), axis=1)[:, :6]
        return np.mean([np.isin(each, row).mean() for each, row in zip(wanted, best, strict=True)])

    assert found(fitted(taught, {"text": vectors}, n_items=n_items)) > 0.7
    assert found(fitted(taught, {}, n_items=n_items)) < 0.3
    noise = np.random.default_rng(5).normal(size=vectors.shape)
    told_nothing = fitted(taught, {"noise": noise, "text": vectors}, n_items=n_items)
    weights = np.abs(told_nothing.state()["weights"])
    assert weights[:2].sum() < weights[3:5].sum() / 4
    # What the visit holds already is not asked for again in these visits.
    scores = told_nothing.score(history)
    assert scores[0, history.session(0)].max() < np.sort(scores[0])[-4]


def test_one_visit_is_scored_like_many():
    sessions, vectors = shop(np.random.default_rng(1))
    model = fitted(sessions, {"text": vectors}, n_items=len(vectors), config=ContentKNNConfig())
    for visit in ([], [3], [3, 3, 8, 20, 3]):
        whole = model.score(Sessions.from_lists([visit]))[0]
        quick = model.score_visit(np.array(visit, dtype=np.int64), exact=10)
        best = np.argsort(-whole, kind="stable")
        np.testing.assert_allclose(quick[best[:10]], whole[best[:10]], rtol=1e-4)
        assert quick[best[10:]].max() <= quick[best[:10]].min() + 1e-5
        np.testing.assert_allclose(quick, whole, atol=0.1)


def test_a_large_catalogue_is_represented_by_a_sample():
    sessions, vectors = shop(np.random.default_rng(2))
    whole, sampled = (
        fitted(
            sessions,
            {"text": vectors},
            n_items=len(vectors),
            config=ContentKNNConfig(rivals=rivals),
        ).state()["weights"]
        for rivals in (1_000, 40)
    )
    assert sampled[1] == pytest.approx(whole[1], rel=0.35)
    assert not np.array_equal(sampled, whole)


def test_a_saved_model_brings_its_content_along(tmp_path):
    sessions, vectors = shop(np.random.default_rng(3))
    model = fitted(sessions, {"text": vectors, "a.b": vectors[:, :5]}, n_items=len(vectors))
    ids = [f"i{item}" for item in range(len(vectors))]
    bundle = Bundle(scorers={"main": model}, items=Vocabulary(ids), facts={})
    save(bundle, tmp_path / "model", now=datetime(2026, 1, 1, tzinfo=UTC))
    loaded = load(tmp_path / "model").scorers["main"]
    assert list(loaded.features) == ["text", "a.b"]
    assert loaded.features["text"].shape == (len(vectors), 4)
    np.testing.assert_array_equal(loaded.score(sessions), model.score(sessions))


def test_settings_and_features_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="width is 0"):
        ContentKNNConfig(width=0)
    with pytest.raises(DataError, match="must be \\(items, dim\\)"):
        ContentKNN(features={"text": np.ones(3)})
    with pytest.raises(DataError, match="3 rows, but there are 7 items"):
        fitted(Sessions.from_lists([[0, 1]]), {"text": np.eye(3)})
