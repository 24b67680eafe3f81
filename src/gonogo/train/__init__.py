"""The readable loops: frozen features with a fitted head, and fine-tuning."""

from gonogo.train.features import Maps, Pooled, feature_maps, pooled_features
from gonogo.train.finetune import METRICS, FineTuning, fine_tune
from gonogo.train.head import Head, balanced_loss, cross_validated_loss, fit_map, fit_mean
from gonogo.train.source import Locate, Source, labels
from gonogo.train.statistics import restore_statistics

__all__ = [
    "METRICS",
    "FineTuning",
    "Head",
    "Locate",
    "Maps",
    "Pooled",
    "Source",
    "balanced_loss",
    "cross_validated_loss",
    "feature_maps",
    "fine_tune",
    "fit_map",
    "fit_mean",
    "labels",
    "pooled_features",
    "restore_statistics",
]
