"""``gonogo bundle together``: certify the bundles of several cameras on the same parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.certify import MAX_ESCAPE_HELP, MAX_OVERKILL_HELP
from gonogo.cli.output import print_json


def together_command(
    bundle: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="One bundle for each camera; they are changed in place.")
    ],
    dataset: Annotated[Path, typer.Option(help="The data set that they were trained on, with all cameras.")],
    max_escape: Annotated[float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False)] = None,
    max_overkill: Annotated[float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False)] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of the certified rates.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Certify one bundle per camera together: a part is one trial, and its worst view decides.

    Exit code 1 if a requested rate cannot be certified; the parts concerned then go to review.
    """
    from gonogo.certification import certify_together
    from gonogo.dataset import Dataset
    from gonogo.errors import UnfitError
    from gonogo.inspector import Inspector
    from gonogo.operating_point import Promise, describe_point, to_json
    from gonogo.signing import NOT_REQUIRED

    inspectors = [Inspector.load(each, policy=NOT_REQUIRED) for each in bundle]
    promise = Promise(max_escape=max_escape, max_overkill=max_overkill, confidence=confidence)
    made = certify_together(inspectors, Dataset.read(dataset), promise)
    if as_json:
        bundles = {camera: {"bundle": str(each.root), "sha256": each.sha256} for camera, each in made.bundles.items()}
        print_json({"cameras": bundles, "part": to_json(made.point)}, allow_nan=False)
    else:
        for sentence in describe_point(made.point):
            typer.echo(sentence)
        for camera, each in made.bundles.items():
            typer.echo(f"camera {camera}: {each.root} ({each.sha256[:16]})")
    if not (made.point.escape.holds and made.point.overkill.holds):
        raise UnfitError("A requested rate cannot be certified for the part: add calibration parts. See above.")
