"""``gonogo dataset levels``: the levels of a data set of 16-bit pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.output import print_json


def levels_command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder of 16-bit grey pictures.")],
    black: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Raw count that becomes black, with --white.")
    ] = None,
    white: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Raw count that becomes white, with --black.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure them again on the train split.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show, set or measure the raw counts that become black and white in 16-bit pictures.

    Pages show the pictures with these levels, and the next training writes them into the recipe of its bundle.
    """
    from gonogo.config import Depth
    from gonogo.dataset import Dataset
    from gonogo.dataset.levels import measure_levels, write_levels
    from gonogo.errors import InputError

    data = Dataset.read(dataset)
    depth = data.depth
    if (black is None) is not (white is None) or (measure and black is not None):
        raise InputError("expected --black and --white together, or --measure alone. Correct the options.")
    if black is not None and white is not None:
        if black >= white:
            raise InputError(f"--white: expected more than --black ({black}), found {white}. Correct the options.")
        depth = Depth(black=black, white=white)
    elif measure or depth is None:
        depth = measure_levels(data)
    if depth is None:
        raise InputError(f"{dataset}: expected 16-bit grey pictures, found others, which need no levels.")
    if depth != data.depth:
        write_levels(data, depth)
    if as_json:
        print_json(depth.model_dump(mode="json"))
    else:
        typer.echo(f"black {depth.black:,}, white {depth.white:,}")
