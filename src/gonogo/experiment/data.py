"""The data of a study: its parts, their splits by seed, and their regions by approach."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.dataset import Dataset, Fractions, Sample, Split, fingerprint, resplit, with_groups
from gonogo.errors import DatasetError
from gonogo.experiment.cell import Approach, Protocol
from gonogo.experiment.claims import claimed
from gonogo.files import parse_json, read_text, write_beside
from gonogo.images.geometry import as_quad
from gonogo.progress import track
from gonogo.roi import ClassicalRoi, Roi
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Box, Label, Region
from gonogo.workflow import LocatorOptions
from gonogo.workflow.region import keep_roi

SEARCH_SIDE_PX = 320
SEARCH_TRIALS = 100
"""Random configs tried in the search for a classical ROI."""
LEAST_BOXES = 26
"""Fewest labelled boxes in a data set for the approaches that need them: 80 % of them train a learned ROI."""


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Where the part is in each picture."""

    by_name: Mapping[str, Region] | None
    """By file name; ``None`` shows every picture whole."""
    whole: int = 0
    """Pictures in which no part was found; their region is the whole picture."""


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """Labelled pictures with their near-duplicate groups, without splits, and a folder for their regions."""

    dataset: Dataset
    sha256: str
    """Fingerprint of the pictures and their labels; splits do not count."""
    folder: Path

    @classmethod
    def read(cls, root: Path, folder: Path) -> StudyData:
        """Read a data set; its own splits are ignored.

        Args:
            root: The data set.
            folder: Folder for the regions of the pictures.

        Raises:
            DatasetError: The data set is malformed, or lacks good or bad parts.
        """
        dataset = Dataset.read(root)
        labelled = {label: sum(_judged(s) and s.label is label for s in dataset.samples) for label in Label}
        if min(labelled.values()) < 3:
            raise DatasetError(
                f"{root}: expected at least 3 good and 3 bad pictures, one for each split, found "
                f"{labelled[Label.GOOD]} good and {labelled[Label.BAD]} bad. Label more pictures."
            )
        samples = tuple(sample.model_copy(update={"split": None}) for sample in with_groups(dataset))
        whole = replace(dataset, samples=samples, study=True)
        return cls(dataset=whole, sha256=fingerprint(whole, samples), folder=folder)

    @property
    def boxes(self) -> int:
        """Number of labelled boxes."""
        return sum(sample.box is not None and _judged(sample) for sample in self.dataset.samples)

    def split(self, protocol: Protocol, seed: int) -> Dataset:
        """Split the parts into train, val and test; near-duplicates and pictures of one part stay together.

        Raises:
            DatasetError: A split lacks good or bad parts.
        """
        judged = [sample for sample in self.dataset.samples if _judged(sample)]
        rest = [sample for sample in self.dataset.samples if not _judged(sample)]
        shares = Fractions(train=protocol.train, val=protocol.val, calibrate=0.0, test=protocol.test)
        found = replace(self.dataset, samples=(*resplit(judged, shares, seed, within_lots=True), *rest))
        for split in (Split.TRAIN, Split.VAL, Split.TEST):
            if len({sample.label for sample in found.split(split)}) < 2:
                raise DatasetError(
                    f"{self.dataset.root}: expected good and bad parts in {split}, found one kind (seed {seed}). Add "
                    "parts, or give --splits with a larger share."
                )
        return found

    def regions(self, approach: Approach, protocol: Protocol, seed: int) -> Regions:
        """Find the part in every picture of a seed's splits; kept on disk and found again by the same call.

        Raises:
            DatasetError: The approach needs labelled boxes, and there are too few.
        """
        if approach is Approach.NONE:
            return Regions(by_name=None)
        facts = repr((approach, protocol.train, protocol.val, seed, self.sha256))
        name = f"{approach}-s{seed}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
        kept = self.folder / f"{name}.json"
        with claimed(self.folder / f"{name}.lock"):  # a second process waits instead of doing the same
            if not kept.is_file():
                dataset = self.split(protocol, seed)
                search = _search(approach, dataset, self.folder / name, seed)
                write_beside(kept, json.dumps(_locate(search, dataset)).encode())
        found = parse_json(read_text(kept))
        return Regions(by_name={name: _region(shape) for name, shape in found["regions"].items()}, whole=found["whole"])


def _judged(sample: Sample) -> bool:
    return sample.label is not None and sample.present is not False


def _search(approach: Approach, dataset: Dataset, folder: Path, seed: int) -> Roi:
    """Tune a classical ROI, or train a learned one, on parts that are not tested on."""
    if approach is Approach.CV:
        examples = read_examples(dataset, dataset.split(Split.TRAIN, Split.VAL), side_px=SEARCH_SIDE_PX)
        tuned = tune(examples, trials=SEARCH_TRIALS, seed=seed, side_px=SEARCH_SIDE_PX, limit_s=math.inf)
        if tuned.interrupted:
            raise KeyboardInterrupt
        return ClassicalRoi(tuned.recipe)
    learned = keep_roi("learned", dataset, folder, LocatorOptions(seed=seed))
    assert learned is not None, "only 'none' gives none"
    return learned


def _locate(search: Roi, dataset: Dataset) -> dict[str, object]:
    """The region of each picture: a box as ``x1, y1, x2, y2`` or four corners."""
    shapes: dict[str, object] = {}
    whole = 0
    for sample in track(dataset.split(*Split), "finding the region"):
        frame = dataset.load(sample)
        located = search.locate(frame)
        region = located.region if located.present else None
        whole += region is None
        region = Box.whole(frame) if region is None else region
        shapes[sample.file_name] = list(region.xyxy) if isinstance(region, Box) else [list(xy) for xy in region]
    return {"regions": shapes, "whole": whole}


def _region(shape: Any) -> Region:
    if isinstance(shape[0], list):
        return as_quad(np.array(shape, np.float64))
    return Box.from_xyxy(tuple(shape))
