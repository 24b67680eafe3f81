"""``gonogo experiment``: what the documentation quotes, to be run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.experiment_roi import roi
from gonogo.cli.train import require_fine_tuning, training_options
from gonogo.cli.train_options import (
    CropsOption,
    DeviceOption,
    MasksOption,
    NormalisationName,
    PoolName,
    PoolOption,
    RoiBackboneOption,
    RoiOption,
    RoiWeightsOption,
    RotationsOption,
    SizeOption,
    WindowOption,
)

app = typer.Typer(help="Run the experiments that the documentation quotes.", no_args_is_help=True)


app.command("roi")(roi)


@app.callback()
def _experiment() -> None:
    """Experiments."""


@app.command()
def seeds(
    dataset: Annotated[Path, typer.Argument(help="Data set folder; its own splits are ignored.")],
    weights: Annotated[str, typer.Option(help="safetensors file, 'imagenet' or 'none'.")] = "imagenet",
    normalisation: Annotated[
        NormalisationName, typer.Option(help="Input the weights expect.")
    ] = NormalisationName.AUTO,
    backbone: Annotated[str, typer.Option(help="As for gonogo train.")] = "efficientnet_lite0",
    cut: Annotated[list[str] | None, typer.Option(help="Feature map to cut at; may be repeated.")] = None,
    pool: PoolOption = PoolName.AUTO,
    masks: MasksOption = True,
    size: SizeOption = None,
    crops: CropsOption = None,
    rotations: RotationsOption = None,
    roi: RoiOption = "none",
    roi_backbone: RoiBackboneOption = None,
    roi_weights: RoiWeightsOption = None,
    count: Annotated[int, typer.Option("--seeds", min=1, help="Number of splits.")] = 5,
    first: Annotated[int, typer.Option(min=0, help="Seed of the first split.")] = 0,
    splits: Annotated[str, typer.Option(help="Shares train/val/calibrate/test.")] = "50/10/25/15",
    finetune: Annotated[bool, typer.Option("--finetune", help="Compare fine-tuning with the head alone.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Number of fine-tuning epochs.")] = 24,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of fine-tuning.")] = 1e-3,
    window: WindowOption = None,
    device: DeviceOption = "cpu",
    leaky: Annotated[
        bool, typer.Option("--leaky", help="Split by picture, not by part: overstates, for comparison only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train and test on several splits: mean and spread of the AUROC, and what fine-tuning gains."""
    from gonogo.dataset import Dataset, Fractions
    from gonogo.experiments import seed_study, summary
    from gonogo.train import FineTuning

    require_fine_tuning(finetune, window=window, device=device, crops=crops, rotations=rotations, pool=pool)
    options = training_options(
        backbone=backbone,
        weights=weights,
        normalisation=normalisation,
        cut=cut,
        pool=pool,
        masks=masks,
        size=size,
        crops=crops,
        rotations=rotations,
        roi=roi,
        roi_backbone=roi_backbone,
        roi_weights=roi_weights,
        window=window,
        device=device,
    )
    if finetune:
        options = replace(options, fine_tuning=FineTuning(epochs=epochs, learning_rate=learning_rate))
    rows = seed_study(
        Dataset.read(dataset), options, range(first, first + count), fractions=Fractions.parse(splits), leaky=leaky
    )
    found = summary(rows)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        if name != "rows":
            typer.echo(f"{name:34s} {value:.4f}" if isinstance(value, float) else f"{name:34s} {value}")
