"""Blocks of jobs, and what comes back for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

MOST_JOBS = 64
"""Jobs in a block: enough that sending it costs little, few enough that a killed worker loses about a second."""

Row: TypeAlias = dict[str, Any]
"""The result of one job, as JSON can hold it; floats keep every bit."""

Job = TypeVar("Job")


class Work(Protocol):
    """What workers do; a frozen dataclass, since it is sent to them, and each opens it once."""

    def open(self, bundle: Path | None) -> Callable[[Any], Row]:
        """Prepare in the worker's process; return the function that does one job.

        Args:
            bundle: The bundle of the block, unpacked on the worker's machine; ``None`` if it has none.

        Raises:
            GonogoError: The machine cannot do this work; the run ends with the message and the machine's name.
        """


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive jobs that one worker does."""

    number: int
    """From 0, in the order of the jobs."""
    jobs: tuple[Any, ...]
    bundles: tuple[str, ...]
    """The SHA-256 of the bundle that each job needs; empty if none."""


@dataclass(frozen=True, kw_only=True)
class DoneBlock:
    """A finished block."""

    number: int
    rows: tuple[Row, ...]
    """One for each job, in their order."""
    node: str
    """Name of the machine."""
    processor: str
    """Its processor; bit-equal results are only promised on the same kind."""


def cut(jobs: Iterable[Job], size: int, *, bundle_sha256: str = "") -> Iterator[Block]:
    """Cut jobs that need the same bundle, or none, into blocks."""
    rest = iter(jobs)
    number = 0
    while chosen := tuple(islice(rest, size)):
        yield Block(number=number, jobs=chosen, bundles=(bundle_sha256,) * len(chosen))
        number += 1


def block_size(jobs: int, slots: int) -> int:
    """Choose a size that gives every slot at least four blocks, where there are enough jobs."""
    return max(1, min(MOST_JOBS, jobs // (4 * slots)))
