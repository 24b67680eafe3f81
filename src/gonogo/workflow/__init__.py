"""Train, export, certify, seal: from a data set to a bundle, and from a bundle to a faster one."""

from gonogo.workflow.cascading import Cascaded, CascadeOptions, cascade
from gonogo.workflow.comparing import Compared, compare
from gonogo.workflow.distilling import Distilled, DistillingOptions, distill
from gonogo.workflow.options import Promise, TrainingOptions
from gonogo.workflow.quantising import Allowed, Quantised, QuantisingOptions, quantise
from gonogo.workflow.region import LocatorOptions, find_regions, learn_roi, place_roi
from gonogo.workflow.sealing import certify
from gonogo.workflow.training import Trained, train_inspector

__all__ = [
    "Allowed",
    "CascadeOptions",
    "Cascaded",
    "Compared",
    "Distilled",
    "DistillingOptions",
    "LocatorOptions",
    "Promise",
    "Quantised",
    "QuantisingOptions",
    "Trained",
    "TrainingOptions",
    "cascade",
    "certify",
    "compare",
    "distill",
    "find_regions",
    "learn_roi",
    "place_roi",
    "quantise",
    "train_inspector",
]
