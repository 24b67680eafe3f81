"""Distills a teacher into a student: a smaller network, certified for the same promise, in its own bundle."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from gonogo import bundle, runtime
from gonogo.augment import PLAIN, Augmentation
from gonogo.bundle import Bundle
from gonogo.config import Checks, Recipe, Reduction, settings
from gonogo.dataset import Dataset, Sample, Split, require_trainable
from gonogo.errors import InputError
from gonogo.files import folder_beside
from gonogo.inspector import Inspector
from gonogo.model import FeatureNetwork, MapHead, Network, Normalisation, Pool, architecture, load_backbone
from gonogo.operating_point import worst_per_part
from gonogo.progress import console
from gonogo.schema import Label, Scores
from gonogo.signing import NOT_REQUIRED
from gonogo.source import TrainingSource
from gonogo.train import (
    Distillation,
    DistillationSet,
    TeacherOutput,
    cell_units,
    make_distillation_set,
    run_teacher,
    train_student,
)
from gonogo.workflow.comparing import (
    TeacherComparison,
    compare_with_teacher,
    expected_point,
    promise_of,
    require_map,
    require_same_data,
    require_whole_regions,
)
from gonogo.workflow.fine_tuned import built_network, set_zones
from gonogo.workflow.region import copy_roi
from gonogo.workflow.sealing import fill_bundle, plain
from gonogo.workflow.training import make_source, require_resolution
from gonogo.zoning import zone_names, zones_digest


@dataclass(frozen=True, kw_only=True)
class DistillingOptions:
    """Options of a distillation."""

    backbone: str = "mobilenet_v3_small"
    weights: str = "none"
    """A safetensors file, ``imagenet`` or ``none``."""
    cuts: tuple[str, ...] = ()
    pool: Pool = Pool.LSE
    size_wh: tuple[int, int] | None = None
    """Input size; default that of the teacher."""
    reduction: Reduction | None = None
    """Scale pictures down by this factor before judging; default that of the teacher."""
    normalisation: Normalisation | None = None
    """Default that of the backbone. The whole network is trained, so the choice matters little."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    recipe: Distillation = field(default_factory=Distillation)
    split: Split = Split.TEST
    """Split on which the student is compared with its teacher."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """A student and its comparison with the teacher."""

    bundle: Bundle
    compared: TeacherComparison
    history: list[dict[str, float]]
    """One row per epoch."""


def distill_bundle(
    teacher: Inspector,
    dataset: Dataset,
    out: Path,
    options: DistillingOptions | None = None,
    *,
    overwrite: bool = False,
) -> Distilled:
    """Train a small network on the scores and maps of a bundle, and certify it for the same promise.

    Trains on train, selects the epoch on val, certifies on calibrate and compares on test. Only the graph of the
    teacher is needed.

    Args:
        teacher: A certified inspector with one network.
        dataset: The labelled and split data set that it was trained on.
        out: Path of the new bundle.
        options: Default `DistillingOptions()`.
        overwrite: Replace an existing bundle once the new one is complete.

    Raises:
        InputError: the data are unsuitable, the teacher is a cascade, the backbone or its weights are invalid, or
            ``out`` exists.
        UnfitError: the teacher has no certified escape limit, or the exported graph differs from the trained network.
    """
    options = options or DistillingOptions()
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    if teacher.cascade is not None:
        raise InputError(f"{teacher.path}: expected a bundle with one network, found a cascade. Give its teacher.")
    require_whole_regions(teacher)
    require_map(teacher)
    promise = promise_of(teacher)
    require_trainable(dataset)
    require_same_data(dataset, teacher)
    search = None if teacher.recipe.roi == "none" else teacher.roi
    options = _where_zones_stay(teacher, options)
    source = make_source(dataset, search, options.size_wh or teacher.recipe.size_wh, teacher.recipe.zones)
    reduction = options.reduction or teacher.recipe.reduction
    require_resolution(source, reduction, teacher.recipe.roi)
    network = _student(source, options)
    set_zones(network, source, (0.0, 0.0))
    work = out.with_name(f"{out.name}.work")
    train, val = _distillation_sets(teacher, source, network, options)
    history = train_student(network, train, val, options.recipe, seed=options.seed, work=work)
    facts: dict[str, JsonValue] = {"options": plain(asdict(options)), "distillation": [dict(row) for row in history]}
    with folder_beside(out, replace=overwrite) as partial:
        copy_roi(teacher.path, partial)
        # The targets are already corrected for the teacher's shift, so the student has none.
        built = built_network(network, source, options.backbone, options.weights, shift_xy=(0.0, 0.0))
        draft = fill_bundle(
            partial,
            out.name,
            built,
            search,
            reduction=reduction,
            reduced_by=teacher.recipe.reduced_by,
            promise=promise,
            facts=facts,
            trained_on=dataset,
            checks=_checks(teacher.recipe, reduction),
        )
        compared = compare_with_teacher(draft.inspector, teacher, dataset, options.split)
        draft.seal(distilled=compared.record())
    shutil.rmtree(work, ignore_errors=True)
    return Distilled(bundle=Inspector.load(out, policy=NOT_REQUIRED).bundle, compared=compared, history=history)


def _where_zones_stay(teacher: Inspector, options: DistillingOptions) -> DistillingOptions:
    """With zones, train on unchanged pictures: the teacher knows where the zones are only there.

    Raises:
        InputError: the teacher has inspect zones, whose scores a student with one score cannot learn.
    """
    if names := zone_names(teacher.recipe.zones):
        raise InputError(
            f"{teacher.path}: expected a bundle without inspect zones, found {', '.join(names)}. "
            "A small network with inspect zones is trained on the data: gonogo train --zones, or quantize this bundle."
        )
    if not zones_digest(teacher.recipe.zones):
        return options
    still = replace(options.augmentation, crops=1, rotations=1, flips=False, window=None)
    if still != options.augmentation:
        console.print("The bundle has ignore zones: the student is trained on pictures without crops and rotations.")
    return replace(options, augmentation=still)


def _checks(recipe: Recipe, reduction: Reduction) -> Checks:
    """The teacher's checks; its picture limits only if both judge the same pixels."""
    checks = Checks.of(recipe)
    return checks if recipe.reduction == reduction else checks.model_copy(update={"health": None})


def _student(source: TrainingSource, options: DistillingOptions) -> Network:
    """The pretrained backbone with an untrained head."""
    torch.manual_seed(options.seed)
    stack = load_backbone(options.backbone, weights=options.weights, cuts=options.cuts, seed=options.seed).eval()
    normalisation = options.normalisation or architecture(options.backbone).normalisation
    features = FeatureNetwork(stack, normalisation)
    width, height = source.size_wh
    with torch.no_grad():
        channels = features(torch.zeros(1, height, width, 3, dtype=torch.uint8)).shape[1]
    return Network(features, MapHead(channels, options.pool)).eval()


def _distillation_sets(
    teacher: Inspector, source: TrainingSource, network: Network, options: DistillingOptions
) -> tuple[DistillationSet, DistillationSet]:
    """The training and the validation set of the student."""
    machine, manifest = settings(), teacher.bundle.manifest
    graph = runtime.compile_graph(
        teacher.bundle.graph(bundle.CLASSIFIER),
        precision=manifest.precision,
        threads=machine.threads,
        many=True,
    )
    shown = replace(source, size_wh=teacher.recipe.size_wh)
    width, height = source.size_wh
    with torch.no_grad():
        defect_map = network(torch.zeros(1, height, width, 3, dtype=torch.uint8))[1]

    def watch(samples: tuple[Sample, ...], augmentation: Augmentation) -> TeacherOutput:
        cache = machine.cache_dir / "features"
        return run_teacher(
            graph, shown, samples, augmentation, seed=options.seed, cache=cache, teacher_sha256=teacher.bundle_sha256
        )

    def write(samples: tuple[Sample, ...], augmentation: Augmentation, seen: TeacherOutput) -> DistillationSet:
        return make_distillation_set(
            source,
            samples,
            augmentation,
            seen,
            seed=options.seed,
            grid=(defect_map.shape[1], defect_map.shape[2]),
            scale=scale,
            bias=bias,
            shift_xy=teacher.heat_scale.shift_xy,
            threshold=expected.go_below if expected.escape.holds else None,
            near_weight=options.recipe.near_weight,
            scratch=machine.cache_dir / "scratch",
        )

    train, val = (source.dataset.split(split) for split in (Split.TRAIN, Split.VAL))
    val_seen = watch(val, PLAIN)
    # The certified threshold comes from the calibrate split, which must not influence the student; estimate it on val.
    good, bad = _of_parts(val, val_seen)
    expected = expected_point(good, bad, source.dataset, promise_of(teacher))
    scale, bias = _cell_units(teacher, expected.go_below, bad)
    train_seen = watch(train, options.augmentation)
    return write(train, options.augmentation, train_seen), write(val, PLAIN, val_seen)


def _cell_units(teacher: Inspector, go_below: float, bad: Scores) -> tuple[float, float]:
    """Scale and bias that turn the cells of the teacher's map into logits."""
    if not teacher.bundle.manifest.classifier.evidence:
        return 1.0, teacher.bias
    scale = teacher.heat_scale
    passes = go_below if math.isfinite(go_below) else 0.0
    return cell_units(cold=scale.cold, hot=scale.hot, go_below=passes, bad_score=float(np.median(bad)))


def _of_parts(samples: Sequence[Sample], seen: TeacherOutput) -> tuple[Scores, Scores]:
    """The highest score of each good and of each bad part."""
    marked = {sample.part_id for sample in samples if sample.label is Label.BAD}
    parts, scores = worst_per_part([sample.part_id for sample in samples], seen.scores[:, 0])
    bad = np.array([part in marked for part in parts])
    return scores[~bad], scores[bad]
