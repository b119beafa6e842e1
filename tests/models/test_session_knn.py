import math
from dataclasses import replace

import numpy as np
import pytest

from momentary.models.session_knn import VSKNN, VSTAN, VSKNNConfig, VSTANConfig
from momentary.types import EVENT_TYPES, Sessions
from tests.contract.worlds import CHANCE, cycle, noise, recall_at_5, tastes

RNG = np.random.default_rng(0)
DAY_US = 24 * 3600 * 1_000_000
N_ITEMS = 12
VIEW, BUY = EVENT_TYPES.index("view_item"), EVENT_TYPES.index("purchase")

WEIGHTINGS = {
    "same": lambda _: 1.0,
    "linear": lambda step: max(1 - step / 10, 0),
    "quadratic": lambda step: (step + 1) ** -2,
    "div": lambda step: 1 / (step + 1),
    "log": lambda step: 1 / math.log10(step + 2.7),
}


@pytest.fixture
def world():
    """Rows oldest first, and the day each happened."""
    rng = np.random.default_rng(6)
    rows = [rng.integers(N_ITEMS - 1, size=rng.integers(1, 7)).tolist() for _ in range(40)]
    return rows, np.sort(rng.uniform(0, 30, size=len(rows)))


def sessions_at(rows, days):
    times = [
        (day * DAY_US + np.arange(len(row))).astype(int)
        for row, day in zip(rows, days, strict=True)
    ]
    return Sessions.from_lists(rows, times_us=times)


def vote(query, rows, config, parts, counts=None, counts_of_query=None):
    """The formula, session by session: `parts` holds similarity, match and near.

    `counts` says what each event of the rows counts, `counts_of_query` the same of the query's.
    """
    counts = [[1] * len(row) for row in rows] if counts is None else counts
    counts_of_query = [1] * len(query) if counts_of_query is None else counts_of_query
    events = [item for row in rows for item in row]
    last_step = {item: query[::-1].index(item) for item in query}
    sharing = [n for n, row in enumerate(rows) if set(row) & set(query)]
    sample = sharing[-config.sample_size :]
    idf = {item: math.log(len(rows) / sum(item in row for row in rows)) for item in set(events)}
    similarity = {}
    for n in sample:
        shared = set(rows[n]) & set(query)
        total = sum(
            parts["weight"](last_step[item])
            * (1 + config.idf_similarity * idf[item])
            * strongest(item, rows[n], counts[n])
            * strongest(item, query, counts_of_query)
            for item in shared
        )
        similarity[n] = total * parts["session"](n, max(sample))
    nearest = sorted(sample, key=lambda n: (round(similarity[n], 9), n))[-config.neighbours :]
    popular = np.bincount(events, weights=np.concatenate(counts), minlength=N_ITEMS)
    scores = 1e-6 * popular / popular.max()
    for n in nearest:
        item = min(set(rows[n]) & set(query), key=last_step.get)
        anchor = max(place for place, other in enumerate(rows[n]) if other == item)
        for place, other in enumerate(rows[n]):
            votes = similarity[n] * parts["match"](last_step[item]) * parts["near"](place - anchor)
            scores[other] += votes * (1 + config.idf_score * idf[other]) * counts[n][place]
    return scores


def strongest(item, row, counts):
    return max(count for other, count in zip(row, counts, strict=True) if other == item)


QUERIES = [[3], [1, 4], [5, 2, 5, 7], [N_ITEMS - 1, 0], [8, 8, 8], list(range(N_ITEMS))]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(("neighbours", "sample_size"), [(3, 8), (5, 100), (100, 100)])
def test_vsknn_scores_are_the_papers(world, weighting, neighbours, sample_size):
    rows, days = world
    config = VSKNNConfig(
        neighbours=neighbours,
        sample_size=sample_size,
        weighting=weighting,
        match_weighting="div",
        repeat=0.6,
        idf_similarity=0.0,
        idf_score=0.7,
    )
    parts = {
        "weight": WEIGHTINGS[weighting],
        "session": lambda *_: 1,
        "match": WEIGHTINGS["div"],
        "near": lambda distance: 1 if distance else 0.6,
    }
    model = VSKNN(config).fit(sessions_at(rows, days), n_items=N_ITEMS, rng=RNG)
    expected = [vote(query, rows, config, parts) for query in QUERIES]
    np.testing.assert_allclose(model.score(Sessions.from_lists(QUERIES)), expected, rtol=1e-4)


@pytest.mark.parametrize(("neighbours", "sample_size"), [(3, 8), (5, 100), (100, 100)])
def test_vstan_scores_are_the_papers(world, neighbours, sample_size):
    rows, days = world
    config = VSTANConfig(
        neighbours=neighbours,
        sample_size=sample_size,
        position_decay=1.5,
        recency_days=10,
        distance_decay=2.5,
        match_decay=3,
        repeat=0.6,
        idf_similarity=0.3,
        idf_score=0.7,
    )
    parts = {
        "weight": lambda step: math.exp(-step / 1.5),
        "session": lambda n, newest: (
            math.exp((days[n] - days[newest]) / 10) / math.sqrt(len(rows[n]))
        ),
        "match": lambda step: math.exp(-step / 3),
        "near": lambda distance: math.exp(-abs(distance) / 2.5) if distance else 0.6,
    }
    model = VSTAN(config).fit(sessions_at(rows, days), n_items=N_ITEMS, rng=RNG)
    expected = [vote(query, rows, config, parts) for query in QUERIES]
    np.testing.assert_allclose(model.score(Sessions.from_lists(QUERIES)), expected, rtol=1e-4)


def test_events_count_as_much_as_their_type(world):
    rows, days = world
    rng = np.random.default_rng(1)
    weights = {VIEW: 0.5, BUY: 3.0}
    types = [rng.choice([VIEW, VIEW, BUY], size=len(row)) for row in rows]
    asked = [rng.choice([VIEW, BUY], size=len(query)) for query in QUERIES]
    config = VSTANConfig(
        neighbours=5,
        position_decay=1.5,
        recency_days=10,
        distance_decay=2.5,
        match_decay=3,
        event_weights={"view_item": 0.5, "purchase": 3},
    )
    parts = {
        "weight": lambda step: math.exp(-step / 1.5),
        "session": lambda n, newest: (
            math.exp((days[n] - days[newest]) / 10) / math.sqrt(len(rows[n]))
        ),
        "match": lambda step: math.exp(-step / 3),
        "near": lambda distance: math.exp(-abs(distance) / 2.5) if distance else config.repeat,
    }
    sessions = replace(sessions_at(rows, days), types=np.concatenate(types).astype(np.int8))
    model = VSTAN(config).fit(sessions, n_items=N_ITEMS, rng=RNG)
    counts = [[weights[each] for each in row] for row in types]
    expected = [
        vote(query, rows, config, parts, counts, [weights[each] for each in own])
        for query, own in zip(QUERIES, asked, strict=True)
    ]
    found = model.score(Sessions.from_lists(QUERIES, types=asked))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_sessions_are_put_in_order_of_time():
    rows, days = [[0, 1], [0, 2], [0, 3]], [9, 1, 5]
    model = VSKNN(VSKNNConfig(neighbours=1)).fit(sessions_at(rows, days), n_items=4, rng=RNG)
    assert model.score(Sessions.from_lists([[0]]))[0, 1:].argmax() == 0  # day 9 is the newest


def test_very_old_sessions_still_vote():
    rows, days = [[0, 1], [2, 3]], [0, 20_000]
    model = VSTAN(VSTANConfig(recency_days=1)).fit(sessions_at(rows, days), n_items=4, rng=RNG)
    query = Sessions.from_lists([[0]], times_us=[[20_000 * DAY_US]])
    assert model.score(query)[0, 1] > 0.1


def test_only_the_last_events_of_long_sessions_count():
    rows = [[3, 0, 1], [2, 1]]
    model = VSKNN(VSKNNConfig(max_session=2)).fit(sessions_at(rows, [1, 2]), n_items=4, rng=RNG)
    assert model.score(Sessions.from_lists([[3]])).max() <= 1e-6
    scores = model.score(Sessions.from_lists([[0, 3, 3], [0, 1]]))
    assert scores[0].max() <= 1e-6
    assert scores[1, 0] > 0.1


def test_items_of_the_session_may_come_again():
    model = VSTAN(VSTANConfig(repeat=1)).fit(sessions_at([[0, 1, 0]], [1]), n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[0]]))[0].argmax() == 0
    model = VSTAN(VSTANConfig(repeat=0)).fit(sessions_at([[0, 1]], [1]), n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[0]]))[0].argmax() == 1


@pytest.mark.parametrize(
    "model", [VSKNN(VSKNNConfig()), VSTAN(VSTANConfig())], ids=lambda m: m.kind
)
def test_signal_is_found_and_noise_is_not(model):
    assert recall_at_5(model, cycle(RNG)) > 0.8
    assert recall_at_5(model, tastes(RNG)) > 0.95
    world = noise(np.random.default_rng(4), n_sessions=4000)
    assert recall_at_5(model, world) == pytest.approx(CHANCE, abs=0.04)


@pytest.mark.parametrize(
    "model", [VSKNN(VSKNNConfig()), VSTAN(VSTANConfig())], ids=lambda m: m.kind
)
def test_a_log_without_events_still_scores(model):
    model.fit(Sessions.from_lists([[]]), n_items=3, rng=RNG)
    assert model.score(Sessions.from_lists([[1], []])).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("config", [VSKNNConfig, VSTANConfig])
@pytest.mark.parametrize(
    ("name", "value"),
    [("neighbours", 0), ("sample_size", 0), ("max_session", 0), ("repeat", -1), ("idf_score", -1)],
)
def test_values_that_cannot_be_are_refused(config, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        config(**{name: value})


def test_weights_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="weighting is 'cubic'; it must be one of"):
        VSKNNConfig(weighting="cubic")
    for name in ("position_decay", "recency_days", "distance_decay", "match_decay"):
        with pytest.raises(ValueError, match=f"{name} is 0; .*turns the decay off"):
            VSTANConfig(**{name: 0})
