"""``gonogo experiment roi``."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.train_options import NormalisationName

if TYPE_CHECKING:
    from gonogo.experiments.region import RegionStudy


class StageName(StrEnum):
    """As `gonogo.experiments.region.Stage`, without its heavy imports."""

    HEADS = "heads"
    PIPELINES = "pipelines"
    UNSEEN = "unseen"
    PHOTOGRAPHS = "photographs"


def roi(
    out: Annotated[Path | None, typer.Option(help="Folder for the report, the figures and the bundles.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer boards, one seed, a short schedule.")] = False,
    weights: Annotated[
        str, typer.Option(help="safetensors file, 'imagenet', or 'none': a small network from scratch.")
    ] = "none",
    backbone: Annotated[str, typer.Option(help="torchvision backbone of the weights.")] = "resnet18",
    normalisation: Annotated[
        NormalisationName, typer.Option(help="Input the weights expect.")
    ] = NormalisationName.IMAGENET,
    photos: Annotated[
        Path | None, typer.Option(help="A data set of real photographs with one box each, for 5-fold cross-validation.")
    ] = None,
    stage: Annotated[
        list[StageName] | None,
        typer.Option(help="Only this stage; may be repeated. What is finished in --out is kept and shown with it."),
    ] = None,
    parts: Annotated[
        int | None, typer.Option(min=50, help="Rendered boards; 2,000 where omitted, with --quick fewer.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again, even where stages are finished in --out.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of rendering processes.")] = len(
        os.sched_getaffinity(0)
    ),
    timing: Annotated[bool, typer.Option("--timing", help="Only time the regions on one 1080p frame.")] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="With --timing: a classical recipe instead of a tuned one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare regions of interest on rendered boards: heads, losses, margins, pipelines, unseen types."""
    from gonogo.errors import InputError
    from gonogo.experiments.region import FULL, QUICK, Stage, Weights, region_study, time_regions
    from gonogo.workflow import LocatorOptions

    known = normalisation.known()
    if timing:
        options = LocatorOptions(backbone=backbone, weights=weights, normalisation=known)
        found = time_regions(recipe, options).to_json()
        typer.echo(
            json.dumps(found) if as_json else "\n".join(f"{name:22s} {value:8.3f}" for name, value in found.items())
        )
        return
    if out is None:
        raise InputError("--out: expected a folder for the report, found none. Pass --out DIR (or --timing).")
    start = Weights(backbone=backbone, file=weights, normalisation=known)
    extent = QUICK if quick else FULL
    study = region_study(
        out,
        extent if parts is None else replace(extent, parts=parts),
        start,
        photos=photos,
        stages=[Stage(each) for each in stage or ()],
        overwrite=overwrite,
        workers=workers,
    )
    typer.echo(json.dumps(study.to_json()) if as_json else _told(study))


def _told(study: RegionStudy) -> str:
    """The figures of every finished stage, a line each."""
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
            f"{new.board:11s} left out: old recipe {new.old_recipe:.3f}, tuned anew {new.retuned_recipe:.3f}, learned "
            f"{new.learned:.3f}"
        )
    if study.photographs is not None:
        lines.append(f"photographs: learned {study.photographs.learned}; classical {study.photographs.classical}")
    return "\n".join(lines)
