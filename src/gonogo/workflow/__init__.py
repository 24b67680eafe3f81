"""Train, export, certify, seal: from a data set to a bundle."""

from gonogo.workflow.quantising import Allowed, Quantised, QuantisingOptions, quantise
from gonogo.workflow.region import LocatorOptions, find_regions, learn_roi, place_roi
from gonogo.workflow.training import Promise, Trained, TrainingOptions, certify, train_inspector

__all__ = [
    "Allowed",
    "LocatorOptions",
    "Promise",
    "Quantised",
    "QuantisingOptions",
    "Trained",
    "TrainingOptions",
    "certify",
    "find_regions",
    "learn_roi",
    "place_roi",
    "quantise",
    "train_inspector",
]
