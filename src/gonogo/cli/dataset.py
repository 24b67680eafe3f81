"""``gonogo dataset``: import, extend, check, split and export data sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.dataset_collect import collect_command
from gonogo.cli.dataset_plan import plan_command
from gonogo.cli.dataset_revisions import (
    compare_command,
    prune_command,
    remove_command,
    restore_command,
    revisions_command,
)
from gonogo.cli.doubts import doubts_command
from gonogo.cli.levels import levels_command
from gonogo.cli.output import print_json
from gonogo.cli.synth import synth_command

if TYPE_CHECKING:
    from gonogo.cli.printed.dataset import DatasetCheck, DatasetExport, PictureCount
    from gonogo.dataset import Dataset, Fractions

app = typer.Typer(help="Labelled pictures: import, check and split them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed: the same seed gives the same splits.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Splits = Annotated[
    str | None,
    typer.Option(
        help="Percentages of train/val/calibrate/test, 50/10/25/15 by default; three numbers are train/val/test."
    ),
]
WithinLots = Annotated[bool, typer.Option("--split-within-lots", help="Allow a lot to appear in several splits.")]


class Format(StrEnum):
    """A label format of another tool."""

    COCO = "coco"
    CVAT = "cvat"
    VOC = "voc"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"
    DATUMARO = "datumaro"


@app.callback()
def _dataset() -> None:
    """Labelled pictures."""


@app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of photographs; it is not changed.")],
    out: Annotated[Path, typer.Option(help="Data set folder to create.")],
    good: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the folder of good parts; every other folder is a defect kind."),
    ] = None,
    mask_suffix: Annotated[
        str | None,
        typer.Option(
            metavar="SUFFIX",
            help="The defect mask of the picture NAME.* is the file NAME followed by SUFFIX in the same folder.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Labels of another tool: COCO, Datumaro or Label Studio .json, CVAT .xml, or a folder of these, of "
            "Pascal VOC .xml or of YOLO .txt files."
        ),
    ] = None,
    object_name: Annotated[
        str | None,
        typer.Option("--object", metavar="NAME", help="Use only shapes with this name as parts."),
    ] = None,
    part_regex: Annotated[
        str | None,
        typer.Option(help="Regular expression searched in each picture's path; its first group names the part."),
    ] = None,
    lot_regex: Annotated[
        str | None,
        typer.Option(help="Regular expression searched in each picture's path; its first group names the lot."),
    ] = None,
    camera_regex: Annotated[
        str | None,
        typer.Option(help="Regular expression searched in each picture's path; its first group names the camera."),
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Include pictures without a label.")] = False,
    splits: Splits = None,
    seed: Seed = 0,
    split_within_lots: WithinLots = False,
) -> None:
    """Create a data set from a folder of photographs: good/ and bad/, MVTec AD, or imagefolder."""
    from gonogo.dataset import ImportOptions, import_folder

    options = ImportOptions(
        good=good,
        mask_suffix=mask_suffix,
        unlabelled=unlabelled,
        annotations=annotations,
        object_name=object_name,
        part_regex=part_regex,
        lot_regex=lot_regex,
        camera_regex=camera_regex,
        fractions=_fractions(splits),
        seed=seed,
        split_within_lots=split_within_lots,
    )
    imported = import_folder(source, out, options)
    _print_counts(imported.dataset)
    for note in imported.notes:
        typer.echo(note)
    _print_shortfalls(imported.dataset, seed)


@app.command("add")
def add_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of photographs; it is not changed.")],
    dataset: Folder,
    good: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the folder of good parts; every other folder is a defect kind."),
    ] = None,
    mask_suffix: Annotated[str | None, typer.Option(metavar="SUFFIX", help="As for dataset import.")] = None,
    part_regex: Annotated[str | None, typer.Option(help="As for dataset import.")] = None,
    lot_regex: Annotated[str | None, typer.Option(help="As for dataset import.")] = None,
    camera_regex: Annotated[str | None, typer.Option(help="As for dataset import.")] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Include pictures without a label.")] = False,
    relabel: Annotated[
        bool, typer.Option("--relabel", help="Where the data set has a picture with another label, take that of SRC.")
    ] = False,
    splits: Splits = None,
    seed: Seed = 0,
    split_within_lots: WithinLots = False,
) -> None:
    """Add photographs to a data set. Existing pictures keep their labels and splits; conflicts are listed."""
    from gonogo.dataset import ImportOptions, add_folder

    options = ImportOptions(
        good=good,
        mask_suffix=mask_suffix,
        unlabelled=unlabelled,
        part_regex=part_regex,
        lot_regex=lot_regex,
        camera_regex=camera_regex,
        fractions=_fractions(splits),
        seed=seed,
        split_within_lots=split_within_lots,
        relabel=relabel,
    )
    added = add_folder(source, dataset, options)
    _print_counts(added.dataset)
    for note in (*added.notes, *added.conflicts):
        typer.echo(note)


@app.command("check")
def check_command(dataset: Folder, as_json: AsJson = False) -> None:
    """Check whether a data set can be trained on.

    Reports counts, unreadable pictures, duplicates and leakage between splits. Exit code 1 if it cannot.
    """

    from gonogo.dataset import Dataset, check_dataset
    from gonogo.errors import UnfitError

    data = Dataset.read(dataset)
    found = check_dataset(data)
    if as_json:
        counts: list[PictureCount] = [
            {"split": split, "label": label, "defect": defect, "pictures": number}
            for (split, label, defect), number in found.counts.items()
        ]
        content: DatasetCheck = {
            "fit": found.fit,
            "pictures": len(data.samples),
            "counts": counts,
            "problems": found.problems,
            "warnings": found.warnings,
            "exact_duplicates": found.exact_duplicates,
            "near_duplicates": found.near_duplicates,
        }
        print_json(content, indent=1)
    else:
        _print_counts(data)
        pictures = sum(map(len, found.near_duplicates))
        groups = len(found.near_duplicates)
        typer.echo(f"{pictures} pictures are near-duplicates, in {groups} groups." if groups else "No near-duplicates.")
        for warning in found.warnings:
            typer.echo(f"note: {warning}")
    if not found.fit:
        shown = "\n  ".join(found.problems[:20])
        more = f"\n  and {len(found.problems) - 20} more" if len(found.problems) > 20 else ""
        raise UnfitError(f"{dataset}: unfit to train on:\n  {shown}{more}")


@app.command("split")
def split_command(
    dataset: Folder,
    splits: Splits = None,
    seed: Seed = 0,
    split_within_lots: WithinLots = False,
    for_escape: Annotated[
        float | None,
        typer.Option(
            help="Choose the splits so that the calibrate split can certify this escape rate at 95 % confidence.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Assign the splits again. The pictures stay in place; metadata.jsonl is replaced.

    Do this before any part is judged: parts that were used to certify or test cannot certify anything in a new split.
    """
    from dataclasses import replace

    from gonogo.dataset import Dataset, Fractions, locked, record_change, resplit, with_groups
    from gonogo.dataset.judged import judged_unlabelled
    from gonogo.errors import InputError

    if for_escape is not None and splits is not None:
        raise InputError(
            "--for-escape and --splits: expected one of them, found both. --for-escape chooses the splits."
        )
    fractions = _fractions(splits) or Fractions()
    groups = {sample.file_name: sample.group for sample in with_groups(Dataset.read(dataset))}
    with locked(dataset):
        before = data = Dataset.read(dataset)  # labels may have changed during the search for duplicates
        grouped = [
            sample.model_copy(update={"group": groups.get(sample.file_name, sample.group)}) for sample in data.samples
        ]
        if for_escape is not None:
            from gonogo.certification.shortfall import as_text, fractions_for_escape

            fractions = fractions_for_escape(grouped, for_escape, seed=seed, within_lots=split_within_lots)
            typer.echo(f"Splits: {as_text(fractions)}")
        early = judged_unlabelled(data)
        data = replace(data, samples=resplit(grouped, fractions, seed, within_lots=split_within_lots, early=early))
        record_change(dataset, data.samples, what="split", details={"seed": seed}, before=before.samples)
    _print_counts(data)
    _print_shortfalls(data, seed)


@app.command("export")
def export_command(
    dataset: Folder,
    to: Annotated[Format, typer.Option("--format", help="The tool or format to write for.")],
    out: Annotated[Path, typer.Option(help="Folder to create, or a ZIP archive if the name ends in .zip.")],
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Leave out the pictures.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write pictures, boxes, masks, kinds, labels and splits for CVAT, Label Studio, Datumaro or as COCO, VOC or YOLO.

    Prints what the format cannot carry. The result can be imported again with --annotations.
    """
    import shlex

    from gonogo.dataset import Dataset, export_dataset
    from gonogo.dataset import Format as To
    from gonogo.dataset.exporting import pictures_folder

    done = export_dataset(Dataset.read(dataset), out, To(to.value), overwrite=overwrite, labels_only=labels_only)
    if as_json:
        content: DatasetExport = {
            "out": str(out),
            "format": to.value,
            "pictures": done.pictures,
            "boxes": done.boxes,
            "masks": done.masks,
            "notes": done.notes,
        }
        print_json(content, indent=1)
        return
    typer.echo(f"{done.pictures} pictures with {done.boxes} boxes and {done.masks} masks in {out}")
    for note in done.notes:
        typer.echo(f"note: {note}")
    if out.suffix.lower() != ".zip" and not labels_only:
        source = shlex.quote(str(out / pictures_folder(To(to.value))))
        typer.echo(f"Back again: gonogo dataset import {source} --annotations {shlex.quote(str(out))} --out DATASET")


def _fractions(text: str | None) -> Fractions | None:
    from gonogo.dataset import Fractions

    return None if text is None else Fractions.parse(text)


def _print_shortfalls(dataset: Dataset, seed: int) -> None:
    """Print what the calibrate split lacks for the default error rates, before any part is judged."""
    from gonogo.certification.shortfall import shortfalls
    from gonogo.dataset.judged import refuse_redealt
    from gonogo.errors import DatasetError

    for each in shortfalls(dataset, seed=seed):
        typer.echo(each.sentence().replace("split DATASET", f"split {dataset.root}"))
    try:
        refuse_redealt(dataset)
    except DatasetError as error:
        typer.echo(f"note: {error}")


def _print_counts(dataset: Dataset) -> None:
    """Print the number of pictures: one row per label and defect kind, one column per split."""
    from rich.console import Console
    from rich.table import Table

    from gonogo.dataset import Split, counts

    found = counts(dataset)
    columns = [split for split in (*map(str, Split), "-") if any(key[0] == split for key in found)]
    table = Table(title=f"{len(dataset.samples)} pictures in {dataset.root}", title_justify="left")
    table.add_column("label")
    table.add_column("defect kind")
    for split in (*columns, "all"):
        table.add_column("no split" if split == "-" else split, justify="right")
    for label, defect in dict.fromkeys((label, defect) for _, label, defect in found):
        numbers = [found.get((split, label, defect), 0) for split in columns]
        table.add_row(label, defect, *map(str, (*numbers, sum(numbers))))
    Console().print(table)


for command in (
    synth_command,
    doubts_command,
    levels_command,
    collect_command,
    plan_command,
    revisions_command,
    compare_command,
    restore_command,
    remove_command,
    prune_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)
