"""Tags that an item's name tells: "Blue T-shirt" is blue, though nobody filled the colour in.

A value is named where its words stand in a name side by side; hyphens, capitals and the s of a
plural make no difference. One inside a longer one does not count ("Navy Blue" is not "Blue"), and a
name that holds several values tells none. Names lie, too ("Red Tape" makes shoes), so what they
tell of an attribute is believed only if it is right for nearly all items whose tag is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from momentary.types import IntArray

LEAST_CHECKED = 20
"""Items with a tag and a named value; fewer do not show whether names can be believed."""

LEAST_RIGHT = 0.9
"""Share of them whose name must say what their tag says."""

_JOINED = re.compile(r"[-'\u2019]")
_WORD = re.compile(r"\w+", re.UNICODE)
_UNKNOWN = -1


def named_values(names: Sequence[str | None], values: Sequence[str]) -> IntArray:
    """The value that each name holds, by its place among `values`; -1 for none or several.

    >>> named_values(["T-shirt, blue", "Red ties", "Red and blue tie"], ["Blue", "Red"])
    array([ 0,  1, -1])
    """
    places: dict[tuple[str, ...], int] = {}
    for place, value in enumerate(values):
        words = _words(value)
        if words:
            # Two values of the same words are told apart by no name.
            places[words] = _UNKNOWN if words in places else place
    longest = max(map(len, places), default=0)
    found = [_named(_words(name or ""), places, longest=longest) for name in names]
    return np.array(found, dtype=np.int64)


def filled_by_name(codes: IntArray, names: Sequence[str | None], values: Sequence[str]) -> IntArray:
    """Tags with gaps filled by what names tell, where that can be believed. Shape (items,).

    Args:
        codes: Places among `values`, -1 where unknown. Shape (items,).
        names: Of the items.
        values: Of the attribute; "" is named by none.
    """
    named = named_values(names, values)
    both = (named >= 0) & (codes >= 0)
    right, checked = int((named[both] == codes[both]).sum()), int(both.sum())
    if checked < LEAST_CHECKED or right < LEAST_RIGHT * checked:
        return codes
    return np.where(codes < 0, named, codes)


def _named(words: tuple[str, ...], places: dict[tuple[str, ...], int], *, longest: int) -> int:
    """The one value that these words hold, the longest first, no word used twice."""
    free = [True] * len(words)
    held = set[int]()
    for width in range(min(longest, len(words)), 0, -1):
        for start in range(len(words) - width + 1):
            place = places.get(words[start : start + width])
            if place is not None and all(free[start : start + width]):
                free[start : start + width] = [False] * width
                held.add(place)
    return held.pop() if len(held) == 1 else _UNKNOWN


def _words(text: str) -> tuple[str, ...]:
    words = _WORD.findall(_JOINED.sub("", text.casefold()))
    return tuple(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words)
