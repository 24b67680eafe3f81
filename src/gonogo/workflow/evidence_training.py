"""Training without torch: three kinds of evidence on frozen features, weighted by cross-validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from gonogo import runtime
from gonogo.backbone import PACKAGES, Backbone, pretrained
from gonogo.config import Zone, settings
from gonogo.dataset import Sample, Split
from gonogo.defect_kinds import KnownKinds
from gonogo.errors import ParityError
from gonogo.evidence import (
    FeatureTable,
    OutOfFold,
    Weighted,
    classifier_graph,
    fit_defect_kinds,
    fit_evidence,
    gather_features,
    judge_reference,
    losses_out_of_fold,
    measure_shift,
    out_of_fold,
)
from gonogo.evidence.cells import SHARPNESS
from gonogo.manifest import Classifier, Evidence, ZoneBias
from gonogo.progress import console
from gonogo.runtime import Graph, Picture, difference
from gonogo.schema import Label
from gonogo.source import TrainingSource, labels, masked
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.picture_size import clearly_better, sizes_to_try, usual_region_wh
from gonogo.workflow.sealing import Built, Unseen
from gonogo.zoning import Numbers, ZoneScale, zone_names

USUAL_WH = (224, 224)
MOST_TRIED_PICTURES = 240
"""Maximum number of pictures used to compare sizes."""
PARITY_PICTURES = 4
"""Number of pictures for the parity check; the reference implementation takes about a second per picture."""
PARITY_TOLERANCE = 1e-3
"""Largest allowed `runtime.difference` between graph and reference."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One backbone at one size, with out-of-fold scores of its evidence."""

    backbone: Backbone
    source: TrainingSource
    shift_xy: tuple[float, float]
    table: FeatureTable
    tried: OutOfFold


def train_evidence(source: TrainingSource, options: TrainingOptions) -> Built:
    """Choose the size, fit the evidence on train and val, and build the graph.

    Calibrate and test are not used.

    Args:
        source: Source of the training pictures; its size is replaced by the chosen one.
        options: Training options.

    Raises:
        InputError: the backbone is unknown, its package is not installed, or the size is not a multiple of 32.
    """
    samples = source.dataset.split(Split.TRAIN, Split.VAL)
    sizes = [options.size_wh] if options.size_wh else _sizes(source, samples, options)
    best = _best_trial(source, pictures_to_try(samples, options.seed), open_backbones(options), sizes, options)
    if len(best.table.bad) < len(samples):
        table = _table(best.backbone, best.source, samples, best.shift_xy, options, "computing features")
        best = replace(best, table=table, tried=out_of_fold(table, seed=options.seed))
    weighted = fit_evidence(best.table, best.tried, seed=options.seed)
    weighted = replace(weighted, defect_kinds=fit_defect_kinds(best.table, seed=options.seed))
    width, height = best.source.size_wh
    aurocs = best.tried.aurocs(best.table.bad)
    console.print(_sentence(best, aurocs))
    if weighted.defect_kinds is not None:
        console.print(_sentence_of_kinds(weighted.defect_kinds.known), markup=False, highlight=False)
    return Built(
        graph=classifier_graph(
            best.backbone.graph((width, height)), weighted, labels=(Label.GOOD.value, Label.BAD.value)
        ),
        source=best.source,
        classifier=described(best, weighted, aurocs),
        shift_xy=best.shift_xy,
        check=lambda graph: check_evidence(weighted, best.backbone, graph, best.source, samples),
        unseen=Unseen.of(best.tried.blended, best.table.bad),
        facts=_facts(best, aurocs),
        left_out={sample.file_name: float(score) for sample, score in zip(samples, best.tried.blended, strict=True)},
    )


def open_backbones(options: TrainingOptions) -> list[Backbone]:
    """Open the requested backbone, once for each input normalisation that its weights may expect.

    Raises:
        InputError: the backbone is unknown, or its package is not installed.
    """
    if options.own is not None:
        return [options.own]
    if options.backbone in PACKAGES and options.weights == "imagenet":
        return [pretrained(options.backbone)]
    from gonogo.workflow.torch_backbone import torch_backbones  # torch

    return torch_backbones(options)


def check_evidence(
    weighted: Weighted, backbone: Backbone, graph: Graph, source: TrainingSource, samples: Sequence[Sample]
) -> float:
    """Compare the compiled graph with the reference implementation, on pictures of both classes.

    Returns:
        The largest `runtime.difference` in score or heat map.

    Raises:
        ParityError: the difference exceeds `PARITY_TOLERANCE`.
    """
    return check_pictures(weighted, backbone, graph, source.plain(list(_alternating(samples))[:PARITY_PICTURES]))


def check_pictures(
    weighted: Weighted,
    backbone: Backbone,
    graph: Graph,
    pictures: Iterable[Picture],
    numbers: Iterable[Numbers | None] | None = None,
) -> float:
    """Like `check_evidence`, on pictures at the input size of the network, with zones also those of windows' cells."""
    worst = 0.0
    for picture, cells in zip(pictures, numbers or itertools.repeat(None), strict=False):
        found = graph(picture, None if cells is None else np.ascontiguousarray(cells))
        expected = judge_reference(weighted, backbone.reference(picture), cells)
        outputs: dict[str, npt.ArrayLike] = {"score": expected.score, "heatmap": expected.heatmap}
        if expected.zone_scores:
            outputs["zones"] = np.array(expected.zone_scores)
        if expected.defect_kinds is not None:
            outputs["kinds"] = expected.defect_kinds
        for name, value in outputs.items():
            worst = float(np.maximum(worst, difference(value, found[name][0])))  # max() would drop NaN
    if not worst <= PARITY_TOLERANCE:
        raise ParityError(
            f"The graph differs from its reference implementation by {worst:.2e}; at most {PARITY_TOLERANCE:.0e} is "
            "allowed. This is a bug in gonogo or in OpenVINO on this processor; please report it."
        )
    return worst


def _sizes(source: TrainingSource, samples: Sequence[Sample], options: TrainingOptions) -> list[tuple[int, int]]:
    region_wh = usual_region_wh(source, samples, options.reduction)
    return sizes_to_try(region_wh, both_classes=bool(labels(samples).any()))


def _best_trial(
    source: TrainingSource,
    samples: Sequence[Sample],
    backbones: Sequence[Backbone],
    sizes: Sequence[tuple[int, int]],
    options: TrainingOptions,
) -> Trial:
    """The smallest size whose out-of-fold loss no larger size improves significantly."""
    best = min(
        (_try(each, usual_shift(each), source, samples, sizes[0], options) for each in backbones),
        key=lambda trial: float(losses_out_of_fold(trial.tried, trial.table.bad).mean()),
    )
    for size_wh in sizes[1:]:
        other = _try(best.backbone, best.shift_xy, source, samples, size_wh, options)
        if clearly_better(*(losses_out_of_fold(each.tried, each.table.bad) for each in (other, best))):
            best = other
    return best


def _try(
    backbone: Backbone,
    shift_xy: tuple[float, float],
    source: TrainingSource,
    samples: Sequence[Sample],
    size_wh: tuple[int, int],
    options: TrainingOptions,
) -> Trial:
    sized = replace(source, size_wh=size_wh)
    graph = runtime.compile_graph(backbone.graph(size_wh), many=True)
    name = f"features at {size_wh[0]} x {size_wh[1]}"
    table = _gather(graph, sized, samples, shift_xy, options, name)
    return Trial(
        backbone=backbone,
        source=sized,
        shift_xy=shift_xy,
        table=table,
        tried=out_of_fold(table, seed=options.seed),
    )


def usual_shift(backbone: Backbone) -> tuple[float, float]:
    """Spatial offset of the stride-16 map, in cells, so that it hardly depends on the size."""
    graph = runtime.compile_graph(backbone.graph(USUAL_WH))
    return measure_shift(lambda picture: graph(picture)["stride_16"][0], USUAL_WH)


def _table(
    backbone: Backbone,
    source: TrainingSource,
    samples: Sequence[Sample],
    shift_xy: tuple[float, float],
    options: TrainingOptions,
    message: str,
) -> FeatureTable:
    graph = runtime.compile_graph(backbone.graph(source.size_wh), many=True)
    return _gather(graph, source, samples, shift_xy, options, message)


def _gather(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    shift_xy: tuple[float, float],
    options: TrainingOptions,
    message: str,
) -> FeatureTable:
    return gather_features(
        graph,
        source,
        samples,
        shift_xy=shift_xy,
        masks=options.masks and masked(samples),
        scratch=settings().cache_dir / "scratch",
        message=message,
    )


def pictures_to_try(samples: Sequence[Sample], seed: int) -> Sequence[Sample]:
    """A random subset of pictures for comparing sizes, half of them bad if there are enough."""
    if len(samples) <= MOST_TRIED_PICTURES:
        return samples
    order = np.random.default_rng(seed).permutation(len(samples))
    taken: list[Sample] = []
    for label, most in ((Label.BAD, MOST_TRIED_PICTURES // 2), (Label.GOOD, MOST_TRIED_PICTURES)):
        for index in order:
            if samples[index].label is label and len(taken) < most:
                taken.append(samples[index])
    return taken


def _alternating(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Alternate bad and good pictures."""
    kinds = [[sample for sample in samples if sample.label is label] for label in (Label.BAD, Label.GOOD)]
    for index in range(max(map(len, kinds))):
        yield from (kind[index] for kind in kinds if index < len(kind))


def described(best: Trial, weighted: Weighted, aurocs: dict[str, float]) -> Classifier:
    """Describe the classifier for the manifest."""
    weights = {
        "context": weighted.context_weight,
        "memory": weighted.memory_weight,
        "cells": weighted.cells_weight,
    }
    return Classifier(
        backbone=best.backbone.name,
        cuts=("stride_8", "stride_16", "stride_32"),
        pool="evidence",
        sharpness=SHARPNESS,
        bias=weighted.bias,
        weights=best.backbone.weights,
        zones=zone_biases(best.source.zones, weighted.zone_scales if weighted.inspects else (), weighted.bias),
        evidence=tuple(
            Evidence(kind=kind, weight=weights[kind], auroc=aurocs.get(kind))  # type: ignore[arg-type]
            for kind in weighted.kinds
        ),
        defect_kinds=None if weighted.defect_kinds is None else weighted.defect_kinds.known,
    )


def zone_biases(zones: Sequence[Zone], scales: Sequence[ZoneScale], bias: float) -> tuple[ZoneBias, ...]:
    """Describe the scales of the inspect zones and the rest for the manifest."""
    return tuple(
        ZoneBias(name=name, factor=scale.factor, bias=scale.factor * bias + scale.offset)
        for name, scale in zip(zone_names(zones) if scales else (), scales, strict=True)
    )


def _facts(best: Trial, aurocs: dict[str, float]) -> dict[str, JsonValue]:
    return {
        "auroc_on_parts_left_out": dict(aurocs),
        "memory_strides": list(best.tried.memory_strides),
        "pictures": len(best.table.bad),
        "bad_pictures": int(best.table.bad.sum()),
    }


def _sentence(best: Trial, aurocs: dict[str, float]) -> str:
    width, height = best.source.size_wh
    seen = f"The network sees {width} x {height} pixels."
    if not aurocs:
        return f"{seen} There are no bad parts to learn from: parts are judged by their distance to good parts alone."
    kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in aurocs.items() if kind != "all")
    return f"{seen} Cross-validated AUROC of each kind of evidence alone: {kinds}."


def _sentence_of_kinds(known: KnownKinds) -> str:
    return (
        f"It names {len(known.names)} defect kinds ({', '.join(known.names)}): {known.named_right:.0%} correct in "
        f"cross-validation on bad parts; unlike any of them if the likeliest is below {known.least_share:.0%}."
    )
