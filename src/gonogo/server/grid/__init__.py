"""The pictures of a data set as a grid: index, predictions, thumbnails, and changes to many pictures at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import GonogoError
from gonogo.server.dataset_store import Datasets
from gonogo.server.grid.index import GridIndexes
from gonogo.server.grid.likeness import Likeness
from gonogo.server.grid.predictions import Predictions
from gonogo.server.grid.thumbnails import Thumbnails
from gonogo.server.grid.undo import UndoStacks
from gonogo.server.inspectors import Inspectors


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Components of the grid page."""

    indexes: GridIndexes
    predictions: Predictions
    likeness: Likeness
    thumbnails: Thumbnails
    undo: UndoStacks

    @classmethod
    def of(cls, datasets: Datasets, inspectors: Inspectors, cache: Path) -> Grid:
        """Create it for a workspace; what it derives is kept in the folder ``cache``, which can be deleted."""
        predictions = Predictions(datasets, inspectors, cache / "predictions")
        return cls(
            indexes=GridIndexes(),
            predictions=predictions,
            likeness=Likeness(datasets, predictions, inspectors.worker, cache / "features"),
            thumbnails=Thumbnails(cache / "thumbnails"),
            undo=UndoStacks(),
        )


def warm(grid: Grid, datasets: Datasets) -> None:
    """Read the data sets and build their indexes before a person opens one."""
    for name in datasets.names():
        try:
            grid.indexes.of(datasets.read(name), grid.predictions.of(name)).order("name")
            datasets.revision_heads(name)
        except GonogoError:
            continue  # its page says what is wrong with it


__all__ = ["Grid", "warm"]
