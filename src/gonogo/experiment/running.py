"""Runs one cell: split, find the region, build the network, train, test, time."""

from __future__ import annotations

import time

import numpy as np
import openvino as ov
import torch
import torchvision

import gonogo
from gonogo import runtime
from gonogo.array_types import Float64, Int, UInt8
from gonogo.augment import Augmentation
from gonogo.config import settings
from gonogo.dataset import Sample, Split
from gonogo.errors import WeightsError
from gonogo.evaluate import auroc
from gonogo.experiment.cell import Cell, Counts, Initialisation, Measured, Row, Timing
from gonogo.experiment.data import StudyData
from gonogo.experiment.loop import scores_of, train_network
from gonogo.export import export_classifier
from gonogo.files import vanishing_array
from gonogo.model import (
    IMAGENET,
    SYMMETRIC,
    FeatureNetwork,
    FeatureStack,
    MapHead,
    Network,
    Normalisation,
    Pool,
    load_backbone,
    mean_vector,
)
from gonogo.progress import track
from gonogo.source import TrainingSource, labels
from gonogo.train import Pooled, cross_validated_loss, restore_statistics, training_device
from gonogo.workflow.normalisation import candidates

_NAMES = {IMAGENET: "ImageNet", SYMMETRIC: "[-1, 1]"}


def run_cell(cell: Cell, data: StudyData, *, device: str = "cpu") -> Row:
    """Train and test one cell. The row depends on the cell and the data only, apart from its `Timing`.

    Args:
        cell: What to run.
        data: The parts.
        device: Torch device to train on; latencies are those of the CPU.

    Returns:
        The row; an empty one, with the reason, if pretrained weights are asked for and there are none.

    Raises:
        DatasetError: The splits or the regions of this seed cannot be made.
        InputError: The device is not available.
    """
    place = training_device(device)
    dataset, regions = data.split(cell.protocol, cell.seed), data.regions(cell.approach, cell.protocol, cell.seed)
    start = time.monotonic()  # the regions are shared by many cells, and may have been waited for
    source = TrainingSource(dataset=dataset, size_wh=(cell.side_px, cell.side_px), regions=regions.by_name)
    train, val, test = (dataset.split(each) for each in (Split.TRAIN, Split.VAL, Split.TEST))
    try:
        network, normalisation = build_network(cell, source, train)
    except WeightsError as error:
        return Row(cell=cell, empty_because=str(error))
    views = _views(source, train, cell.augmentation, cell.seed)
    trained = train_network(
        network.to(memory_format=torch.channels_last).to(place),
        views,
        np.repeat(labels(train), cell.augmentation.views),
        np.stack(list(source.plain(val))),
        labels(val),
        cell.protocol,
        seed=cell.seed,
    )
    scores, bad = by_part(scores_of(network, np.stack(list(source.plain(test)))), test)
    seconds = time.monotonic() - start
    sizes = [parameter.numel() for parameter in network.parameters()]
    stored = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    measured = Measured(
        counts=_counts(scores, bad),
        auroc=auroc(scores[bad == 0], scores[bad == 1]),
        history=trained.history,
        best_epoch=trained.best_epoch,
        pictures=(len(train), len(val), len(test)),
        whole=regions.whole,
        normalisation=normalisation,
        parameters=sum(sizes),
        size_mb=round(stored / 1e6, 2),
    )
    return Row(cell=cell, measured=measured, timing=_timing(cell, network.cpu(), seconds, device))


def build_network(cell: Cell, source: TrainingSource, train: tuple[Sample, ...]) -> tuple[Network, str]:
    """Build a network whose last layer is one unit behind the mean over the last feature map.

    Returns:
        The network, and the name of its input normalisation.

    Raises:
        WeightsError: Pretrained weights are asked for, and there are none.
    """
    pretrained = cell.initialisation is Initialisation.PRETRAINED
    if pretrained and not cell.weights:
        raise WeightsError(
            f"no pretrained weights of {cell.topology} on this machine, and nothing is downloaded; "
            f"--weights {cell.topology}=FILE fills this row"
        )
    torch.manual_seed(cell.seed)
    weights = cell.weights if pretrained else "none"
    stack = load_backbone(cell.topology, weights=weights, seed=cell.seed)
    normalisation = _normalisation(stack, cell, weights, source, train)
    features = FeatureNetwork(stack, normalisation).eval()
    with torch.no_grad():
        width, height = source.size_wh
        channels = features(torch.zeros(1, height, width, 3, dtype=torch.uint8)).shape[1]
    network = Network(features, MapHead(channels, Pool.MEAN))
    if pretrained:  # random networks have no statistics to restore
        restore_statistics(network, source.plain(train))
    return network, _NAMES.get(normalisation, cell.topology)


def _normalisation(
    stack: FeatureStack, cell: Cell, weights: str, source: TrainingSource, train: tuple[Sample, ...]
) -> Normalisation:
    """The input normalisation of the weights; if a file does not say, the one whose features separate train better."""
    tried = candidates(None, cell.topology, weights)
    bad = labels(train)
    if len(tried) == 1 or min(np.bincount(bad, minlength=2)) < 2:
        return tried[0]
    parts, losses = [sample.part_id for sample in train], []
    for each in tried:
        features = FeatureNetwork(stack, each).eval()
        with torch.no_grad():
            rows = [mean_vector(features.maps(torch.from_numpy(picture[None])))[0] for picture in source.plain(train)]
        vectors = torch.stack(rows).numpy()[:, None]
        losses.append(cross_validated_loss(Pooled(vectors=vectors, bad=bad), parts))
    return tried[int(np.argmin(losses))]


def _views(
    source: TrainingSource, train: tuple[Sample, ...], augmentation: Augmentation, seed: int
) -> UInt8[np.ndarray, "views height width 3"]:
    """Every crop and rotation of every training picture, on disk."""
    width, height = source.size_wh
    total = len(train) * augmentation.views
    stored = vanishing_array((total, height, width, 3), np.uint8, settings().cache_dir / "scratch")
    views = source.views(train, augmentation, seed=seed)
    for number, view in enumerate(track(views, "preparing pictures", total=total)):
        stored[number] = view.picture
    return stored


def by_part(
    scores: Float64[np.ndarray, " pictures"], samples: tuple[Sample, ...]
) -> tuple[Float64[np.ndarray, " parts"], Int[np.ndarray, " parts"]]:
    """The worst score of each part, and whether one of its pictures is bad: pictures of a part are not independent."""
    worst: dict[str, float] = {}
    bad: dict[str, int] = {}
    for score, sample, is_bad in zip(scores, samples, labels(samples), strict=True):
        worst[sample.part_id] = max(float(score), worst.get(sample.part_id, -np.inf))
        bad[sample.part_id] = max(int(is_bad), bad.get(sample.part_id, 0))
    return np.array(list(worst.values())), np.array(list(bad.values()))


def _counts(scores: Float64[np.ndarray, " parts"], bad: Int[np.ndarray, " parts"]) -> Counts:
    stopped = ~(scores < 0)  # sigmoid 0.5; a score that is not a number stops the part
    return Counts(
        bad_found=int((stopped & (bad == 1)).sum()),
        bad_missed=int((~stopped & (bad == 1)).sum()),
        good_passed=int((~stopped & (bad == 0)).sum()),
        good_stopped=int((stopped & (bad == 0)).sum()),
    )


def _timing(cell: Cell, network: Network, seconds: float, device: str) -> Timing:
    """Time one picture in torch and in OpenVINO on the CPU, taking turns, with the same number of threads."""
    threads = torch.get_num_threads()
    versions = f"gonogo {gonogo.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    base = Timing(
        seconds=round(seconds, 1), device=device, threads=threads, versions=f"{versions}, OpenVINO {ov.__version__}"
    )
    if not cell.latency_runs:
        return base
    size_wh = (cell.side_px, cell.side_px)
    graph = runtime.compile_graph(export_classifier(network.eval(), size_wh, labels=("good", "bad")), threads=threads)
    picture = np.random.default_rng(0).integers(0, 256, (cell.side_px, cell.side_px, 3), np.uint8)
    tensor = torch.from_numpy(picture[None])
    took: dict[str, list[float]] = {"torch": [], "openvino": []}
    with torch.no_grad():
        for _ in range(cell.latency_runs + 2):  # two to warm up
            for name, run in (("torch", lambda: network(tensor)), ("openvino", lambda: graph(picture))):
                begun = time.perf_counter()
                run()
                took[name].append(1000 * (time.perf_counter() - begun))
    medians = {name: round(float(np.median(values[2:])), 3) for name, values in took.items()}
    return Timing(
        seconds=base.seconds,
        torch_ms=medians["torch"],
        openvino_ms=medians["openvino"],
        device=device,
        threads=threads,
        versions=base.versions,
    )
