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
from functools import partial
from pathlib import Path

import numpy as np

from bench.records import Row
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


UNREPLAYED = """
import sys
from gonogo import Inspector
photograph, verdict = Inspector.load(sys.argv[1], replay=False).inspect_file(sys.argv[2])
print(verdict.score, flush=True)
"""
"""The inspector without the command line, and without its golden frames."""


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
    unreplayed_s: float
    """Time to the first score of `UNREPLAYED`, interleaved with both; nobody judges like that."""
    ratios: tuple[float, float, float]
    """Medians of the ratios to `BARE` in each turn: warm, cold and unreplayed."""

    def rows(self, where: str = "") -> list[Row]:
        """Rows of the table; ratio: against the bare script."""
        warm, cold, unreplayed = self.ratios
        return [
            _row(f"a bare script, model cache warm{where}", 1.0, self.bare_s, self.bare_rss_mb),
            _row(f"gonogo inspect, model cache warm{where}", warm, self.first_verdict_s, self.rss_mb),
            _row(f"gonogo inspect, model cache empty{where}", cold, self.first_verdict_cold_s),
            _row(f"Inspector.load without golden frames{where}", unreplayed, self.unreplayed_s),
        ]


def _row(name: str, ratio: float, seconds: float, rss_mb: float | None = None) -> Row:
    facts = {} if rss_mb is None else {"rss_mb": rss_mb}
    return Row(table="start", name=name, ratio=ratio, median_ms=1e3 * seconds, facts=facts)


def measure_start(bundle: Path, photo: Path, scratch: Path, *, python: Path = Path(sys.executable)) -> Start:
    """Start the command several times and wait for its first line, interleaved with a bare script.

    Each finds its modules compiled, as an installed program does, whatever this environment has set about bytecode.

    Args:
        bundle: The inspector; its golden frames are replayed at every start.
        photo: A picture it can judge.
        scratch: An empty folder for the caches, that of the bytecode among them; created if missing.
        python: Interpreter of an environment with gonogo; it is the only thing on its path.

    Raises:
        GonogoError: the command failed.
    """
    command = [str(python), "-m", "gonogo", "inspect", str(bundle), str(photo)]
    least = [str(python), "-c", BARE, str(bundle / CLASSIFIER), str(scratch / "bare"), str(photo)]
    unreplayed = [str(python), "-c", UNREPLAYED, str(bundle), str(photo)]
    run = partial(_start, bytecode=scratch / "bytecode", alone=python != Path(sys.executable))
    for each in (command, least, unreplayed):
        run(each, scratch / "first")  # fills its cache
    cold = [run(command, scratch / f"cold-{number}") for number in range(COLD_STARTS)]
    turns = [[run(each, scratch / "first") for each in (command, least, unreplayed)] for _ in range(WARM_STARTS)]
    seconds, mib = np.moveaxis(np.array(turns), 2, 0)  # both: turns x commands
    cold_s = float(np.median([took_s for took_s, _ in cold]))
    warm_s, bare_s, unreplayed_s = (float(each) for each in np.median(seconds, axis=0))
    warm, _, without = (float(each) for each in np.median(seconds / seconds[:, 1:2], axis=0))
    return Start(
        first_verdict_s=warm_s,
        first_verdict_cold_s=cold_s,
        rss_mb=float(np.median(mib[:, 0])),
        bare_s=bare_s,
        bare_rss_mb=float(np.median(mib[:, 1])),
        unreplayed_s=unreplayed_s,
        ratios=(warm, cold_s / bare_s, without),
    )


def _start(command: list[str], cache: Path, *, bytecode: Path, alone: bool) -> tuple[float, float]:
    """Return the seconds to the first line of output, and the peak memory in MiB."""
    environment = {
        **os.environ,
        "GONOGO_CACHE_DIR": str(cache),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }
    if alone:
        del environment["PYTHONPYCACHEPREFIX"]  # the installer has compiled its modules
        environment.pop("PYTHONPATH", None)
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
