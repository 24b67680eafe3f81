"""Limits BLAS to one thread for many small matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's matrix products on the calling thread inside the block.

    The products of one picture take one to three milliseconds on one thread. With two threads on a busy machine they
    took ten times as much processor time, because each thread spins while it waits for the other.
    """
    from threadpoolctl import threadpool_limits  # installed by the extra "train"

    with threadpool_limits(limits=1, user_api="blas"):
        yield
