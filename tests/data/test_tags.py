"""Attributes as sparse vectors: what is shared is near, whatever its order."""

import numpy as np

from momentary.data.tags import WIDTH, tag_rows, tags_of
from momentary.types import Item


def test_lists_and_bars_give_several_tags_and_numbers_none():
    item = Item(
        item_id="1",
        category="Films",
        properties={"cast": ["A", "B, C"], "new": True, "votes": 12, "plot": "x" * 100},
    )
    assert tags_of(item) == ["category=films", "cast=a", "cast=b", "cast=c", "new=true"]


def test_rows_have_length_one_and_meet_where_items_share():
    rows = tag_rows(
        [
            Item(item_id="1", brand="Kiln", category="mug"),
            Item(item_id="2", brand="kiln", category="cup"),
            Item(item_id="3", brand="Other", category="bowl"),
            Item(item_id="4"),
        ]
    )
    assert rows.shape == (4, WIDTH)
    near = (rows @ rows.T).toarray()
    np.testing.assert_allclose(np.diag(near), [1, 1, 1, 0], atol=1e-6)
    assert near[0, 1] > 0.4
    assert near[0, 2] == 0
