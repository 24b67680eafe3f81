"""``gonogo bundle learn``: retrain an inspector with new, reviewed pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json
from gonogo.cli.signing import say_unsigned

if TYPE_CHECKING:
    from gonogo.workflow.learning import Learned


def learn_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to retrain; it is not changed.", metavar="BUNDLE")],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="The data set that it was trained on, with new pictures; or a ledger, whose reviewed pictures are "
            "added to --dataset.",
            metavar="DATASET|LEDGER",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle to write.", metavar="NEW")],
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="With a ledger: the data set that the inspector was trained on. The reviewed pictures are added to "
            "its train split if NEW is written.",
            metavar="DATASET",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write NEW even if it is not promoted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Retrain an inspector with reviewed pictures; promote it if it is as safe and needs less review.

    Exit code 1 if it is not promoted; it is then written only with --force.
    """
    from gonogo.config import settings
    from gonogo.errors import UnfitError
    from gonogo.inspector import Inspector
    from gonogo.signing import NOT_REQUIRED
    from gonogo.workflow.learning import learn_bundle

    data = _dataset(source, dataset)
    source_inspector = Inspector.load(bundle, machine=settings().on_cpu(), policy=NOT_REQUIRED)
    found = learn_bundle(source_inspector, source, out, dataset=data, overwrite=overwrite, force=force)
    say_unsigned(source_inspector.bundle, found.bundle)
    if as_json:
        print_json(_as_json(found), allow_nan=False)
    else:
        _print(found, out)
    if found.bundle is None:
        raise UnfitError(f"{bundle} stays in use; {out} was not written. {' '.join(found.tried.reasons)}")


def _dataset(source: Path, dataset: Path | None) -> Any:
    """Return the data set to which a ledger's pictures are added; ``None`` if the source is a data set.

    Raises:
        InputError: the source is a ledger without a data set, or a data set with a second one.
    """
    from gonogo.dataset import Dataset
    from gonogo.errors import InputError

    if source.is_file() and dataset is None:
        raise InputError(
            f"--from {source}: a ledger also needs the data set that the inspector was trained on. Add --dataset."
        )
    if not source.is_file() and dataset is not None:
        raise InputError(f"--from {source}: expected a ledger with --dataset, found {_kind(source)}.")
    return None if dataset is None else Dataset.read(dataset)


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "no such file"


def _as_json(found: Learned) -> dict[str, Any]:
    grown = found.grown
    return {
        "bundle": None if found.bundle is None else str(found.bundle.root),
        "bundle_sha256": None if found.bundle is None else found.bundle.sha256,
        "promoted": found.promoted,
        "reasons": list(found.tried.reasons),
        "new_pictures": found.new,
        "from_ledger": grown
        and {
            "added": len(grown.added),
            "already_there": grown.there,
            "held_back": grown.held_back,
            "deleted": grown.gone,
        },
        "compared": found.tried.to_json(),
    }


def _print(found: Learned, out: Path) -> None:
    from rich.console import Console

    from gonogo.operating_point import describe_point

    console = Console(markup=False, highlight=False, soft_wrap=True)
    if (grown := found.grown) is not None:
        console.print(
            f"From the ledger: {len(grown.added)} pictures added to the train split, {grown.there} already in the data "
            f"set, {grown.held_back} not used (their parts are in val, calibrate or test), {grown.gone} deleted."
        )
    console.print(f"{found.new} pictures are new to the inspector. {found.tried.sentence()}")
    if found.bundle is None:
        return
    point = found.bundle.manifest.operating_point
    assert point is not None, "training always certifies"
    for sentence in describe_point(point):
        console.print(sentence)
    for reason in found.tried.reasons:
        console.print(f"Not promoted, but written (--force): {reason}", style="yellow")
    console.print(f"Wrote {out} ({found.bundle.sha256[:16]}).")
