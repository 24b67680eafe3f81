"""The region of interest on the lab side: learning one, and finding it in every training picture."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from jaxtyping import Float64

from gonogo import roi, runtime
from gonogo.config import settings
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import DatasetError, InputError
from gonogo.export import check_locator_parity, export_features, export_locator
from gonogo.images.geometry import corners_of_box, side_lengths
from gonogo.model import FeatureNetwork, Locator, Normalisation, architecture, load_backbone, strided_cuts
from gonogo.progress import console, track
from gonogo.roi import LearnedRecipe, Roi
from gonogo.runtime import Graph
from gonogo.schema import Located, Region
from gonogo.train import Locating, Places, compute_places, fit_locator, fit_scaling, probe_error
from gonogo.train.locating import labelled_corners
from gonogo.workflow.normalisation import candidates

LEAST_PICTURES = 20
"""Fewer labelled boxes than this teach nothing worth having."""
IDENTITY = "identity"
STRIDES = (8, 16)
"""The locator looks at the backbone's last feature maps of these strides: fine enough for edges, wide enough for
objects."""
SLACK = 1.5
"""The taught range reaches beyond the labelled parts by this factor, either way."""
MISS_RATE = 0.01
"""Of the conformal margin."""


@dataclass(frozen=True, kw_only=True)
class LocatorOptions:
    """Everything that decides what a locator becomes."""

    backbone: str = "resnet18"
    weights: str = "imagenet"
    """A safetensors file, ``imagenet`` or ``none``."""
    cuts: tuple[str, ...] = ()
    """The last feature maps of strides 8 and 16 where omitted."""
    normalisation: Normalisation | None = None
    locating: Locating = field(default_factory=Locating)
    miss_rate: float = MISS_RATE
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """A backbone ready to compute the locator's features."""

    network: FeatureNetwork
    graph: Graph


def learn_roi(dataset: Dataset, folder: Path, options: LocatorOptions) -> LearnedRecipe:
    """Train a locator on the train split's boxes, calibrate its margin on val, write both into a folder.

    Pictures labelled ``present: false`` teach it to refuse; every labelled picture gives further ones, see
    `gonogo.train.views`.

    Args:
        dataset: Labelled boxes.
        folder: Where ``roi.toml`` and ``roi.xml`` go; exists.
        options: What to train.

    Raises:
        DatasetError: fewer than `LEAST_PICTURES` boxes to learn from.
        ParityError: the exported graph differs from the trained network.
    """
    train = taught(dataset, Split.TRAIN)
    boxed = [sample for sample in train if sample.box is not None]
    if len(boxed) < LEAST_PICTURES:
        raise DatasetError(
            f"{dataset.root}: --roi learned needs at least {LEAST_PICTURES} training pictures with a box, found "
            f"{len(boxed)}. Draw more boxes, or use --roi RECIPE.toml (gonogo roi tune) or --roi none."
        )
    views = options.locating.views_of(len(train))
    backbone, places = _frozen(dataset, train, views, options)
    scaling = fit_scaling(places)
    head = fit_locator(places, scaling, options.locating, seed=options.seed)
    locator = Locator(backbone.network, head, scaling).eval()
    model = export_locator(locator, options.locating.size_wh)
    try:
        ov.save_model(model, folder / roi.NETWORK, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error
    machine = settings()
    graph = runtime.compile_graph(folder / roi.NETWORK, device=machine.device, threads=machine.threads)
    held_out = [sample for sample in taught(dataset, Split.VAL) if sample.box is not None]
    check_locator_parity(locator, graph, (dataset.load(sample) for sample in (held_out or boxed)[:8]))
    recipe = taught_range(boxed, dataset, options.locating.size_wh)
    recipe = with_margin(recipe, graph, dataset, held_out, options.miss_rate)
    roi.write_recipe(folder / roi.RECIPE, recipe, comment=_remark(recipe, len(boxed)))
    return recipe


def taught(dataset: Dataset, split: Split) -> list[Sample]:
    """What a locator learns from, or is tried on: pictures with a box, and those labelled as showing no single part.

    The latter belong to no split, since nobody judges them: every other one trains.
    """
    without = [sample for sample in dataset.samples if sample.present is False]
    share = without[::2] if split is Split.TRAIN else without[1::2]
    return [*(sample for sample in dataset.split(split) if sample.box is not None), *share]


def taught_range(boxed: Sequence[Sample], dataset: Dataset, size_wh: tuple[int, int]) -> LearnedRecipe:
    """A recipe with the range of sizes and aspects that the labelled parts have, and some slack."""
    turned = all(sample.quad is not None for sample in boxed)
    areas, aspects = [], []
    for sample in track(boxed, "measuring boxes"):
        height, width = dataset.load(sample).shape[:2]
        lengths = side_lengths(_truth(sample, turned=turned)[None])[0]
        areas.append(float(lengths.prod()) / (width * height))
        aspects.append(float(lengths.max() / lengths.min()))
    return LearnedRecipe(
        size_wh=size_wh,
        turned=turned,
        area=(min(areas) / SLACK, min(1.0, max(areas) * SLACK)),
        aspect=(max(1.0, min(aspects) / SLACK), max(aspects) * SLACK),
    )


def with_margin(
    recipe: LearnedRecipe, graph: Graph, dataset: Dataset, held_out: Sequence[Sample], miss_rate: float
) -> LearnedRecipe:
    """The recipe with a margin proven on parts that trained nothing; with the article's 5 % where they are too few."""
    search = roi.LearnedRoi(recipe, graph)
    worst: dict[str, float] = {}
    for sample in track(held_out, "calibrating the margin"):
        residual = roi.outward_residual(search.locate(dataset.load(sample)), _truth(sample, turned=recipe.turned))
        worst[sample.part_id] = max(residual, worst.get(sample.part_id, -np.inf))
    margin = roi.conformal_margin(list(worst.values()), miss_rate)
    if margin is None:
        console.print(
            f"Margin: {roi.FIXED_MARGIN:.0%}, unproven. To prove that the whole part lies inside with a probability of "
            f"{1 - miss_rate:.0%} takes {roi.parts_needed(miss_rate)} val parts with a box that are found; there are "
            f"{sum(map(np.isfinite, worst.values()))} of {len(worst)}."
        )
        return recipe
    console.print(
        f"Margin: {margin.share:.2%}; it contains the whole part with a probability of at least {1 - miss_rate:.0%}, "
        f"by {margin.parts} val parts."
    )
    return recipe.model_copy(
        update={"margin": margin.share, "margin_miss_rate": margin.miss_rate, "margin_parts": margin.parts}
    )


def find_regions(search: Roi, dataset: Dataset, samples: Sequence[Sample]) -> dict[str, Region]:
    """What the inspector will cut out of each picture, by file name.

    Where the part is not found the labelled box stands in, so that the picture is not lost; a picture with neither is
    left out and said so.
    """
    regions: dict[str, Region] = {}
    stood_in, lost = [], []
    for sample in track(samples, "finding the region"):
        located = search.locate(dataset.load(sample))
        region = located.region if located.present else _labelled(sample)
        if region is None:
            lost.append((sample.file_name, located.reason))
            continue
        regions[sample.file_name] = region
        if not located.present:
            stood_in.append(sample.file_name)
    if lost:
        name, reason = lost[0]
        console.print(f"{len(lost)} pictures without a region are left out of training, the first: {name} ({reason}).")
    if stood_in:
        console.print(f"In {len(stood_in)} of {len(samples)} pictures the labelled box stands in for one not found.")
    return regions


def keep_roi(source: str, dataset: Dataset, folder: Path, options: LocatorOptions) -> Roi | None:
    """As `place_roi`, in a folder that outlives an interruption: the same call finds what it left there."""
    learned_from = [sample.model_dump_json() for sample in (*taught(dataset, Split.TRAIN), *taught(dataset, Split.VAL))]
    identity = hashlib.sha256(repr((source, options, learned_from)).encode()).hexdigest()
    stated = folder / IDENTITY
    if source == "learned" and stated.is_file() and stated.read_text() == identity:
        return roi.open_roi(folder / roi.RECIPE)
    shutil.rmtree(folder, ignore_errors=True)
    if source == "none":
        return None
    folder.mkdir(parents=True)
    found = place_roi(source, dataset, folder, options)
    stated.write_text(identity)
    return found


def place_roi(source: str, dataset: Dataset, folder: Path, options: LocatorOptions) -> Roi:
    """Put the region of interest that ``--roi`` asks for into a folder and open it.

    Args:
        source: ``learned`` or a recipe's file.
        dataset: For a learned one.
        folder: Where ``roi.toml`` goes.
        options: For a learned one.
    """
    if source == "learned":
        learn_roi(dataset, folder, options)
    else:
        path = Path(source)
        roi.write_recipe(folder / roi.RECIPE, roi.read_recipe(path))
        for network in (path.parent / roi.NETWORK, (path.parent / roi.NETWORK).with_suffix(".bin")):
            if network.is_file():
                shutil.copyfile(network, folder / network.name)
    return roi.open_roi(folder / roi.RECIPE)


def _frozen(
    dataset: Dataset, train: Sequence[Sample], views: int, options: LocatorOptions
) -> tuple[FrozenBackbone, Places]:
    """The backbone with the input normalisation that its weights were made for, and the training views' features."""
    size_wh, scratch = options.locating.size_wh, settings().cache_dir / "scratch"
    torch.manual_seed(options.seed)
    cuts = options.cuts or strided_cuts(options.backbone, STRIDES, architecture(options.backbone).side)
    stack = load_backbone(options.backbone, weights=options.weights, cuts=cuts, seed=options.seed).eval()
    networks = [
        FeatureNetwork(stack, each).eval()
        for each in candidates(options.normalisation, options.backbone, options.weights)
    ]
    found = [
        FrozenBackbone(network=each, graph=runtime.compile_graph(export_features(each, size_wh), many=True))
        for each in networks
    ]
    if len(found) > 1:
        probes = [sample for sample in train if sample.box is not None][:200]
        groups = [sample.part_id for sample in probes]
        errors = [
            probe_error(compute_places(each.graph, dataset, probes, size_wh, views=1, seed=0, scratch=scratch), groups)
            for each in found
        ]
        found = [found[int(np.argmin(errors))]]
    return found[0], compute_places(
        found[0].graph, dataset, train, size_wh, views=views, seed=options.seed, scratch=scratch
    )


def _labelled(sample: Sample) -> Region | None:
    box = sample.box
    return None if box is None else Located(present=True, box=box, margin=roi.FIXED_MARGIN).region


def _truth(sample: Sample, *, turned: bool) -> Float64[np.ndarray, "4 2"]:
    corners = labelled_corners(sample) if turned else None
    if corners is not None:
        return corners
    assert sample.box is not None, "only samples with a box are asked for"
    return corners_of_box(sample.box)


def _remark(recipe: LearnedRecipe, pictures: int) -> str:
    proven = (
        f"proven on {recipe.margin_parts} parts" if recipe.margin_miss_rate is not None else "unproven, the usual 5 %"
    )
    return f"Learned from {pictures} labelled boxes by gonogo train --roi learned; margin {proven}."
