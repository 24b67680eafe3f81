"""Training loops: heads on frozen features, fine-tuning, distillation and locators."""

from gonogo.train.box_losses import BoxLoss
from gonogo.train.cells import (
    Discriminant,
    LabelledCells,
    defect_maps,
    discriminants,
    fit_score,
    gather_cells,
)
from gonogo.train.distillation import (
    Distillation,
    DistillationSet,
    TeacherOutput,
    cell_units,
    make_distillation_set,
    run_teacher,
    train_student,
)
from gonogo.train.features import Maps, Pooled, feature_maps, pooled_features, stream_maps
from gonogo.train.finetune import METRICS, FineTuning, fine_tune
from gonogo.train.head import LinearHead, balanced_loss, cross_validated_loss, fit_map, fit_mean
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
    "Discriminant",
    "Distillation",
    "DistillationSet",
    "FineTuning",
    "LabelledCells",
    "LinearHead",
    "Locating",
    "Maps",
    "Places",
    "Pooled",
    "TeacherOutput",
    "balanced_loss",
    "cell_units",
    "choose_presence",
    "compute_places",
    "cross_validated_loss",
    "defect_maps",
    "discriminants",
    "feature_maps",
    "fine_tune",
    "fit_locator",
    "fit_map",
    "fit_mean",
    "fit_scaling",
    "fit_score",
    "gather_cells",
    "make_distillation_set",
    "pooled_features",
    "probe_error",
    "restore_statistics",
    "run_teacher",
    "sight",
    "stream_maps",
    "train_student",
    "training_device",
]
