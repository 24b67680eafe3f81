"""Demo on real photographs: electroluminescence images of 2,624 solar cells.

The photographs are those of the package ``elpv-dataset`` (Buerhop-Lutz et al., EU PVSEC 2018; Deitsch et al., Solar
Energy 185, 2019). Experts labelled each cell as defective or not, and as certain or not, which gives four defect
probabilities: 0, 1/3, 2/3 and 1. The demo treats cells above one half as bad and all others as good.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.dataset import Dataset, ImportOptions, import_folder
from gonogo.dataset.records import METADATA, read_json_lines
from gonogo.dataset.splits import Fractions
from gonogo.demo.steps import Demo, draw_heatmaps, finish
from gonogo.errors import DatasetError, InputError
from gonogo.evaluate import Evaluation, Rate, Verdicts
from gonogo.files import folder_beside, write_beside
from gonogo.operating_point import Promise
from gonogo.progress import console, track
from gonogo.schema import Label, Prediction, Scores
from gonogo.workflow import TrainingOptions

PACKAGE = "elpv_dataset"
LICENCE = (
    "The photographs of elpv-dataset (ZAE Bayern) are licensed under CC BY-NC-SA 4.0: non-commercial use only, "
    "with attribution, shared under the same license. See https://creativecommons.org/licenses/by-nc-sa/4.0/"
)
SPLITS = Fractions.parse("45/5/25/25")
"""A quarter is the test split, as in the published work; a quarter is for calibration: more calibration parts allow a
less strict go threshold."""
OPTIONS = TrainingOptions()
PROMISE = Promise(max_escape=0.05, max_overkill=0.05, joint=False)
PUBLISHED = (("ResNet-152", 0.9013), ("VGG-19", 0.8842), ("support vector machine", 0.8244))
"""Accuracies without review. The first from https://pmc.ncbi.nlm.nih.gov/articles/PMC12391306 (with oversampling,
generated pictures and an adjusted threshold), the others from Deitsch et al. (1,968 cells train, 656 test, chosen at
random)."""
SHOWN = 24
"""Number of heat maps drawn."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One photograph of the package."""

    file: str
    """Path of the photograph in the package's data folder."""
    probability: float
    """Probability of a defect, by the experts."""
    silicon: str
    """``mono`` or ``poly``."""

    @property
    def label(self) -> Label:
        """Bad if the probability is above one half."""
        return Label.BAD if self.probability > 0.5 else Label.GOOD

    @property
    def record(self) -> dict[str, Any]:
        """The record for ``metadata.jsonl``."""
        return {
            "file_name": self.file,
            "label": self.label.value,
            "part": Path(self.file).stem,
            "probability": round(self.probability, 3),
            "silicon": self.silicon,
        }


@dataclass(frozen=True, kw_only=True)
class PhotoDemo(Demo):
    """Results of the demo on photographs."""

    sure: Verdicts
    """The same verdicts without the cells that the experts were unsure about."""
    accuracy: Rate
    """Accuracy without review: bad above a single threshold, chosen on calibrate."""
    sure_accuracy: Rate

    @property
    def groups(self) -> tuple[tuple[str, Verdicts, Rate], ...]:
        """The reported groups: all cells and the sure ones, each with its accuracy."""
        return ("all cells", self.evaluation, self.accuracy), ("sure cells", self.sure, self.sure_accuracy)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            name.replace(" ", "_"): {
                "good": group.count(Label.GOOD),
                "bad": group.count(Label.BAD),
                "auroc": group.auroc,
                **group.escape.to_json("escape_rate"),
                **group.overkill.to_json("overkill_rate"),
                **group.review.to_json("review_rate"),
                **accuracy.to_json("accuracy_without_review"),
            }
            for name, group, accuracy in self.groups
        }


def run_photo_demo(
    out: Path, *, options: TrainingOptions = OPTIONS, choose: Callable[[Sequence[Cell]], Sequence[Cell]] = tuple
) -> PhotoDemo:
    """Import the photographs, train, certify, judge the test cells, and write reports and pictures to a new folder.

    Args:
        out: The folder to create; must not exist.
        options: Training options.
        choose: Selects the cells to use; default all.

    Raises:
        InputError: the package is not installed, or ``out`` exists or cannot be written.
    """
    start = time.monotonic()
    with folder_beside(out) as folder:
        write_photos(folder / "photos", choose=choose)
        imported = import_folder(folder / "photos", folder / "dataset", ImportOptions(fractions=SPLITS))
        for note in imported.notes:
            console.print(note, markup=False, highlight=False)
        finished = finish(imported.dataset, folder, "cells.inspector", options, PROMISE)
        draw_heatmaps(finished, imported.dataset, _chosen(imported.dataset, finished.judged), folder / "heatmaps")
        calibrate = finished.certified.calibrate
        threshold = best_threshold(calibrate.scores(Label.GOOD), calibrate.scores(Label.BAD))
        sure = sure_cells(imported.dataset, finished.judged)
        made = PhotoDemo(
            folder=out,
            bundle=out / "cells.inspector",
            report=out / "report.html",
            qualification=out / "qualification.html",
            heatmaps=out / "heatmaps",
            evaluation=finished.judged,
            sure=sure,
            accuracy=accuracy_above(threshold, finished.judged.parts),
            sure_accuracy=accuracy_above(threshold, sure.parts),
            duration_s=time.monotonic() - start,
        )
        write_beside(folder / "figures.json", json.dumps(made.to_json(), indent=2).encode() + b"\n")
    return made


def write_photos(out: Path, *, choose: Callable[[Sequence[Cell]], Sequence[Cell]] = tuple) -> None:
    """Write the photographs of the package and their labels as a folder that ``dataset import`` reads.

    Raises:
        InputError: the package is not installed or incomplete, or ``out`` exists or cannot be written.
    """
    source = find_photos()
    console.print(LICENCE, markup=False, highlight=False)
    copy_cells(source, choose(read_cells(source)), out)


def find_photos() -> Path:
    """Locate the data folder of the package without importing it.

    Raises:
        InputError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            "--photos: the package elpv-dataset (real photographs, 90 MB, CC BY-NC-SA 4.0) is not installed. "
            "Install it: pip install 'gonogo[photos]'"
        )
    return Path(found.origin).parent / "data"


def read_cells(source: Path) -> tuple[Cell, ...]:
    """Read the package's list of photographs: file, probability of a defect, type of silicon.

    Raises:
        DatasetError: the list is missing or malformed.
    """
    path = source / "labels.csv"
    cells = []
    for number, line in enumerate(read_json_lines(path), start=1):
        if not line.strip():
            continue
        try:
            file, probability, silicon = line.split()
            cells.append(Cell(file=file, probability=float(probability), silicon=silicon))
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: expected a file, a probability and mono or poly, found {line[:60]!r}. "
                "Install the package again: pip install --force-reinstall elpv-dataset"
            ) from error
    return tuple(cells)


def copy_cells(source: Path, cells: Sequence[Cell], out: Path) -> None:
    """Copy photographs and write ``metadata.jsonl`` next to them.

    Raises:
        InputError: a photograph is missing, or ``out`` exists or cannot be written.
    """
    missing = [cell.file for cell in cells if not (source / cell.file).is_file()]
    if missing:
        raise DatasetError(
            f"{source}: expected {len(cells)} photographs, found {len(cells) - len(missing)} "
            f"({missing[0]} is missing). Install the package again: pip install --force-reinstall elpv-dataset"
        )
    with folder_beside(out) as folder:
        for cell in track(cells, "copying photographs"):
            place = folder / cell.file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / cell.file, place)
        lines = "".join(f"{json.dumps(cell.record)}\n" for cell in cells)
        write_beside(folder / METADATA, lines.encode())


def sure_cells(dataset: Dataset, judged: Evaluation) -> Verdicts:
    """The verdicts on the cells that the experts were sure about."""
    sure = {sample.file_name for sample in dataset.samples if _probability(sample) in (0.0, 1.0)}
    return Verdicts(pictures=tuple(each for each in judged.pictures if each.file in sure), confidence=judged.confidence)


def best_threshold(good: Scores, bad: Scores) -> float:
    """The threshold with the highest accuracy if everything above it is bad and the rest is good."""
    scores = np.unique(np.concatenate([good, bad]))
    cuts = np.concatenate([[-np.inf], (scores[1:] + scores[:-1]) / 2, [np.inf]])
    right = np.searchsorted(np.sort(good), cuts) + len(bad) - np.searchsorted(np.sort(bad), cuts)
    return float(cuts[int(np.argmax(right))])


def accuracy_above(threshold: float, parts: Sequence[Prediction]) -> Rate:
    """Accuracy if everything above a threshold is bad and the rest is good; a fault counts as wrong."""
    return Rate.of_outcomes(
        part.score is not None and (part.score > threshold) == (part.label is Label.BAD) for part in parts
    )


def _probability(sample: object) -> float | None:
    return getattr(sample, "probability", None)


def _chosen(dataset: Dataset, judged: Evaluation) -> list[str]:
    """Test pictures taken alternately from each probability and type of silicon, worst first, in random order."""
    tested = {each.file for each in judged.pictures}
    groups: dict[tuple[float, str], list[str]] = {}
    for sample in dataset.samples:
        if sample.file_name in tested:
            key = (-(_probability(sample) or 0.0), str(getattr(sample, "silicon", "")))
            groups.setdefault(key, []).append(sample.file_name)
    rng = np.random.default_rng(0)
    mixed = [rng.permutation(names).tolist() for _, names in sorted(groups.items())]
    return [name for turn in zip_longest(*mixed) for name in turn if name is not None][:SHOWN]
