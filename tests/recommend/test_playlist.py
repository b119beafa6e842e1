"""Ordered lists: smooth, spread, within constraints, without repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.errors import DataError
from momentary.recommend.playlist import (
    Curve,
    Gap,
    PlaylistConfig,
    Wanted,
    figures,
    playlist,
    without_outliers,
)


@pytest.fixture(scope="module")
def songs():
    """Ten kinds of thirty songs each, near their kind's middle."""
    rng = np.random.default_rng(4)
    middles = rng.normal(size=(10, 24))
    noise = rng.normal(size=(300, 24)) * 0.5
    return (np.repeat(middles, 30, axis=0) + noise).astype(np.float32)


def test_from_a_seed_it_stays_near_without_repeats(songs):
    order = playlist(songs, Wanted(first=5), config=PlaylistConfig(length=20))
    assert order[0] == 5
    assert len(set(order.tolist())) == len(order) == 20
    assert (order // 30 == 0).mean() > 0.9
    random = np.random.default_rng(0).permutation(300)[:20]
    assert figures(songs, order).smoothness > figures(songs, random).smoothness + 0.3


def test_between_two_it_moves_from_one_to_the_other(songs):
    order = playlist(songs, Wanted(first=0, last=299), config=PlaylistConfig(length=12))
    assert (order[0], order[-1], len(order)) == (0, 299, 12)
    unit = songs / np.linalg.norm(songs, axis=1, keepdims=True)
    nearer = unit[order] @ unit[299] - unit[order] @ unit[0]
    assert nearer[:4].mean() < nearer[4:8].mean() < nearer[8:].mean()
    walk = [0]
    for _ in range(11):  # the nearest neighbour that was not yet there never gets to the end
        alike = unit @ unit[walk[-1]]
        alike[walk] = -2
        walk.append(int(alike.argmax()))
    assert 299 not in walk


def test_spread_keeps_it_from_going_in_circles(songs):
    tight = playlist(songs, Wanted(first=5), config=PlaylistConfig(spread=0, closeness=0))
    wide = playlist(songs, Wanted(first=5), config=PlaylistConfig(spread=3, closeness=0))
    assert figures(songs, wide).spread > figures(songs, tight).spread


def test_gaps_hold_between_any_two_of_a_value(songs):
    artists = np.array([f"artist {n % 4}" for n in range(300)], dtype=np.object_)
    artists[7] = None
    order = playlist(
        songs,
        Wanted(first=5, last=9, gaps=(Gap(values=artists, between=2),)),
        config=PlaylistConfig(length=14),
    )
    assert (len(order), order[-1]) == (14, 9)
    for at in range(len(order)):
        near = [artists[each] for each in order[at + 1 : at + 3] if artists[each] is not None]
        assert artists[order[at]] not in near


def test_a_value_that_may_stand_once_makes_the_list_shorter(songs):
    artists = np.array([f"artist {n % 4}" for n in range(300)], dtype=np.object_)
    order = playlist(songs, Wanted(first=5, gaps=(Gap(values=artists, between=99),)))
    assert len(order) == 4
    ends = Wanted(first=5, last=9, gaps=(Gap(values=artists, between=99),))
    with pytest.raises(DataError, match="may not stand so near"):
        playlist(songs, ends)


def test_a_curve_makes_the_number_rise_and_fall(songs):
    energy = np.random.default_rng(1).uniform(0, 200, 300)
    energy[3] = np.nan
    for shape, sign in (((0.0, 1.0), 1), ((1.0, 0.0), -1)):
        curve = Curve(values=energy, shape=shape, weight=4)
        order = playlist(songs, Wanted(first=5, curve=curve), config=PlaylistConfig(length=15))
        along = energy[order[1:]]
        assert sign * np.corrcoef(np.arange(14), along)[0, 1] > 0.9
    peak = Curve(values=energy, shape=(0, 1, 0), weight=4)
    order = playlist(songs, Wanted(first=5, curve=peak), config=PlaylistConfig(length=15))
    assert energy[order[6:9]].mean() > max(energy[order[1:4]].mean(), energy[order[-3:]].mean())


def test_twins_and_what_is_not_allowed_stay_out(songs):
    doubled = np.concatenate([songs, songs[:30] * 2])  # the same songs once more, only louder
    allowed = np.ones(330, dtype=np.bool_)
    allowed[10:20] = False
    order = playlist(doubled, Wanted(first=5, allowed=allowed))
    assert len({each % 300 if each >= 300 else each for each in order.tolist()}) == len(order)
    assert not set(order.tolist()) & set(range(10, 20))
    only = np.zeros(330, dtype=np.bool_)
    only[[8, 9]] = True
    assert set(playlist(doubled, Wanted(first=5, allowed=only)).tolist()) == {5, 8, 9}


def test_bad_wishes_are_refused(songs):
    bare = songs.copy()
    bare[1] = 0
    assert 1 not in playlist(bare, Wanted(first=0)).tolist()
    for wanted, words in (
        (Wanted(first=1), "nothing is known of item 1"),
        (Wanted(first=300), "item 300 is unknown"),
        (Wanted(first=2, last=2), "begins and ends"),
    ):
        with pytest.raises(DataError, match=words):
            playlist(bare, wanted)
    with pytest.raises(DataError, match="cannot hold its 2 ends"):
        playlist(bare, Wanted(first=0, last=2), config=PlaylistConfig(length=1))
    with pytest.raises(ValueError, match="length is 0"):
        PlaylistConfig(length=0)
    with pytest.raises(DataError, match="the curve is"):
        Curve(values=np.ones(3), shape=(0.5,))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.booleans())
def test_whatever_is_asked_nothing_repeats_and_ends_stand(seed, length, ends):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(int(rng.integers(3, 40)), 3)).astype(np.float32)
    vectors[2:][rng.random(len(vectors) - 2) < 0.2] = 0
    wanted = Wanted(first=0, last=1 if ends else None)
    order = playlist(vectors, wanted, config=PlaylistConfig(length=length, beam=3)).tolist()
    assert len(set(order)) == len(order) <= length
    assert order[0] == 0
    assert not ends or order[-1] == 1
    assert all(vectors[each].any() for each in order)


def test_outliers_leave_a_list_and_the_unknown_stay(songs):
    listed = np.array([3, 250, 4, 5, 6, 7, 8, 9])
    assert without_outliers(songs, listed, seed=10).tolist() == [3, 4, 5, 6, 7, 8, 9]
    blank = songs.copy()
    blank[5] = 0
    assert without_outliers(blank, listed).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert without_outliers(songs, listed[:3]).tolist() == [3, 250, 4]
    with pytest.raises(DataError, match="tolerance is 0"):
        without_outliers(songs, listed, tolerance=0)
