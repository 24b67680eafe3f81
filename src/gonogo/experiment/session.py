"""Runs a grid in the foreground: a line per finished row, tables and logs that are always up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gonogo.experiment.cell import Cell
from gonogo.experiment.data import StudyData
from gonogo.experiment.running import run_cell
from gonogo.experiment.study import Step, Study
from gonogo.experiment.tables import PAGE, write_tables
from gonogo.experiment.tracking import log_rows
from gonogo.progress import console

if TYPE_CHECKING:
    from gonogo.cluster import Cluster


def run_cells(
    study: Study, cells: Sequence[Cell], data: StudyData, *, device: str = "cpu", cluster: Cluster | None = None
) -> None:
    """Run the cells that are not finished. The tables are written after every row, so a kill leaves them behind.

    Args:
        study: Where rows are kept.
        cells: The grid.
        data: The parts.
        device: Torch device.
        cluster: Where to train, one network per worker; by default here, one after the other.

    Raises:
        KeyboardInterrupt: Ctrl-C, after a message that says what is kept.
    """
    kept = sum(study.row(cell) is not None for cell in cells)
    _say(f"{len(cells)} networks, {kept} of them finished already. Training on {device}.")

    def finish(waiting: int) -> None:
        rows = study.rows()
        write_tables(rows, study.folder, data_name=data.dataset.root.resolve().name, waiting=waiting)
        log_rows(study.folder, rows)

    try:
        if cluster is None:
            steps = study.run(cells, lambda cell: run_cell(cell, data, device=device))
        else:
            from gonogo.experiment.spreading import run_on  # needs Ray

            steps = study.run_many(cells, lambda chosen: run_on(cluster, chosen, data, device=device))
        for step in steps:
            _say(_line(step))
            if step.row is not None:
                finish(step.of - step.done)
    except KeyboardInterrupt:
        done = sum(study.row(cell) is not None for cell in cells)
        _say(
            f"Interrupted: {done} of {len(cells)} networks are kept in {study.folder}, and {study.folder / PAGE} shows "
            "them. The same command resumes; a network that was being trained starts again."
        )
        raise
    finish(0)


def _line(step: Step) -> str:
    """One finished row, with the time left."""
    if step.row is None:
        return f"Waiting for another process, which trains the remaining {step.of - step.done}."
    cell, measured = step.row.cell, step.row.measured
    named = f"{step.done}/{step.of} {cell.approach} {cell.topology} {cell.initialisation} {cell.views} seed {cell.seed}"
    if measured is None:
        return f"{named}: empty, {step.row.empty_because}"
    left = "" if not step.left_s else f", about {_duration(step.left_s)} left"
    auroc = "" if measured.auroc is None else f", AUROC {measured.auroc:.3f}"
    accuracy = measured.counts.rates()["accuracy"]
    took = "" if step.row.timing is None else f" in {step.row.timing.seconds:.0f} s"
    return f"{named}: accuracy {accuracy.count} of {accuracy.of}{auroc}{took}{left}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
