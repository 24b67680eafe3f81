"""``gonogo bundle``: make a new bundle from one that is certified, and examine its network."""

from __future__ import annotations

import typer

from gonogo.cli.cascade import cascade
from gonogo.cli.distill import distill
from gonogo.cli.graph import graph
from gonogo.cli.learn import learn
from gonogo.cli.quantize import quantize

app = typer.Typer(help="Trained inspectors: make them faster, train them again, examine them.", no_args_is_help=True)
for command in (quantize, distill, cascade, learn, graph):
    app.command(command.__name__.removesuffix("_command"))(command)
