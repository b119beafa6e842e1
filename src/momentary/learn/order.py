"""Orders that do not depend on how items happen to be numbered."""

from __future__ import annotations

import numpy as np

from momentary.types import IntArray


def first_appearance(items: IntArray, *, n_items: int) -> IntArray:
    """Number items by when they are first seen, so that renaming them changes nothing.

    Items that are never seen follow in the order of their indices; nothing tells them apart.

    Args:
        items: Item indices, oldest event first. Shape (events,).
        n_items: Items in the catalogue.

    Returns:
        The item index at each internal position, a permutation. Shape (items,).

    >>> first_appearance(np.array([3, 1, 3]), n_items=5).tolist()
    [3, 1, 0, 2, 4]
    """
    seen, first_event = np.unique(items, return_index=True)
    unseen = np.ones(n_items, dtype=np.bool_)
    unseen[seen] = False
    return np.concatenate([seen[np.argsort(first_event)], np.flatnonzero(unseen)]).astype(np.int64)


def inverse(permutation: IntArray) -> IntArray:
    """The permutation that undoes `permutation`. Shape (items,).

    >>> inverse(np.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    undone = np.empty_like(permutation)
    undone[permutation] = np.arange(len(permutation))
    return undone
