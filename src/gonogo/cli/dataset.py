"""``gonogo dataset``: import, check, split, export. Heavy imports stay inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.doubts import doubts_command
from gonogo.cli.synth import synth_command

if TYPE_CHECKING:
    from gonogo.dataset import Dataset, Fractions

app = typer.Typer(help="Labelled pictures: import, check and split them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed: the same seed gives the same splits.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Splits = Annotated[
    str | None,
    typer.Option(help="train/val/calibrate/test, 50/10/25/15 by default; three numbers are train/val/test."),
]
WithinLots = Annotated[bool, typer.Option("--split-within-lots", help="Allow one lot in several splits.")]


@app.callback()
def _dataset() -> None:
    """Labelled pictures."""


@app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of photographs; it is not changed.")],
    out: Annotated[Path, typer.Option(help="The data set folder to create.")],
    good: Annotated[
        str | None, typer.Option(metavar="NAME", help="The folder of good parts; every other one is a defect kind.")
    ] = None,
    mask_suffix: Annotated[
        str | None,
        typer.Option(metavar="SUFFIX", help="The defect mask of a picture NAME.* is the file NAME + SUFFIX beside it."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Boxes: COCO .json, CVAT .xml, a folder of Pascal VOC .xml or YOLO .txt.")
    ] = None,
    object_name: Annotated[
        str | None, typer.Option("--object", metavar="NAME", help="Only boxes of this name count.")
    ] = None,
    part_regex: Annotated[
        str | None,
        typer.Option(help="Regular expression; its first group, matched in a picture's path, names the part."),
    ] = None,
    lot_regex: Annotated[
        str | None,
        typer.Option(help="Regular expression; its first group, matched in a picture's path, names the lot."),
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Include pictures that no folder labels.")] = False,
    splits: Splits = None,
    seed: Seed = 0,
    split_within_lots: WithinLots = False,
) -> None:
    """Make a data set out of a folder of photographs: good/ and bad/, MVTec AD, or imagefolder."""
    from gonogo.dataset import ImportOptions, import_folder

    options = ImportOptions(
        good=good,
        mask_suffix=mask_suffix,
        unlabelled=unlabelled,
        annotations=annotations,
        object_name=object_name,
        part_regex=part_regex,
        lot_regex=lot_regex,
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
        str | None, typer.Option(metavar="NAME", help="The folder of good parts; every other one is a defect kind.")
    ] = None,
    mask_suffix: Annotated[
        str | None, typer.Option(metavar="SUFFIX", help="NAME + this beside a picture NAME.* is its defect mask.")
    ] = None,
    part_regex: Annotated[str | None, typer.Option(help="Its first group in a picture's path names the part.")] = None,
    lot_regex: Annotated[str | None, typer.Option(help="Its first group in a picture's path names the lot.")] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Take pictures that no folder labels.")] = False,
    splits: Splits = None,
    seed: Seed = 0,
    split_within_lots: WithinLots = False,
) -> None:
    """Add photographs to a data set; what is there stays as it is, in its split."""
    from gonogo.dataset import ImportOptions, add_folder

    options = ImportOptions(
        good=good,
        mask_suffix=mask_suffix,
        unlabelled=unlabelled,
        part_regex=part_regex,
        lot_regex=lot_regex,
        fractions=_fractions(splits),
        seed=seed,
        split_within_lots=split_within_lots,
    )
    added = add_folder(source, dataset, options)
    _print_counts(added.dataset)
    for note in added.notes:
        typer.echo(note)


@app.command("check")
def check_command(dataset: Folder, as_json: AsJson = False) -> None:
    """Check whether a data set is fit to train on.

    Reports counts, unreadable pictures, duplicates and leaks. Exit code 1 if it is unfit.
    """
    import json

    from gonogo.dataset import Dataset, check_dataset
    from gonogo.errors import UnfitError

    data = Dataset.read(dataset)
    found = check_dataset(data)
    if as_json:
        counts = [
            {"split": split, "label": label, "defect": defect, "pictures": number}
            for (split, label, defect), number in found.counts.items()
        ]
        content = {
            "fit": found.fit,
            "pictures": len(data.samples),
            "counts": counts,
            "problems": found.problems,
            "warnings": found.warnings,
            "exact_duplicates": found.exact_duplicates,
            "near_duplicates": found.near_duplicates,
        }
        typer.echo(json.dumps(content, indent=1))
    else:
        _print_counts(data)
        pictures = sum(map(len, found.near_duplicates))
        typer.echo(f"{pictures} pictures are near-duplicates, in {len(found.near_duplicates)} groups.")
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
            help="Choose the splits so that calibrate can certify this escape rate at 95 %.", show_default=False
        ),
    ] = None,
) -> None:
    """Split a data set again: pictures stay where they are, metadata.jsonl is replaced.

    Do it before any score is seen: parts that were judged to certify or to test certify nothing under another split.
    """
    from dataclasses import replace

    from gonogo.dataset import Dataset, Fractions, locked, resplit, with_groups
    from gonogo.errors import InputError

    if for_escape is not None and splits is not None:
        raise InputError("--for-escape chooses the splits: leave out --splits.")
    fractions = _fractions(splits) or Fractions()
    groups = {sample.file_name: sample.group for sample in with_groups(Dataset.read(dataset))}
    with locked(dataset):
        data = Dataset.read(dataset)  # people may have gone on labelling while duplicates were looked for
        grouped = [
            sample.model_copy(update={"group": groups.get(sample.file_name, sample.group)}) for sample in data.samples
        ]
        if for_escape is not None:
            from gonogo.certification.shortfall import as_text, fractions_for_escape

            fractions = fractions_for_escape(grouped, for_escape, seed=seed, within_lots=split_within_lots)
            typer.echo(f"Splits: {as_text(fractions)}")
        data = replace(data, samples=resplit(grouped, fractions, seed, within_lots=split_within_lots))
        data.write()
    _print_counts(data)
    _print_shortfalls(data, seed)


@app.command("export-coco")
def export_coco_command(dataset: Folder, out: Annotated[Path, typer.Option(help="The .json file to write.")]) -> None:
    """Write the boxes of a data set as COCO JSON."""
    from gonogo.dataset import Dataset
    from gonogo.dataset.annotations import export_coco as export

    boxes = export(Dataset.read(dataset), out)
    typer.echo(f"{boxes} boxes in {out}")


def _fractions(text: str | None) -> Fractions | None:
    from gonogo.dataset import Fractions

    return None if text is None else Fractions.parse(text)


def _print_shortfalls(dataset: Dataset, seed: int) -> None:
    """What the calibrate split lacks for the default limits, said before any score is seen."""
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
    """A table of pictures: one row per label and kind, one column per split."""
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


for command in (synth_command, doubts_command):
    app.command(command.__name__.removesuffix("_command"))(command)
