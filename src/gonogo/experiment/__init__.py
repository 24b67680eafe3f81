"""Studies of how to train: a resumable grid over approach, topology, initialisation, augmentation and seed."""

from gonogo.experiment.cell import Approach, Cell, Initialisation, Protocol, Row
from gonogo.experiment.comparing import Difference, differences
from gonogo.experiment.data import StudyData
from gonogo.experiment.grid import Grid, find_weights
from gonogo.experiment.preset import FULL, REDUCED, TOPOLOGIES, Preset, reductions
from gonogo.experiment.running import run_cell
from gonogo.experiment.session import run_cells
from gonogo.experiment.study import Study
from gonogo.experiment.tables import write_tables

__all__ = [
    "FULL",
    "REDUCED",
    "TOPOLOGIES",
    "Approach",
    "Cell",
    "Difference",
    "Grid",
    "Initialisation",
    "Preset",
    "Protocol",
    "Row",
    "Study",
    "StudyData",
    "differences",
    "find_weights",
    "reductions",
    "run_cell",
    "run_cells",
    "write_tables",
]
