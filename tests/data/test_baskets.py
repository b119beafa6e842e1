import pyarrow as pa
import pytest

from momentary.data.baskets import bought_together
from momentary.data.importer import import_table
from momentary.data.workspace import Workspace

DAY_US = 86_400_000_000


def _purchases(baskets):
    rows = [
        (f"u{number}", item, number % 3 * DAY_US + place)
        for number, basket in enumerate(baskets)
        for place, item in enumerate(basket)
    ]
    users, items, times = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": users,
            "item_id": items,
            "timestamp_us": pa.array(times, pa.int64()),
            "event_type": ["purchase"] * len(rows),
        }
    )


def test_what_is_bought_together_is_counted_by_hand(tmp_path):
    baskets = (
        [["tea", "milk"]] * 3 + [["tea", "rice"]] * 2 + [["rice", "milk"]] * 1 + [["rice"]] * 6
    )
    with Workspace.open(tmp_path, create=True) as workspace:
        import_table(workspace, _purchases(baskets), kind="events", source="shop")
        milk, rice = bought_together(workspace, "tea", limit=10)
        alone = bought_together(workspace, "tea", limit=10, least=3)
        nothing = bought_together(workspace, "unknown", limit=10)

    # 12 baskets, 5 with tea, 4 with milk, 9 with rice.
    assert (milk.item_id, milk.baskets) == ("milk", 3)
    assert milk.lift == pytest.approx(3 * 12 / (5 * 4))
    assert (rice.item_id, rice.baskets) == ("rice", 2)
    assert rice.lift == pytest.approx(2 * 12 / (5 * 9))
    assert [each.item_id for each in alone] == ["milk"]
    assert nothing == []


def test_views_and_other_days_are_no_basket(tmp_path):
    table = pa.table(
        {
            "user_id": ["u", "u", "u", "u"],
            "item_id": ["tea", "milk", "tea", "rice"],
            "timestamp_us": pa.array([1, 2, 3, 3 + DAY_US], pa.int64()),
            "event_type": ["purchase", "view_item", "purchase", "purchase"],
        }
    )
    with Workspace.open(tmp_path, create=True) as workspace:
        import_table(workspace, table, kind="events", source="shop")
        assert bought_together(workspace, "tea", limit=5, least=1) == []
