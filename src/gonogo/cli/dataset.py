"""``gonogo dataset``: import, check."""

from __future__ import annotations

import typer

app = typer.Typer(help="Labelled pictures: import and check them.", no_args_is_help=True)


@app.callback()
def _dataset() -> None:
    """Labelled pictures."""
