"""Trains a locator with torch: from labelled boxes to a network with a calibrated margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import torch

from gonogo import roi, runtime
from gonogo.array_types import Float64
from gonogo.config import settings
from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.splits import deal_folds
from gonogo.errors import DatasetError, InputError
from gonogo.export import FrozenNetwork, check_locator_parity, export_locator, frozen_networks
from gonogo.images.geometry import area_and_aspect, as_quad, corners_of_box
from gonogo.model import (
    PIXELS_SIDE,
    FeatureNetwork,
    Locator,
    Pixels,
    Scaling,
    architecture,
    load_backbone,
    strided_cuts,
)
from gonogo.progress import console, track
from gonogo.roi import LearnedConfig
from gonogo.roi.learned import CLOSER_BELOW, FILLED, SMALL, closer_scale
from gonogo.runtime import Graph
from gonogo.source import labelled_box, labelled_corners
from gonogo.train import Locating, Places, choose_presence, compute_places, fit_locator, fit_scaling, probe_error
from gonogo.workflow.locator_samples import locator_samples
from gonogo.workflow.normalisation import candidates
from gonogo.workflow.options import LocatorOptions

LEAST_PICTURES = 20
"""Fewest labelled boxes to train a locator on."""
STRIDES = (8, 16)
"""The locator uses the last feature maps of these strides: fine enough for edges, coarse enough for objects."""
SLACK = 1.5
"""Factor by which the accepted range of sizes and aspects extends beyond the labelled parts."""


def input_wh(options: LocatorOptions) -> tuple[int, int]:
    """Input size of the locator."""
    side = PIXELS_SIDE if options.weights == "none" else architecture(options.backbone).side
    return options.size_wh or (side, side)


@dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """A frozen backbone and its compiled graph."""

    network: FeatureNetwork
    graph: Graph


def learn_roi(dataset: Dataset, folder: Path, options: LocatorOptions) -> LearnedConfig:
    """Train a locator on the boxes of the train split, calibrate its margin on val, and write both to a folder.

    Pictures labelled ``present: false`` train it to refuse; further ones are augmented from labelled pictures, see
    `gonogo.train.augmentations`.

    Args:
        dataset: A data set with labelled boxes.
        folder: Existing folder for ``roi.toml`` and ``roi.xml``.
        options: Options of the locator.

    Raises:
        DatasetError: there are fewer than `LEAST_PICTURES` boxes.
        ParityError: the exported graph differs from the trained network.
    """
    train = locator_samples(dataset, Split.TRAIN)
    boxed = [sample for sample in train if labelled_box(sample) is not None]
    if len(boxed) < LEAST_PICTURES:
        raise DatasetError(
            f"{dataset.root}: --roi learned requires at least {LEAST_PICTURES} training pictures with a box, found "
            f"{len(boxed)}. Draw more boxes, or use --roi ROI.toml (gonogo roi tune) or --roi none."
        )
    locating = options.locating or Locating()
    config = taught_range(boxed, dataset, input_wh(options))
    if config.closer_below:
        locating = locating.for_loose_parts()
    views = locating.views_of(len(train))
    backbone, places = _frozen(dataset, train, views, options)
    scaling = fit_scaling(places)
    head = fit_locator(places, scaling, locating, seed=options.seed)
    locator = Locator(backbone.network, head, scaling).eval()
    model = export_locator(locator, input_wh(options))
    try:
        ov.save_model(model, folder / roi.NETWORK, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO raises this when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error
    machine = settings()
    graph = runtime.compile_graph(folder / roi.NETWORK, threads=machine.threads)
    held_out = [sample for sample in locator_samples(dataset, Split.VAL) if labelled_box(sample) is not None]
    check_locator_parity(locator, graph, (dataset.load(sample) for sample in (held_out or boxed)[:8]))
    config = _with_presence(config, train, places, scaling, locating, seed=options.seed)
    config = with_margin(config, graph, dataset, held_out, options.miss_rate)
    roi.write_roi_config(folder / roi.RECIPE, config, comment=_remark(config, len(boxed)))
    return config


def taught_range(boxed: Sequence[Sample], dataset: Dataset, size_wh: tuple[int, int]) -> LearnedConfig:
    """A ROI config with the range of sizes and aspects of the labelled parts, extended by `SLACK`."""
    turned = all(sample.quad is not None for sample in boxed)
    areas, aspects, scales = [], [], []
    for sample in track(boxed, "measuring boxes"):
        assert sample.box is not None, "the caller passes samples with a box"
        height, width = dataset.load(sample).shape[:2]
        area, aspect = area_and_aspect(as_quad(_truth(sample, turned=turned)), (width, height))
        areas.append(area)
        aspects.append(aspect)
        scales.append(closer_scale(sample.box, (width, height)))
    return LearnedConfig(
        size_wh=size_wh,
        turned=turned,
        # The second pass needs training on small parts. Such parts are not in a fixture, so their box is harder to find
        # and a second pass is worth the time.
        closer_below=CLOSER_BELOW if min(scales) * FILLED < SMALL else 0.0,
        area=(min(areas) / SLACK, min(1.0, max(areas) * SLACK)),
        aspect=(max(1.0, min(aspects) / SLACK), max(aspects) * SLACK),
    )


def with_margin(
    config: LearnedConfig, graph: Graph, dataset: Dataset, held_out: Sequence[Sample], miss_rate: float
) -> LearnedConfig:
    """Set the margin from held-out parts, or keep the default of 5 % if there are too few."""
    search = roi.LearnedRoi(config, graph)
    worst: dict[str, float] = {}
    for sample in track(held_out, "calibrating the margin"):
        residual = roi.outward_residual(search.locate(dataset.load(sample)), _truth(sample, turned=config.turned))
        worst[sample.part_id] = max(residual, worst.get(sample.part_id, -np.inf))
    margin = roi.conformal_margin(list(worst.values()), miss_rate)
    if margin is not None and margin.share > 1:  # more than a ROI config allows
        console.print(
            f"Margin: {roi.FIXED_MARGIN:.0%}, uncalibrated, because {margin.share:.0%} would be required. Train longer."
        )
        return config
    if margin is None:
        needed = roi.margin_parts_needed(miss_rate)
        console.print(
            f"Margin: {roi.FIXED_MARGIN:.0%}, uncalibrated. To certify that the whole part lies inside with a "
            f"probability of {1 - miss_rate:.0%}, {needed} val parts with a box must be found; found "
            f"{sum(map(np.isfinite, worst.values()))} of {len(worst)}."
        )
        return config
    console.print(
        f"Margin: {margin.share:.2%}; it contains the whole part with a probability of at least {1 - miss_rate:.0%}, "
        f"calibrated on {margin.parts} val parts."
    )
    return config.model_copy(
        update={"margin": margin.share, "margin_miss_rate": margin.miss_rate, "margin_parts": margin.parts}
    )


def locator_features(options: LocatorOptions) -> list[FrozenNetwork]:
    """The backbone with each input normalisation that its weights may expect."""
    normalisations = candidates(options.normalisation, options.backbone, options.weights)
    if options.weights == "none":
        return frozen_networks(Pixels(), normalisations[:1])
    cuts = options.cuts or strided_cuts(options.backbone, STRIDES, architecture(options.backbone).side)
    stack = load_backbone(options.backbone, weights=options.weights, cuts=cuts, seed=options.seed)
    return frozen_networks(stack, normalisations)


def _frozen(
    dataset: Dataset, train: Sequence[Sample], views: int, options: LocatorOptions
) -> tuple[FrozenBackbone, Places]:
    """The backbone with the best input normalisation, and the features of the training pictures."""
    size_wh, scratch = input_wh(options), settings().cache_dir / "scratch"
    torch.manual_seed(options.seed)
    networks = locator_features(options)
    found = [
        FrozenBackbone(network=each.features, graph=runtime.compile_graph(each.joined(size_wh), many=True))
        for each in networks
    ]
    if len(found) > 1:
        probes = [sample for sample in train if labelled_box(sample) is not None][:200]
        groups = [sample.part_id for sample in probes]
        errors = [
            probe_error(compute_places(each.graph, dataset, probes, size_wh, views=1, seed=0, scratch=scratch), groups)
            for each in found
        ]
        found = [found[int(np.argmin(errors))]]
    return found[0], compute_places(
        found[0].graph, dataset, train, size_wh, views=views, seed=options.seed, scratch=scratch
    )


def _with_presence(
    config: LearnedConfig,
    train: Sequence[Sample],
    places: Places,
    scaling: Scaling,
    locating: Locating,
    *,
    seed: int,
) -> LearnedConfig:
    """Set the presence threshold, chosen by cross-validation on the training pictures."""
    folds = deal_folds(train, locating.presence_folds, seed=seed)
    if len(np.unique(folds)) < 2:
        return config
    views = np.repeat(folds, len(places.maps) // len(train))
    presence = choose_presence(places, scaling, views, locating, seed=seed)
    console.print(f"Presence threshold: {presence:.2f}, chosen by cross-validation on the training pictures.")
    return config.model_copy(update={"least_presence": presence})


def _truth(sample: Sample, *, turned: bool) -> Float64[np.ndarray, "4 2"]:
    corners = labelled_corners(sample) if turned else None
    if corners is not None:
        return corners
    assert sample.box is not None, "the caller passes samples with a box"
    return corners_of_box(sample.box)


def _remark(config: LearnedConfig, pictures: int) -> str:
    proven = (
        f"calibrated on {config.margin_parts} parts" if config.margin_miss_rate is not None else "uncalibrated, 5 %"
    )
    return f"Learned from {pictures} labelled boxes by gonogo train --roi learned; margin {proven}."
