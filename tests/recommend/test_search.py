from contextlib import closing

import pytest

from momentary.recommend.search import TextIndex
from momentary.types import Item


@pytest.fixture
def index():
    items = [
        Item(item_id="1", name="Grüner Tee", brand="Momo", category="tea"),
        Item(item_id="2", name="Schwarzer Tee", brand="Momo", category="tea"),
        Item(item_id="3", name="Kanne", brand="Porzello", description="Für Tee und Kaffee"),
        Item(item_id="4", name="Milk 1 l", category="dairy"),
        Item(item_id="5"),
    ]
    with closing(TextIndex(items)) as found:
        yield found


def _ids(index, text, limit=10):
    return [item_id for item_id, _ in index.search(text, limit=limit)]


def test_names_count_more_than_descriptions(index):
    assert _ids(index, "tee") == ["1", "2", "3"]


def test_case_accents_and_an_unfinished_word_do_not_matter(index):
    assert _ids(index, "GRUNER te") == ["1", "2", "3"]
    assert _ids(index, "schw") == ["2"]


def test_items_with_every_word_come_before_those_with_some(index):
    assert _ids(index, "momo milk")[0] == "4"
    assert _ids(index, "schwarzer tee")[0] == "2"


def test_scores_begin_at_one_and_fall(index):
    scores = [score for _, score in index.search("tee", limit=10)]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "text", ["", "  ", '"', "'; DROP TABLE words; --", "a* OR b", "NEAR(", "{x}"]
)
def test_nothing_that_is_typed_is_an_operator(index, text):
    index.search(text, limit=5)
    assert _ids(index, "milk") == ["4"]


def test_items_change_and_go(index):
    index.put(Item(item_id="4", name="Oat drink"))
    assert _ids(index, "milk") == []
    assert _ids(index, "oat") == ["4"]
    index.remove("4")
    index.remove("never there")
    assert _ids(index, "oat") == []
    assert len(index) == 4
