"""Who is who, without the names: 64 bits of each one's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from momentary.types import IntArray


@dataclass(frozen=True, slots=True)
class Names:
    """A fixed list of names by their digests; the index of a name is its place on the list.

    >>> Names.of(["u:zoe", "u:max"]).places(["u:max", "u:eva"]).tolist()
    [1, -1]
    """

    digests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    _ascending: IntArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ascending", np.argsort(self.digests))

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        """The list of these names."""
        return cls(_digests(names))

    def places(self, names: Sequence[str]) -> IntArray:
        """The indices of names, -1 for those that are not on the list. Shape (names,)."""
        wanted = _digests(names)
        if not len(self.digests):
            return np.full(len(wanted), -1, dtype=np.int64)
        found = np.searchsorted(self.digests, wanted, sorter=self._ascending)
        at = self._ascending[np.minimum(found, len(self.digests) - 1)]
        return np.where(self.digests[at] == wanted, at, -1)


def _digests(names: Sequence[str]) -> NDArray[np.uint64]:
    joined = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)
