"""Compare regions of interest on rendered boards, heads, losses, margins, pipelines, unseen types: ``make study-roi``.

``QUICK=1`` renders fewer boards, with one seed and a short schedule. The report lies in ``--out``; what is finished
there is kept. ``--timing`` only times the regions on one 1080p frame. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from command import print_figures, run
from gonogo.errors import InputError
from gonogo.model import IMAGENET, SYMMETRIC
from gonogo.workflow import LocatorOptions
from study_roi import FULL, QUICK, RegionStudy, Stage, Weights, region_study, time_regions

NORMALISATIONS = {"auto": None, "imagenet": IMAGENET, "symmetric": SYMMETRIC}


def main(words: Sequence[str] | None = None) -> None:
    """Run the study, or the timing, and print the figures."""
    given = _arguments(words)
    normalisation = NORMALISATIONS[given.normalisation]
    if given.timing:
        options = LocatorOptions(backbone=given.backbone, weights=given.weights, normalisation=normalisation)
        print_figures(time_regions(given.recipe, options).to_json())
        return
    if given.parts is not None and given.parts < 50:
        raise InputError(f"--parts: expected at least 50, found {given.parts}.")
    start = Weights(backbone=given.backbone, file=given.weights, normalisation=normalisation)
    extent = QUICK if given.quick else FULL
    study = region_study(
        given.out,
        extent if given.parts is None else replace(extent, parts=given.parts),
        start,
        photos=given.photos,
        stages=[Stage(each) for each in given.stage],
        overwrite=given.overwrite,
        workers=given.workers,
    )
    print(_as_text(study))  # noqa: T201
    print_figures(study.to_json())


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="study_roi", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("study/roi"), help="Folder for the report, the figures and the bundles."
    )
    parser.add_argument("--quick", action="store_true", help="Fewer boards, one seed, a short schedule.")
    parser.add_argument(
        "--weights", default="none", help="safetensors file, 'imagenet', or 'none': a small network from scratch."
    )
    parser.add_argument("--backbone", default="resnet18", help="torchvision backbone of the weights.")
    parser.add_argument(
        "--normalisation",
        default="imagenet",
        choices=list(NORMALISATIONS),
        help="Input normalisation that the weights expect.",
    )
    parser.add_argument(
        "--photos", type=Path, help="A data set of photographs with one box each, for 5-fold cross-validation."
    )
    parser.add_argument(
        "--stage", action="append", default=[], choices=list(map(str, Stage)), help="Only this stage; may be repeated."
    )
    parser.add_argument("--parts", type=int, help="Number of rendered boards. Default: 2,000, fewer with --quick.")
    parser.add_argument("--overwrite", action="store_true", help="Start again, even if --out contains finished stages.")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="Number of rendering processes."
    )
    parser.add_argument(
        "--timing", action="store_true", help="Only measure the time of the regions on one 1080p frame."
    )
    parser.add_argument("--recipe", type=Path, help="With --timing: ROI config to use instead of a tuned one.")
    return parser.parse_args(words)


def _as_text(study: RegionStudy) -> str:
    """Return the figures of every finished stage, one per line."""
    lines = []
    for row in () if study.heads is None else (*study.heads.rows, study.heads.shipped):
        lines.append(
            f"{row.head:11s} {row.loss:8s} {row.labels:5d} labels: IoU {row.iou:.4f}, {row.share_above_095:4.0%} above "
            f"0.95, missed {row.missed_of_picture:.2e} of the picture, {row.missed_of_truth:.2%} of the chip"
        )
    for each in () if study.pipelines is None else study.pipelines.rows:
        area, low, high = each.auroc or (float("nan"),) * 3
        lines.append(f"{each.region:8s} AUROC {area:.3f} ({low:.3f} to {high:.3f})")
    for new in () if study.unseen is None else study.unseen.rows:
        lines.append(
            f"{new.board:11s} left out: old ROI config {new.old_recipe:.3f}, tuned again {new.retuned_recipe:.3f}, "
            f"learned {new.learned:.3f}"
        )
    if study.photographs is not None:
        lines.append(f"photographs: learned {study.photographs.learned}; classical {study.photographs.classical}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
