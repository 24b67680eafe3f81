"""From the start of a process to its first verdict, and the memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo.errors import GonogoError

WARM_STARTS = 5
COLD_STARTS = 3


@dataclass(frozen=True, kw_only=True)
class Start:
    """Medians over several starts of ``gonogo inspect BUNDLE PHOTO``."""

    first_verdict_s: float
    """With the compiled graph in the cache."""
    first_verdict_cold_s: float
    """With an empty cache."""
    rss_mb: float
    """Largest resident memory of a warm start, in MiB."""


def measure_start(bundle: Path, photo: Path, scratch: Path) -> Start:
    """Start the command as a line would, several times, and wait for its first line.

    Args:
        bundle: The inspector; its golden frames are replayed at every start.
        photo: A picture it can judge.
        scratch: An empty folder for the caches.

    Raises:
        GonogoError: the command failed.
    """
    cold = [_start(bundle, photo, scratch / f"cold-{number}")[0] for number in range(COLD_STARTS)]
    warm = [_start(bundle, photo, scratch / "cold-0") for _ in range(WARM_STARTS)]
    return Start(
        first_verdict_s=float(np.median([seconds for seconds, _ in warm])),
        first_verdict_cold_s=float(np.median(cold)),
        rss_mb=float(np.median([mib for _, mib in warm])),
    )


def _start(bundle: Path, photo: Path, cache: Path) -> tuple[float, float]:
    """Seconds to the first line of output, and the most memory in MiB."""
    environment = {**os.environ, "GONOGO_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "gonogo", "inspect", str(bundle), str(photo)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not line:
        raise GonogoError(f"{' '.join(command)}: expected a verdict, it ended with {process.returncode}. Try it alone.")
    return seconds, used.ru_maxrss / 1024
