"""Judge many files on all cores: one process for each, pinned to it, with one inference thread.

One process with several threads, or with several requests in flight, leaves part of the cores idle between the stages
of a judgement; ``make bench`` measures by how much.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gonogo.config import settings
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.heatmap import overlay
from gonogo.images import encode_jpeg
from gonogo.inspector import Inspector
from gonogo.schema import Verdict

if TYPE_CHECKING:
    from multiprocessing.queues import Queue


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One picture to judge."""

    file: Path
    heatmap: Path | None = None
    """Where the photograph goes with its heat drawn on; not drawn where omitted."""


@dataclass(frozen=True, kw_only=True)
class JudgedFile:
    """One picture judged."""

    job: BatchJob
    verdict: Verdict
    readable: bool
    """Whether the file could be decoded."""


def judge_on_all_cores(inspector: Inspector, job: BatchJob) -> JudgedFile:
    """Judge one file, and draw its heat map where one is asked for."""
    photograph, verdict = inspector.inspect_file(job.file)
    if photograph is not None and job.heatmap is not None:
        write_beside(job.heatmap, encode_jpeg(overlay(photograph.frame, verdict, inspector.heat_scale)))
    return JudgedFile(job=job, verdict=verdict, readable=photograph is not None)


def judge_files(bundle: Path, jobs: Sequence[BatchJob], *, workers: int) -> Iterator[JudgedFile]:
    """Judge files in several processes; results come in the order of the jobs.

    Args:
        bundle: The inspector's folder; every process opens it for itself.
        jobs: What to judge.
        workers: Processes; those beyond the number of cores share them.

    Raises:
        BundleError: as `Inspector.load`.
        InputError: a process was ended from outside.
    """
    import multiprocessing  # one process starts the faster without
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    cores = sorted(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")  # forking a process that runs OpenVINO's threads would deadlock
    free: Queue[int] = spawn.Queue()
    for index in range(workers):
        free.put(cores[index % len(cores)])
    judged = 0
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_settle, initargs=(free,)) as pool:
        try:
            for done in pool.map(functools.partial(_judge_here, bundle), jobs):
                judged += 1
                yield done
        except BrokenProcessPool as error:
            raise InputError(
                f"a worker was ended from outside after {judged} of {len(jobs)} pictures; the machine may be short of "
                "memory. Judge the rest with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _settle(free: Queue[int]) -> None:
    """Take a core for oneself; the parent alone answers Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, {free.get()})


@functools.cache
def _own_inspector(bundle: Path) -> Inspector:
    return Inspector.load(bundle, machine=settings().model_copy(update={"threads": 1}))


def _judge_here(bundle: Path, job: BatchJob) -> JudgedFile:
    return judge_on_all_cores(_own_inspector(bundle), job)
