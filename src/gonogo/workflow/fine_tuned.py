"""Training with torch: fit a head on the pretrained backbone, then fine-tune the whole network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gonogo import runtime
from gonogo.array_types import Float64
from gonogo.dataset import Sample, Split
from gonogo.dataset.splits import deal_folds
from gonogo.evidence import part_numbers
from gonogo.evidence.blend import balanced_losses
from gonogo.evidence.zoned import fit_scales
from gonogo.export import check_parity, export_classifier, network_shift
from gonogo.manifest import Classifier
from gonogo.model import SHARPNESS, HeadZones, Network, architecture
from gonogo.progress import console, track
from gonogo.ranks import ALONE, Ranks, ShareDoneError
from gonogo.runtime import Picture
from gonogo.schema import Label
from gonogo.source import TrainingSource, labels
from gonogo.train import fine_tune, training_device
from gonogo.workflow.evidence_training import USUAL_WH, train_evidence, zone_biases
from gonogo.workflow.fitting import resolve_options, train_frozen
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.picture_size import clearly_better
from gonogo.workflow.sealing import Built, Unseen
from gonogo.zoning import ZoneScale, require_cells, sensitivities, zone_names

LEAST_COMPARED = 5
"""Fewest pictures of each class for a comparison with the frozen backbone."""


def train_fine_tuned(
    source: TrainingSource, options: TrainingOptions, work: Path, ranks: Ranks = ALONE
) -> tuple[Built, list[dict[str, float]]]:
    """Fine-tune the whole network, and return it only if it is better on held-out pictures.

    Half of val, by part, selects the epoch; the other half is held out. On it the fine-tuned network is compared with
    the default method on the same frozen backbone, fitted on train and the first half. If the default method is as
    good, or the held-out half is too small to tell, the default method is trained on everything and returned. With
    random weights there is nothing to compare, and the fine-tuned network is always returned.

    Returns:
        The trained classifier, and one row per epoch.

    Raises:
        InputError: the backbone, its weights or the device are invalid.
        ShareDoneError: fine-tuning is done, and this is not the first of several processes.
    """
    if options.weights == "none":
        return _fine_tuned(source, options, work, ranks)
    fitted, held_out = _without_half_of_val(source, options.seed)
    tuned, history = _fine_tuned(fitted, options, work, ranks)
    counts = np.bincount(labels(held_out), minlength=2)
    if counts.min() < LEAST_COMPARED:
        console.print(
            f"Fine-tuning cannot be evaluated: expected {LEAST_COMPARED} or more good and bad pictures in half of val, "
            f"found {counts[0]} good and {counts[1]} bad. The default method is kept. Add parts, or split again with a "
            "larger val."
        )
        return train_evidence(source, options), history
    frozen = train_evidence(fitted, options)
    before, after = (_losses_on(each, held_out) for each in (frozen, tuned))
    losses = (
        f"(loss {after.mean():.3f} with fine-tuning, {before.mean():.3f} without, on {len(held_out)} held-out pictures)"
    )
    if clearly_better(after, before):
        console.print(f"Fine-tuning is kept {losses}.")
        return tuned, history
    console.print(f"Fine-tuning did not improve the result {losses}: the default method is kept.")
    return train_evidence(source, options), history


def _without_half_of_val(source: TrainingSource, seed: int) -> tuple[TrainingSource, list[Sample]]:
    """The source without half of val, and the held-out half, split by part."""
    val = source.dataset.split(Split.VAL)
    held_out = [sample for sample, fold in zip(val, deal_folds(val, 2, seed=seed), strict=True) if fold == 1]
    names = {sample.file_name for sample in held_out}
    left = tuple(sample for sample in source.dataset.samples if sample.file_name not in names)
    return replace(source, dataset=replace(source.dataset, samples=left)), held_out


def _losses_on(built: Built, samples: Sequence[Sample]) -> Float64[np.ndarray, " samples"]:
    """Class-balanced cross entropy of each picture, in nats."""
    graph = runtime.compile_graph(built.graph)
    scores = np.array([float(graph(picture)["score"][0]) for picture in built.source.plain(samples)])
    return balanced_losses(scores, labels(samples))


def _fine_tuned(
    source: TrainingSource, options: TrainingOptions, work: Path, ranks: Ranks
) -> tuple[Built, list[dict[str, float]]]:
    tuning = options.fine_tuning
    assert tuning is not None, "the caller checks that fine-tuning is requested"
    options = resolve_options(options, source.dataset)
    training_device(ranks.device(options.device))
    torch.manual_seed(options.seed)
    side = architecture(options.backbone).side if options.own is None else USUAL_WH[0]
    source = replace(source, size_wh=options.size_wh or (side, side))
    network, head = train_frozen(source, options)
    shift_xy = _zone_shift(network, source, None if head.cells is None else head.cells.shift_xy)
    set_zones(network, source, shift_xy or (0.0, 0.0))
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    history = fine_tune(
        network,
        source,
        train,
        val,
        tuning,
        options.augmentation,
        cells=head.cells,
        seed=options.seed,
        work=work,
        device=options.device,
        ranks=ranks,
    )
    if not ranks.first:
        raise ShareDoneError
    scale_zones(network, source, val)
    # The head was trained with this shift; fine-tuning may have changed the shift of the features.
    made = (options.backbone, options.weights) if options.own is None else (options.own.name, options.own.weights)
    return built_network(network, source, *made, shift_xy=shift_xy), history


def _zone_shift(
    network: Network, source: TrainingSource, known: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The shift that the zones of a map's cells are found with, if there are zones or it is known."""
    return network_shift(network.features, source.size_wh) if known is None and source.zones else known


def set_zones(network: Network, source: TrainingSource, shift_xy: tuple[float, float]) -> None:
    """Let a network pool the cells of the zones of a part only, in whole, unchanged pictures.

    Raises:
        InputError: A zone lies outside the inspected region, or nothing is left to inspect.
    """
    width, height = source.size_wh
    with torch.no_grad():
        shown = network.features.maps(torch.zeros(1, height, width, 3, dtype=torch.uint8))
        rows, columns = network.head.local(*shown).shape[1:]
    numbers = source.numbers((int(rows), int(columns)), shift_xy)
    if numbers is None:
        return
    require_cells(numbers, source.zones, source.margin, source.size_wh)
    scales = tuple(ZoneScale() for _ in zone_names(source.zones)) or (ZoneScale(),)
    network.head.zones = HeadZones(numbers=torch.from_numpy(numbers.copy()), scales=scales)


def scale_zones(network: Network, source: TrainingSource, samples: Sequence[Sample]) -> None:
    """Fit the scale of every inspect zone on good parts, see `gonogo.evidence.zoned.fit_scales`."""
    zones = network.head.zones
    if zones is None or len(zones.scales) == 1:
        return
    with torch.no_grad():
        scores = np.stack([network(torch.from_numpy(each[None]))[3][0].numpy() for each in source.plain(samples)])
    scales = fit_scales(scores.astype(np.float64), labels(samples), part_numbers(samples), sensitivities(source.zones))
    network.head.zones = replace(zones, scales=scales)


def built_network(
    network: Network, source: TrainingSource, backbone: str, weights: str, *, shift_xy: tuple[float, float] | None
) -> Built:
    """Export a trained network and describe it for the manifest."""
    val = source.dataset.split(Split.VAL)

    def pictures() -> Iterable[Picture]:
        return track(source.plain(val), "torch against OpenVINO", total=len(val))

    with torch.no_grad():
        scores = np.array([float(network(torch.from_numpy(picture[None]))[0][0]) for picture in source.plain(val)])
    scales = () if network.head.zones is None else network.head.zones.scales
    return Built(
        graph=export_classifier(network, source.size_wh, labels=(Label.GOOD.value, Label.BAD.value)),
        source=source,
        classifier=Classifier(
            backbone=backbone,
            cuts=network.features.stack.cuts,
            pool=network.head.pool.value,
            sharpness=SHARPNESS,
            bias=float(network.head.bias.detach()),
            weights=Path(weights).name,
            context=network.head.context is not None,
            zones=zone_biases(source.zones, scales if len(scales) > 1 else (), float(network.head.bias.detach())),
        ),
        shift_xy=shift_xy or network_shift(network.features, source.size_wh),
        check=lambda graph: check_parity(network, graph, pictures()),
        unseen=Unseen.of(scores, labels(val)),
    )
