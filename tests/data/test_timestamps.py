"""Times: every way of writing them is recognised, read exactly, and refused when it is none."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data.timestamps import in_words, micros, number_orders, unit_of

MINUTE = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
DAY = datetime(2010, 12, 1, tzinfo=UTC)
FIRST = datetime(1971, 1, 1, tzinfo=UTC).replace(tzinfo=None)
LAST = datetime(2099, 12, 31, tzinfo=UTC).replace(tzinfo=None)


def us(moment):
    return int(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "unit", "day_first", "moment"),
    [
        ("12/1/2010 8:26", "dmy", False, MINUTE),
        ("01.12.2010 08:26", "dmy", True, MINUTE),
        ("1-12-2010", "dmy", True, DAY),
        ("12/1/2010 8:26:00 AM", "dmy", False, MINUTE),
        ("12/1/2010 8:26 p.m.", "dmy", False, MINUTE.replace(hour=20)),
        ("12/1/2010 12:05 am", "dmy", False, MINUTE.replace(hour=0, minute=5)),
        ("2010/12/01", "ymd", None, DAY),
        ("2010/12/1 8:26", "ymd", None, MINUTE),
        ("2010-12-1 8:26", "ymd", None, MINUTE),
        ("20101201", "ymd", None, DAY),
        ("20101201 08:26", "iso", None, MINUTE),
        ("01-Dec-2010", "named", None, DAY),
        ("1 december 2010, 8:26 UTC", "named", None, MINUTE),
        ("01-DEC-2010 08:26:00", "named", None, MINUTE),
        ("2010-12-01T08:26:00Z", "iso", None, MINUTE),
        (str(us(MINUTE) // 1000), "ms", None, MINUTE),
    ],
)
def test_a_way_of_writing_is_recognised_and_read(text, unit, day_first, moment):
    assert unit_of([text, None]) == unit
    times, bad = micros(pa.array([text, None]), unit, day_first=day_first)
    assert bad.tolist() == [False, True]
    assert times[0] == us(moment)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("31/4/2010", "dmy"),
        ("29.2.2011", "dmy"),
        ("1/12.2010", "dmy"),
        ("1/12/10", "dmy"),
        ("1/12/2010 24:00", "dmy"),
        ("1/12/2010 13:00 pm", "dmy"),
        ("1/12/2010 8:26 tomorrow", "dmy"),
        ("2010121", "ymd"),
        ("20101301", "ymd"),
        ("2010/1201", "ymd"),
        ("01-Dez-2010", "named"),
        ("", "named"),
    ],
)
def test_what_is_no_date_is_refused(text, unit):
    _, bad = micros(pa.array([text]), unit, day_first=True)
    assert bad.tolist() == [True]


def test_packed_days_are_read_from_numbers_and_from_floats():
    for column in (pa.array([20101201, None]), pa.array([20101201.0, np.nan])):
        times, bad = micros(column, "ymd")
        assert bad.tolist() == [False, True]
        assert times[0] == us(DAY)


def test_no_way_of_writing_fits_words_and_strange_numbers():
    assert unit_of(["soon", "later"]) is None
    assert unit_of(["7", "19", "250"]) is None
    assert unit_of([None, None]) is None
    assert unit_of(["soon"], native=True) == "native"


def test_the_unit_is_what_most_of_the_column_says():
    assert unit_of(["1/2/2010", "13/2/2010", "soon"]) == "dmy"
    assert unit_of(["2010-12-01", "2010-12-02", "soon"]) == "iso"


def test_numbers_above_twelve_tell_days_from_months():
    assert number_orders(pa.array(["1/2/2010", "12/12/2010 8:00", "x"])) == set()
    assert number_orders(pa.array(["1/2/2010", "13/2/2010"])) == {True}
    assert number_orders(pa.array(["1/2/2010", "2/13/2010"])) == {False}
    assert number_orders(pa.array(["13/2/2010", "2/13/2010"])) == {True, False}
    assert number_orders(pa.array([], pa.string())) == set()


def test_units_have_words():
    assert in_words("dmy", day_first=False) == "dates such as 12/31/2010"
    assert "1/2/2010" in in_words("dmy")


@settings(max_examples=60, deadline=None)
@given(
    moment=st.datetimes(FIRST, LAST),
    written=st.sampled_from(
        [
            ("dmy", True, "%d/%m/%Y %H:%M:%S.%f"),
            ("dmy", False, "%m/%d/%Y %I:%M:%S.%f %p"),
            ("ymd", None, "%Y/%m/%d %H:%M:%S.%f"),
            ("ymd", None, "%Y%m%d %H:%M:%S.%f"),
            ("named", None, "%d-%b-%Y %H:%M:%S.%f"),
        ]
    ),
)
def test_any_moment_comes_back(moment, written):
    unit, day_first, pattern = written
    times, bad = micros(pa.array([moment.strftime(pattern)]), unit, day_first=day_first)
    exact = int(moment.replace(microsecond=0, tzinfo=UTC).timestamp()) * 10**6 + moment.microsecond
    assert not bad.any()
    assert times.tolist() == [exact]
