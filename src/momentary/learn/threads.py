"""How many cores one computation may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg.cython_blas  # noqa: F401 - the products of compiled code; limited, too
from threadpoolctl import ThreadpoolController

_KEPT: list[bool] = []  # not empty once this process keeps to one thread


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's matrix products on one thread inside the block.

    At the shapes of a session model a second thread gains little on a quiet machine and slows a
    busy one many times over; more cores are used by more workers.
    """
    if _KEPT:
        # Looking after it costs as much as a request's other arithmetic.
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


def keep_one_blas_thread() -> None:
    """Keep them on one thread for good, as a process does that answers many at once."""
    _libraries().limit(limits=1, user_api="blas")
    _KEPT.append(True)


@cache
def _libraries() -> ThreadpoolController:
    """Finding the libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()
