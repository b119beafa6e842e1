import json

import numpy as np
import pyarrow as pa
import pytest

from momentary.errors import DataError
from momentary.moments.exposures import ExposureConfig, collect

HOUR = 3_600_000_000
DAY = 24 * HOUR
VERSIONS = pa.table(
    {
        "item_id": ["tea", "tea", "cup"],
        "picture": ["tea-old", "tea-new", "cup-one"],
        "since_us": [0, 10 * DAY, 0],
    }
)


def log(*events):
    columns = ("event_type", "item_id", "timestamp_us", "user_id", "position", "value", "price")
    rows = [dict(zip(columns, [*each, *[None] * 7], strict=False)) for each in events]
    extra = [each[7] if len(each) > 7 else None for each in events]
    return pa.table(
        {
            "event_type": pa.array([r["event_type"] for r in rows], pa.string()),
            "item_id": pa.array([r["item_id"] for r in rows], pa.string()),
            "timestamp_us": pa.array([r["timestamp_us"] for r in rows], pa.int64()),
            "user_id": pa.array([r["user_id"] for r in rows], pa.string()),
            "anonymous_id": pa.array([None] * len(rows), pa.string()),
            "session_id": pa.array([None] * len(rows), pa.string()),
            "position": pa.array([r["position"] for r in rows], pa.int64()),
            "value": pa.array([r["value"] for r in rows], pa.float64()),
            "price": pa.array([r["price"] for r in rows], pa.float64()),
            "properties": pa.array([json.dumps(e) if e else None for e in extra], pa.string()),
        }
    )


def cell(spells, name, item, picture):
    rows = (spells.item == spells.items.index(item)) & (
        spells.picture == spells.pictures.index(picture)
    )
    return float(spells.counts[name][rows].sum())


def test_a_click_counts_for_the_picture_that_was_seen():
    """The picture changes between the view and the purchase; the purchase belongs to the view."""
    spells = collect(
        log(
            ("view_item_list", "tea", 10 * DAY - HOUR, "ann", 0),
            ("select_item", "tea", 10 * DAY - HOUR + 1, "ann"),
            ("purchase", "tea", 10 * DAY + HOUR, "ann"),
            ("view_item_list", "tea", 11 * DAY, "bob", 0),
            ("view_item_list", "tea", 11 * DAY, "cid", 0),
            ("select_item", "tea", 11 * DAY + 1, "cid"),
        ),
        VERSIONS,
    )
    assert cell(spells, "click", "tea", "tea-old") == 1
    assert cell(spells, "purchase", "tea", "tea-old") == 1
    assert cell(spells, "click", "tea", "tea-new") == 1
    assert cell(spells, "purchase", "tea", "tea-new") == 0
    assert spells.exposure["impression"].sum() == 3


def test_what_comes_after_a_purchase_counts_for_its_picture():
    spells = collect(
        log(
            ("view_item_list", "tea", DAY, "ann", 0),
            ("purchase", "tea", DAY + 1, "ann"),
            ("rate", "tea", 12 * DAY, "ann", None, 5.0),
            ("rate", "tea", 12 * DAY, "ann", None, 2.0),
            ("review", "tea", 12 * DAY, "ann"),
            ("share", "tea", 12 * DAY, "ann"),
            ("refund", "tea", 12 * DAY, "ann"),
            ("purchase", "tea", 13 * DAY, "ann"),
            ("rate", "cup", 13 * DAY, "ann", None, 5.0),
        ),
        VERSIONS,
    )
    for name in ("rating", "review", "share", "return", "repurchase"):
        assert cell(spells, name, "tea", "tea-old") == 1, name
        assert cell(spells, name, "tea", "tea-new") == 0, name
    assert "cup" not in spells.items
    assert spells.exposure["purchase"].sum() == 2


def test_research_is_a_detail_view_after_a_search_that_lasted():
    spells = collect(
        log(
            ("search", "cup", DAY, "ann"),
            ("view_item", "cup", DAY + 1, "ann", None, None, None, {"dwell_s": 30}),
            ("search", "cup", DAY, "bob"),
            ("view_item", "cup", DAY + 1, "bob", None, None, None, {"dwell_s": 1}),
        ),
        VERSIONS,
    )
    assert spells.counts["detail"].sum() == 1
    assert spells.exposure["research view"].sum() == 2


def test_a_late_purchase_is_not_laid_to_the_view():
    shown = ("view_item_list", "cup", DAY, "ann", 0)
    late = ("purchase", "cup", 3 * DAY, "ann")
    assert collect(log(shown, late), VERSIONS).counts["purchase"].sum() == 0
    longer = ExposureConfig(view_hours=72)
    assert collect(log(shown, late), VERSIONS, config=longer).counts["purchase"].sum() == 1


def test_a_named_picture_wins_over_the_calendar_and_chance_is_remembered():
    drawn = {"picture": "tea-new", "randomized": True}
    spells = collect(
        log(
            ("view_item_list", "tea", DAY, "ann", 0, None, 2.0, drawn),
            ("select_item", "tea", DAY + 1, "ann"),
            ("view_item_list", "tea", DAY, "bob", 0, None, 4.0),
        ),
        VERSIONS,
    )
    assert cell(spells, "click", "tea", "tea-new") == 1
    assert spells.randomized.tolist().count(True) == 1
    assert spells.names == ("log price",)
    assert sorted(spells.numbers[:, 0].tolist()) == pytest.approx([np.log(2), np.log(4)])


def test_examination_is_found_from_items_at_several_positions():
    rng = np.random.default_rng(0)
    true = np.array([1.0, 0.6, 0.4])
    events = []
    for user in range(12_000):
        item = ("tea", "cup")[user % 2]
        # Cups sell better and stand higher: plain click rates would exaggerate the first position.
        pull, chance = (0.3, [0.2, 0.3, 0.5]) if item == "tea" else (0.6, [0.5, 0.3, 0.2])
        position = int(rng.choice(3, p=chance))
        events.append(("view_item_list", item, DAY + user, f"u{user}", position))
        if rng.random() < pull * true[position]:
            events.append(("select_item", item, DAY + user + 1, f"u{user}"))
    spells = collect(log(*events), VERSIONS)
    assert np.allclose(spells.examination, true, atol=0.06)
    expected = sum(true[e[4]] for e in events if e[0] == "view_item_list")
    assert spells.exposure["impression"].sum() == pytest.approx(expected, rel=0.05)


def test_a_log_of_other_items_is_refused():
    with pytest.raises(DataError, match="known picture"):
        collect(log(("view_item_list", "pot", DAY, "ann", 0)), VERSIONS)
    with pytest.raises(DataError, match="since_us"):
        collect(log(("view_item_list", "tea", DAY, "ann", 0)), VERSIONS.drop_columns(["since_us"]))
