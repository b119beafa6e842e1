"""Candidates from a graph: the same alone as among others, saved without vectors, never astray."""

import numpy as np
import pytest

from momentary.errors import ArtifactError
from momentary.learn.best_items import BestItems
from momentary.learn.graph import LINKS, Graph

N_ITEMS, WIDTH = 2_000, 12


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N_ITEMS, WIDTH)).astype(np.float32)
    biases = rng.standard_normal(N_ITEMS).astype(np.float32)
    biases[::9] = -np.inf
    return vectors, biases


@pytest.fixture(scope="module")
def graph(items):
    return Graph(*items)


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).standard_normal((40, WIDTH)).astype(np.float32)


def test_nearly_all_of_the_best_are_near(items, graph, queries):
    vectors, biases = items
    right = np.argsort(-(queries @ vectors.T + biases), axis=1)[:, :20]
    near = graph.near(queries, 20)
    found = [len(np.intersect1d(row, wanted)) for row, wanted in zip(near, right, strict=True)]
    assert np.mean(found) >= 0.99 * 20
    assert (np.diff(near, axis=1) >= 0).all()
    # What may never be listed is no candidate either.
    assert not (near % 9 == 0).any()


def test_a_query_alone_finds_what_it_finds_among_others(graph, queries):
    for row in range(5):
        np.testing.assert_array_equal(
            graph.near(queries[row : row + 1], 30)[0], graph.near(queries, 30)[row]
        )


def test_scores_of_candidates_are_those_of_the_exact_search_to_the_last_bit(items, graph, queries):
    vectors, biases = items
    exact = BestItems(vectors, biases, samples=queries)
    allowed = np.random.default_rng(2).random(N_ITEMS) < 0.7
    held = np.array([4, 5, 7], dtype=np.int64), np.array([0, *[3] * 40], dtype=np.int64)
    asked = {"allowed": allowed, "excluded": held}
    wanted, scores = exact.best(queries, 10, **asked)
    found, ours = exact.among(queries, 10, near=graph.near(queries, 40), **asked)
    same = found == wanted
    assert same.mean() >= 0.99
    np.testing.assert_array_equal(ours[same], scores[same])
    assert allowed[found].all()
    assert not np.isin(found[0], held[0]).any()


def test_too_few_candidates_leave_room(items, queries):
    exact = BestItems(*items, samples=queries)
    near = np.full((40, 3), -1, dtype=np.int64)
    near[:, 2] = 1
    found, scores = exact.among(queries, 2, near=near, allowed=np.ones(N_ITEMS, dtype=np.bool_))
    assert found.tolist() == [[1, -1]] * 40
    assert np.isneginf(scores[:, 1]).all()


def test_two_graphs_of_the_same_items_are_the_same_and_come_back_from_numbers(
    items, graph, queries
):
    state = graph.state()
    again = Graph(*items).state()
    assert all(np.array_equal(state[name], again[name]) for name in state)
    back = Graph.from_state(state, vectors=items[0], biases=items[1])
    np.testing.assert_array_equal(back.near(queries, 50), graph.near(queries, 50))
    assert back.size_bytes == graph.size_bytes


@pytest.mark.parametrize("name", ["levels", "links", "entry"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda numbers: numbers[:-1],
        lambda numbers: numbers + 1,
        lambda numbers: np.full_like(numbers, N_ITEMS),
        lambda numbers: numbers - N_ITEMS,
        lambda numbers: numbers[:, None],
    ],
    ids=["short", "shifted", "high", "low", "square"],
)
def test_links_that_lead_nowhere_are_refused(items, graph, name, harm):
    state = graph.state()
    with pytest.raises(ArtifactError, match="momentary index"):
        Graph.from_state({**state, name: harm(state[name])}, vectors=items[0], biases=items[1])


def test_a_link_to_an_item_that_is_not_on_its_level_is_refused(items, graph):
    state = graph.state()
    levels, links = state["levels"], state["links"].copy()
    ends = np.concatenate([[0], np.cumsum(LINKS * (levels.astype(np.int64) + 1))])
    high, low = int(np.flatnonzero(levels > 1)[0]), int(np.flatnonzero(levels == 1)[0])
    links[ends[high] + 2 * LINKS] = low
    with pytest.raises(ArtifactError, match="momentary index"):
        Graph.from_state({**state, "links": links}, vectors=items[0], biases=items[1])


def test_links_of_other_items_are_refused(items, graph):
    with pytest.raises(ArtifactError, match="momentary index"):
        Graph.from_state(graph.state(), vectors=items[0][:-1], biases=items[1][:-1])
    with pytest.raises(ArtifactError, match="momentary index"):
        Graph.from_state({}, vectors=items[0], biases=items[1])


def test_no_items_are_near_nothing(items):
    nothing = Graph(items[0][:9], np.full(9, -np.inf, dtype=np.float32))
    assert (nothing.near(items[0][:2], 5) == -1).all()
    back = Graph.from_state(nothing.state(), vectors=items[0][:9], biases=nothing_of(9))
    assert (back.near(items[0][:2], 5) == -1).all()


def nothing_of(count):
    return np.full(count, -np.inf, dtype=np.float32)


def test_progress_is_told(items):
    told = []
    Graph(*items, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (int(np.isfinite(items[1]).sum()),) * 2
