"""``gonogo demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gonogo.demo import Demo, PhotoDemo


def demo_command(
    out: Annotated[
        Path | None, typer.Option(help="Folder to create. [default: demo, or demo-photos with --photos]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder of an earlier run.")] = False,
    photos: Annotated[
        bool,
        typer.Option("--photos", help="Use 2,624 real photographs of solar cells (needs gonogo[photos])."),
    ] = False,
    only_write: Annotated[
        bool, typer.Option("--only-write", help="With --photos: write the photographs to a folder and exit.")
    ] = False,
) -> None:
    """Train on rendered parts (or real photographs), judge unseen ones, and write a report."""
    import shutil

    from gonogo.demo import run_demo, run_photo_demo, write_photos
    from gonogo.errors import InputError

    out = out or Path("demo-photos" if photos else "demo")
    if only_write and not photos:
        raise InputError("--only-write: expected --photos as well, as only photographs can be written. Add --photos.")
    if overwrite and any((out / name).exists() for name in ("chip.inspector", "cells.inspector")):
        shutil.rmtree(out)
    if only_write:
        write_photos(out)
        return
    if photos:
        _show_photos(run_photo_demo(out))
    else:
        _show(run_demo(out))


def _show(made: Demo) -> None:
    from rich.console import Console

    from gonogo.report import phrases

    console = Console()
    console.print(phrases.headline(made.evaluation), style="bold", markup=False, highlight=False)
    console.print(phrases.subline(made.evaluation), markup=False, highlight=False)
    places = {
        "report": made.report,
        "for the auditor": made.qualification,
        "heat maps": made.heatmaps,
        "inspector": made.bundle,
    }
    for what, place in places.items():
        console.print(f"{what:16s} {place}", markup=False, highlight=False, soft_wrap=True)
    images = made.folder / "dataset" / "images"  # the folder above also holds the masks
    console.print(f"{made.duration_s:.0f} s. Next: gonogo inspect {made.bundle} {images}", markup=False)


def _show_photos(made: PhotoDemo) -> None:
    """Print the results for all cells and for those with a certain label, then the same as for the rendered demo."""
    from rich.console import Console
    from rich.table import Table

    from gonogo.demo.photos import PUBLISHED
    from gonogo.report import phrases
    from gonogo.schema import Label

    table = Table("test split", "good", "bad", "AUROC", "escapes", "overkill", "to a person", "accuracy without review")
    for name, group, accuracy in made.groups:
        rates = [group.escape, group.overkill, group.review, accuracy]
        counts = [str(group.count(label)) for label in (Label.GOOD, Label.BAD)]
        shown = [f"{phrases.percent(rate.value)} ({phrases.interval(rate)})" for rate in rates]
        table.add_row(name, *counts, phrases.number(group.auroc), *shown)
    console = Console()
    console.print(table)
    published = ", ".join(f"{name} {phrases.percent(share)}" for name, share in PUBLISHED)
    console.print(
        f"Published accuracies without review, on random splits: {published}. Here near-duplicates stay in one split.",
        markup=False,
        highlight=False,
    )
    _show(made)
