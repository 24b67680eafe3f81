"""Which labels of a data set are probably wrong: every labelled picture judged by evidence fitted without its part."""

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
    """Score every labelled picture, whatever its split, by evidence fitted on the other parts.

    It looks at calibrate and test too, so it is for cleaning labels before a training: labels that were changed after
    looking at scores make a certificate of the same pictures worth less.

    Args:
        dataset: Labelled pictures; splits are not needed.
        search: Finds the region of interest; the whole picture where omitted.
        size_wh: What the network looks at; the region's own shape, about 200,000 pixels at most, where omitted.
        backbone: Name of an EfficientNet-Lite.
        seed: Random seed of the folds and the memory.

    Raises:
        DatasetError: fewer than five good parts.
        InputError: no such backbone, or its package is not installed.
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


def open_search(recipe: str) -> Roi | None:
    """The region of interest by ``none`` or a recipe's file.

    Raises:
        InputError: no such file, or no recipe.
    """
    from pathlib import Path

    return None if recipe == "none" else roi.open_roi(Path(recipe))


def _readable(dataset: Dataset) -> tuple[list[Sample], list[str]]:
    """Labelled pictures that show a part and can be decoded, and the names of those that cannot."""
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
            f"{len(good)}. Label more of them before doubting any."
        )
