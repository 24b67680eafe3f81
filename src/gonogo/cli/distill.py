"""``gonogo bundle distill``: train a smaller network (the student) from a bundle (the teacher)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json
from gonogo.cli.signing import say_unsigned
from gonogo.cli.train import known_reduction
from gonogo.cli.train_options import NormalisationName, PoolName
from gonogo.errors import InputError, UnfitError

if TYPE_CHECKING:
    from rich.console import Console

    from gonogo.dataset import Split
    from gonogo.workflow import TeacherComparison

SplitOption = Annotated[
    str, typer.Option(help="Split on which the new bundle is compared with its teacher: test, val or calibrate.")
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def distill_command(
    bundle: Annotated[Path, typer.Argument(help="The teacher: a certified inspector.", metavar="BUNDLE")],
    dataset: Annotated[Path, typer.Argument(help="The data set that it was trained on.", metavar="DATASET")],
    out: Annotated[Path, typer.Option(help="Bundle to create for the student.")],
    student: Annotated[str, typer.Option(help="The student's torchvision backbone.")] = "mobilenet_v3_small",
    weights: Annotated[
        str, typer.Option(help="Pretrained weights: a safetensors file, 'imagenet' (downloaded) or 'none'.")
    ] = "none",
    normalisation: Annotated[
        NormalisationName,
        typer.Option(help="Input normalisation that the weights expect; auto: the backbone's usual one."),
    ] = NormalisationName.AUTO,
    cut: Annotated[
        list[str] | None,
        typer.Option(help="Feature map to cut the backbone at; may be repeated to concatenate several."),
    ] = None,
    pool: Annotated[PoolName, typer.Option(help="Pooling that turns the defect map into a score.")] = PoolName.LSE,
    size: Annotated[
        int | None,
        typer.Option(min=32, max=2048, help="Side of the square input, in pixels. [default: the teacher's input size]"),
    ] = None,
    reduction: Annotated[
        str | None,
        typer.Option(help="Judge pictures at 1/N of their size. [default: the teacher's reduction]", metavar="1|2|4|8"),
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="Number of crops per picture that the teacher judges.")] = 2,
    rotations: Annotated[int, typer.Option(min=1, help="Number of rotations per crop.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = 40,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 16,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 0.03,
    temperature: Annotated[
        float, typer.Option(min=0.1, help="Temperature that divides the logits of student and teacher.")
    ] = 2.0,
    label_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Weight of the labels in the loss; the rest is the weight of the teacher's scores."
        ),
    ] = 0.5,
    map_weight: Annotated[float, typer.Option(min=0.0, help="Weight of the defect-map loss.")] = 1.0,
    near_weight: Annotated[float, typer.Option(min=0.0, help="Extra weight of parts close to the go threshold.")] = 1.0,
    split: SplitOption = "test",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    as_json: AsJsonOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Train a small network on the labels, the teacher's scores and its defect maps, and certify it.

    Prints the certified rates and the review rate of both. Exit code 1 if the student cannot be certified for the
    teacher's promise.
    """
    from gonogo.augment import Augmentation
    from gonogo.config import settings
    from gonogo.dataset import Dataset
    from gonogo.inspector import Inspector
    from gonogo.model import Pool
    from gonogo.signing import NOT_REQUIRED
    from gonogo.train import Distillation
    from gonogo.workflow.distilling import DistillingOptions, distill_bundle

    options = DistillingOptions(
        backbone=student,
        weights=weights,
        cuts=tuple(cut or ()),
        pool=pool.known() or Pool.LSE,
        size_wh=(size, size) if size else None,
        reduction=known_reduction(reduction) if reduction else None,
        normalisation=normalisation.known(),
        augmentation=Augmentation(crops=crops, rotations=rotations),
        recipe=Distillation(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            temperature=temperature,
            label_share=label_share,
            map_weight=map_weight,
            near_weight=near_weight,
        ),
        split=known_split(split),
        seed=seed,
    )
    source_inspector = Inspector.load(bundle, machine=settings().on_cpu(), policy=NOT_REQUIRED)
    made = distill_bundle(source_inspector, Dataset.read(dataset), out, options, overwrite=overwrite)
    say_unsigned(source_inspector.bundle, made.bundle)
    wrote = (
        f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo bundle cascade {out} {bundle} {dataset} --out CASCADE"
    )
    print_comparison(made.compared, out, "the student", wrote, {"epochs": len(made.history) - 1}, as_json=as_json)


def known_split(name: str) -> Split:
    """Return the split of this name.

    Raises:
        InputError: the name is not test, val or calibrate.
    """
    from gonogo.dataset import Split

    if name not in (Split.TEST, Split.VAL, Split.CALIBRATE):
        raise InputError(f"--split: expected test, val or calibrate, found {name!r}.")
    return Split(name)


def print_comparison(
    compared: TeacherComparison, out: Path, who: str, wrote: str, more: dict[str, Any], *, as_json: bool
) -> None:
    """Print the results of a bundle next to those of its teacher.

    Raises:
        UnfitError: the bundle was written, but cannot be certified for the teacher's promise.
    """
    from rich.console import Console

    if as_json:
        print_json({"bundle": str(out), **_as_json(compared), **more}, allow_nan=False)
    else:
        console = Console(markup=False, highlight=False, soft_wrap=True)
        _print(compared, who, console)
        console.print(wrote)
    if not compared.as_safe:
        raise UnfitError(f"{out} was written, but {_verdict(compared, who)}")


def _as_json(compared: TeacherComparison) -> dict[str, Any]:
    from gonogo.operating_point import to_json
    from gonogo.schema import Label, State

    sides: dict[str, Any] = {}
    for name, side in (("itself", compared.itself), ("teacher", compared.teacher)):
        sides[name] = {
            "bundle_sha256": side.judged.bundle_sha256,
            "operating_point": to_json(side.point),
            **side.rate(State.REVIEW).to_json("review_rate"),
            **side.rate(State.GO, Label.BAD).to_json("escape_rate"),
            **side.rate(State.NO_GO, Label.GOOD).to_json("overkill_rate"),
            "auroc": side.judged.auroc,
        }
    return {"split": compared.split.value, "as_safe": compared.as_safe, "review_p": compared.review_p, **sides}


def _print(compared: TeacherComparison, who: str, console: Console) -> None:
    from rich import box
    from rich.table import Table

    from gonogo.operating_point import describe_point
    from gonogo.report import phrases
    from gonogo.schema import Label, State

    both = (compared.itself, compared.teacher)
    for side, name in zip(both, (who, "the teacher"), strict=True):
        for sentence in describe_point(side.point):
            console.print(f"{name.capitalize()}: {sentence}")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"on {compared.split.value}")
    for name in (who, "the teacher"):
        table.add_column(name, justify="right")
    rows = (
        ("review", State.REVIEW, None),
        ("escapes", State.GO, Label.BAD),
        ("overkill", State.NO_GO, Label.GOOD),
    )
    for title, state, label in rows:
        rates = [side.rate(state, label) for side in both]
        table.add_row(title, *(f"{rate.count} of {rate.of} ({phrases.interval(rate)})" for rate in rates))
    console.print(table)
    conclusion = _verdict(compared, who)
    console.print(f"{conclusion[0].upper()}{conclusion[1:]}")


def _verdict(compared: TeacherComparison, who: str) -> str:
    """Say whether the bundle is as safe as its teacher, and how their review rates compare."""
    from gonogo.operating_point import describe_claims
    from gonogo.report import phrases
    from gonogo.schema import State

    if not compared.as_safe:
        return f"{who} is not as safe as its teacher. {describe_claims(compared.itself.point.escape)}"
    ours, theirs = (side.rate(State.REVIEW) for side in (compared.itself, compared.teacher))
    more = "more" if ours.count > theirs.count else "fewer" if ours.count < theirs.count else "as many"
    chance = f"exact sign test on the parts where they differ: p = {compared.review_p:.2g}"
    return (
        f"{who} is as safe as its teacher: the same promise, certified again. It sends {more} parts to review "
        f"({phrases.percent(ours.value)} against {phrases.percent(theirs.value)}; {chance})."
    )
