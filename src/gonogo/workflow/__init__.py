"""Workflows: train a bundle from a data set, and quantize, distill, cascade or retrain an existing bundle."""

from gonogo.workflow.cascading import Cascaded, CascadeOptions, join_cascade
from gonogo.workflow.comparing import TeacherComparison, compare_with_teacher
from gonogo.workflow.importing import ImportedBundle, import_model
from gonogo.workflow.options import LocatorOptions, Promise, TrainingOptions
from gonogo.workflow.quantizing import Allowed, Quantized, QuantizingOptions, quantize_bundle
from gonogo.workflow.region import find_regions, place_roi
from gonogo.workflow.training import Trained, train_inspector

__all__ = [
    "Allowed",
    "CascadeOptions",
    "Cascaded",
    "ImportedBundle",
    "LocatorOptions",
    "Promise",
    "Quantized",
    "QuantizingOptions",
    "TeacherComparison",
    "Trained",
    "TrainingOptions",
    "compare_with_teacher",
    "find_regions",
    "import_model",
    "join_cascade",
    "place_roi",
    "quantize_bundle",
    "train_inspector",
]
