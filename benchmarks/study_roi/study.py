"""The whole study of the region of interest: tables, pictures, one page and one JSON file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Fractions, Split
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.model import Normalisation, Pool, architecture, strided_cuts
from gonogo.progress import console
from gonogo.report.page import render_page
from gonogo.report.phrases import STATE_NAMES
from gonogo.report.pictures import data_uri, thumbnails
from gonogo.roi import Roi, open_roi, preview, write_roi_config
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Frame
from gonogo.synthetic import BoardType, ChipType, Defect, Mix, write_dataset
from gonogo.train import FineTuning, Locating
from gonogo.workflow import LocatorOptions, TrainingOptions
from study_roi.heads import HeadStudy, compare_heads
from study_roi.pieces import Pieces
from study_roi.pipeline import PipelineRow, bundle_of, try_pipeline
from study_roi.shots import Shot, placed
from study_roi.unseen import SIDE_PX, Fold, Photographs, PhotoRow, UnseenRow, leave_out

ARTICLE = {
    "squared": {"iou": 0.7817, "missed_of_picture": 8.52e-3},
    "area": {"iou": 0.8577, "missed_of_picture": 3.65e-3},
}
"""Deka and Mittal (2018), direct regression, their pictures."""
LABELS = 300
"""Boxes that the shipped locator is given."""
SHOWN = 4
BOARDS, JUDGED, PIECES = "boards", "judged", "pieces"
"""Folders in the study's own."""
BOLD = Mix(
    without_chip=0.0,
    with_two_chips=0.0,
    chips=(ChipType.QFP32,),
    defects=(Defect.SCRATCH, Defect.CRACK, Defect.STAIN, Defect.MISSING_PIN),
)
"""What the pipelines judge: one chip with bold defects on every type of board. At the difficulty of the other stages no
judging network learns from a thousand parts, and where all are at chance no region can help."""
JUDGED_SPLITS = Fractions(train=0.5, val=0.07, calibrate=0.08, test=0.35)
"""Half to learn from, and as many as possible to compare on."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of the study is done."""

    parts: int
    few: int = 100
    """Labels of the table's second half."""
    seeds: int
    table_steps: int
    """Of the optimiser, for each entry of the table."""
    locating: Locating = field(default_factory=Locating)
    """How every other region is learned."""
    judged: int
    """Boards of the pipelines' own series."""
    epochs: int
    """Of the judging network from random weights; a third of them from pretrained ones."""
    boards: int
    """How many types are left out in turn."""
    trials: int
    """Random recipes that a search starts from."""
    folds: int = 5


FULL = Extent(parts=2000, seeds=3, table_steps=400, judged=600, epochs=25, boards=len(BoardType), trials=150)
QUICK = Extent(
    parts=320,
    few=60,
    seeds=1,
    table_steps=30,
    locating=Locating(views=8, steps=300, presence_folds=2, presence_steps=80),
    judged=200,
    epochs=6,
    boards=1,
    trials=20,
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the networks start from."""

    backbone: str = "resnet18"
    file: str = "none"
    normalisation: Normalisation | None = None


class Stage(StrEnum):
    """A part of the study that can be asked for by itself."""

    HEADS = "heads"
    PIPELINES = "pipelines"
    UNSEEN = "unseen"
    PHOTOGRAPHS = "photographs"


@dataclass(frozen=True, kw_only=True)
class RegionStudy:
    """Everything that was found so far; a stage that was not run is ``None``."""

    heads: HeadStudy | None = None
    pipelines: PipelineStudy | None = None
    unseen: UnseenStudy | None = None
    photographs: PhotoRow | None = None

    def to_json(self) -> dict[str, Any]:
        """The tables under flat names, the article's figures beside them; empty where a stage was not run."""
        heads, pipelines, unseen, photos = self.heads, self.pipelines, self.unseen, self.photographs
        return {
            "rows": [] if heads is None else [asdict(row) for row in heads.rows],
            "shipped": None if heads is None else asdict(heads.shipped),
            "article": ARTICLE,
            "margins": [] if heads is None else [row.to_json() for row in heads.margins],
            "pipelines": [] if pipelines is None else [row.to_json() for row in pipelines.rows],
            "gains": [] if pipelines is None else pipelines.gains(),
            "unseen": [] if unseen is None else [row.to_json() for row in unseen.rows],
            "photographs": None if photos is None else photos.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class PipelineStudy:
    """The ways to the region, and pictures of them at work."""

    rows: tuple[PipelineRow, ...]
    shots: tuple[Shot, ...]
    """Three for each board: what the recipe found, what the network found, the heat in it."""
    steps: str
    """The recipe's steps on one board, as a data URI."""

    def gains(self) -> list[dict[str, object]]:
        """What every region adds to the AUROC of the whole picture, with the 95 % interval."""
        found: list[dict[str, object]] = []
        for row in self.rows[1:]:
            gain = row.gain_over(self.rows[0]) or (None, None, None)
            found.append({"region": row.region, **dict(zip(("auroc", "auroc_low", "auroc_high"), gain, strict=True))})
        return found


@dataclass(frozen=True, kw_only=True)
class UnseenStudy:
    """Every type left out in turn."""

    rows: tuple[UnseenRow, ...]


def region_study(
    out: Path,
    extent: Extent,
    weights: Weights,
    *,
    photos: Path | None = None,
    stages: Sequence[Stage] = (),
    overwrite: bool = False,
    workers: int = 1,
) -> RegionStudy:
    """Render boards, compare heads and losses, pipelines and unseen types, and write report and figures.

    What is finished is kept in ``out``, piece by piece: the same call takes up where the last one ended, and report and
    figures are made of all that is there.

    Args:
        out: Folder for ``roi.json``, ``roi.html``, boards, bundles and pieces; made where missing.
        extent: `FULL` or `QUICK`.
        weights: Where the networks start from.
        photos: A data set of real photographs with one box each.
        stages: What to run; everything where empty, the photographs only if there are some.
        overwrite: Ignore finished stages and start again.
        workers: Processes that render.

    Raises:
        InputError: ``out`` is a file or holds another study, or photographs are asked for and there are none.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder to write into, found a file. Choose another --out.")
    if Stage.PHOTOGRAPHS in stages and photos is None:
        raise InputError("--stage photographs: expected photographs, found none. Pass --photos DATASET.")
    if overwrite:
        for folder in (out / PIECES, out / BOARDS, out / JUDGED):
            shutil.rmtree(folder, ignore_errors=True)
    # A file of weights may lie elsewhere next time.
    pieces = Pieces(out / PIECES, {**asdict(extent), **asdict(weights), "file": Path(weights.file).name})
    bench = _Bench(out=out, extent=extent, weights=weights, photos=photos, pieces=pieces, workers=workers)
    for stage in Stage:
        if stage in stages or not stages:
            bench.run(stage)
    study = RegionStudy(
        heads=pieces.known(Stage.HEADS, HeadStudy),
        pipelines=pieces.known(Stage.PIPELINES, PipelineStudy),
        unseen=pieces.known(Stage.UNSEEN, UnseenStudy),
        photographs=pieces.known(Stage.PHOTOGRAPHS, PhotoRow),
    )
    write_beside(out / "roi.json", json.dumps(study.to_json(), indent=2).encode())
    page = render_page("region.html", templates=Path(__file__).parent, study=study, article=ARTICLE, extent=extent)
    write_beside(out / "roi.html", page.encode())
    console.print(f"Wrote {out / 'roi.html'} and {out / 'roi.json'}")
    return study


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What the stages share."""

    out: Path
    extent: Extent
    weights: Weights
    photos: Path | None
    pieces: Pieces
    workers: int

    def run(self, stage: Stage) -> None:
        """Run a stage, unless it is finished."""
        if stage is Stage.HEADS:
            self.pieces.once(stage, HeadStudy, self._heads)
        elif stage is Stage.PIPELINES:
            self.pieces.once(stage, PipelineStudy, self._pipelines)
        elif stage is Stage.UNSEEN:
            self.pieces.once(stage, UnseenStudy, self._unseen)
        elif self.photos is not None:
            self.pieces.once(stage, PhotoRow, partial(self._photographs, self.photos))

    @cached_property
    def boards(self) -> Dataset:
        """Rendered once."""
        folder = self.out / BOARDS
        if folder.is_dir():
            return Dataset.read(folder)
        return write_dataset(folder, self.extent.parts, seed=1, difficulty=0.5, workers=self.workers)

    @cached_property
    def judged(self) -> Dataset:
        """The pipelines' own boards."""
        folder = self.out / JUDGED
        if folder.is_dir():
            return Dataset.read(folder)
        return write_dataset(
            folder,
            self.extent.judged,
            seed=1,
            difficulty=0.0,
            mix=BOLD,
            workers=self.workers,
            fractions=JUDGED_SPLITS,
        )

    @property
    def locator(self) -> LocatorOptions:
        """How a region is learned."""
        weights = self.weights
        return LocatorOptions(
            backbone=weights.backbone,
            weights=weights.file,
            normalisation=weights.normalisation,
            locating=self.extent.locating,
        )

    def _heads(self) -> HeadStudy:
        everything = sum(sample.box is not None for sample in self.boards.split(Split.TRAIN))
        return compare_heads(
            self.boards,
            self.locator,
            (everything, min(self.extent.few, everything)),
            range(self.extent.seeds),
            self.pieces,
            table_steps=self.extent.table_steps,
            best_labels=min(LABELS, everything),
        )

    def _pipelines(self) -> PipelineStudy:
        recipe = self.out / "recipe.toml"
        example = self._tuned(recipe)
        options = _training(self.locator, self.extent.epochs)
        rows = []
        for name, region in (("none", "none"), ("CV + DL", str(recipe)), ("DL + DL", "learned")):
            trained = partial(try_pipeline, name, region, self.judged, options, self.out)
            rows.append(self.pieces.once(f"pipelines-{bundle_of(self.out, name).stem}", PipelineRow, trained))
        inspector = Inspector.load(bundle_of(self.out, rows[-1].region))
        roi = open_roi(recipe)
        return PipelineStudy(
            rows=tuple(rows), shots=_shots(self.judged, roi, inspector), steps=data_uri(preview(roi, example))
        )

    def _tuned(self, path: Path) -> Frame:
        """Write the classical recipe for the pipelines' boards; the first of the boards it was tuned on."""
        training = self.judged.split(Split.TRAIN)[:LABELS]
        found = tune(read_examples(self.judged, training, side_px=SIDE_PX), trials=self.extent.trials)
        write_roi_config(path, found.recipe, comment=f"Tuned on rendered boards; seen: {found.seen}")
        return self.judged.load(training[0])

    def _unseen(self) -> UnseenStudy:
        rows = []
        for board in [board.value for board in BoardType][: self.extent.boards]:
            left_out = partial(leave_out, self.boards, self.locator, board, labels=LABELS, trials=self.extent.trials)
            rows.append(self.pieces.once(f"unseen-{board}", UnseenRow, left_out))
        return UnseenStudy(rows=tuple(rows))

    def _photographs(self, photos: Path) -> PhotoRow:
        shown = Photographs(Dataset.read(photos), self.extent.folds, self.locator.seed)
        folds = []
        for number in range(self.extent.folds):
            tried = partial(shown.try_fold, number, self.locator, trials=self.extent.trials)
            folds.append(self.pieces.once(f"photographs-fold{number + 1}", Fold, tried))
        return PhotoRow(folds=tuple(folds))


def _training(locator: LocatorOptions, epochs: int) -> TrainingOptions:
    """The judging network: the backbone that the region is learned with, cut at stride 8, and small pictures.

    It learns from labels alone, as the article's did, and all of it learns. Pretrained weights need a third of the
    epochs; from random ones whether it learns anything at all hangs on the draw.
    """
    cuts = strided_cuts(locator.backbone, (8,), architecture(locator.backbone).side)
    pretrained = locator.weights != "none"
    return TrainingOptions(
        backbone=locator.backbone,
        weights=locator.weights,
        normalisation=locator.normalisation,
        cuts=cuts,
        pool=Pool.LSE,
        masks=False,
        size_wh=(128, 128),
        augmentation=Augmentation(crops=2, rotations=4),
        fine_tuning=FineTuning(epochs=epochs // 3 if pretrained else epochs, learning_rate=3e-3),
        locator=locator,
    )


def _shots(boards: Dataset, recipe: Roi, inspector: Inspector) -> tuple[Shot, ...]:
    """A few bad test boards: what the recipe found, what the network found, and the verdict's heat."""
    shots = []
    for sample in [sample for sample in boards.split(Split.TEST) if sample.defect is not None][:SHOWN]:
        frame = boards.load(sample)
        verdict = inspector.inspect(frame)
        mask = boards.load_mask(sample, (frame.shape[0], frame.shape[1]))
        pictures = (
            placed(frame, recipe.locate(frame)),
            placed(frame, inspector.roi.locate(frame)),
            thumbnails(frame, verdict, mask, inspector.heat_scale)[1],
        )
        captions = (f"{sample.defect}: classical recipe", "learned", f"its verdict: {STATE_NAMES[verdict.state]}")
        shots += [
            Shot(picture=data_uri(picture), caption=caption)
            for picture, caption in zip(pictures, captions, strict=True)
        ]
    return tuple(shots)
