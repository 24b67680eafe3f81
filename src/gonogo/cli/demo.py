"""``gonogo demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove a folder an earlier run made.")] = False,
) -> None:
    """Render parts, train on them, judge unseen ones and write a report."""
    import shutil

    from rich.console import Console

    from gonogo.demo import run_demo
    from gonogo.report import words

    if overwrite and (out / "chip.inspector").is_dir():
        shutil.rmtree(out)
    made = run_demo(out)
    console = Console()
    console.print(words.headline(made.evaluation), style="bold", markup=False, highlight=False)
    console.print(words.subline(made.evaluation), markup=False, highlight=False)
    places = {
        "report": made.report,
        "for the auditor": made.qualification,
        "heat maps": made.heatmaps,
        "inspector": made.bundle,
    }
    for what, place in places.items():
        console.print(f"{what:16s} {place}", markup=False, highlight=False, soft_wrap=True)
    images = out / "dataset" / "images"  # beside the photographs themselves lie their masks
    console.print(f"{made.duration_s:.0f} s. Next: gonogo inspect {made.bundle} {images}", markup=False)
