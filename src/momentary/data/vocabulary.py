"""Outside ids, which are strings of any form, to item indices 0..n-1 and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from momentary.types import IntArray, ObjectArray


class Vocabulary:
    """A fixed list of ids; the index of an id is its place on the list.

    There is no padding id: an unknown id is -1, and -1 is never an item.

    >>> vocabulary = Vocabulary(["tea", "milk/1 l"])
    >>> vocabulary.indices(["milk/1 l", "coffee"]).tolist()
    [1, -1]
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = tuple(ids)
        self._index = {outside: index for index, outside in enumerate(self._ids)}
        if len(self._index) != len(self._ids):
            twice = next(each for index, each in enumerate(self._ids) if self._index[each] != index)
            raise ValueError(f"id {twice!r} is on the list twice; give each id once.")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, outside: object) -> bool:
        return outside in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, in the order of their indices."""
        return self._ids

    def index(self, outside: str) -> int:
        """The index of one id, -1 if it is unknown."""
        return self._index.get(outside, -1)

    def indices(self, outside: Sequence[str]) -> IntArray:
        """The indices of many ids, -1 where unknown. Shape (ids,)."""
        return np.fromiter(
            (self._index.get(each, -1) for each in outside), dtype=np.int64, count=len(outside)
        )

    def array(self) -> ObjectArray:
        """All ids as an array of objects. Shape (ids,)."""
        out = np.empty(len(self._ids), dtype=object)
        out[:] = self._ids
        return out
