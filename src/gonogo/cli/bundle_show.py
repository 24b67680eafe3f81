"""``gonogo bundle show``: what a bundle is, what it promises, and the data it was made from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.output import print_json


def show_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An inspector.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a bundle: identity, promise, validity, and the revision of the data set that it was trained on."""
    from gonogo.bundle import read_bundle
    from gonogo.operating_point import describe_point, to_json
    from gonogo.validity import read_validity, standing

    opened = read_bundle(bundle)
    manifest, validity = opened.manifest, read_validity(opened)
    point, revision = manifest.operating_point, manifest.data_revision
    state = standing(validity, now=datetime.now(UTC))
    if as_json:
        content = {
            "bundle": str(bundle),
            "bundle_sha256": opened.sha256,
            "name": manifest.name,
            "created": manifest.created,
            "gonogo_version": manifest.gonogo_version,
            "data_fingerprint": manifest.data_fingerprint,
            "data_revision": None if revision is None else revision.model_dump(mode="json"),
            "operating_point": None if point is None else to_json(point),
            "validity": None if validity is None else validity.model_dump(mode="json"),
            "expired": state.expired,
            "signed": opened.signature is not None,
        }
        print_json(content)
        return
    typer.echo(f"{manifest.name}: {opened.sha256}")
    typer.echo(f"Made {manifest.created} with gonogo {manifest.gonogo_version}.")
    typer.echo(f"Data: {manifest.data_fingerprint[:16] or 'unknown'}, {revision or 'no revision recorded'}.")
    for sentence in ("No limit is certified.",) if point is None else describe_point(point):
        typer.echo(sentence)
    if point is not None and validity is not None:
        typer.echo(validity.sentence())
    if state.sentence:
        typer.echo(f"note: {state.sentence}.")
