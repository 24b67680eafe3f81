"""Draws a sheet of training pictures in all their augmentations, as fine-tuning sees them, without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from gonogo import roi
from gonogo.augment import Augmentation
from gonogo.backbone import PACKAGES
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.schema import Frame
from gonogo.sheet import GAP, Panel, PanelRow, draw_sheet, write_sheet
from gonogo.source import TrainingSource
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.region import find_regions, margin_of
from gonogo.workflow.training import USUAL_WH
from gonogo.workflow.training_sheet import SHOWN, chosen_samples, title_of

MOST_VIEWS = 160
"""Number of pictures on the sheet; many views leave room for fewer samples, but at least one."""
_WIDEST = 2400
_LONGEST_SIDE = 240
"""Larger pictures are shown smaller, in pixels."""


def write_augmentation_sheet(dataset: Dataset, options: TrainingOptions, path: Path) -> int:
    """Write some training pictures in all their crops and rotations, each sample in a block under its label.

    The first view of each is the picture without augmentation. With a random window, the views are those of the first
    epochs.

    Args:
        dataset: A labelled and split data set.
        options: What would be trained; augmentation, size, region and seed are used.
        path: Output file.

    Returns:
        The number of samples shown.

    Raises:
        InputError: The train split is empty, the region would have to be learned first, or the file cannot be written.
    """
    if options.roi == "learned":
        raise InputError("--show-augmentations: a learned region is not known before training. Use --roi FILE or none.")
    most = max(1, min(SHOWN, MOST_VIEWS // options.augmentation.views))
    samples = chosen_samples(dataset.split(Split.TRAIN), most)[:most]
    if not samples:
        raise InputError(f"{dataset.root}: expected labelled pictures in split train, found none.")
    regions, margin = None, 0.0
    if options.roi != "none":
        search = roi.open_roi(Path(options.roi))
        regions, margin = find_regions(search, dataset, samples), margin_of(search)
        samples = [sample for sample in samples if sample.file_name in regions]
    source = TrainingSource(
        dataset=dataset, size_wh=_input_size(options), regions=regions, margin=margin, zones=options.zones
    )
    width, height = source.size_wh
    rows = [PanelRow(title=f"Training pictures of {width} x {height} pixels: {describe(options.augmentation)}")]
    for sample, pictures in _views(source, samples, options):
        rows += _block(sample, [_shown(each) for each in pictures], options.augmentation)
    write_sheet(path, draw_sheet(rows))
    return len(samples)


def describe(augmentation: Augmentation) -> str:
    """Name the settings: crops by rotations, then every other one that is on."""
    others = {each.name: getattr(augmentation, each.name) for each in fields(augmentation)}
    crops, rotations = others.pop("crops"), others.pop("rotations")
    named = [name if value is True else f"{name} {value:g}" for name, value in others.items() if value]
    return ", ".join([f"{crops} crops x {rotations} rotations, {augmentation.views} views of each", *named])


def _input_size(options: TrainingOptions) -> tuple[int, int]:
    """The input size of fine-tuning."""
    if options.size_wh is not None:
        return options.size_wh
    if options.backbone in PACKAGES:
        return USUAL_WH
    from gonogo.model import architecture  # torch

    side = architecture(options.backbone).side
    return side, side


def _views(
    source: TrainingSource, samples: list[Sample], options: TrainingOptions
) -> Iterator[tuple[Sample, list[Frame]]]:
    """Each sample with its views, as fine-tuning sees them."""
    count = options.augmentation.views
    if options.augmentation.window is None:
        pictures = (view.picture for view in source.views(samples, options.augmentation, seed=options.seed))
        for sample in samples:
            yield sample, list(islice(pictures, count))
        return
    plain = list(source.plain(samples))
    epochs = [
        [view.picture for view in source.drawn(samples, options.augmentation, seed=options.seed + epoch)]
        for epoch in range(count - 1)
    ]
    for index, sample in enumerate(samples):
        yield sample, [plain[index], *(epoch[index] for epoch in epochs)]


def _shown(picture: Frame) -> Frame:
    factor = _LONGEST_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size_wh = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
    return np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _block(sample: Sample, pictures: list[Frame], augmentation: Augmentation) -> list[PanelRow]:
    columns = max(1, _WIDEST // (pictures[0].shape[1] + GAP))
    panels = [
        Panel(title=_view_title(number, augmentation), picture=picture) for number, picture in enumerate(pictures)
    ]
    return [
        PanelRow(title=title_of(sample) if first == 0 else "", panels=tuple(panels[first : first + columns]))
        for first in range(0, len(panels), columns)
    ]


def _view_title(number: int, augmentation: Augmentation) -> str:
    if number == 0:
        return "unchanged"
    if augmentation.window is not None:
        return f"epoch {number}"
    crop, rotation = divmod(number, augmentation.rotations)
    return f"crop {crop + 1}, {360 * rotation / augmentation.rotations:.4g} degrees"
