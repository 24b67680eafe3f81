"""Demo on rendered parts: render, import, train, certify, judge unseen parts, report.

The parts are close-ups of one rendered chip, good or with an obvious defect. The demo does not need torch.
"""

from __future__ import annotations

import time
from itertools import zip_longest
from pathlib import Path

from gonogo.dataset import ImportOptions, import_folder
from gonogo.dataset.splits import Fractions
from gonogo.demo.steps import Demo, draw_heatmaps, finish
from gonogo.evaluate import Evaluation
from gonogo.files import folder_beside
from gonogo.operating_point import Promise
from gonogo.synthetic import write_close_ups
from gonogo.workflow import TrainingOptions

PARTS = 300
"""Number of parts; half of them are bad."""
SPLITS = Fractions.parse("20/10/45/25")
"""The calibrate split is the largest: 45 % of the bad parts, more than the 59 that rates of 5 % require."""
OPTIONS = TrainingOptions()
PROMISE = Promise(max_escape=0.05, max_overkill=0.05, joint=False, bad_share=0.05)
SHOWN = 20
"""Number of heat maps drawn."""


def run_demo(out: Path, *, parts: int = PARTS, options: TrainingOptions = OPTIONS, workers: int = 2) -> Demo:
    """Render, import, train, certify, judge the test parts, and write reports and pictures to a new folder.

    Args:
        out: The folder to create; must not exist.
        parts: Number of parts to render.
        options: Training options.
        workers: Number of rendering processes.

    Raises:
        InputError: ``out`` exists or cannot be written.
    """
    start = time.monotonic()
    with folder_beside(out) as folder:
        write_close_ups(folder / "photos", parts, workers=workers)
        imported = import_folder(
            folder / "photos", folder / "dataset", ImportOptions(mask_suffix="_mask.png", fractions=SPLITS)
        )
        finished = finish(imported.dataset, folder, "chip.inspector", options, PROMISE)
        draw_heatmaps(finished, imported.dataset, _chosen(finished.judged), folder / "heatmaps")
    return Demo(
        folder=out,
        bundle=out / "chip.inspector",
        report=out / "report.html",
        qualification=out / "qualification.html",
        heatmaps=out / "heatmaps",
        evaluation=finished.judged,
        duration_s=time.monotonic() - start,
    )


def _chosen(judged: Evaluation) -> list[str]:
    """Test pictures taken alternately from each defect kind and the good parts."""
    kinds: dict[str | None, list[str]] = {}
    for picture in judged.pictures:
        kinds.setdefault(picture.defect, []).append(picture.file)
    ordered = [kinds[kind] for kind in sorted(kinds, key=lambda kind: (kind is None, kind or ""))]
    return [name for turn in zip_longest(*ordered) for name in turn if name is not None][:SHOWN]
