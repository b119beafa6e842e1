"""Pins, variety, limits and exploration; above all that propensities are what they say."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.recommend.arrangement import Exploration, Limit, Shape, Variety, arrange


def arranged(
    row, k, *, pins=None, limits=(), variety=None, share=0.0, pool=5, seed=0, allowed=None
):
    row = np.asarray(row, dtype=np.float32)
    order = np.argsort(-row, kind="stable")
    order = order if allowed is None else order[allowed[order]]
    exploration = None
    if share:
        exploration = Exploration(share=share, pool=pool, rng=np.random.default_rng(seed))
    shape = Shape(pins=pins or {}, limits=list(limits), variety=variety, exploration=exploration)
    return arrange(row, k, top=lambda count: order[:count], shape=shape)


def codes(*values):
    return np.array(values, dtype=np.int64)


def test_without_wishes_it_is_the_order_of_the_scores():
    found = arranged([1, 5, 3, 4], 3)
    assert found.items.tolist() == [1, 3, 2]
    assert found.propensities == (1.0, 1.0, 1.0)
    assert not found.explored.any()


def test_a_pin_stands_on_its_place_once_and_moves_up_on_a_short_list():
    assert arranged([1, 5, 3, 4], 4, pins={2: 1}).items.tolist() == [3, 2, 1, 0]
    found = arranged([1, 5], 4, pins={3: 0})
    assert found.items.tolist() == [1, 0]
    assert found.pinned.tolist() == [False, True]
    assert arranged([1, 5, 3], 1, pins={1: 0}).items.tolist() == [1]


def test_limits_count_what_is_pinned():
    limit = Limit(codes=codes(0, 0, 0, 1, -1), most=1)
    assert arranged([5, 4, 3, 2, 1], 5, limits=[limit]).items.tolist() == [0, 3, 4]
    assert arranged([5, 4, 3, 2, 1], 5, limits=[limit], pins={0: 2}).items.tolist() == [2, 3, 4]


def test_a_limit_that_many_fall_under_looks_deeper_than_the_first_candidates():
    same = np.zeros(5_000, dtype=np.int64)
    same[[4_000, 4_500]] = [1, 2]
    row = np.arange(5_000, 0, -1)
    found = arranged(row, 3, limits=[Limit(codes=same, most=1)])
    assert found.items.tolist() == [0, 4_000, 4_500]


def test_variety_by_value_and_by_vectors():
    row, kinds = [10, 9.9, 9.8, 9.7, 1], codes(0, 0, 0, 1, 2)
    assert arranged(row, 4, variety=Variety(strength=0, codes=kinds)).items.tolist() == [0, 1, 2, 3]
    varied = arranged(row, 4, variety=Variety(strength=0.5, codes=kinds)).items.tolist()
    assert varied[:2] == [0, 3]
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)
    by_vectors = arranged(row, 3, variety=Variety(strength=0.7, vectors=vectors)).items.tolist()
    assert by_vectors == [0, 3, 2] or by_vectors == [0, 3, 4]


def test_variety_is_that_of_the_equation():
    """Against a plain reading of maximal marginal relevance."""
    rng = np.random.default_rng(3)
    row = rng.normal(size=60).astype(np.float32)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = (row - row.min()) / (row.max() - row.min())
    expected: list[int] = []
    for _ in range(10):
        worth = {
            item: 0.6 * relevance[item]
            - 0.4 * max([0.0, *(float(vectors[item] @ vectors[above]) for above in expected)])
            for item in range(60)
            if item not in expected
        }
        expected.append(max(worth, key=worth.__getitem__))
    found = arranged(row, 10, variety=Variety(strength=0.4, vectors=vectors))
    assert found.items.tolist() == expected


@pytest.mark.parametrize("limited", [False, True])
def test_the_propensity_is_how_often_an_item_stands_there(limited):
    """Each place's frequencies, given what stands above, against the propensities told."""
    row = [5, 4, 3, 2, 1]
    limits = [Limit(codes=codes(0, 0, 1, 1, 2), most=1)] if limited else []
    told: dict[tuple[int, ...], float] = {}
    times: Counter[tuple[int, ...]] = Counter()
    rng = np.random.default_rng(11)
    runs = 20_000
    order = np.arange(5)
    for _ in range(runs):
        shape = Shape(
            pins={},
            limits=limits,
            variety=None,
            exploration=Exploration(share=0.4, pool=3, rng=rng),
        )
        found = arrange(
            np.array(row, dtype=np.float32), 2, top=lambda count: order[:count], shape=shape
        )
        key = tuple(found.items.tolist())
        assert told.setdefault(key, np.prod(found.propensities)) == np.prod(found.propensities)
        times[key] += 1
    assert len(told) > 4
    for key, chance in told.items():
        deviation = np.sqrt(chance * (1 - chance) / runs)
        assert abs(times[key] / runs - chance) < 4.5 * deviation, key
    assert sum(told.values()) == pytest.approx(1.0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_laws_of_every_list(data):
    n_items = data.draw(st.integers(1, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    row = rng.integers(4, size=n_items).astype(np.float32)
    allowed = rng.random(n_items) < 0.7
    kinds = rng.integers(-1, 4, size=n_items)
    k = data.draw(st.integers(1, 40))
    places = rng.choice(40, size=3, replace=False).tolist()
    wanted = rng.choice(n_items, size=min(3, n_items), replace=False).tolist()
    pins = {place: item for place, item in zip(places, wanted, strict=False) if allowed[item]}
    before = row.copy()
    found = arranged(
        row,
        k,
        pins=pins,
        limits=[Limit(codes=kinds, most=3)],
        variety=Variety(strength=0.3, codes=kinds) if data.draw(st.booleans()) else None,
        share=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        allowed=allowed,
    )
    items = found.items.tolist()
    assert len(set(items)) == len(items) <= k
    assert allowed[items].all()
    assert all(0 < chance <= 1 + 1e-9 for chance in found.propensities)
    assert len(found.propensities) == len(items)
    own = [item for item in items if item not in pins.values()]
    counts = Counter(kinds[own].tolist())
    assert all(count <= 3 for kind, count in counts.items() if kind >= 0)
    if len(items) < k:
        # There was room: all that was to stand somewhere does.
        assert set(pins.values()) <= set(items)
    full = len(items) - len(pins)
    for place, item in pins.items():
        if place < full:
            assert items[place] == item
    np.testing.assert_array_equal(row, before)
