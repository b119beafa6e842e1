"""How files write times, and the microseconds since 1970 (UTC) that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from momentary.data.columns import as_mask, id_text, is_number, numbers
from momentary.types import BoolArray, IntArray

FIRST_US = 31_536_000_000_000
LAST_US = 4_102_444_800_000_000
"""Times outside 1971-01-01 .. 2100-01-01, in microseconds, are mistakes."""

NUMERIC_UNITS = {"s": 1_000_000.0, "ms": 1000.0, "us": 1.0, "ns": 0.001}
"""Numbers since 1970: the unit in microseconds."""

_CLOCK = (
    r"(?:(?: |T|, ?)(?P<hour>\d\d?):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?P<fraction>\.\d{1,9})?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?(?: ?UTC)?$"
)
_DATES = {
    "ymd": r"^(?P<year>\d{4})(?P<left>[/.\-]?)(?P<month>\d\d?)(?P<right>[/.\-]?)(?P<day>\d\d?)",
    "named": r"^(?P<day>\d\d?)(?P<left>[/.\- ])(?P<month>[A-Za-z]{3,9})(?P<right>[/.\- ])"
    r"(?P<year>\d{4})",
    "dmy": r"^(?P<day>\d\d?)(?P<left>[/.\-])(?P<month>\d\d?)(?P<right>[/.\-])(?P<year>\d{4})",
}
WRITTEN_UNITS = ("iso", *_DATES)
"""ISO 8601; 2010/12/31 or 20101231; 31-Dec-2010; 31/12/2010 or 12/31/2010. UTC without a zone."""

TIME_UNITS = (*NUMERIC_UNITS, *WRITTEN_UNITS, "native")
"""All the ways of writing times; "native" is Parquet's own type."""

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTH_WORDS = pa.array([*_MONTHS, *(name[:3] for name in _MONTHS), "sept"])
_MONTH_NUMBERS = np.array([*range(1, 13), *range(1, 13), 9], dtype=np.int64)


def in_words(unit: str, *, day_first: bool | None = None) -> str:
    """A unit for people.

    >>> in_words("dmy", day_first=True)
    'dates such as 31/12/2010'
    """
    if unit == "dmy" and day_first is None:
        return "dates such as 1/2/2010, day or month first"
    return {
        "s": "seconds",
        "ms": "milliseconds",
        "us": "microseconds",
        "ns": "nanoseconds",
        "iso": "ISO dates",
        "ymd": "dates such as 2010/12/31",
        "named": "dates such as 31-Dec-2010",
        "dmy": f"dates such as {'31/12/2010' if day_first else '12/31/2010'}",
        "native": "times of Parquet",
    }[unit]


def unit_of(values: Sequence[str | None], *, native: bool = False) -> str | None:
    """Decide how a column writes its times, by most of its values; None if none fits.

    Args:
        values: Some of the column as text. Shape (rows,).
        native: True if the file itself declares times.
    """
    if native:
        return "native"
    known = [value for value in values if value is not None]
    if not known:
        return None
    typical = [abs(float(value)) for value in known if is_number(value)]
    if len(typical) * 2 > len(known):
        unit = _magnitude(float(np.median(typical)))
        return unit or ("ymd" if _fits(known, "ymd") else None)
    return next((unit for unit in WRITTEN_UNITS if _fits(known, unit)), None)


def _magnitude(typical: float) -> str | None:
    """Between 1971 and 2100, seconds, milli-, micro- and nanoseconds do not overlap."""
    for unit, factor in NUMERIC_UNITS.items():
        if FIRST_US <= typical * factor < LAST_US:
            return unit
    return None


def _fits(known: Sequence[str], unit: str) -> bool:
    column = pa.array(known, pa.string())
    orders = (True, False) if unit == "dmy" else (None,)
    good = np.zeros(len(known), dtype=np.bool_)
    for day_first in orders:
        good |= ~micros(column, unit, day_first=day_first)[1]
    return int(good.sum()) * 2 > len(known)


def number_orders(column: pa.Array) -> set[bool]:
    """What the numbers of 31/12/2010 prove: True if days come first, False if months do.

    Empty when no number is above 12; both when the column mixes the two.
    """
    texts = pc.utf8_trim_whitespace(id_text(column).unique())
    parts = pc.extract_regex(texts, _DATES["dmy"] + _CLOCK)
    longest = {
        first: pc.max(pc.cast(pc.struct_field(parts, name), pa.int64())).as_py()
        for first, name in ((True, "day"), (False, "month"))
    }
    return {first for first, number in longest.items() if number is not None and number > 12}


def micros(
    column: pa.Array, unit: str, *, day_first: bool | None = None
) -> tuple[IntArray, BoolArray]:
    """Microseconds since 1970, and where there are none.

    Args:
        column: Texts, numbers or Parquet's own times. Shape (rows,).
        unit: One of `TIME_UNITS`.
        day_first: What 1/2/2010 means, for the unit "dmy".

    Returns:
        Times and a mask of the rows that are not readable. Shape (rows,) each.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return micros(column.dictionary_decode(), unit, day_first=day_first)
    if pa.types.is_date(kind):
        return micros(pc.cast(column, pa.timestamp("us")), unit)
    if pa.types.is_timestamp(kind):
        whole = pc.cast(column, pa.timestamp("us", tz=kind.tz), safe=False)
        return _whole(pc.cast(whole, pa.int64()))
    if unit in NUMERIC_UNITS:
        return _scaled(column, unit)
    text = pc.utf8_trim_whitespace(id_text(column))
    return _dates(text, unit, day_first=day_first) if unit in _DATES else _iso(text)


def _whole(times: pa.Array) -> tuple[IntArray, BoolArray]:
    values = pc.fill_null(times, 0).to_numpy(zero_copy_only=False)
    return values, as_mask(pc.is_null(times))


def _scaled(column: pa.Array, unit: str) -> tuple[IntArray, BoolArray]:
    """Numbers in `unit`; whole numbers stay exact."""
    try:
        whole = pc.cast(column if pa.types.is_integer(column.type) else id_text(column), pa.int64())
    except pa.ArrowInvalid:
        found, bad = numbers(column)
        floats = pc.fill_null(found, 0.0).to_numpy(zero_copy_only=False) * NUMERIC_UNITS[unit]
        bad = bad | as_mask(pc.is_null(found))
        # Beyond int64 a number is out of range whatever its sign: keep it readable, at 0.
        fits = np.abs(floats) < 2.0**62
        return np.where(fits, np.round(np.where(fits, floats, 0.0)), 0).astype(np.int64), bad
    values, bad = _whole(whole)
    if unit == "ns":
        return values // 1000, bad
    factor = int(NUMERIC_UNITS[unit])
    fits = np.abs(values) <= 2**62 // factor
    return np.where(fits, values, 0) * factor, bad


_ZONE = r"\d(Z|z|[+-]\d\d:?\d\d|[+-]\d\d)$"


def _iso(text: pa.Array) -> tuple[IntArray, BoolArray]:
    """ISO dates; no zone means UTC."""
    utc = pc.replace_substring_regex(text, r" ?UTC$", "")
    zoned = pc.and_(pc.match_substring_regex(utc, _ZONE), pc.greater(pc.binary_length(utc), 12))
    try:
        with_zone = pc.cast(pc.if_else(zoned, utc, None), pa.timestamp("ns", "UTC"))
        without = pc.cast(pc.if_else(zoned, None, utc), pa.timestamp("ns"))
    except pa.ArrowInvalid:
        values = [_iso_us(value) for value in utc.to_pylist()]
        return _whole(pa.array(values, pa.int64()))
    ns = pc.coalesce(pc.cast(with_zone, pa.int64()), pc.cast(without, pa.int64()))
    times, bad = _whole(ns)
    return times // 1000, bad


def _iso_us(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _dates(text: pa.Array, unit: str, *, day_first: bool | None) -> tuple[IntArray, BoolArray]:
    """Other dates. A log repeats its minutes, so each different text is read once."""
    encoded = text.dictionary_encode()
    parts = pc.extract_regex(encoded.dictionary, _DATES[unit] + _CLOCK)
    fields = {part.name: pc.struct_field(parts, part.name) for part in parts.type}
    if unit == "dmy" and day_first is False:
        fields["day"], fields["month"] = fields["month"], fields["day"]
    days, good = _days(fields)
    times, on_time = _time_of_day(fields)
    good &= on_time & ~as_mask(pc.is_null(parts))
    known = pa.array(days * 86_400_000_000 + times, mask=~good)
    return _whole(pc.take(known, encoded.indices))


def _integers(texts: pa.Array) -> IntArray:
    """Digits as numbers, nothing as 0."""
    digits = pc.if_else(pc.equal(texts, ""), "0", texts)
    return np.array(pc.fill_null(pc.cast(digits, pa.int64()), 0).to_numpy(zero_copy_only=False))


def _days(fields: dict[str, pa.Array]) -> tuple[IntArray, BoolArray]:
    """Days since 1970, and where there is such a day."""
    year, day = _integers(fields["year"]), _integers(fields["day"])
    if pc.any(pc.match_substring_regex(fields["month"], "[A-Za-z]")).as_py():
        month = _named_months(fields["month"])
    else:
        month = _integers(fields["month"])
    # 2010121 could be two dates: without marks between them both numbers need two digits.
    packed = pc.and_(pc.equal(fields["left"], ""), _shorter(fields["month"], fields["day"]))
    good = as_mask(pc.equal(fields["left"], fields["right"])) & ~as_mask(packed)
    good &= (month >= 1) & (month <= 12) & (day >= 1)
    first = ((year - 1970) * 12 + np.where(good, month, 1) - 1).astype("datetime64[M]")
    starts = first.astype("datetime64[D]").astype(np.int64)
    length = (first + 1).astype("datetime64[D]").astype(np.int64) - starts
    return starts + day - 1, good & (day <= length)


def _shorter(month: pa.Array, day: pa.Array) -> pa.Array:
    return pc.less(pc.add(pc.binary_length(month), pc.binary_length(day)), 4)


def _named_months(names: pa.Array) -> IntArray:
    places = pc.index_in(pc.utf8_lower(names), value_set=_MONTH_WORDS)
    found = pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
    return np.where(found >= 0, _MONTH_NUMBERS[found], 0)


def _time_of_day(fields: dict[str, pa.Array]) -> tuple[IntArray, BoolArray]:
    """Microseconds since midnight, and where there is such a time."""
    hour, minute, second = (_integers(fields[name]) for name in ("hour", "minute", "second"))
    half = pc.utf8_lower(fields["half"])
    halved = as_mask(pc.not_equal(half, ""))
    good = np.where(halved, (hour >= 1) & (hour <= 12), hour < 24) & (minute < 60) & (second < 60)
    hours = np.where(halved, hour % 12 + 12 * as_mask(pc.equal(half, "p")), hour)
    digits = pc.utf8_slice_codeunits(pc.utf8_rpad(fields["fraction"], 7, padding="0"), 1, 7)
    return ((hours * 60 + minute) * 60 + second) * 1_000_000 + _integers(digits), good
