"""One BLAS thread for many small matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's matrix products on the calling thread inside the block.

    The products of one picture take one to three milliseconds on one thread. Shared between two threads on a busy
    machine they took ten times as much processor time, because each thread waits for the other by spinning.
    """
    from threadpoolctl import threadpool_limits  # of the extra train

    with threadpool_limits(limits=1, user_api="blas"):
        yield
