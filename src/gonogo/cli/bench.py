"""``gonogo bench``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def bench(
    out: Annotated[Path, typer.Option(help="Folder for the report, the figures and the bundles made for it.")],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats, without torch.compile.")] = False,
    bundles: Annotated[
        Path | None, typer.Option(help="Time the bundles in this folder instead, with resnet50-int8.inspector in it.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="The data set that those bundles learned from.")] = None,
    photo: Annotated[
        Path | None, typer.Option(help="The picture that is judged over and over; a rendered board where omitted.")
    ] = None,
    keras: Annotated[
        Path | None, typer.Option(help="The Python of an environment with Keras, to compare with.")
    ] = None,
    anomalib: Annotated[Path | None, typer.Option(help="The Python of an environment with anomalib.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of rendering processes.")] = len(
        os.sched_getaffinity(0)
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time judgements against the bare network, the training framework and other runtimes."""
    from gonogo.bench.study import FULL, QUICK, Peers, run_bench
    from gonogo.progress import console

    found = run_bench(
        out,
        QUICK if quick else FULL,
        bundles=bundles,
        dataset=dataset,
        photo=photo,
        peers=Peers(keras=keras, anomalib=anomalib),
        workers=workers,
    )
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    for row in found.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:9.3f}"
        console.print(f"{row.table:11s}{row.name:48s}{ratio:9s}  {row.note}", markup=False, highlight=False)
    for name, value in found.headlines.items():
        typer.echo(f"{name:42s}{value if value is None or isinstance(value, str) else f'{value:.3f}'}")
