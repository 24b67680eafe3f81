"""What rows depend on beside the job and the bundle: the machine and its software."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections import Counter

import gonogo
from gonogo import runtime
from gonogo.cluster.blocks import DoneBlock

_PACKAGES = ("openvino", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "torch", "torchvision")


@functools.cache
def software() -> dict[str, str]:
    """Versions of the packages that decide pixels and scores, those that are installed."""
    found = {"gonogo": gonogo.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differing(expected: dict[str, str]) -> str:
    """Describe the first package of this machine with another version; empty if there is none."""
    here = software()
    for name, version in expected.items():
        if here.get(name) != version:
            return (
                f"expected {name} {version}, as on the machine that gives out the work, found {here.get(name, 'none')}"
            )
    return ""


def node_name() -> str:
    """Name of this machine."""
    return platform.node()


def processor(threads: int) -> str:
    """The kind of processor, on which bit-equal results depend."""
    return runtime.runtime_environment(threads=threads)["processor"]


class Used:
    """Counts the jobs that each kind of processor did."""

    def __init__(self) -> None:
        self._jobs: Counter[tuple[str, str]] = Counter()

    def add(self, done: DoneBlock) -> None:
        """Count the jobs of a block."""
        self._jobs[done.processor, done.node] += len(done.rows)

    def on_other_processors(self, threads: int) -> dict[str, int]:
        """Return the number of jobs that other kinds of processors than this machine's did, by kind."""
        found: Counter[str] = Counter()
        for (kind, _), jobs in self._jobs.items():
            if kind != processor(threads):
                found[kind] += jobs
        return dict(found)

    @property
    def nodes(self) -> int:
        """Number of machines that did a job."""
        return len({node for _, node in self._jobs})
