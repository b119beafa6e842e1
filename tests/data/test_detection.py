"""Detection of dates that could be read in two ways."""

import pytest

from momentary.data.detection import detect
from momentary.data.formats import read
from momentary.errors import DataError


def file_of(tmp_path, dates):
    path = tmp_path / "f.csv"
    path.write_text("user_id,item_id,date\n" + "".join(f"u,i,{date}\n" for date in dates))
    return path


@pytest.mark.parametrize(
    ("late", "day_first", "seconds"),
    [("13/1/2010", True, 1_265_155_200), ("1/13/2010", False, 1_267_488_000)],
)
def test_one_number_above_twelve_settles_the_column_however_late(
    tmp_path, late, day_first, seconds
):
    path = file_of(tmp_path, [*["3/2/2010 0:00"] * 5000, late])
    layout = detect(path)
    assert (layout.time_unit, layout.day_first) == ("dmy", day_first)
    (chunk,) = read(path, layout)
    assert chunk.rejects == []
    assert chunk.table["timestamp_us"][0].as_py() == seconds * 10**6


@pytest.mark.parametrize("dates", [["3/2/2010"], ["13/2/2010", "2/13/2010"]])
def test_dates_of_two_meanings_are_refused_with_the_remedy(tmp_path, dates):
    path = file_of(tmp_path, dates * 10)
    layout = detect(path)
    assert layout.day_first is None
    with pytest.raises(DataError, match="--day-first or --month-first"):
        read(path, layout)


def test_a_date_of_the_other_order_is_set_aside(tmp_path):
    path = file_of(tmp_path, ["25/12/2010", "31/12/2010", "12/24/2010x"])
    (chunk,) = read(path, detect(path))
    assert chunk.table.num_rows == 2
    (reject,) = chunk.rejects
    assert (reject.line, reject.code) == (4, "bad_time")
    assert "'12/24/2010x' is not readable among dates such as 31/12/2010" in reject.reason


def test_what_is_told_goes_before_the_guess(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("user,sku,sku2,seen,ts\nu,a,b,2020/01/31,1500000000\n")
    layout = detect(path, columns={"item_id": "sku2", "timestamp": "seen", "brand": "sku"})
    assert layout.columns == {"item_id": "sku2", "timestamp": "seen", "user_id": "user"}
    assert layout.time_unit == "ymd"


def test_a_column_that_is_told_is_taken_from_the_guess(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("user_id,item_id,ts\nv,a,1500000000\n")
    layout = detect(path, columns={"session_id": "user_id"})
    assert layout.columns["session_id"] == "user_id"
    assert "user_id" not in layout.columns
