"""``gonogo bundle``: derive a new bundle from a certified one, and examine its network."""

from __future__ import annotations

import typer

from gonogo.cli.bundle_show import show_command
from gonogo.cli.cascade import cascade_command
from gonogo.cli.checks import checks_command
from gonogo.cli.distill import distill_command
from gonogo.cli.export_model import export_command
from gonogo.cli.graph import graph_command
from gonogo.cli.learn import learn_command
from gonogo.cli.quantize import quantize_command
from gonogo.cli.signing import app as keys
from gonogo.cli.signing import sign_command
from gonogo.cli.together import together_command

app = typer.Typer(
    help="Trained inspectors: speed them up, retrain them, examine them, add rules to them, sign them.",
    no_args_is_help=True,
)
for command in (
    show_command,
    quantize_command,
    distill_command,
    cascade_command,
    learn_command,
    graph_command,
    checks_command,
    sign_command,
    export_command,
    together_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)
app.add_typer(keys, name="keys")
