"""Steps shared by the demos: from a data set to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.certification import Certified
from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Evaluation, evaluate
from gonogo.files import write_beside
from gonogo.heatmap import overlay
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.report import write_report
from gonogo.report.qualification import examine_bundle, write_qualification
from gonogo.report.tradeoff import write_tradeoff
from gonogo.schema import Box
from gonogo.workflow import TrainingOptions, train_inspector

ON_SHEET = 5
TILE_WH = (200, 200)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Results of a demo and the paths of its files."""

    folder: Path
    bundle: Path
    report: Path
    qualification: Path
    heatmaps: Path
    evaluation: Evaluation
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trained and certified inspector and its evaluation on the test split."""

    inspector: Inspector
    certified: Certified
    judged: Evaluation


def finish(dataset: Dataset, folder: Path, name: str, options: TrainingOptions, promise: Promise) -> Finished:
    """Train, certify, judge the test parts, and write the report and the qualification.

    Args:
        dataset: A labelled and split data set.
        folder: Output folder.
        name: Name of the bundle.
        options: Training options.
        promise: What to certify.

    Raises:
        InputError: the data are unsuitable, or ``folder`` cannot be written.
    """
    trained = train_inspector(dataset, folder / name, replace(options, promise=promise))
    write_tradeoff(trained.certified, folder / "tradeoff.html", bundle_name=name)
    inspector = Inspector.load(trained.bundle.root)
    judged = evaluate(inspector, dataset, (Split.TEST,))
    write_report(judged, inspector, dataset, folder / "report.html")
    examined = examine_bundle(inspector, dataset)
    write_qualification(examined, inspector, dataset, folder / "qualification.html")
    return Finished(inspector=inspector, certified=trained.certified, judged=judged)


def draw_heatmaps(finished: Finished, dataset: Dataset, names: Sequence[str], folder: Path) -> None:
    """Write heat maps of some pictures, and one sheet of the first few: photographs above, heat maps below."""
    inspector = finished.inspector
    columns = []
    for name in names:
        photograph, verdict = inspector.inspect_file(dataset.root / name)
        if photograph is not None:
            drawn = overlay(photograph.frame, verdict, inspector.heat_scale, inspector.recipe.zones)
            write_beside(folder / f"{verdict.state}-{Path(name).stem}.jpg", images.encode_jpeg(drawn))
            pair = [images.crop_resize(each, Box.whole(each), TILE_WH) for each in (photograph.frame, drawn)]
            columns.append(np.vstack(pair))
    write_beside(folder.with_name("sheet.jpg"), images.encode_jpeg(np.hstack(columns[:ON_SHEET])))
