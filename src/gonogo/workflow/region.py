"""Sets up the region of interest for training, and locates it in every training picture."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from gonogo import roi
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.evaluate.placement import labelled_place
from gonogo.progress import console, track
from gonogo.roi import LearnedConfig, Roi
from gonogo.schema import Region
from gonogo.workflow.locator_samples import locator_samples
from gonogo.workflow.options import LocatorOptions

IDENTITY = "identity"
ROI_FILES = (roi.RECIPE, roi.NETWORK, str(Path(roi.NETWORK).with_suffix(".bin")))


def find_regions(search: Roi, dataset: Dataset, samples: Sequence[Sample]) -> dict[str, Region]:
    """Locate the region that the inspector will crop in each picture, by file name.

    If the part is not found, the labelled box is used instead; a picture with neither is skipped and reported.
    """
    regions: dict[str, Region] = {}
    from_labels, lost = [], []
    for sample in track(samples, "finding the region"):
        located = search.locate(dataset.load(sample))
        region = located.region if located.present else _labelled(search, sample)
        if region is None:
            lost.append((sample.file_name, located.reason))
            continue
        regions[sample.file_name] = region
        if not located.present:
            from_labels.append(sample.file_name)
    if lost:
        name, reason = lost[0]
        console.print(f"{len(lost)} pictures without a region are skipped in training. First: {name} ({reason}).")
    if from_labels:
        console.print(f"In {len(from_labels)} of {len(samples)} pictures no part was found; the labelled box is used.")
    return regions


def keep_roi(source: str, dataset: Dataset, folder: Path, options: LocatorOptions) -> Roi | None:
    """Like `place_roi`, in a folder that is kept after an interruption and reused by the same call."""
    learned_from = [
        sample.model_dump_json()
        for sample in (*locator_samples(dataset, Split.TRAIN), *locator_samples(dataset, Split.VAL))
    ]
    identity = hashlib.sha256(repr((source, options, learned_from)).encode()).hexdigest()
    stated = folder / IDENTITY
    if source == "learned" and stated.is_file() and stated.read_text() == identity:
        return roi.open_roi(folder / roi.RECIPE)
    shutil.rmtree(folder, ignore_errors=True)
    if source == "none":
        return None
    folder.mkdir(parents=True)
    try:
        found = place_roi(source, dataset, folder, options)
    except InputError:  # refused, not interrupted: there is nothing to resume
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        raise
    stated.write_text(identity)
    return found


def place_roi(source: str, dataset: Dataset, folder: Path, options: LocatorOptions) -> Roi:
    """Write the region of interest for ``--roi`` to a folder and open it.

    Args:
        source: ``learned`` or the path of a ROI config.
        dataset: Training data of a learned region.
        folder: Folder for ``roi.toml``.
        options: Options of a learned region.
    """
    if source == "learned":
        from gonogo.workflow.learned_region import learn_roi  # torch

        learn_roi(dataset, folder, options)
    else:
        path = Path(source)
        config = roi.read_roi_config(path)
        roi.write_roi_config(folder / roi.RECIPE, config)
        for network in (path.parent / roi.NETWORK, (path.parent / roi.NETWORK).with_suffix(".bin")):
            if isinstance(config, LearnedConfig) and network.is_file():
                shutil.copyfile(network, folder / network.name)
    return roi.open_roi(folder / roi.RECIPE)


def margin_of(search: Roi) -> float:
    """Margin of the regions that a search finds, as a share of the part's size."""
    return 0.0 if search.recipe is None else search.recipe.margin


def _labelled(search: Roi, sample: Sample) -> Region | None:
    place = None if search.recipe is None else labelled_place(search.recipe, sample)
    return None if place is None else place.region


def copy_roi(source: Path, target: Path) -> None:
    """Copy the files of the region of interest, if any, from one bundle to another."""
    for name in ROI_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
