"""Drift detection after deployment: do parts still look like those of training and calibration?

The *out-of-distribution check* sends a single part that is unlike all training parts to review. The *drift alarm*
detects that parts as a whole no longer look like the calibration parts: light, focus, scores or the parts themselves.
"""

from __future__ import annotations

from gonogo.drift.alarm import DriftTest, Watch, fit_watches
from gonogo.drift.out_of_distribution import OutOfDistributionCheck, ReferenceFeatures, fit_out_of_distribution_check
from gonogo.drift.records import (
    DRIFT,
    TAUGHT,
    DriftReference,
    read_reference,
    read_sealed_reference,
    read_watches,
    to_files,
)
from gonogo.drift.signs import Signs, distance_of, observe

__all__ = [
    "DRIFT",
    "TAUGHT",
    "DriftReference",
    "DriftTest",
    "OutOfDistributionCheck",
    "ReferenceFeatures",
    "Signs",
    "Watch",
    "distance_of",
    "fit_out_of_distribution_check",
    "fit_watches",
    "observe",
    "read_reference",
    "read_sealed_reference",
    "read_watches",
    "to_files",
]
