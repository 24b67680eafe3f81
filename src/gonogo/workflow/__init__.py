"""Train, export, certify, seal: from a data set to a bundle, and from a bundle to a faster one."""

from gonogo.workflow.cascading import Cascaded, CascadeOptions, cascade
from gonogo.workflow.comparing import Compared, compare
from gonogo.workflow.options import LocatorOptions, Promise, TrainingOptions
from gonogo.workflow.quantising import Allowed, Quantised, QuantisingOptions, quantise
from gonogo.workflow.region import find_regions, place_roi
from gonogo.workflow.training import Trained, train_inspector

__all__ = [
    "Allowed",
    "CascadeOptions",
    "Cascaded",
    "Compared",
    "LocatorOptions",
    "Promise",
    "Quantised",
    "QuantisingOptions",
    "Trained",
    "TrainingOptions",
    "cascade",
    "compare",
    "find_regions",
    "place_roi",
    "quantise",
    "train_inspector",
]
