import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.recommend.trends import popular, trending

ITEMS = Vocabulary(("a", "b", "c", "d"))


def test_popular_counts_known_items():
    assert popular({"b": 3, "unknown": 9}, items=ITEMS).tolist() == [0, 3, 0, 0]


def test_trending_is_the_excess_over_what_the_week_before_would_give():
    recent, before = {"a": 20, "b": 10, "c": 10}, {"a": 140, "b": 7, "c": 133}
    scores = trending(recent, before, items=ITEMS)
    # 40 events in the day as in each of the seven days before: the traffic is the same.
    expected = np.array([20, 1, 19, 0])
    assert scores == pytest.approx(
        np.maximum((np.array([20, 10, 10, 0]) - expected) / np.sqrt(expected + 1), 0)
    )
    assert scores.argmax() == 1


def test_more_traffic_alone_is_no_trend():
    recent, before = {"a": 300, "b": 100}, {"a": 210, "b": 70}
    assert trending(recent, before, items=ITEMS) == pytest.approx(0)


def test_a_new_shop_has_trends_too():
    assert trending({"d": 4}, {}, items=ITEMS).tolist() == pytest.approx([0, 0, 0, 4])
    assert trending({}, {"a": 3}, items=ITEMS).tolist() == [0, 0, 0, 0]
