"""After deployment: is what the gauge sees still what it was taught and calibrated on?

The *guard* sends a single part that is unlike everything taught to a person. The *alarm* notices when many parts
together are no longer like the calibration parts: light, focus, scores or the parts themselves.
"""

from __future__ import annotations

from gonogo.drift.alarm import DriftTest, Watch, fit_watches
from gonogo.drift.guard import Guard, Taught, fit_guard
from gonogo.drift.records import DRIFT, TAUGHT, Reference, read, read_sealed, to_files
from gonogo.drift.signs import Signs, distance_of, observe

__all__ = [
    "DRIFT",
    "TAUGHT",
    "DriftTest",
    "Guard",
    "Reference",
    "Signs",
    "Taught",
    "Watch",
    "distance_of",
    "fit_guard",
    "fit_watches",
    "observe",
    "read",
    "read_sealed",
    "to_files",
]
