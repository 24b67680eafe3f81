"""Cells on a Ray cluster: one network per worker, trained by the same function as in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gonogo.cluster import Cluster, run_blocks
from gonogo.cluster.blocks import Row as Record
from gonogo.cluster.blocks import cut
from gonogo.cluster.inspecting import worker_threads
from gonogo.errors import InputError
from gonogo.experiment.cell import Cell, Row
from gonogo.experiment.data import StudyData
from gonogo.experiment.grid import PACKAGED, file_digest
from gonogo.experiment.running import run_cell
from gonogo.experiment.study import row_of


@dataclass(frozen=True, kw_only=True)
class TrainWork:
    """Train cells; see `gonogo.cluster.blocks.Work`."""

    dataset: str
    sha256: str
    """Fingerprint of the data, `StudyData.sha256`."""
    regions: str
    """Folder for the regions of the pictures."""
    device: str
    threads: int

    def open(self, bundle: Path | None) -> Callable[[Cell], Record]:
        """Read the data set in the worker."""
        import torch

        torch.set_num_threads(self.threads)
        data = StudyData.read(Path(self.dataset), Path(self.regions))
        if data.sha256 != self.sha256:
            raise InputError(
                f"{self.dataset}: expected the data set that the study is about ({self.sha256[:12]}), found another "
                f"({data.sha256[:12]}). All machines must see the same data set under the same name."
            )

        def train(cell: Cell) -> Record:
            _require_weights(cell)
            return asdict(run_cell(cell, data, device=self.device))

        return train


def run_on(cluster: Cluster, cells: Iterator[Cell], data: StudyData, *, device: str) -> Iterator[Row]:
    """Train cells on a cluster and yield their rows as they finish.

    Rows are equal to those of one process with the same number of torch threads (``GONOGO_THREADS``, otherwise one)
    on the same kind of processor, times aside. Every machine must see the data set, the folder of the study and the
    files of weights under the same names.

    Args:
        cluster: See `gonogo.cluster.connected`.
        cells: Taken as workers become free.
        data: The parts.
        device: Torch device; on a GPU, each worker has one of its own.

    Raises:
        InputError: A machine sees other data or other weights, or lacks a package.
    """
    threads = worker_threads()
    work = TrainWork(
        dataset=str(data.dataset.root.resolve()),
        sha256=data.sha256,
        regions=str(data.folder.resolve()),
        device=device,
        threads=threads,
    )
    gpus = int(device != "cpu")
    for done in run_blocks(cluster, work, cut(cells, 1), threads=threads, gpus=gpus, ordered=False):
        (record,) = done.rows
        yield row_of(record)


def _require_weights(cell: Cell) -> None:
    """Check that this machine has the weights that the cell's name stands for."""
    if not cell.weights or cell.weights_id == PACKAGED:
        return
    try:
        found = file_digest(Path(cell.weights))
    except OSError as error:
        raise InputError(f"{cell.weights}: cannot be read ({error.strerror or error}).") from error
    if found != cell.weights_id:
        raise InputError(
            f"{cell.weights}: expected weights {cell.weights_id[:12]}, found {found[:12]}. Copy them again."
        )
