"""The ``gonogo`` command. Heavy imports stay inside the functions, so that ``--help`` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from gonogo.cli import dataset, edge, ledger, roi, station
from gonogo.cli.cascade import cascade
from gonogo.cli.demo import demo
from gonogo.cli.distill import distill
from gonogo.cli.evaluate import evaluate
from gonogo.cli.gauge import gauge
from gonogo.cli.graph import graph
from gonogo.cli.inspect import inspect
from gonogo.cli.learn import learn
from gonogo.cli.operate import operate
from gonogo.cli.qualify import qualify
from gonogo.cli.quantize import quantize
from gonogo.cli.replay import replay
from gonogo.cli.serve import serve
from gonogo.cli.synth import synth
from gonogo.cli.train import train

app = typer.Typer(
    name="gonogo",
    help="A go/no-go gauge for photographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # as markup, [views.health] would vanish from a text
)
app.add_typer(dataset.app, name="dataset")
app.add_typer(roi.app, name="roi")
app.add_typer(station.app, name="station")
app.add_typer(ledger.app, name="ledger")
for command in (demo, train, inspect, evaluate, operate, qualify, synth, gauge):
    app.command()(command)
app.command()(learn)
app.command()(quantize)
app.command()(graph)
app.command()(replay)
app.command()(distill)
app.command()(cascade)
app.command()(serve)


@app.callback()
def _gonogo(
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error, too.")] = False,
) -> None:
    """Inspect photographs of parts: go, no-go or review, with a proven escape rate."""
    # `edge.run` looks for --debug itself, as errors of the command line's own parsing come before this.


def main() -> None:
    """Run the command line and exit: 0 done, 1 the answer is no, 2 bad input, 70 a fault in gonogo, 130 interrupted."""
    edge.run(app)
