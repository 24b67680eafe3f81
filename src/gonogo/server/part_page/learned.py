"""Where the pictures of a part are used: data sets of this workspace, and inspectors that learned from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gonogo.dataset import Sample, Split
from gonogo.errors import DatasetError
from gonogo.server.dataset_store import Datasets
from gonogo.server.training.jobs import Jobs
from gonogo.server.training.used_pictures import UsedPictures


@dataclass(frozen=True, kw_only=True)
class UsedIn:
    """Data sets that hold a picture of a part, and inspectors that learned from it."""

    datasets: tuple[tuple[str, Split | None], ...]
    runs: tuple[tuple[int, str], ...]
    """Training runs: number, and name of the inspector that they made."""


class Learned:
    """Finds the uses of pictures from the line: their files are named after the SHA-256 of the frame."""

    def __init__(self, datasets: Datasets, jobs: Jobs) -> None:
        self._datasets, self._jobs = datasets, jobs
        self._lock = threading.Lock()
        self._stems: dict[str, tuple[Mapping[str, Sample], dict[str, Sample]]] = {}
        self._runs: dict[int, UsedPictures | None] = {}

    def uses(self, frames_sha256: Iterable[str]) -> UsedIn:
        """Return the uses of a part's frames."""
        frames = list(frames_sha256)
        with self._lock:
            found = []
            for name in self._datasets.names():
                stems = self._stems_of(name)
                found += [(name, stems[frame].split) for frame in frames if frame in stems]
            runs = []
            for job in self._jobs.snapshots(""):
                number = job.request.number
                if number not in self._runs:
                    self._runs[number] = UsedPictures.read(job.snapshot)
                used = self._runs[number]
                if used is not None and used.contains_frames(frames, None):
                    runs.append((number, job.request.bundle))
        return UsedIn(datasets=tuple(dict.fromkeys(found)), runs=tuple(sorted(runs)))

    def _stems_of(self, name: str) -> dict[str, Sample]:
        try:
            samples = self._datasets.read(name).samples
        except DatasetError:
            return {}
        known = self._stems.get(name)
        if known is None or known[0] is not samples:
            known = self._stems[name] = (samples, {_stem(file): sample for file, sample in samples.items()})
        return known[1]


def _stem(file: str) -> str:
    """The name of a file without its folder and last ending; `pathlib` takes a second for 100,000."""
    name = file[file.rfind("/") + 1 :]
    return name.rpartition(".")[0] or name
