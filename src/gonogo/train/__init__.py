"""The readable loops: frozen features with a fitted head, and fine-tuning."""

from gonogo.train.box_losses import BoxLoss
from gonogo.train.cells import (
    Cells,
    Discriminant,
    defect_maps,
    discriminants,
    fit_score,
    gather_cells,
)
from gonogo.train.distilling import Distillation, Lessons, Seen, cell_units, distil, make_lessons, watch_teacher
from gonogo.train.features import Maps, Pooled, feature_maps, pooled_features, stream_maps
from gonogo.train.finetune import METRICS, FineTuning, fine_tune
from gonogo.train.head import Head, balanced_loss, cross_validated_loss, fit_map, fit_mean
from gonogo.train.locating import (
    Locating,
    Places,
    choose_presence,
    compute_places,
    fit_locator,
    fit_scaling,
    probe_error,
    sight,
)
from gonogo.train.precision import training_device
from gonogo.train.statistics import restore_statistics

__all__ = [
    "METRICS",
    "BoxLoss",
    "Cells",
    "Discriminant",
    "Distillation",
    "FineTuning",
    "Head",
    "Lessons",
    "Locating",
    "Maps",
    "Places",
    "Pooled",
    "Seen",
    "balanced_loss",
    "cell_units",
    "choose_presence",
    "compute_places",
    "cross_validated_loss",
    "defect_maps",
    "discriminants",
    "distil",
    "feature_maps",
    "fine_tune",
    "fit_locator",
    "fit_map",
    "fit_mean",
    "fit_scaling",
    "fit_score",
    "gather_cells",
    "make_lessons",
    "pooled_features",
    "probe_error",
    "restore_statistics",
    "sight",
    "stream_maps",
    "training_device",
    "watch_teacher",
]
