"""One BLAS thread for many small matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's matrix products on the calling thread inside the block.

    The products of one picture take a millisecond. Shared between threads they take no less on an idle machine and ten
    times as much on a busy one, where each thread waits for the others by spinning.
    """
    from threadpoolctl import threadpool_limits  # of the extra train

    with threadpool_limits(limits=1, user_api="blas"):
        yield
