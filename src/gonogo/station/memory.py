"""Memory of this process, measured, and given back to the system after bundles were unloaded."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Return the resident memory of this process; ``None`` where the system does not say (other than Linux)."""
    try:
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return None


def give_back() -> None:
    """Free what is no longer referenced, and return it to the system: the C library would keep it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
