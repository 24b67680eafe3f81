"""``gonogo bundle export``: the network of a bundle for a model server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def export_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to export.", metavar="BUNDLE")],
    out: Annotated[Path, typer.Option(help="Folder of the model repository; created if it does not exist.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the model. [default: the bundle's name]", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the network into a model repository, as OpenVINO Model Server and KServe read it.

    The server then answers with scores and heat maps, not with verdicts; NAME/VERSION.json holds the thresholds.
    """
    from gonogo.bundle import read_bundle
    from gonogo.model_repository import add_version
    from gonogo.signing import machine_policy, verify_bundle

    opened = read_bundle(bundle)
    verify_bundle(opened, machine_policy())
    done = add_version(opened, out, bundle.name.removesuffix(".inspector") if name is None else name)
    if as_json:
        fields = {"name": done.name, "version": done.version, "folder": str(done.folder), "written": done.written}
        typer.echo(json.dumps(fields | {"precision": done.precision}))
        return
    typer.echo(f"{'Wrote' if done.written else 'Unchanged:'} {done.folder}: version {done.version} of {done.name}")
    typer.echo(f"Serve it in the precision of its thresholds: INFERENCE_PRECISION_HINT={done.precision}")
