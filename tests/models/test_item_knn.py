import numpy as np
import pytest

from momentary.errors import DataError, NotFittedError
from momentary.models import item_knn
from momentary.models.item_knn import ItemKNN, ItemKNNConfig
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, cycle, noise, recall_at_5, tastes

RNG = np.random.default_rng(0)
N_ITEMS = 9
VIEW, BUY = EVENT_TYPES.index("view_item"), EVENT_TYPES.index("purchase")


@pytest.fixture
def rows():
    rng = np.random.default_rng(2)
    return [rng.integers(N_ITEMS - 1, size=rng.integers(1, 6)).tolist() for _ in range(25)]


def cosine(rows, shrinkage):
    """Similarity and number of shared sessions, pair by pair."""
    similarity, together = np.zeros((N_ITEMS, N_ITEMS)), np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        for j in range(N_ITEMS):
            with_i = [set(row) for row in rows if i in row]
            with_j = [row for row in rows if j in row]
            if i != j and with_i and with_j:
                both = sum(j in row for row in with_i)
                norm = ((len(with_i) + shrinkage) * (len(with_j) + shrinkage)) ** 0.5
                similarity[i, j], together[i, j] = both / norm, both
    return similarity, together


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_scores_are_the_papers(rows, shrinkage):
    similarity, _ = cosine(rows, shrinkage)
    config = ItemKNNConfig(shrinkage=shrinkage, decay=0.5, self_similarity=0.25)
    model = ItemKNN(config).fit(Sessions.from_lists(rows), n_items=N_ITEMS, rng=RNG)
    counts = np.bincount(np.concatenate(rows), minlength=N_ITEMS)
    similarity += 0.25 * np.eye(N_ITEMS)
    expected = 0.25 * similarity[3] + 0.5 * similarity[5] + similarity[3]
    expected += 1e-6 * counts / counts.max()
    scores = model.score(Sessions.from_lists([[3, 5, 3]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_events_count_as_much_as_their_type(rows):
    rng = np.random.default_rng(3)
    types = [rng.choice([VIEW, VIEW, BUY], size=len(row)) for row in rows]
    counts = [np.where(each == BUY, 3.0, 0.5) for each in types]
    held = np.zeros((len(rows), N_ITEMS))
    for row, items in enumerate(rows):
        np.maximum.at(held[row], items, counts[row])
    norms = np.sqrt((held**2).sum(axis=0) + 2)
    similarity = held.T @ held / np.outer(norms, norms)
    np.fill_diagonal(similarity, 0.25)
    config = ItemKNNConfig(
        shrinkage=2,
        decay=0.5,
        self_similarity=0.25,
        event_weights={"view_item": 0.5, "purchase": 3},
    )
    typed = Sessions.from_lists(rows, types=types)
    model = ItemKNN(config).fit(typed, n_items=N_ITEMS, rng=RNG)
    popular = np.bincount(np.concatenate(rows), weights=np.concatenate(counts), minlength=N_ITEMS)
    expected = 3 * 0.25 * similarity[3] + 0.5 * 0.5 * similarity[5] + 0.5 * similarity[3]
    expected += 1e-6 * popular / popular.max()
    scores = model.score(Sessions.from_lists([[3, 5, 3]], types=[[BUY, VIEW, VIEW]]))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)
    together = cosine(rows, 0)[1]
    related = model.related(3, 3)
    assert related.counts.tolist() == together[3, related.items].tolist()  # sessions, as ever


def test_counting_in_parts_changes_nothing(rows, monkeypatch):
    sessions = Sessions.from_lists(rows)
    whole = ItemKNN(ItemKNNConfig(neighbours=3)).fit(sessions, n_items=N_ITEMS, rng=RNG)
    monkeypatch.setattr(item_knn, "PAIRS_AT_ONCE", 30)
    parts = ItemKNN(ItemKNNConfig(neighbours=3)).fit(sessions, n_items=N_ITEMS, rng=RNG)
    np.testing.assert_array_equal(parts.score(sessions), whole.score(sessions))


def test_related_names_the_most_similar_and_counts_the_sessions(rows):
    similarity, together = cosine(rows, 20.0)
    model = ItemKNN(ItemKNNConfig()).fit(Sessions.from_lists(rows), n_items=N_ITEMS, rng=RNG)
    order = sorted(np.flatnonzero(together[2]), key=lambda j: (-similarity[2, j], j))
    related = model.related(2, 4)
    assert related.items.tolist() == order[:4]
    np.testing.assert_allclose(related.similarities, similarity[2, order[:4]], rtol=1e-6)
    assert related.counts.tolist() == together[2, order[:4]].tolist()
    assert model.related(2, 100).items.tolist() == order


def test_related_breaks_ties_by_index_and_knows_lonely_items():
    sessions = Sessions.from_lists([[4, 0, 2], [4, 0, 2], [1], [0, 0, 0, 3]])
    model = ItemKNN(ItemKNNConfig()).fit(sessions, n_items=6, rng=RNG)
    assert model.related(4, 9).items.tolist() == [2, 0]
    assert model.related(2, 9).items.tolist() == [4, 0]
    assert model.related(0, 9).items.tolist() == [2, 4, 3]
    assert model.related(0, 9).counts.tolist() == [2, 2, 1]
    assert model.related(1, 9).items.tolist() == []


def test_related_refuses_what_it_cannot_answer():
    with pytest.raises(NotFittedError):
        ItemKNN(ItemKNNConfig()).related(0, 1)
    model = ItemKNN(ItemKNNConfig()).fit(Sessions.from_lists([[0, 1]]), n_items=2, rng=RNG)
    with pytest.raises(DataError, match="item is 2; it must be an index from 0 to 1"):
        model.related(2, 1)
    with pytest.raises(DataError, match="k is 0"):
        model.related(0, 0)


def test_only_the_strongest_neighbours_and_the_last_events_are_kept():
    sessions = Sessions.from_lists([[0, 1], [0, 1], [0, 2], [5, 3, 4]])
    config = ItemKNNConfig(neighbours=1, max_session=2, shrinkage=0)
    model = ItemKNN(config).fit(sessions, n_items=6, rng=RNG)
    assert model.related(0, 9).items.tolist() == [1]
    assert model.related(5, 9).items.tolist() == []


def test_signal_is_found():
    assert recall_at_5(ItemKNN(ItemKNNConfig(self_similarity=0)), cycle(RNG)) > 0.8
    assert recall_at_5(ItemKNN(ItemKNNConfig()), tastes(RNG)) > 0.95


def test_noise_is_left_at_chance():
    world = noise(np.random.default_rng(4), n_sessions=4000)
    assert recall_at_5(ItemKNN(ItemKNNConfig()), world) == pytest.approx(CHANCE, abs=0.04)


def test_a_log_without_events_still_scores():
    empty = Sessions.from_lists([[]])
    model = ItemKNN(ItemKNNConfig()).fit(empty, n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[1], []])).tolist()[1] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("neighbours", 0),
        ("max_session", 0),
        ("shrinkage", -1),
        ("self_similarity", float("inf")),
        ("decay", 0),
        ("decay", 1.5),
    ],
)
def test_values_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        ItemKNNConfig(**{name: value})
