"""Training with torch: a head fitted on a backbone as it comes, then the whole network fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from gonogo.bundle import Classifier
from gonogo.dataset import Split
from gonogo.export import check_parity, export_classifier, network_shift
from gonogo.model import SHARPNESS, Network, architecture
from gonogo.progress import track
from gonogo.runtime import Picture
from gonogo.schema import Label
from gonogo.source import Source, labels
from gonogo.train import fine_tune, training_device
from gonogo.workflow.fitting import frozen_gear, settled
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.sealing import Built, Unseen


def train_fine_tuned(source: Source, options: TrainingOptions, work: Path) -> tuple[Built, list[dict[str, float]]]:
    """Fit a head, fine-tune everything, and build the graph.

    Returns:
        The network ready to be sealed, and one row per epoch.

    Raises:
        InputError: unknown backbone, weights that do not fit, or no such device.
    """
    tuning = options.fine_tuning
    assert tuning is not None, "asked for"
    options = settled(options, source.dataset)
    training_device(options.device)
    torch.manual_seed(options.seed)
    side = architecture(options.backbone).side
    source = Source(dataset=source.dataset, size_wh=options.size_wh or (side, side), regions=source.regions)
    network, head = frozen_gear(source, options)
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
    )
    # Masks taught each cell where it looks; the features, measured after fine-tuning, may have moved elsewhere.
    shift_xy = None if head.cells is None else head.cells.shift_xy
    built = built_network(network, source, options.backbone, options.weights, shift_xy=shift_xy)
    return built, history


def built_network(
    network: Network, source: Source, backbone: str, weights: str, *, shift_xy: tuple[float, float] | None
) -> Built:
    """A trained network as a graph, with what the bundle says of it."""
    val = source.dataset.split(Split.VAL)

    def pictures() -> Iterable[Picture]:
        return track(source.plain(val), "torch against OpenVINO", total=len(val))

    with torch.no_grad():
        scores = np.array([float(network(torch.from_numpy(picture[None]))[0][0]) for picture in source.plain(val)])
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
        ),
        shift_xy=shift_xy or network_shift(network.features, source.size_wh),
        check=lambda graph: check_parity(network, graph, pictures()),
        unseen=Unseen.of(scores, labels(val)),
    )
