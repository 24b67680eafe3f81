"""The whole way with nothing but the repository: render parts, import, train, certify, judge unseen ones, report.

The parts are close-ups of one rendered chip, good or with a bold defect. Nothing here needs torch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, ImportOptions, Split, import_folder
from gonogo.dataset.splits import Fractions
from gonogo.evaluate import Evaluation, evaluate
from gonogo.files import folder_beside, write_beside
from gonogo.heatmap import overlay
from gonogo.inspector import Inspector
from gonogo.operate import Request, operate
from gonogo.report import write_report
from gonogo.report.dial import write_dial
from gonogo.report.qualification import qualify, write_qualification
from gonogo.schema import Box
from gonogo.synthetic import write_close_ups
from gonogo.workflow import TrainingOptions, train_inspector

PARTS = 300
"""Half of them bad."""
SPLITS = Fractions.parse("20/10/45/25")
"""Most go where the proof is made: of the bad parts 45 % calibrate, more than the 59 that rates of 5 % ask for."""
OPTIONS = TrainingOptions()
PROMISE = Request(max_escape=0.05, max_overkill=0.05, joint=False, bad_share=0.05)
SHOWN = 20
"""Heat maps drawn."""
ON_SHEET = 5
TILE_WH = (200, 200)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demonstration made, and where."""

    folder: Path
    bundle: Path
    report: Path
    qualification: Path
    heatmaps: Path
    evaluation: Evaluation
    duration_s: float


def run_demo(out: Path, *, parts: int = PARTS, options: TrainingOptions = OPTIONS, workers: int = 2) -> Demo:
    """Render, import, train, certify, judge the test parts, write report and pictures into a new folder.

    Args:
        out: The folder to make; must not exist.
        parts: How many parts to render.
        options: How to train.
        workers: Processes that render.

    Raises:
        InputError: ``out`` exists or cannot be written.
    """
    start = time.monotonic()
    with folder_beside(out) as folder:
        write_close_ups(folder / "photos", parts, workers=workers)
        imported = import_folder(
            folder / "photos", folder / "dataset", ImportOptions(mask_suffix="_mask.png", fractions=SPLITS)
        )
        trained = train_inspector(imported.dataset, folder / "chip.inspector", options)
        operated = operate(Inspector.load(trained.bundle.root), imported.dataset, PROMISE)
        write_dial(operated, folder / "dial.html")
        inspector = Inspector.load(operated.bundle.root)
        judged = evaluate(inspector, imported.dataset, (Split.TEST,))
        write_report(judged, inspector, imported.dataset, folder / "report.html")
        examined = qualify(inspector, imported.dataset)
        write_qualification(examined, inspector, imported.dataset, folder / "qualification.html")
        _draw(inspector, imported.dataset, judged, folder / "heatmaps")
    return Demo(
        folder=out,
        bundle=out / "chip.inspector",
        report=out / "report.html",
        qualification=out / "qualification.html",
        heatmaps=out / "heatmaps",
        evaluation=judged,
        duration_s=time.monotonic() - start,
    )


def _draw(inspector: Inspector, dataset: Dataset, judged: Evaluation, folder: Path) -> None:
    """Heat maps of test parts of every kind, and the first few on one sheet: photographs above, heat below."""
    columns = []
    for name in _chosen(judged):
        frame, verdict = inspector.inspect_file(dataset.root / name)
        if frame is not None:
            drawn = overlay(frame, verdict, inspector.heat_scale)
            write_beside(folder / f"{verdict.state}-{Path(name).stem}.jpg", images.encode_jpeg(drawn))
            columns.append(np.vstack([images.crop_resize(each, Box.whole(each), TILE_WH) for each in (frame, drawn)]))
    write_beside(folder.with_name("sheet.jpg"), images.encode_jpeg(np.hstack(columns[:ON_SHEET])))


def _chosen(judged: Evaluation) -> list[str]:
    """Test pictures in turn from each defect kind and the good parts."""
    kinds: dict[str | None, list[str]] = {}
    for picture in judged.pictures:
        kinds.setdefault(picture.defect, []).append(picture.file)
    ordered = [kinds[kind] for kind in sorted(kinds, key=lambda kind: (kind is None, kind or ""))]
    return [name for turn in zip_longest(*ordered) for name in turn if name is not None][:SHOWN]
