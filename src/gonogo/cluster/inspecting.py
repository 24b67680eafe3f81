"""``gonogo inspect`` on a cluster: blocks of pictures, judged by the same function as in one process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gonogo.batch import BatchJob, judge_job
from gonogo.cluster.blocks import Row, block_size, cut
from gonogo.cluster.connecting import Cluster
from gonogo.cluster.journal import Journal
from gonogo.cluster.machine import Used
from gonogo.cluster.running import Shipments, run_blocks
from gonogo.cluster.shipping import pack
from gonogo.config import settings
from gonogo.errors import InputError
from gonogo.inspector import Inspector


@dataclass(frozen=True, kw_only=True)
class SizedJob:
    """A picture to judge, and its size in bytes where the work is given out; ``None`` if it cannot be seen there."""

    job: BatchJob
    size_bytes: int | None
    modified_ns: int | None


@dataclass(frozen=True, kw_only=True)
class InspectWork:
    """Judge pictures; see `gonogo.cluster.blocks.Work`."""

    folder: str
    """Folder that the names of the pictures start from."""
    device: str
    threads: int

    def open(self, bundle: Path | None) -> Callable[[SizedJob], Row]:
        """Load the inspector in the worker."""
        assert bundle is not None, "every block names the bundle"
        if Path(self.folder).is_dir():  # otherwise only names that begin with / are found
            os.chdir(self.folder)
        inspector = worker_inspector(bundle, self.device, self.threads)

        def judge(sized: SizedJob) -> Row:
            _require_same(sized)
            done = judge_job(inspector, sized.job)
            return done.as_row() | {"readable": done.readable}

        return judge


def worker_inspector(bundle: Path, device: str, threads: int) -> Inspector:
    """Load a bundle in a worker's process."""
    return Inspector.load(bundle, machine=settings().model_copy(update={"device": device, "threads": threads}))


def worker_threads() -> int:
    """Inference threads of one worker: those of the settings, else one, which uses several cores best."""
    return settings().threads or 1


def inspect_on(
    cluster: Cluster, bundle: Path, jobs: Sequence[BatchJob], *, journal: Path | None = None, used: Used | None = None
) -> Iterator[Row]:
    """Judge pictures on a cluster; rows come in the order of the jobs, each once.

    The rows are those of `gonogo.batch.JudgedFile.as_row` with ``readable``, bit-equal to those of one process with the
    same number of inference threads on the same kind of processor, times aside.

    Args:
        cluster: See `gonogo.cluster.connected`.
        bundle: The bundle; the workers get it from here.
        jobs: The pictures; every machine must see them under the same names.
        journal: File that keeps what is finished; the same call resumes from it.
        used: Counts the processors.

    Raises:
        BundleError: The bundle cannot be opened.
        InputError: A machine cannot judge: its packages differ, it does not see a picture, or the bundle does not
            reproduce its golden frames there. Or the journal is another run's.
    """
    packed, threads = pack(bundle), worker_threads()
    work = InspectWork(folder=str(Path.cwd()), device=settings().device, threads=threads)
    sized = [_sized(job) for job in jobs]
    size = block_size(len(jobs), max(1, cluster.cpus // threads))
    shipments = Shipments()
    shipments.add(packed)
    with ExitStack() as stack:
        kept = None
        if journal is not None:
            run = {
                "kind of work": "inspect",
                "bundle": packed.sha256,
                "pictures": _fingerprint(sized),
                "device": work.device,
                "number of threads": threads,
            }
            kept = stack.enter_context(Journal(journal, run, begin={"block_size": size}))
            size = kept.begun["block_size"]
        blocks = cut(sized, size, bundle_sha256=packed.sha256)
        for done in run_blocks(
            cluster, work, blocks, shipments=shipments, journal=kept, threads=threads, used=used or Used()
        ):
            yield from done.rows


def _sized(job: BatchJob) -> SizedJob:
    try:
        found = job.file.stat()
    except OSError:
        return SizedJob(job=job, size_bytes=None, modified_ns=None)
    return SizedJob(job=job, size_bytes=found.st_size, modified_ns=found.st_mtime_ns)


def _fingerprint(jobs: Sequence[SizedJob]) -> str:
    digest = hashlib.sha256()
    for each in jobs:
        facts = (os.fspath(each.job.file), each.job.heatmap and os.fspath(each.job.heatmap))
        digest.update(repr((*facts, each.size_bytes, each.modified_ns)).encode())
    return digest.hexdigest()


def _require_same(sized: SizedJob) -> None:
    """Check that this machine sees the picture that is meant."""
    found = _sized(sized.job).size_bytes
    if sized.size_bytes is not None and found != sized.size_bytes:
        raise InputError(
            f"{sized.job.file}: expected {sized.size_bytes:,} bytes, as on the machine that gives out the work, found "
            f"{'no file' if found is None else f'{found:,} bytes'}. All machines must see the same pictures under the "
            "same names."
        )
