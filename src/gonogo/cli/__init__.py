"""The ``gonogo`` command. Heavy imports stay inside the functions, so that ``--help`` answers at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gonogo import __version__
from gonogo.cli import bundle, dataset, edge, fleet, ledger, presence, roi, serve_key, station, workspace, zones
from gonogo.cli.certify import certify_command
from gonogo.cli.demo import demo_command
from gonogo.cli.devices import devices_command
from gonogo.cli.evaluate import evaluate_command
from gonogo.cli.experiment import experiment_command
from gonogo.cli.help_text import Entries, SectionedCommand
from gonogo.cli.import_model import import_model_command
from gonogo.cli.inspect import inspect_command
from gonogo.cli.look import look_command
from gonogo.cli.qualify import qualify_command
from gonogo.cli.schema import schema_command
from gonogo.cli.serve import serve_command
from gonogo.cli.train import train_command

app = typer.Typer(
    name="gonogo",
    cls=Entries,
    help="A go/no-go gauge for photographs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would treat [cameras.health] as markup and drop it from the help
)
for group in (dataset, roi, zones, presence, bundle, station, fleet, ledger):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])
for command in (
    demo_command,
    certify_command,
    evaluate_command,
    qualify_command,
    inspect_command,
    devices_command,
    serve_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)
app.add_typer(serve_key.app, name="serve-key")
app.add_typer(workspace.app, name="workspace")
app.command("look")(look_command)
app.command("train", cls=SectionedCommand)(train_command)
app.command("import-model")(import_model_command)
app.command("experiment", cls=SectionedCommand)(experiment_command)
app.command("schema")(schema_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gonogo {__version__}")
        raise typer.Exit


@app.callback()
def _gonogo(
    debug: Annotated[bool, typer.Option("--debug", help="On an error, print the traceback too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Inspect photographs of parts: go, no-go or review, with a proven escape rate."""
    # `edge.run_guarded` reads --debug itself: parsing errors are raised before this callback runs.


def main() -> None:
    """Run the command line and exit with 0 (done), 1 (negative result), 2 (bad input), 70 (internal error) or 130."""
    # No other installed package may hook into the reading of manifests; looking for such hooks slows every start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    edge.run_guarded(app)
