"""``gonogo roi``: preview an ROI config on a photograph, and tune one on labelled boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.calibrate import calibrate_command
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.dataset import RoiScoreJson, RoiTune
    from gonogo.dataset import Dataset
    from gonogo.roi import ClassicalConfig, RoiTiming
    from gonogo.roi.scoring import Example, RoiScore
    from gonogo.roi.tuning import Tuned

app = typer.Typer(
    help="Find the region of interest with classical vision, and calibrate its size in mm.", no_args_is_help=True
)

app.command("calibrate")(calibrate_command)

SIDE_PX = 320


@app.callback()
def _roi() -> None:
    """The region of interest."""


@app.command("preview")
def preview_command(
    roi_config: Annotated[Path, typer.Argument(metavar="ROI.TOML", help="The ROI config.")],
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph.")],
    out: Annotated[Path, typer.Option(help="Image to write, .png or .jpg.")],
) -> None:
    """Show each step of an ROI config on a photograph, and the box that it finds."""
    from gonogo import images
    from gonogo.files import write_beside
    from gonogo.images.encoding import encode_as
    from gonogo.roi import open_roi, preview

    roi, frame = open_roi(roi_config), images.load_confined(photo)
    write_beside(out, encode_as(preview(roi, frame), out, option="--out"))
    located = roi.locate(frame)
    if located.box is None:
        typer.echo(f"{out}: the part was not found: {located.reason}")
    else:
        typer.echo(f"{out}: the part was found at " + ", ".join(f"{value:.1f}" for value in located.box.xyxy))


@app.command("morphology")
def morphology_command(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph.")],
    out: Annotated[Path, typer.Option(help="Image to write, .png or .jpg.")],
    size: Annotated[
        int,
        typer.Option(min=3, max=127, help="Side of the kernel, in pixels of the picture reduced to 320; odd."),
    ] = 9,
) -> None:
    """Show erosion, dilation, opening, closing and gradient on a photograph and on its mask."""
    from gonogo import images
    from gonogo.errors import InputError
    from gonogo.files import write_beside
    from gonogo.images.encoding import encode_as
    from gonogo.roi import preview_morphology

    if size % 2 == 0:
        raise InputError(f"--size: expected an odd number, found {size}. A kernel has a middle: use {size + 1}.")
    sheet = preview_morphology(images.load_confined(photo), size=size, side_px=SIDE_PX)
    write_beside(out, encode_as(sheet, out, option="--out"))
    typer.echo(f"{out}: {photo} with a kernel of {size} x {size} pixels")


@app.command("tune")
def tune_command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set with labelled boxes.")],
    out: Annotated[Path, typer.Option(help="ROI config to write (TOML).")],
    trials: Annotated[
        int, typer.Option(min=1, help="Number of random configs to try, and of variations of the best one.")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Random seed: the same seed gives the same config.")] = 0,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate with this number of folds instead of using the splits; the config that is written is "
            "tuned on all pictures. [default: 5 if the data set has no splits]",
        ),
    ] = None,
    limit_s: Annotated[
        float, typer.Option(min=1, help="Stop the search after this number of seconds, per fold.")
    ] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Search for the ROI config that best finds the labelled boxes, and measure it on unseen pictures.

    Ctrl-C ends the search and keeps the best config so far.
    """
    from gonogo.dataset import Dataset, Split
    from gonogo.roi import ClassicalRoi, time_roi, write_roi_config
    from gonogo.roi.scoring import read_examples, score
    from gonogo.roi.tuning import cross_validate, tune

    data = Dataset.read(dataset)
    folds = folds or (None if _has_unseen(data) else 5)
    tuned_on = data.samples if folds else data.split(Split.TRAIN, Split.VAL)
    examples = read_examples(data, tuned_on, side_px=SIDE_PX)

    def search(some: list[Example]) -> Tuned:
        return tune(some, trials=trials, seed=seed, side_px=SIDE_PX, limit_s=limit_s)

    tuned = search(examples)
    comment = f"Tuned by gonogo roi tune on {len(examples)} pictures, seed {seed}."
    write_roi_config(out, tuned.recipe, comment=comment)  # written before the measurement, which may be interrupted
    if folds:
        if tuned.interrupted:
            raise KeyboardInterrupt
        unseen = cross_validate(examples, folds, lambda some: _uninterrupted(search(some)), seed=seed)
        how = f"{folds}-fold cross-validation, parts kept together"
    else:
        test = read_examples(data, data.split(Split.TEST), side_px=SIDE_PX)
        unseen, how = score(ClassicalRoi(tuned.recipe), test), "the test split"
    write_roi_config(out, tuned.recipe, comment=f"{comment}\nUnseen ({how}): {unseen}.")
    timing = time_roi(ClassicalRoi(tuned.recipe), data.path(examples[0].sample).read_bytes())
    _report(out, tuned, unseen, how, timing, as_json=as_json)


def _has_unseen(data: Dataset) -> bool:
    from gonogo.dataset import Split

    boxed = {sample.split for sample in data.samples if sample.box is not None}
    return bool(boxed & {Split.TRAIN, Split.VAL}) and Split.TEST in boxed


def _uninterrupted(tuned: Tuned) -> ClassicalConfig:
    """Refuse an interrupted fold, which would be reported as worse than it is."""
    if tuned.interrupted:
        raise KeyboardInterrupt
    return tuned.recipe


def _report(out: Path, tuned: Tuned, unseen: RoiScore, how: str, timing: RoiTiming, *, as_json: bool) -> None:
    if as_json:
        content: RoiTune = {
            "recipe_file": str(out),
            "unseen": {"how": how, **_as_json(unseen)},
            "seen": _as_json(tuned.seen),
            "trials": tuned.trials,
            "complete": tuned.complete,
            "locate_ms": round(timing.locate_ms, 3),
            "decode_ms": round(timing.decode_ms, 3),
        }
        print_json(content, indent=1)
        return
    stopped = "" if tuned.complete else " (stopped early)"
    typer.echo(f"{out}: best of {tuned.trials} ROI configs{stopped}")
    typer.echo(f"unseen ({how}): {unseen}")
    typer.echo(f"tuned on (optimistic): {tuned.seen}")
    typer.echo(
        f"time: {timing.locate_ms:.1f} ms per picture, {timing.ratio:.2f} of the decoding ({timing.decode_ms:.1f} ms)"
    )


def _as_json(score: RoiScore) -> RoiScoreJson:
    return {
        "pictures": len(score.ious),
        "found": score.found,
        "mean_iou": round(score.mean_iou, 4),
        "share_above_090": round(score.share_above(0.9), 4),
    }
