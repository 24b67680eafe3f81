"""``gonogo experiment roi``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.train import NormalisationName


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
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = len(os.sched_getaffinity(0)),
    timing: Annotated[bool, typer.Option("--timing", help="Only time the regions on one 1080p frame.")] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="With --timing: a classical recipe instead of a tuned one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare regions of interest on rendered boards: heads, losses, margins, pipelines, unseen types."""
    from gonogo.errors import InputError
    from gonogo.experiments.region import FULL, QUICK, Weights, region_study, time_regions
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
    study = region_study(out, QUICK if quick else FULL, start, photos=photos, workers=workers)
    if as_json:
        typer.echo(json.dumps(study.to_json()))
        return
    for row in (*study.heads.rows, study.heads.shipped):
        typer.echo(
            f"{row.head:11s} {row.loss:8s} {row.labels:5d} labels: IoU {row.iou:.4f}, {row.share_above_095:4.0%} above "
            f"0.95, missed {row.missed_of_picture:.2e} of the picture, {row.missed_of_truth:.2%} of the chip"
        )
    for each in study.pipelines:
        typer.echo(f"{each.region:8s} AUROC {each.judged.auroc or float('nan'):.4f}")
