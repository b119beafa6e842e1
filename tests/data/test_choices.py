"""Corrections from the caller: applied where they fit, refused where nothing fits."""

import pytest

from momentary.data.choices import choose
from momentary.data.formats import read
from momentary.errors import DataError, SettingsError

FILES = {
    "clicks.csv": "who,sku,seen\nu,a,1500000000000\n",
    "typed.csv": "user_id,item_id,ts,event\nu,a,1500000000,view\n",
    "orders.csv": "user_id,item_id,date\nu,a,1/2/2010\n",
    "plain.csv": "session_id,item_id\ns,a\n",
    "items.csv": "sku,title,prize\na,A,3\n",
    "ga4.jsonl": '{"event_name": "view_item", "event_timestamp": 1, "user_id": "u", "items": []}\n',
}


@pytest.fixture
def shop(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return {name.partition(".")[0]: tmp_path / name for name in FILES}


def test_without_corrections_files_are_detected(shop):
    layouts = choose(shop.values())
    assert list(layouts) == list(shop.values())
    assert layouts[shop["items"]].kind == "items"
    assert layouts[shop["ga4"]].name == "ga4"


def test_a_column_goes_to_the_files_that_have_it(shop):
    columns = {"user_id": "who", "timestamp": "seen", "item_id": "sku", "price": "prize"}
    layouts = choose([shop["clicks"], shop["typed"], shop["items"]], columns=columns)
    clicks = layouts[shop["clicks"]]
    assert clicks.columns == {"user_id": "who", "timestamp": "seen", "item_id": "sku"}
    assert clicks.time_unit == "ms"
    assert layouts[shop["typed"]].columns["item_id"] == "item_id"
    items = layouts[shop["items"]]
    assert (items.columns["price"], items.properties) == ("prize", ())
    (chunk,) = read(shop["clicks"], clicks)
    assert chunk.table["timestamp_us"].to_pylist() == [1_500_000_000_000_000]


def test_columns_and_fields_that_do_not_exist_are_refused(shop):
    with pytest.raises(SettingsError, match=r"no field is called 'sku'.* item_id"):
        choose([shop["clicks"]], columns={"sku": "item_id"})
    with pytest.raises(DataError, match=r"no file has a column 'skew'.*clicks.csv has who, sku"):
        choose([shop["clicks"], shop["items"]], columns={"item_id": "skew"})
    with pytest.raises(DataError, match=r"items.csv \(items\) has a column 'prize' but no use"):
        choose([shop["items"]], columns={"quantity": "prize"})
    with pytest.raises(DataError, match=r"ga4.jsonl \(events\).*'event_name'"):
        choose([shop["ga4"]], columns={"session_id": "event_name"})


def test_a_type_is_for_files_that_name_none(shop):
    paths = [shop["orders"], shop["typed"], shop["items"]]
    layouts = choose(paths, event_type="purchase")
    assert [layouts[path].default_type for path in paths] == ["purchase", None, None]
    with pytest.raises(DataError, match=r"typed.csv \(column 'event'\) names its own"):
        choose([shop["typed"], shop["items"]], event_type="purchase")
    with pytest.raises(DataError, match="no file holds events"):
        choose([shop["items"]], event_type="purchase")
    with pytest.raises(SettingsError, match=r"event type is 'dance'; .*view_item"):
        choose([shop["orders"]], event_type="dance")


def test_order_is_for_files_without_readable_times(shop):
    paths = [shop["plain"], shop["typed"], shop["orders"]]
    layouts = choose(paths, order_as_time=True)
    assert [layouts[path].order_as_time for path in paths] == [True, False, True]
    (chunk,) = read(shop["plain"], layouts[shop["plain"]])
    assert chunk.table["timestamp_us"].to_pylist() == [2_000_000]
    with pytest.raises(DataError, match=r"typed.csv \(column 'ts'\) has times"):
        choose([shop["typed"], shop["items"]], order_as_time=True)


@pytest.mark.parametrize(("day_first", "seconds"), [(True, 1264982400), (False, 1262390400)])
def test_dates_of_two_meanings_are_settled(shop, day_first, seconds):
    layouts = choose([shop["orders"], shop["typed"]], day_first=day_first)
    (chunk,) = read(shop["orders"], layouts[shop["orders"]])
    assert chunk.table["timestamp_us"].to_pylist() == [seconds * 10**6]
    assert layouts[shop["typed"]].day_first is None


def test_a_file_that_tells_its_order_keeps_it(shop, tmp_path):
    american = tmp_path / "american.csv"
    american.write_text(FILES["orders.csv"] + "u,a,2/13/2010\n")
    layouts = choose([shop["orders"], american], day_first=True)
    assert [layouts[path].day_first for path in (shop["orders"], american)] == [True, False]
    with pytest.raises(DataError, match=r"american.csv begin with the month.*leave --day-first"):
        choose([american], day_first=True)
    assert choose([american], day_first=False)[american].day_first is False


def test_day_first_without_such_dates_is_refused(shop):
    with pytest.raises(DataError, match="leave --day-first and --month-first out"):
        choose([shop["typed"]], day_first=True)
