"""What is known of items beside their pictures, from a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from momentary.errors import DataError
from momentary.moments.spells import ItemFacts


def item_facts(table: pa.Table) -> ItemFacts:
    """Facts to adjust for: `item_id`, `category` if there is one, and every column of numbers.

    Args:
        table: One row an item.

    Raises:
        DataError: If `item_id` is missing or names an item twice, or there are no rows.
    """
    if "item_id" not in table.column_names:
        raise DataError(f"The facts have no column item_id; they have {table.column_names}.")
    if not table.num_rows:
        raise DataError("The facts have no rows; give one row an item, or leave the facts out.")
    items = [str(each) for each in table["item_id"].to_pylist()]
    if len(set(items)) < len(items):
        raise DataError(
            f"The facts name {len(items) - len(set(items))} items twice; give one row an item."
        )
    names = [
        field.name
        for field in table.schema
        if field.name != "item_id"
        and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    ]
    columns = [table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]
    known = "category" in table.column_names
    categories = table["category"].to_pylist() if known else [None] * len(items)
    return ItemFacts(
        items=tuple(items),
        category=tuple("" if each is None else str(each) for each in categories),
        numbers=np.stack(columns, axis=1) if columns else np.empty((len(items), 0)),
        names=tuple(name.replace("_", " ") for name in names),
    )
