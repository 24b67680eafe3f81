"""Giving blocks to workers, and taking their rows back in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gonogo.cluster import machine
from gonogo.cluster.blocks import Block, DoneBlock, Row, Work
from gonogo.cluster.connecting import Cluster, ray_module
from gonogo.cluster.journal import Journal
from gonogo.cluster.machine import Used
from gonogo.cluster.shipping import PackedBundle, unpack
from gonogo.errors import GonogoError, InputError

MOST_DEATHS = 5
"""Workers that may die over one block before the run ends."""
_AHEAD = 32
"""Finished blocks per slot that may wait for an earlier one."""
_POLL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A machine that cannot do the work."""

    node: str
    why: str


class Shipments:
    """Bundles in the cluster's object store, each put there once."""

    def __init__(self) -> None:
        self._stored: dict[str, Any] = {}

    def add(self, packed: PackedBundle) -> None:
        """Put a bundle there."""
        if packed.sha256 not in self._stored:
            self._stored[packed.sha256] = ray_module().put(packed)

    def of(self, block: Block) -> dict[str, Any]:
        """Return references to the bundles of a block; inside a dictionary, Ray does not fetch them for every block."""
        return {sha256: self._stored[sha256] for sha256 in block.bundles if sha256}


def run_blocks(
    cluster: Cluster,
    work: Work,
    blocks: Iterable[Block],
    *,
    shipments: Shipments | None = None,
    journal: Journal | None = None,
    threads: int = 1,
    gpus: int = 0,
    ordered: bool = True,
    used: Used | None = None,
) -> Iterator[DoneBlock]:
    """Have a cluster do the blocks; each comes back once, whatever dies on the way.

    Args:
        cluster: The cluster.
        work: What to do.
        blocks: The blocks, numbered from 0; taken as workers become free, so they may be endless.
        shipments: The bundles of the blocks; needed before the block is taken.
        journal: Where finished blocks are kept and found again.
        threads: Processors that one worker uses.
        gpus: GPUs that one worker uses.
        ordered: Yield the blocks by number; otherwise as they finish.
        used: Counts the processors.

    Raises:
        InputError: A machine cannot do the work, or the workers of one block keep dying.
    """
    slots = max(1, cluster.cpus // threads)
    driver = _Driver(work, shipments or Shipments(), journal, threads=threads, gpus=gpus)
    feed = iter(blocks)
    more = True
    try:
        while more or driver.busy:
            while more and len(driver.running) < 2 * slots and driver.held < _AHEAD * slots:
                block = next(feed, None)
                more = block is not None
                if block is not None:
                    driver.begin(block)
            if driver.running and not driver.is_due(ordered=ordered):
                driver.wait()
            while driver.is_due(ordered=ordered):
                done = driver.take(ordered=ordered)
                if used is not None:
                    used.add(done)
                yield done
    finally:
        driver.cancel()


class _Driver:
    """Blocks on their way, and finished ones that wait for an earlier one."""

    def __init__(self, work: Work, shipments: Shipments, journal: Journal | None, *, threads: int, gpus: int) -> None:
        self._ray = ray_module()
        self._run = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=MOST_DEATHS)(run_block)
        self._work, self._shipments, self._journal = work, shipments, journal
        self._expected, self._threads = machine.software(), threads
        self.running: dict[Any, Block] = {}
        self._finished: dict[int, DoneBlock | None] = {}
        self._next = 0

    @property
    def held(self) -> int:
        return len(self._finished)

    @property
    def busy(self) -> bool:
        return bool(self.running or self._finished)

    def begin(self, block: Block) -> None:
        """Give a block to the cluster, unless the journal has it."""
        if self._journal is not None and block.number in self._journal:
            self._finished[block.number] = None
            return
        given = (self._work, block, self._shipments.of(block), self._expected, self._threads)
        self.running[self._run.remote(*given)] = block

    def wait(self) -> None:
        """Wait for one block."""
        ready, _ = self._ray.wait(list(self.running), timeout=_POLL_S)
        if not ready and int(self._ray.cluster_resources().get("CPU", 0)) < self._threads:
            raise InputError("the cluster has lost its machines. Start them again; what is finished is kept.")
        for reference in ready:
            block = self.running.pop(reference)
            done = self._fetched(reference, block)
            if self._journal is not None:
                self._journal.add(done)
            self._finished[block.number] = done if self._journal is None else None

    def is_due(self, *, ordered: bool) -> bool:
        """Whether a finished block can be yielded now."""
        return self._next in self._finished if ordered else bool(self._finished)

    def take(self, *, ordered: bool) -> DoneBlock:
        """Take the next finished block."""
        number = self._next if ordered else next(iter(self._finished))
        self._next += 1
        done = self._finished.pop(number)
        if done is None:
            assert self._journal is not None, "without a journal, blocks are kept in memory"
            done = self._journal.read(number)
        return done

    def cancel(self) -> None:
        """Take back what no worker has finished."""
        if not self._ray.is_initialized():
            return
        for reference in self.running:
            self._ray.cancel(reference, force=False)
        self.running.clear()

    def _fetched(self, reference: Any, block: Block) -> DoneBlock:
        errors = self._ray.exceptions
        try:
            found = self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            raise InputError(
                f"{MOST_DEATHS + 1} workers died over block {block.number}, which begins with {block.jobs[0]}; a "
                "machine may be out of memory. Use fewer workers, or judge that job alone."
            ) from error
        except errors.RayTaskError as error:
            raise _of_task(error) from error
        except errors.RayError as error:
            raise InputError(f"block {block.number}: Ray gave it up ({' '.join(str(error).split())[:300]}).") from error
        if isinstance(found, Refused):
            raise InputError(f"machine {found.node}: {found.why}")
        assert isinstance(found, DoneBlock)
        return found


def _of_task(error: Any) -> Exception:
    """The error that a worker's code raised: a package that it lacks, or a bug."""
    cause = error.cause
    if isinstance(cause, ImportError):
        return InputError(f"a machine of the cluster lacks a package ({cause}). Install the same packages on all.")
    return cause if isinstance(cause, Exception) else RuntimeError(str(error))


_OPENED: dict[tuple[Work, str], Callable[[Any], Row]] = {}
"""What this worker has prepared."""
_MOST_OPENED = 4


def run_block(
    work: Work, block: Block, bundles: Mapping[str, Any], expected: Mapping[str, str], threads: int
) -> DoneBlock | Refused:
    """Do the jobs of a block in a worker's process."""
    node = machine.node_name()
    try:
        if different := machine.differing(dict(expected)):
            return Refused(node=node, why=f"{different}. Install the same packages on all machines.")
        pairs = zip(block.jobs, block.bundles, strict=True)
        rows = tuple(_opened(work, sha256, bundles)(job) for job, sha256 in pairs)
    except GonogoError as error:
        return Refused(node=node, why=str(error))
    return DoneBlock(number=block.number, rows=rows, node=node, processor=machine.processor(threads))


def _opened(work: Work, sha256: str, bundles: Mapping[str, Any]) -> Callable[[Any], Row]:
    key = (work, sha256)
    if key not in _OPENED:
        while len(_OPENED) >= _MOST_OPENED:
            _OPENED.pop(next(iter(_OPENED)))
        _OPENED[key] = work.open(unpack(ray_module().get(bundles[sha256])) if sha256 else None)
    return _OPENED[key]
