"""Finds labels that are probably wrong, by scoring every picture with evidence fitted without its part."""

from __future__ import annotations

from dataclasses import replace

from gonogo import roi, runtime
from gonogo.backbone import pretrained
from gonogo.config import settings
from gonogo.dataset import Dataset, Sample
from gonogo.dataset.doubts import LabelDoubts
from gonogo.errors import DatasetError, ImageError
from gonogo.evidence import gather_features, measure_shift, out_of_fold
from gonogo.evidence.doubts import doubtful
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.schema import Label
from gonogo.source import TrainingSource, masked
from gonogo.workflow.picture_size import sizes_to_try, usual_region_wh
from gonogo.workflow.region import find_regions

LEAST_GOOD_PARTS = 5
USUAL_WH = (224, 224)


def find_doubts(
    dataset: Dataset,
    *,
    search: Roi | None = None,
    size_wh: tuple[int, int] | None = None,
    backbone: str = "efficientnet_lite0",
    seed: int = 0,
) -> LabelDoubts:
    """Score every labelled picture in all splits with evidence fitted on the other parts.

    This includes calibrate and test, so use it to clean labels before training: changing calibration labels after
    seeing scores weakens the certificate.

    Args:
        dataset: Labelled pictures; splits are not needed.
        search: Locates the region of interest; default the whole picture.
        size_wh: Input size of the network; default the aspect ratio of the region, at most about 200,000 pixels.
        backbone: Name of an EfficientNet-Lite.
        seed: Random seed of the folds and the memory.

    Raises:
        DatasetError: there are fewer than five good parts.
        InputError: the backbone is unknown, or its package is not installed.
    """
    samples, unreadable = _readable(dataset)
    source = TrainingSource(dataset=dataset, size_wh=size_wh or USUAL_WH)
    if search is not None:
        regions = find_regions(search, dataset, samples)
        unreadable += [sample.file_name for sample in samples if sample.file_name not in regions]
        samples = [sample for sample in samples if sample.file_name in regions]
        source = replace(source, regions=regions)
    _require_good(dataset, samples)
    if size_wh is None:
        size_wh = sizes_to_try(usual_region_wh(source, samples, 1), both_classes=False)[0]
        source = replace(source, size_wh=size_wh)
    network = pretrained(backbone)
    usual = runtime.compile_graph(network.graph(USUAL_WH))
    table = gather_features(
        runtime.compile_graph(network.graph(size_wh), many=True),
        source,
        samples,
        shift_xy=measure_shift(lambda picture: usual(picture)["stride_16"][0], USUAL_WH),
        masks=masked(samples),
        scratch=settings().cache_dir / "scratch",
    )
    return doubtful(samples, table, out_of_fold(table, seed=seed), unreadable=unreadable)


def open_search(config: str) -> Roi | None:
    """Open a ROI config by its path; ``None`` for ``none``.

    Raises:
        InputError: the file does not exist or is not a ROI config.
    """
    from pathlib import Path

    return None if config == "none" else roi.open_roi(Path(config))


def _readable(dataset: Dataset) -> tuple[list[Sample], list[str]]:
    """Labelled pictures that show a part and can be decoded, and the names of those that cannot be decoded."""
    kept, unreadable = [], []
    labelled = [sample for sample in dataset.samples if sample.label is not None and sample.present is not False]
    for sample in track(labelled, "reading"):
        try:
            dataset.load(sample)
        except ImageError:
            unreadable.append(sample.file_name)
        else:
            kept.append(sample)
    return kept, unreadable


def _require_good(dataset: Dataset, samples: list[Sample]) -> None:
    good = {sample.part_id for sample in samples if sample.label is Label.GOOD}
    if len(good) < LEAST_GOOD_PARTS:
        raise DatasetError(
            f"{dataset.root}: expected readable pictures of at least {LEAST_GOOD_PARTS} parts labelled good, found "
            f"{len(good)}. Label more good parts first."
        )
