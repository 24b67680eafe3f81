"""Judge many files on all cores: one process per core, pinned to it, with one inference thread.

A single process with several threads, or with several requests in flight, leaves cores idle between the stages of a
judgement; ``make bench`` measures the difference.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gonogo.config import settings
from gonogo.devices import own_cores
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.heatmap import overlay
from gonogo.images import encode_jpeg
from gonogo.images.geometry import corners_of
from gonogo.inspector import Inspector
from gonogo.rules import draw_findings
from gonogo.schema import Verdict

if TYPE_CHECKING:
    from multiprocessing.queues import Queue


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A picture to judge."""

    file: Path
    heatmap: Path | None = None
    """Where to write the photograph with the heat map drawn on it; omit to draw nothing. An inspector without maps
    writes nothing."""


@dataclass(frozen=True, kw_only=True)
class JudgedFile:
    """A judged picture."""

    job: BatchJob
    verdict: Verdict
    readable: bool
    """Whether the file could be decoded."""
    device: str
    """The device that judged it, and why it is not the one that was asked for; see `gonogo.devices.DeviceUse`."""
    drawn: bool
    """Whether its heat map was written."""

    def as_row(self) -> dict[str, Any]:
        """Return what is printed about it, as JSON can hold it; scores keep every bit."""
        verdict = self.verdict
        return {
            "file": str(self.job.file),
            "state": verdict.state.value,
            "score": verdict.score,
            "kind": verdict.kind,
            "kind_share": verdict.kind_share,
            "box_xyxy": None if verdict.box is None else list(verdict.box.xyxy),
            "region_xy": None if verdict.region is None else corners_of(verdict.region).tolist(),
            "zone": verdict.zone,
            "zones": [{"name": zone.name, "score": zone.score, "state": zone.state.value} for zone in verdict.zones],
            "heatmap_file": str(self.job.heatmap) if self.drawn else None,
            "reason": verdict.reason,
            "measurements": [asdict(each) for each in verdict.measurements],
            "counts": [asdict(each) for each in verdict.counts],
            "notes": list(verdict.notes),
            "identity": None if verdict.identity is None else asdict(verdict.identity),
            "windows": verdict.windows,
            "device": self.device,
            "timings_ms": {stage: round(duration, 3) for stage, duration in verdict.timings_ms.items()},
        }


def judge_job(inspector: Inspector, job: BatchJob) -> JudgedFile:
    """Judge one file, and draw its heat map if requested."""
    photograph, verdict = inspector.inspect_file(job.file)
    drawn = False
    if photograph is not None and job.heatmap is not None and inspector.has_map:
        drawing = overlay(photograph.frame, verdict, inspector.heat_scale, inspector.recipe.zones)
        draw_findings(drawing, verdict)
        write_beside(job.heatmap, encode_jpeg(drawing))
        drawn = True
    readable, device = photograph is not None, str(inspector.device)
    return JudgedFile(job=job, verdict=verdict, readable=readable, device=device, drawn=drawn)


def judge_files(bundle: Path, jobs: Sequence[BatchJob], *, workers: int) -> Iterator[JudgedFile]:
    """Judge files in several processes; results are yielded in the order of the jobs.

    Args:
        bundle: The bundle's folder; every process opens it separately.
        jobs: The files to judge.
        workers: Number of processes; more processes than cores share the cores.

    Raises:
        BundleError: See `Inspector.load`.
        InputError: A process was killed.
    """
    import multiprocessing  # a single process starts faster without it
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    cores = own_cores()
    spawn = multiprocessing.get_context("spawn")  # forking a process that runs OpenVINO's threads would deadlock
    free: Queue[int] = spawn.Queue()
    for index in range(workers):
        free.put(cores[index % len(cores)])
    judged = 0
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_pin_to_core, initargs=(free,)) as pool:
        try:
            for done in pool.map(functools.partial(_judge_in_process, bundle), jobs):
                judged += 1
                yield done
        except BrokenProcessPool as error:
            raise InputError(
                f"a worker process was killed after {judged} of {len(jobs)} pictures; the machine may be out of "
                "memory. Judge the remaining pictures with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _pin_to_core(free: Queue[int]) -> None:
    """Pin the process to a free core, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        os.sched_setaffinity(0, {free.get()})


@functools.cache
def _process_inspector(bundle: Path) -> Inspector:
    return Inspector.load(bundle, machine=settings().model_copy(update={"threads": 1}))


def _judge_in_process(bundle: Path, job: BatchJob) -> JudgedFile:
    return judge_job(_process_inspector(bundle), job)
