"""``gonogo look``: show what a network sees in a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json
from gonogo.cli.train_options import NormalisationName, parse_size

if TYPE_CHECKING:
    from gonogo.cli.printed.judging import Look
    from gonogo.look import Seen


def look_command(
    network: Annotated[
        str,
        typer.Argument(
            help="A bundle, or a network: lenet, efficientnet_lite0, 1 or 2, or a torchvision backbone (needs "
            "gonogo[finetune]).",
            metavar="BACKBONE|BUNDLE",
        ),
    ],
    photo: Annotated[Path | None, typer.Argument(help="The photograph.", metavar="PHOTO")] = None,
    out: Annotated[Path, typer.Option(help="Sheet to write, PNG or JPEG.", metavar="SHEET.PNG")] = Path("sheet.png"),
    crack: Annotated[
        bool,
        typer.Option("--crack", help="Instead of a photograph: a rendered crack on a plain surface, see --seed."),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights: 'imagenet', a safetensors file, or 'none' (random). [default: those of the "
            "installed package, random for a torchvision backbone]",
        ),
    ] = None,
    normalisation: Annotated[
        NormalisationName, typer.Option(help="Input normalisation that a weights file expects; auto: imagenet.")
    ] = NormalisationName.AUTO,
    wanted: Annotated[
        int | None,
        typer.Option("--class", min=0, max=999, help="ImageNet class to look for. [default: the likeliest]"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Input size of a backbone in pixels. [default: the shape of the photograph, about 50,000 pixels]",
            metavar="SIDE|WIDTHxHEIGHT",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights and of --crack.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a network sees: feature maps after each stage, and where it looks, on one sheet.

    A backbone with ImageNet classes gets its class-activation map with average, maximum and log-sum-exp pooling from
    one forward pass, with Grad-CAM and LayerCAM beside it. A bundle gets the map of each kind of evidence and its
    heat map.
    """
    from gonogo.errors import InputError
    from gonogo.images import load_confined
    from gonogo.sheet import require_writable, write_sheet

    require_writable(out, overwrite=overwrite)
    if crack == (photo is not None):
        raise InputError(f"expected a photograph or --crack, found {'both' if crack else 'neither'}.")
    from gonogo.look import NETWORKS, draw_seen, look, look_with_bundle, render_crack

    if network not in NETWORKS and Path(network).is_dir():
        _refuse_for_bundles(crack, weights, normalisation, wanted, size)
        assert photo is not None, "checked above"
        seen = look_with_bundle(Path(network), photo)
    else:
        frame = render_crack(seed)[0] if photo is None else load_confined(photo)
        seen = look(
            network,
            frame,
            weights=weights,
            normalisation=normalisation.known(),
            size_wh=parse_size(size),
            wanted=wanted,
            seed=seed,
        )
    write_sheet(out, draw_seen(seen))
    _print(seen, out, as_json=as_json)


def _refuse_for_bundles(
    crack: bool, weights: str | None, normalisation: NormalisationName, wanted: int | None, size: str | None
) -> None:
    """Refuse options that a bundle decides itself.

    Raises:
        InputError: such an option is given.
    """
    from gonogo.errors import InputError

    options = {
        "--crack": crack,
        "--weights": weights is not None,
        "--normalisation": normalisation is not NormalisationName.AUTO,
        "--class": wanted is not None,
        "--size": size is not None,
    }
    if given := [name for name, there in options.items() if there]:
        raise InputError(f"{' and '.join(given)}: not for a bundle, only for a backbone.")


def _print(seen: Seen, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(_to_json(seen, out))
        return
    from gonogo.look.drawing import heading

    typer.echo(heading(seen))
    for stage in seen.stages:
        typer.echo(f"  {stage.title()}")
    for place in seen.places:
        typer.echo(f"  {place.title}")
    for note in seen.notes:
        typer.echo(note)
    typer.echo(f"Wrote {out}")


def _to_json(seen: Seen, out: Path) -> Look:
    height, width = seen.picture.shape[:2]
    return {
        "sheet": str(out),
        "network": seen.network,
        "weights": seen.weights,
        "answer": seen.answer,
        "size_wh": (width, height),
        "stages": [
            {
                "name": stage.name,
                "stride": stage.stride,
                "channels": len(stage.maps),
                "cells": list(stage.maps.shape[1:]),
            }
            for stage in seen.stages
        ],
        "maps": [
            {"title": place.title, "value": place.value, "cells": list(place.cells.shape)} for place in seen.places
        ],
        "notes": list(seen.notes),
    }
