"""The ``gonogo`` command. Heavy imports stay inside the functions, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

import typer

from gonogo.cli import dataset, experiment, ledger, roi, station
from gonogo.cli.bench import bench
from gonogo.cli.cascade import cascade
from gonogo.cli.demo import demo
from gonogo.cli.distill import distill
from gonogo.cli.drift import simulate_drift
from gonogo.cli.evaluate import evaluate
from gonogo.cli.gauge import gauge
from gonogo.cli.graph import graph
from gonogo.cli.inspect import inspect
from gonogo.cli.operate import operate
from gonogo.cli.proof import simulate_guarantee
from gonogo.cli.qualify import qualify
from gonogo.cli.quantize import quantize
from gonogo.cli.replay import replay
from gonogo.cli.serve import serve
from gonogo.cli.synth import synth
from gonogo.cli.train import train
from gonogo.errors import InputError, UnfitError

EXTRAS = {
    "nncf": "train",
    "sklearn": "train",
    "safetensors": "finetune",
    "torch": "finetune",
    "torchvision": "finetune",
}
"""The extra that brings a module, by its top-level name."""

app = typer.Typer(
    name="gonogo",
    help="A go/no-go gauge for photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(dataset.app, name="dataset")
app.add_typer(roi.app, name="roi")
app.add_typer(experiment.app, name="experiment")
app.add_typer(station.app, name="station")
app.add_typer(ledger.app, name="ledger")
for command in (demo, train, inspect, evaluate, operate, qualify, synth, gauge, simulate_guarantee, simulate_drift):
    app.command()(command)
app.command()(quantize)
app.command()(graph)
app.command()(replay)
app.command()(distill)
app.command()(cascade)
app.command()(serve)
app.command()(bench)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 unfit or below what was asked, 2 bad input, 130 interrupted."""
    try:
        app()
    except InputError as error:
        print(f"gonogo: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except UnfitError as error:
        print(f"gonogo: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        extra = EXTRAS[module]
        told = f"this command needs {module}, which is not installed. Install it: pip install 'gonogo[{extra}]'"
        print(f"gonogo: {told}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
