"""Time from the start of a process to its first verdict, and its memory."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo.bundle import CLASSIFIER
from gonogo.errors import GonogoError

WARM_STARTS = 5
COLD_STARTS = 3
BARE = """
import sys
import cv2
import numpy as np
import openvino as ov
graph = ov.Core().compile_model(sys.argv[1], "CPU", {"CACHE_DIR": sys.argv[2]})
picture = cv2.resize(cv2.imread(sys.argv[3]), graph.inputs[0].shape[2:0:-1])
print(graph(picture[None])[0], flush=True)
"""
"""A minimal program that computes a score: two libraries, the compiled graph, one picture."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Medians over several starts of ``gonogo inspect BUNDLE PHOTO``."""

    first_verdict_s: float
    """With the compiled graph in the cache."""
    first_verdict_cold_s: float
    """With an empty cache."""
    rss_mb: float
    """Largest resident memory of a warm start, in MiB."""
    bare_s: float
    """Time to the first score of `BARE`, interleaved with the warm starts."""
    bare_rss_mb: float
    """Largest resident memory of `BARE`, in MiB."""


def measure_start(bundle: Path, photo: Path, scratch: Path) -> Start:
    """Start the command several times and wait for its first line, interleaved with a bare script.

    Each finds its modules compiled, as an installed program does, whatever this environment has set about bytecode.

    Args:
        bundle: The inspector; its golden frames are replayed at every start.
        photo: A picture it can judge.
        scratch: An empty folder for the caches, that of the bytecode among them.

    Raises:
        GonogoError: the command failed.
    """
    command = [sys.executable, "-m", "gonogo", "inspect", str(bundle), str(photo)]
    least = [sys.executable, "-c", BARE, str(bundle / CLASSIFIER), str(scratch / "bare"), str(photo)]
    bytecode = scratch / "bytecode"
    _start(command, scratch / "first", bytecode)
    _start(least, scratch, bytecode)  # fills its cache
    cold = [_start(command, scratch / f"cold-{number}", bytecode)[0] for number in range(COLD_STARTS)]
    warm, bare = [], []
    for _ in range(WARM_STARTS):
        warm.append(_start(command, scratch / "first", bytecode))
        bare.append(_start(least, scratch, bytecode))
    return Start(
        first_verdict_s=float(np.median([seconds for seconds, _ in warm])),
        first_verdict_cold_s=float(np.median(cold)),
        rss_mb=float(np.median([mib for _, mib in warm])),
        bare_s=float(np.median([seconds for seconds, _ in bare])),
        bare_rss_mb=float(np.median([mib for _, mib in bare])),
    )


def _start(command: list[str], cache: Path, bytecode: Path) -> tuple[float, float]:
    """Return the seconds to the first line of output, and the peak memory in MiB."""
    environment = {
        **os.environ,
        "GONOGO_CACHE_DIR": str(cache),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    with ThreadPoolExecutor(1) as watch:
        peak = watch.submit(_peak_mib, process)
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
        process.stdout.close()
        if process.wait() or not line:
            shown = shlex.join(command)
            raise GonogoError(
                f"{shown}: expected a verdict, found exit code {process.returncode}. Run the command alone."
            )
        return seconds, peak.result()


def _peak_mib(process: subprocess.Popen[bytes]) -> float:
    """Poll the peak memory of a process until it ends.

    What ``wait4`` reports would count the parent as it was when it forked.
    """
    peak = 0.0
    while process.poll() is None:
        with suppress(OSError):  # it may end between the two lines
            status = Path(f"/proc/{process.pid}/status").read_text()
            marks = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            peak = max([peak, *(int(mark.split()[1]) / 1024 for mark in marks)])
        time.sleep(0.01)
    return peak
