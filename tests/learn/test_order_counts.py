import numpy as np
import pytest

from momentary.errors import DataError, NotFittedError
from momentary.learn.counts import last_events, relative_popularity, require_items_below
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.learn.pruning import strongest_per_row
from momentary.types import Sessions


def test_first_appearance_follows_a_renaming():
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(20), rng.integers(20, size=30)])
    new_name = rng.permutation(20)
    order = first_appearance(items, n_items=20)
    np.testing.assert_array_equal(first_appearance(new_name[items], n_items=20), new_name[order])
    np.testing.assert_array_equal(order[inverse(order)], np.arange(20))


def test_first_appearance_of_nothing_is_the_order_of_indices():
    assert first_appearance(np.array([], dtype=np.int64), n_items=3).tolist() == [0, 1, 2]


def test_items_outside_the_catalogue_are_refused():
    require_items_below(np.array([], dtype=np.int64), 0)
    with pytest.raises(DataError, match="from -1 to 2"):
        require_items_below(np.array([-1, 2]), 3)
    with pytest.raises(DataError, match="n_items is 3"):
        relative_popularity(np.array([3]), n_items=3)


def test_last_events_keep_times_and_empty_sessions():
    sessions = Sessions.from_lists([[1, 2, 3], [], [4]], users=[5, 6, 7])
    cut = last_events(sessions, 2)
    assert [cut.session(row).tolist() for row in range(3)] == [[2, 3], [], [4]]
    assert cut.times_us.tolist() == [1_000_000, 2_000_000, 3_000_000]
    assert cut.users.tolist() == [5, 6, 7]


def test_the_strongest_are_those_of_a_full_sort():
    rng = np.random.default_rng(3)
    values = rng.integers(5, size=(6, 40)).astype(np.float32)  # many ties
    rank = rng.permutation(40)
    kept = strongest_per_row(
        values.ravel(),
        np.arange(7) * 40,
        np.tile(np.arange(40, dtype=np.int32), 6),
        limit=7,
        rank=rank,
    )
    best = [sorted(range(40), key=lambda j: (-values[row, j], rank[j]))[:7] for row in range(6)]
    expected = np.sort(np.array(best) + np.arange(6)[:, None] * 40, axis=1).ravel()
    np.testing.assert_array_equal(kept, expected)


def test_what_was_never_fitted_is_refused_by_name():
    assert require_fitted(3, object()) == 3
    with pytest.raises(NotFittedError, match=r"Sessions has not been fitted; call fit\("):
        require_fitted(None, Sessions.from_lists([]))
