"""``gonogo train``: train, certify and seal an inspector."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from gonogo.cli.certify import (
    MAX_ESCAPE_HELP,
    MAX_OVERKILL_HELP,
    GoWithoutPromiseOption,
    KeepHiddenOption,
    RejectOption,
)
from gonogo.cli.dataset_revisions import say_changed_since, say_revision
from gonogo.cli.train_options import (
    FINE_TUNING,
    INPUT,
    PROMISE,
    AugmentationsOption,
    BlurOption,
    BrightnessOption,
    CropsOption,
    DeviceOption,
    FlipsOption,
    HealthOption,
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
    ZonesOption,
    parse_size,
)

if TYPE_CHECKING:
    from gonogo.config import ReducedBy, Reduction, Tiling
    from gonogo.dataset import Dataset
    from gonogo.operating_point import Promise
    from gonogo.train import FineTuning
    from gonogo.workflow import TrainingOptions


def known_tiling(tile: bool, overlap: int | None) -> Tiling | None:
    """Return the tiling that ``--tile`` and ``--overlap`` describe; ``None`` without ``--tile``.

    Raises:
        InputError: an overlap without ``--tile``, or one that is not a multiple of the cell size.
    """
    from gonogo.config import CELL_PX, Tiling
    from gonogo.errors import InputError

    if overlap is None:
        return Tiling() if tile else None
    if not tile:
        raise InputError("--overlap: needs --tile. Add --tile.")
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
    """Build training options from the options of the command line, without fine-tuning and with the default promise."""
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
            normalisation=normalisation.known()
            if roi_weights is None
            else None,  # the normalisation belongs to the weights
            seed=seed,
        ),
        seed=seed,
    )


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Use the options in a train.toml as defaults, so that the command line overrides them."""
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
    out: Annotated[Path | None, typer.Option(help="Bundle to create, for example tile.inspector.")] = None,
    camera: Annotated[
        str | None,
        typer.Option(help="Train on the pictures of this camera only. [default: all cameras]", metavar="NAME"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    sheet: SheetOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=_read_config,
            help="Read --seed and the options of the sections below from this TOML file. Options on the command line "
            "override the file.",
            metavar="TRAIN.TOML",
        ),
    ] = None,
    example_config: Annotated[
        bool,
        typer.Option(
            "--example-config",
            is_eager=True,
            callback=_print_example,
            help="Print a commented train.toml with all defaults and exit.",
        ),
    ] = False,
    max_escape: Annotated[
        float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False, rich_help_panel=PROMISE)
    ] = None,
    max_overkill: Annotated[
        float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False, rich_help_panel=PROMISE)
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Confidence of the certified rates.", rich_help_panel=PROMISE)
    ] = 0.95,
    joint: Annotated[
        bool,
        typer.Option(
            "--joint/--each",
            help="Apply the confidence to both rates jointly, or to each one separately.",
            rich_help_panel=PROMISE,
        ),
    ] = False,
    reject: RejectOption = False,
    go_without_promise: GoWithoutPromiseOption = False,
    size: SizeOption = None,
    reduction: Annotated[
        str,
        typer.Option(
            help="Judge pictures at 1/N of their size (JPEGs decode faster).", metavar="1|2|4|8", rich_help_panel=INPUT
        ),
    ] = "1",
    reduced_by: Annotated[
        str,
        typer.Option(
            help="With --reduction: 'decoder' is the fastest but accepts only encoded pictures (files, JPEG cameras); "
            "'mean' also accepts raw camera frames.",
            metavar="decoder|mean",
            rich_help_panel=INPUT,
        ),
    ] = "decoder",
    tile: TileOption = False,
    overlap: OverlapOption = None,
    masks: MasksOption = True,
    health: HealthOption = True,
    backbone: Annotated[
        str,
        typer.Option(
            help="Pretrained network: efficientnet_lite0, 1 or 2, or a torchvision backbone (needs gonogo[finetune]).",
            rich_help_panel=INPUT,
        ),
    ] = "efficientnet_lite0",
    weights: Annotated[
        str,
        typer.Option(
            help="Pretrained weights: 'imagenet', a safetensors file, or 'none' (random).",
            rich_help_panel=INPUT,
        ),
    ] = "imagenet",
    normalisation: Annotated[
        NormalisationName,
        typer.Option(
            help="Input normalisation that the weights expect; for a file, auto chooses by cross-validation.",
            rich_help_panel=INPUT,
        ),
    ] = NormalisationName.AUTO,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            help="Feature map to cut the backbone at; may be repeated to concatenate several.", rich_help_panel=INPUT
        ),
    ] = None,
    roi: RoiOption = "none",
    roi_backbone: RoiBackboneOption = None,
    roi_weights: RoiWeightsOption = None,
    zones: ZonesOption = None,
    keep_hidden: KeepHiddenOption = False,
    finetune: Annotated[
        bool,
        typer.Option(
            "--finetune/--no-finetune",
            show_default=False,
            help="Train the whole network, not only the head.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Number of fine-tuning epochs.", rich_help_panel=FINE_TUNING)] = 24,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of fine-tuning.", rich_help_panel=FINE_TUNING)] = 12,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Peak learning rate of fine-tuning.", rich_help_panel=FINE_TUNING)
    ] = 1e-3,
    window: WindowOption = None,
    crops: CropsOption = None,
    rotations: RotationsOption = None,
    flips: FlipsOption = False,
    brightness: BrightnessOption = 0.0,
    blur: BlurOption = 0.0,
    pool: PoolOption = PoolName.AUTO,
    device: DeviceOption = "cpu",
    show_augmentations: AugmentationsOption = None,
) -> None:
    """Train an inspector, certify its thresholds and seal it in a bundle."""
    from gonogo.config import read_zones
    from gonogo.dataset import Dataset
    from gonogo.dataset.cameras import for_cameras
    from gonogo.errors import InputError
    from gonogo.operating_point import describe_point
    from gonogo.progress import console
    from gonogo.ranks import Ranks, ShareDoneError
    from gonogo.workflow import Promise, train_inspector
    from gonogo.workflow.training_sheet import sheet_of

    require_fine_tuning(
        finetune or show_augmentations is not None,
        window=window,
        device=device,
        crops=crops,
        rotations=rotations,
        flips=flips,
        brightness=brightness,
        blur=blur,
        pool=pool,
    )
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
        zones=() if zones is None else read_zones(zones),
        health=health,
        augmentation=replace(options.augmentation, flips=flips, brightness=brightness, blur=blur),
        fine_tuning=_fine_tuning(epochs, batch, learning_rate) if finetune else None,
        promise=Promise(
            max_escape=max_escape,
            max_overkill=max_overkill,
            confidence=confidence,
            joint=joint,
            reject=reject,
            go_without_promise=go_without_promise,
            keep_hidden=keep_hidden,
        ),
    )
    if show_augmentations is not None:
        _show_augmentations(Dataset.read(dataset), options, show_augmentations, overwrite=overwrite)
        return
    if out is None:
        raise InputError("--out: expected the bundle to create, for example --out parts.inspector; found none.")
    ranks = Ranks.of(os.environ)
    console.quiet = not ranks.first
    data, sheet = for_cameras(Dataset.read(dataset), () if camera is None else (camera,)), sheet or sheet_of(out)
    say_revision(data, out)
    _print_shortfalls(data, options.promise)
    try:
        made = train_inspector(data, out, options, overwrite=overwrite, sheet=sheet, ranks=ranks)
    except ShareDoneError:
        return  # the first process goes on alone
    point = made.bundle.manifest.operating_point
    assert point is not None, "training always certifies"
    if made.unseen is not None:
        console.print(made.unseen.sentence())
    for sentence in describe_point(point):
        console.print(sentence)
    say_changed_since(data)
    console.print(f"Training pictures as the network sees them: {sheet}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo evaluate {out} {dataset}")


def _show_augmentations(data: Dataset, options: TrainingOptions, path: Path, *, overwrite: bool) -> None:
    """Write the sheet of ``--show-augmentations``."""
    from gonogo.progress import console
    from gonogo.sheet import require_writable
    from gonogo.workflow.augmentation_sheet import describe, write_augmentation_sheet

    require_writable(path, overwrite=overwrite)
    count = write_augmentation_sheet(data, options, path)
    trains = (
        "" if options.fine_tuning is not None else " Without --finetune, training uses the unchanged pictures only."
    )
    console.print(
        f"Wrote {count} training pictures to {path}: {describe(options.augmentation)}. Nothing was trained.{trains}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _print_shortfalls(data: Dataset, promise: Promise) -> None:
    """Print what the calibrate split lacks, before any part is judged."""
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
    flips: bool = False,
    brightness: float = 0.0,
    blur: float = 0.0,
) -> None:
    """Refuse fine-tuning options without ``--finetune``, which would have no effect.

    Raises:
        InputError: a fine-tuning option is given without ``--finetune``.
    """
    from gonogo.errors import InputError

    options = {
        "--window": window is not None,
        "--device": device != "cpu",
        "--crops": crops is not None,
        "--rotations": rotations is not None,
        "--flips": flips,
        "--brightness": brightness != 0,
        "--blur": blur != 0,
        "--pool": pool is not PoolName.AUTO,
    }
    given = [name for name, there in options.items() if there]
    if given and not finetune:
        raise InputError(f"{' and '.join(given)}: only for fine-tuning. Add --finetune.")


def known_reduction(text: str) -> Reduction:
    """Parse ``--reduction``.

    Raises:
        InputError: the value is not 1, 2, 4 or 8.
    """
    from gonogo.config import Reduction
    from gonogo.errors import InputError

    found = next((value for value in get_args(Reduction) if str(value) == text), None)
    if found is None:
        raise InputError(f"--reduction: expected 1, 2, 4 or 8, found {text!r}.")
    return cast("Reduction", found)


def known_reducer(text: str) -> ReducedBy:
    """Parse ``--reduced-by``.

    Raises:
        InputError: the value is not decoder or mean.
    """
    from gonogo.config import ReducedBy
    from gonogo.errors import InputError

    found = next((value for value in get_args(ReducedBy) if value == text), None)
    if found is None:
        raise InputError(f"--reduced-by: expected decoder or mean, found {text!r}.")
    return cast("ReducedBy", found)
