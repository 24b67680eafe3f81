"""``gonogo dataset doubts``: find labels that are probably wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gonogo.dataset.doubts import Doubt, LabelDoubts


def doubts_command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Write an HTML page with the pictures to this file.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Largest number of labels to list.")] = 40,
    roi: Annotated[
        str, typer.Option(help="ROI config file, as for 'gonogo train --roi'.", metavar="none|FILE")
    ] = "none",
    size: Annotated[
        str | None, typer.Option(help="Input size of the network in pixels.", metavar="SIDE|WIDTHxHEIGHT")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """List the labels that contradict the out-of-fold scores most, to correct them before training."""
    from gonogo.cli.train_options import parse_size
    from gonogo.dataset import Dataset
    from gonogo.progress import console
    from gonogo.report.doubts import write_doubts
    from gonogo.workflow.doubts import find_doubts, open_search

    size_wh, search = parse_size(size), open_search(roi)
    data = Dataset.read(dataset)
    found = find_doubts(data, search=search, size_wh=size_wh, seed=seed)
    if out is not None:
        write_doubts(found, data, out, most=most)
        console.print(f"Page written to {out}", markup=False, highlight=False, soft_wrap=True)
    shown = found.found[:most]
    if as_json:
        print_json(_as_json(found, shown), indent=1, allow_nan=False)
    else:
        _print(found, shown)


def _as_json(found: LabelDoubts, shown: Sequence[Doubt]) -> dict[str, Any]:
    return {
        "pictures": found.pictures,
        "bad_pictures": found.bad_pictures,
        "auroc": found.auroc,
        "doubts": len(found.found),
        "shown": [doubt.to_json() for doubt in shown],
        "unreadable": list(found.unreadable),
    }


def _print(found: LabelDoubts, shown: Sequence[Doubt]) -> None:
    for doubt in shown:
        kind = "" if doubt.sample.defect is None else f" ({doubt.sample.defect})"
        typer.echo(
            f"{doubt.score:9.3f}  {doubt.sample.file_name}  labelled {doubt.sample.label}{kind}, likely {doubt.likely}"
        )
    typer.echo(
        f"{len(found.found)} of {found.pictures} labels contradict the scores learned from the other parts"
        f"{f'; the first {len(shown)} are listed' if len(shown) < len(found.found) else ''}. All splits were examined, "
        "calibrate and test included: correct labels before training, not after certifying."
    )
