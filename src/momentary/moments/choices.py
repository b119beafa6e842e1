"""A long table of choices, one row an alternative, as the decision model wants them."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.moments.decision import Choices

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
_NEEDED = ("person", "choice", "chosen", "brand", "category", "price", "position")


def choices_of(rows: pa.Table, *, image: Sequence[str], visual: Sequence[str] = ()) -> Choices:
    """Stack alternatives into choice sets; loyalty is the brand that the person chose last.

    Args:
        rows: Columns person, choice (ascending in time for a person), chosen (1 for the one that
            was chosen, else 0), brand, category, price, position (from 0), and those named below.
        image: Columns of the momentary image; each is put in standard deviations.
        visual: Columns in which long-term taste may differ; those of `image` if none is named.

    Raises:
        DataError: If there are no rows, a column is missing or holds no numbers, a choice set has
            not exactly one chosen alternative, or the sets differ in size.
    """
    wanted = (*image, *visual)
    missing = [name for name in (*_NEEDED, *wanted) if name not in rows.column_names]
    if missing:
        raise DataError(f"The choices have no column {missing[0]!r}; {', '.join(_NEEDED)} and the "
                        "image columns are needed.")  # fmt: skip
    if not rows.num_rows:
        raise DataError("The choices have no rows; give one row an alternative of each choice.")
    for name in ("chosen", "price", "position", *wanted):
        kind = rows.schema.field(name).type
        if not any(is_kind(kind) for is_kind in _NUMBERS):
            raise DataError(f"Column {name!r} of the choices holds {kind}; it must hold numbers.")
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.execute("FROM rows ORDER BY person, choice, position").fetchnumpy()
    sets = np.unique(_codes(found["person"]) * (1 + _codes(found["choice"]).max())
                     + _codes(found["choice"]), return_inverse=True)[1]  # fmt: skip
    sizes = np.bincount(sets)
    width = int(sizes[0])
    if (sizes != width).any():
        raise DataError(
            f"The choice sets have {sizes.min()} to {sizes.max()} alternatives; give all the same "
            "number, such as the first ten shown."
        )
    square = {name: found[name].reshape(-1, width) for name in _NEEDED}
    chosen = square["chosen"].astype(np.int64)
    if (chosen.sum(axis=1) != 1).any():
        raise DataError("A choice set has none or several chosen alternatives; give exactly one.")
    person, at = _codes(square["person"][:, 0]), chosen.argmax(axis=1)
    brand = _codes(found["brand"]).reshape(-1, width)
    bought = brand[np.arange(len(at)), at]
    again = np.concatenate([[False], person[1:] == person[:-1]])
    last = np.where(again, np.concatenate([[-1], bought[:-1]]), -1)
    return Choices(
        person=person,
        chosen=at.astype(np.int64),
        brand=brand,
        category=_codes(found["category"]).reshape(-1, width),
        loyalty=(brand == last[:, None]).astype(np.float64),
        price=square["price"].astype(np.float64),
        position=np.log1p(square["position"].astype(np.float64)),
        image=_standard(found, image, width),
        visual=_standard(found, visual or image, width),
        image_names=tuple(image),
    )


def _codes(values: NDArray[np.object_]) -> NDArray[np.int64]:
    return np.asarray(np.unique(values, return_inverse=True)[1].ravel(), dtype=np.int64)


def _standard(
    found: dict[str, NDArray[np.float64]], names: Sequence[str], width: int
) -> NDArray[np.float64]:
    values = np.stack([found[name].astype(np.float64) for name in names], axis=1)
    spread = values.std(axis=0)
    return np.asarray(
        ((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)).reshape(
            -1, width, len(names)
        )
    )
