"""``gonogo import-model``: make a bundle of a classifier that was trained in another framework."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.certify import MAX_ESCAPE_HELP, MAX_OVERKILL_HELP
from gonogo.cli.output import print_json
from gonogo.cli.train_options import parse_size

if TYPE_CHECKING:
    from gonogo.imported import Declaration
    from gonogo.workflow.importing import ImportedBundle


def import_model_command(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras file, the folder of a TensorFlow SavedModel, an .onnx file, a .pt2 file of "
            "torch.export.save, or an OpenVINO .xml file.",
            metavar="MODEL",
        ),
    ],
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Labelled data set for thresholds and golden frames; the model must not have been trained on its "
            "calibrate and test parts.",
            metavar="DATASET",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle to create, for example tile.inspector.")],
    preprocessing: Annotated[
        Path | None,
        typer.Option(
            help="Read the declaration below from this TOML file. Options on the command line override the file."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Input size of the network in pixels. [default: that in the file]", metavar="SIDE|WIDTHxHEIGHT"
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Order of the input's axes. [default: that in the file]", metavar="nchw|nhwc")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Color channels of the input, in their order.", metavar="rgb|bgr|gray")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Subtracted from pixel values from 0 to 255: one number, or three with commas."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="What is left is divided by this: one number, or three with commas.")
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            help="How the training reduced pictures: as gonogo does, between four pixels (Keras, tf.image, OpenCV), or "
            "over the area of the new pixel (Pillow, torchvision). [default: gonogo]",
            metavar="gonogo|bilinear|antialiased",
        ),
    ] = None,
    resize_from: Annotated[
        str | None,
        typer.Option(
            help="With another --resize than gonogo's: size of the pictures before it.", metavar="WIDTHxHEIGHT"
        ),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Output with the classes, if there are several.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes in their order, with commas.", metavar="NAME,NAME,...")
    ] = None,
    bad_class: Annotated[
        list[str] | None,
        typer.Option(
            help="Class that means a bad part, by number from 0 or name; may be repeated. With a single sigmoid "
            "output: 1 or 0.",
            metavar="N|NAME",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="What the training applies to the outputs. [default: that in the file]", metavar="softmax|sigmoid"
        ),
    ] = None,
    map_layer: Annotated[
        str | None,
        typer.Option(
            help="Feature map for a heat map fitted to the scores. [default: the map in closed form, where the network "
            "ends in a pooling and dense layers]",
            metavar="NAME",
        ),
    ] = None,
    roi: Annotated[
        str,
        typer.Option(
            help="How the part is found: 'none' judges the whole picture, a file is an ROI config (gonogo roi tune).",
            metavar="none|FILE",
        ),
    ] = "none",
    zones: Annotated[
        Path | None,
        typer.Option(
            help="Areas inside the part to ignore: blanked before the network (gonogo zones example).",
            metavar="ZONES.TOML",
        ),
    ] = None,
    max_escape: Annotated[float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False)] = None,
    max_overkill: Annotated[float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Make a bundle of a classifier trained in Keras, TensorFlow, ONNX, torch or OpenVINO, and certify it.

    What the file does not say about preprocessing and classes is asked for, never guessed. The scores must equal those
    of the framework.
    """
    from gonogo.config import read_zones
    from gonogo.dataset import Dataset
    from gonogo.workflow import Promise
    from gonogo.workflow.importing import import_model

    given = {
        "size": parse_size(size),
        "layout": layout,
        "channels": channels,
        "mean": _numbers("--mean", mean),
        "scale": _numbers("--scale", scale),
        "resize": resize,
        "resize_from": _size_before(resize_from),
        "output": output,
        "classes": None if classes is None else tuple(name.strip() for name in classes.split(",")),
        "bad_class": tuple(bad_class) if bad_class else None,
        "head": head,
    }
    made = import_model(
        model,
        Dataset.read(dataset),
        out,
        _declaration(preprocessing, {name: value for name, value in given.items() if value is not None}),
        map_layer=map_layer,
        roi=roi,
        zones=() if zones is None else read_zones(zones),
        promise=Promise(max_escape=max_escape, max_overkill=max_overkill),
        overwrite=overwrite,
    )
    _print(made, out, dataset, as_json=as_json)


def _declaration(file: Path | None, given: dict[str, Any]) -> Declaration:
    """Read the file, if there is one, and override it with the options.

    Raises:
        InputError: the file or an option is invalid.
    """
    from pydantic import ValidationError

    from gonogo.config import read_toml
    from gonogo.errors import InputError
    from gonogo.imported import Declaration

    declared = Declaration() if file is None else read_toml(file, Declaration, example="docs/import_model.md")
    try:
        return Declaration.model_validate({**declared.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "".join(f"--{str(each).replace('_', '-')}: " for each in first["loc"][:1])
        expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        found = "" if first["type"] == "value_error" else f", found {first['input']!r}"
        raise InputError(f"{option}{expected}{found}.") from error


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    from gonogo.errors import InputError

    if text is None:
        return None
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise InputError(f"{option}: expected one number, or three with commas, found {text!r}.") from None


def _size_before(text: str | None) -> tuple[int, int] | None:
    from gonogo.errors import InputError

    try:
        return parse_size(text)
    except InputError as error:
        raise InputError(str(error).replace("--size", "--resize-from")) from None


def _print(made: ImportedBundle, out: Path, dataset: Path, *, as_json: bool) -> None:
    from gonogo.operating_point import describe_point, to_json
    from gonogo.progress import console
    from gonogo.workflow.importing import describe_import

    point = made.certified.point
    if as_json:
        row = {
            "bundle": str(out),
            "bundle_sha256": made.bundle.sha256,
            **made.origin.model_dump(mode="json"),
            "largest_difference": made.largest_difference,
            "auroc_val": None if made.val is None else made.val.auroc,
            "operating_point": to_json(point),
        }
        print_json(row, allow_nan=False)
        return
    for sentence in (*describe_import(made), *describe_point(point)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo evaluate {out} {dataset}", markup=False)
