"""How many cores one computation may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch on one thread inside the block.

    At the shapes of a session model a second thread gains little on a quiet machine and slows a
    busy one many times over; more cores are used by more workers.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
