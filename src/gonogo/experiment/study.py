"""A study: a folder with one file per finished cell, filled by one or more processes, resumed by the same call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from gonogo.errors import InputError
from gonogo.experiment.cell import Cell, Row
from gonogo.experiment.claims import claimed
from gonogo.experiment.data import StudyData
from gonogo.files import parse_json, read_text, write_beside

IDENTITY = "study.json"
CELLS = "cells"
REGIONS = "regions"
POLL_S = 1.0
"""Interval between two looks at a cell that another process runs, in seconds."""
_ROWS = TypeAdapter(Row)

RunCell = Callable[[Cell], Row]
RunCells = Callable[[Iterator[Cell]], Iterator[Row]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a study reports while it runs."""

    row: Row | None
    """The row that was finished; ``None`` while another process runs the remaining cells."""
    done: int
    """Cells of this grid that are finished."""
    of: int
    left_s: float | None
    """Estimated time to the end in seconds; ``None`` without any timed row."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The folder of a study. It belongs to one data set; any number of grids over it may share the folder."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, data: StudyData) -> Study:
        """Open a study, or begin one in a new or empty folder.

        Raises:
            InputError: The folder holds something else, or a study of other data.
        """
        path = folder / IDENTITY
        if path.is_file():
            try:
                identity = parse_json(read_text(path))
                found = identity["dataset_sha256"]
                if identity["format"] != 1:
                    raise ValueError(f"expected format 1, found {identity['format']!r}")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: malformed ({error}). Choose another --out.") from error
            if found != data.sha256:
                raise InputError(
                    f"--out {folder}: holds a study of other data (fingerprint {str(found)[:12]}, this data set has "
                    f"{data.sha256[:12]}): pictures or labels differ. Choose another folder."
                )
        elif folder.is_dir() and any(each.name != REGIONS for each in folder.iterdir()):
            raise InputError(f"--out {folder}: expected a new folder or one with {IDENTITY}, found other files in it.")
        else:
            identity = {"format": 1, "dataset": data.dataset.root.resolve().name, "dataset_sha256": data.sha256}
            write_beside(path, json.dumps(identity, indent=1).encode())
        return cls(folder=folder)

    def path(self, cell: Cell) -> Path:
        """File of a cell's row."""
        return self.folder / CELLS / f"{cell.key}.json"

    def row(self, cell: Cell) -> Row | None:
        """The finished row of a cell; an empty one does not count, since weights may have come meanwhile."""
        path = self.path(cell)
        row = read_row(path) if path.is_file() else None
        return None if row is None or row.measured is None else row

    def rows(self) -> list[Row]:
        """Every row, without the empty ones that another row has filled."""
        found = [read_row(path) for path in sorted((self.folder / CELLS).glob("*.json"))]
        filled = {row.cell.slot() for row in found if row.measured is not None}
        return [row for row in found if row.measured is not None or row.cell.slot() not in filled]

    def run(self, cells: Sequence[Cell], run: RunCell) -> Iterator[Step]:
        """Run the cells that are not finished, one after the other; see `run_many`."""
        return self.run_many(cells, lambda chosen: map(run, chosen))

    def run_many(self, cells: Sequence[Cell], run: RunCells) -> Iterator[Step]:
        """Run the cells that are not finished, and keep and yield the row of each as it finishes.

        Cells that another process runs are left to it; in the end this one waits for them, and runs those that the
        other left behind.

        Args:
            cells: The cells.
            run: Takes cells from an iterator, which claims each for this process, and yields their rows in any order.
        """
        waiting = [cell for cell in cells if self.row(cell) is None]
        while waiting:
            claims: dict[str, ExitStack] = {}
            try:
                for row in run(self._claimed(tuple(waiting), claims)):
                    write_beside(self.path(row.cell), json.dumps(asdict(row), indent=1).encode())
                    claims.pop(row.cell.key).close()
                    waiting = [cell for cell in waiting if cell.key != row.cell.key]
                    left_s = time_left(waiting, self.rows())
                    yield Step(row=row, done=len(cells) - len(waiting), of=len(cells), left_s=left_s)
            finally:
                for claim in claims.values():
                    claim.close()
            waiting = [cell for cell in waiting if self.row(cell) is None]
            if waiting:
                yield Step(row=None, done=len(cells) - len(waiting), of=len(cells), left_s=None)
                time.sleep(POLL_S)

    def _claimed(self, cells: Sequence[Cell], claims: dict[str, ExitStack]) -> Iterator[Cell]:
        """Yield the cells that no other process runs or has finished."""
        for cell in cells:
            with ExitStack() as stack:
                lock = self.folder / CELLS / f".{cell.key}.lock"
                if stack.enter_context(claimed(lock, wait=False)) and self.row(cell) is None:
                    claims[cell.key] = stack.pop_all()
                    yield cell


def read_row(path: Path) -> Row:
    """Read a row.

    Raises:
        InputError: The file is malformed.
    """
    try:
        return row_of(parse_json(read_text(path)))
    except (OSError, ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: expected a row of a study ({reason}). Remove the file to run its cell again."
        ) from error


def row_of(record: object) -> Row:
    """Build a row from what `dataclasses.asdict` made of it.

    Raises:
        ValidationError: It is none.
    """
    return _ROWS.validate_python(record)


def time_left(cells: Sequence[Cell], rows: Sequence[Row]) -> float | None:
    """Estimate the time that some cells take from the finished ones, in seconds.

    The time per view, epoch and pixel is taken from the same topology where there is one, else from all of them.
    """
    per_work: dict[str, list[float]] = {}
    for row in rows:
        if row.timing is not None:
            per_work.setdefault(row.cell.topology, []).append(row.timing.seconds / _work(row.cell))
    if not per_work:
        return None
    overall = float(np.mean([np.mean(values) for values in per_work.values()]))
    runnable = [cell for cell in cells if cell.weights or cell.initialisation == "random"]
    return sum(_work(cell) * float(np.mean(per_work.get(cell.topology, [overall]))) for cell in runnable)


def _work(cell: Cell) -> float:
    return cell.protocol.epochs * cell.augmentation.views * cell.protocol.train * cell.side_px**2
