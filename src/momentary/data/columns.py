"""Arrow columns of any type as texts, numbers and plain values."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from momentary.types import BoolArray

_BLANK = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_NOT_A_NUMBER = object()


def as_mask(values: pa.Array) -> BoolArray:
    """Arrow booleans as NumPy's; null is False."""
    return cast(
        BoolArray, pc.coalesce(values, pa.scalar(value=False)).to_numpy(zero_copy_only=False)
    )


def any_text(column: pa.Array) -> pa.Array:
    """Any column as strings, nested ones through Python."""
    try:
        return _valid_text(pc.cast(column, pa.string()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return pa.array([None if value is None else str(value) for value in column], pa.string())


def _valid_text(column: pa.Array) -> pa.Array:
    """The column, with U+FFFD where Parquet held bytes that are no UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raw = pc.cast(column, pa.binary()).to_pylist()
        texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
        return pa.array(texts, pa.string())
    return column


def id_text(column: pa.Array) -> pa.Array:
    """A column as ids and words: empty is null, and the float 17850.0 is 17850."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return id_text(column.dictionary_decode())
    if pa.types.is_floating(kind):
        return _float_text(column)
    text = any_text(column)
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def _float_text(column: pa.Array) -> pa.Array:
    """Ids that a table tool turned into floats: 17850.0 is 17850, NaN is null."""
    known = pc.if_else(pc.is_nan(column), None, column)
    whole = pc.all(pc.equal(pc.floor(known), known)).as_py()
    small = pc.max(pc.abs(known)).as_py()
    if whole and small is not None and small < 2**53:
        known = pc.cast(known, pa.int64())
    return pc.cast(known, pa.string())


def is_number(text: str | None) -> bool:
    """True for a finite number; "NA" and the like are none."""
    return isinstance(_number(text), float)


def _number(text: str | None) -> float | object | None:
    if text is None or text.strip().lower() in _BLANK:
        return None
    try:
        value = float(text)
    except ValueError:
        return _NOT_A_NUMBER
    return value if math.isfinite(value) and "_" not in text else _NOT_A_NUMBER


def numbers(column: pa.Array) -> tuple[pa.Array, BoolArray]:
    """A column as float64 with nulls, and where it holds something else. Shape (rows,) each."""
    if pa.types.is_dictionary(column.type):
        return numbers(column.dictionary_decode())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        floats = pc.cast(column, pa.float64(), safe=False)
        floats = pc.if_else(pc.is_nan(floats), None, floats)
        return floats, as_mask(pc.is_inf(floats))
    text = id_text(column)
    try:
        floats = pc.cast(text, pa.float64())
        if as_mask(pc.is_finite(floats)).sum() == len(floats) - floats.null_count:
            return floats, np.zeros(len(floats), dtype=np.bool_)
    except pa.ArrowInvalid:
        pass
    values = [_number(value) for value in text.to_pylist()]
    bad = np.array([value is _NOT_A_NUMBER for value in values], dtype=np.bool_)
    kept = [None if value is _NOT_A_NUMBER else value for value in values]
    return pa.array(kept, pa.float64()), bad


def plain_values(column: pa.Array) -> list[Any]:
    """Python values that JSON knows; other types (times, decimals, lists) as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_values(column.dictionary_decode())
    if pa.types.is_floating(kind):
        return list(pc.if_else(pc.is_nan(column), None, column).to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(column.to_pylist())
    return list(any_text(column).to_pylist())
