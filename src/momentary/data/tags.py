"""An item's attributes as one sparse vector: which values it shares with others.

Weinberger et al., "Feature hashing for large scale multitask learning" (ICML 2009): a value's place
is its hash, so that a value which nobody has seen needs no new column.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from momentary.types import Item

if TYPE_CHECKING:
    from scipy.sparse import csr_array

TAGS = "tags"
"""The view of the items' attributes."""

WIDTH = 1 << 15
_LONGEST = 60
_SEPARATORS = re.compile(r"\s*[|;,/>]\s*")


def tags_of(item: Item) -> list[str]:
    """An item's values as "name=value"; lists and "a|b" give several, numbers and prose none.

    >>> tags_of(Item(item_id="1", brand="Kiln", properties={"genres": "Drama|War", "votes": 7}))
    ['brand=kiln', 'genres=drama', 'genres=war']
    """
    named: list[tuple[str, object]] = [
        ("brand", item.brand),
        ("category", item.category),
        ("group_id", item.group_id),
        *(item.properties or {}).items(),
    ]
    found = []
    for name, value in named:
        values = value if isinstance(value, (list, tuple)) else [value]
        for each in values:
            if isinstance(each, bool):
                found.append(f"{name}={str(each).lower()}")
            elif isinstance(each, str) and 0 < len(each) <= _LONGEST:
                parts = [part for part in _SEPARATORS.split(each.casefold().strip()) if part]
                found += [f"{name}={part}" for part in parts]
    return list(dict.fromkeys(found))


def tag_rows(items: Sequence[Item]) -> csr_array:
    """One row an item, of length 1, or of zeros where it has no tag. Shape (items, WIDTH)."""
    # A service pays for SciPy only where new items are placed.
    from scipy.sparse import csr_array

    columns, offsets, values = [], [0], []
    for item in items:
        own = sorted({zlib.crc32(tag.encode()) % WIDTH for tag in tags_of(item)})
        columns += own
        values += [1 / max(len(own), 1) ** 0.5] * len(own)
        offsets.append(len(columns))
    return csr_array(
        (
            np.array(values, dtype=np.float32),
            np.array(columns, dtype=np.int64),
            np.array(offsets, dtype=np.int64),
        ),
        shape=(len(items), WIDTH),
    )
