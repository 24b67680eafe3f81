"""``gonogo bundle export``: the network of a bundle for a model server or another tool."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.bundle import Bundle
    from gonogo.cli.printed.bundle import ClassifierExport, RepositoryExport


class Form(StrEnum):
    """What the network is written as."""

    REPOSITORY = "repository"
    CLASSIFIER = "classifier"


def export_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to export.", metavar="BUNDLE")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the model repository, created if it does not exist; a new folder for a classifier."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model. [default: the bundle's name]", show_default=False)
    ] = None,
    form: Annotated[
        Form,
        typer.Option(help="A model repository for a server, or a classifier for Model API and DL Streamer."),
    ] = Form.REPOSITORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the network into a model repository, as OpenVINO Model Server and KServe read it, or for another tool.

    A server then answers with scores and heat maps, not with verdicts; NAME/VERSION.json holds the thresholds. With
    --form classifier, NAME.xml has the outputs that Model API looks for, and NAME.json is DL Streamer's model-proc.
    """
    from gonogo.bundle import read_bundle
    from gonogo.signing import machine_policy, verify_bundle

    opened = read_bundle(bundle)
    verify_bundle(opened, machine_policy())
    model_name = bundle.name.removesuffix(".inspector") if name is None else name
    if form is Form.CLASSIFIER:
        _classifier(opened, out, model_name, as_json=as_json)
    else:
        _repository(opened, out, model_name, as_json=as_json)


def _repository(opened: Bundle, out: Path, name: str, *, as_json: bool) -> None:
    from gonogo.model_repository import add_version

    done = add_version(opened, out, name)
    if as_json:
        repository: RepositoryExport = {
            "name": done.name,
            "version": done.version,
            "folder": str(done.folder),
            "written": done.written,
            "precision": done.precision,
        }
        print_json(repository)
        return
    typer.echo(f"{'Wrote' if done.written else 'Unchanged:'} {done.folder}: version {done.version} of {done.name}")
    typer.echo(f"Serve it in the precision of its thresholds: INFERENCE_PRECISION_HINT={done.precision}")


def _classifier(opened: Bundle, out: Path, name: str, *, as_json: bool) -> None:
    from gonogo.other_tools import write_classifier

    done = write_classifier(opened, out, name)
    if as_json:
        classifier: ClassifierExport = {
            "model": str(done.model),
            "model_proc": str(done.model_proc),
            "precision": done.precision,
            "one_window": done.one_window,
        }
        print_json(classifier)
        return
    typer.echo(f"Wrote {done.model} and {done.model_proc}")
    typer.echo(f"Run it in the precision of its thresholds: INFERENCE_PRECISION_HINT={done.precision}")
    if done.one_window:
        typer.echo("This network judges one window of a part, not the part: the worst window decides.")
