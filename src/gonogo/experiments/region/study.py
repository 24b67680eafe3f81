"""The whole study of the region of interest: tables, pictures, one page and one JSON file."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError
from gonogo.experiments.region.heads import HeadStudy, compare_heads
from gonogo.experiments.region.pipeline import PipelineRow, compare_pipelines
from gonogo.experiments.region.unseen import SIDE_PX, PhotoRow, UnseenRow, leave_one_out, photographs
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.model import Normalisation, Pool
from gonogo.progress import console
from gonogo.report.page import render
from gonogo.report.pictures import data_uri, thumbnails
from gonogo.roi import draw, preview, write_recipe
from gonogo.roi.classical import ClassicalRoi
from gonogo.roi.recipe import ClassicalRecipe
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Frame, Located
from gonogo.synthetic import BoardType, write_dataset
from gonogo.workflow import LocatorOptions, TrainingOptions

ARTICLE = {
    "squared": {"iou": 0.7817, "missed_of_picture": 8.52e-3},
    "area": {"iou": 0.8577, "missed_of_picture": 3.65e-3},
}
"""Deka and Mittal (2018), direct regression, their pictures."""
LABELS = 300
"""Boxes that the shipped locator is given."""
SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of the study is done."""

    parts: int
    few: int = 100
    """Labels of the table's second half."""
    seeds: int
    table_steps: int
    boards: int
    """How many types are left out in turn."""
    trials: int
    """Random recipes that a search starts from."""
    folds: int = 5


FULL = Extent(parts=2000, seeds=3, table_steps=400, boards=len(BoardType), trials=150)
QUICK = Extent(parts=800, seeds=1, table_steps=120, boards=1, trials=40)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the networks start from."""

    backbone: str = "resnet18"
    file: str = "none"
    normalisation: Normalisation | None = None


@dataclass(frozen=True, kw_only=True)
class RegionStudy:
    """Everything that was found."""

    heads: HeadStudy
    pipelines: tuple[PipelineRow, ...] = ()
    unseen: tuple[UnseenRow, ...] = ()
    photos: PhotoRow | None = None

    def to_json(self) -> dict[str, Any]:
        """The tables under flat names, the article's figures beside them."""
        return {
            "rows": [asdict(row) for row in self.heads.rows],
            "shipped": asdict(self.heads.shipped),
            "article": ARTICLE,
            "margins": [row.to_json() for row in self.heads.margins],
            "pipelines": [row.to_json() for row in self.pipelines],
            "unseen": [asdict(row) for row in self.unseen],
            "photographs": None if self.photos is None else asdict(self.photos),
        }


def region_study(
    out: Path, extent: Extent, weights: Weights, *, photos: Path | None = None, workers: int = 1
) -> RegionStudy:
    """Render boards, compare heads and losses, pipelines and unseen types, and write report and figures.

    Args:
        out: Folder for ``roi.json``, ``roi.html``, the tuned recipe and the bundles; made where missing.
        extent: `FULL` or `QUICK`.
        weights: Where the networks start from.
        photos: A data set of real photographs with one box each.
        workers: Processes that render.

    Raises:
        InputError: ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder to write into, found a file. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    options = LocatorOptions(backbone=weights.backbone, weights=weights.file, normalisation=weights.normalisation)
    with tempfile.TemporaryDirectory() as folder:
        boards = write_dataset(Path(folder) / "boards", extent.parts, seed=1, difficulty=0.5, workers=workers)
        everything = sum(sample.box is not None for sample in boards.split(Split.TRAIN))
        heads = compare_heads(
            boards,
            options,
            (everything, min(extent.few, everything)),
            range(extent.seeds),
            table_steps=extent.table_steps,
            best_labels=min(LABELS, everything),
        )
        study = _kept(out, RegionStudy(heads=heads))
        recipe, sheet = _tuned(boards, extent, out)
        pipelines = compare_pipelines(boards, _training(weights, options), out / "recipe.toml", out)
        study = _kept(out, replace(study, pipelines=tuple(row for row, _ in pipelines)))
        shots = _shots(boards, recipe, pipelines[-1][1])
        types = [board.value for board in BoardType][: extent.boards]
        unseen = leave_one_out(boards, options, types, labels=LABELS, trials=extent.trials)
        study = _kept(out, replace(study, unseen=tuple(unseen)))
    if photos is not None:
        found = photographs(Dataset.read(photos), options, folds=extent.folds, trials=extent.trials)
        study = _kept(out, replace(study, photos=found))
    page = render("region.html", study=study, article=ARTICLE, sheet=data_uri(sheet), shots=shots, extent=extent)
    write_beside(out / "roi.html", page.encode())
    console.print(f"Wrote {out / 'roi.html'} and {out / 'roi.json'}")
    return study


def _kept(out: Path, study: RegionStudy) -> RegionStudy:
    """Write what is known so far: an interruption loses only the stage under way."""
    write_beside(out / "roi.json", json.dumps(study.to_json(), indent=2).encode())
    return study


def _tuned(boards: Dataset, extent: Extent, out: Path) -> tuple[ClassicalRecipe, Frame]:
    """The classical recipe for all boards, written, and its steps on one of them."""
    training = [sample for sample in boards.split(Split.TRAIN) if sample.box is not None][:LABELS]
    found = tune(read_examples(boards, training, side_px=SIDE_PX), trials=extent.trials)
    write_recipe(out / "recipe.toml", found.recipe, comment=f"Tuned on rendered boards; seen: {found.seen}")
    return found.recipe, preview(ClassicalRoi(found.recipe), boards.load(training[0]))


def _training(weights: Weights, locator: LocatorOptions) -> TrainingOptions:
    """A judging network for small defects: an early cut and a pooling that lets one cell count."""
    early = {"resnet18": ("layer2",), "resnet50": ("layer2",), "mobilenet_v2": ("features.13",)}
    return TrainingOptions(
        backbone=weights.backbone,
        weights=weights.file,
        normalisation=weights.normalisation,
        cuts=early.get(weights.backbone, ()),
        pool=Pool.LSE,
        augmentation=Augmentation(crops=2, rotations=1),
        locator=replace(locator, seed=0),
    )


def _shots(boards: Dataset, recipe: ClassicalRecipe, inspector: Inspector) -> list[dict[str, str]]:
    """A few test boards: what the recipe found, what the network found, and the verdict's heat."""
    shots = []
    samples = [sample for sample in boards.split(Split.TEST) if sample.defect is not None][:SHOWN]
    for sample in samples:
        frame = boards.load(sample)
        verdict = inspector.inspect(frame)
        mask = boards.load_mask(sample, (frame.shape[0], frame.shape[1]))
        shots.append(
            {
                "defect": str(sample.defect),
                "classical": data_uri(_small(frame, ClassicalRoi(recipe).locate(frame))),
                "learned": data_uri(_small(frame, inspector.roi.locate(frame))),
                "heat": data_uri(thumbnails(frame, verdict, mask, inspector.heat_scale)[1]),
                "verdict": verdict.state.value,
            }
        )
    return shots


def _small(frame: Frame, located: Located, *, width: int = 360) -> Frame:
    scale = width / frame.shape[1]
    size_wh = (width, round(frame.shape[0] * scale))
    return draw(np.asarray(cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA), np.uint8), located, scale)
