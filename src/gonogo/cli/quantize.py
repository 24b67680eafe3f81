"""``gonogo bundle quantize``: make a bundle that computes in INT8 or BF16."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json
from gonogo.cli.signing import say_unsigned

if TYPE_CHECKING:
    from gonogo.workflow import Quantized


class ArithmeticName(StrEnum):
    """Precision of the new bundle."""

    INT8 = "int8"
    BF16 = "bf16"


class PresetName(StrEnum):
    """NNCF's presets for the INT8 ranges of activations."""

    PERFORMANCE = "performance"
    MIXED = "mixed"


def quantize_command(
    bundle: Annotated[Path, typer.Argument(help="The certified inspector; it is not changed.", metavar="BUNDLE")],
    dataset: Annotated[Path, typer.Argument(help="The data set that it was trained on.", metavar="DATASET")],
    out: Annotated[Path, typer.Option(help="Bundle to create, for example tile8.inspector.")],
    arithmetic: Annotated[
        ArithmeticName, typer.Option(help="int8: INT8 layers, the rest in FP32; bf16: the same graph in BF16.")
    ] = ArithmeticName.INT8,
    max_flips: Annotated[
        float, typer.Option(help="Largest allowed share of parts that change between go and no-go (upper bound).")
    ] = 0.005,
    max_moves: Annotated[
        float, typer.Option(help="Largest allowed share of parts that move into or out of review (upper bound).")
    ] = 0.02,
    confidence: Annotated[float, typer.Option(help="Confidence of both bounds.")] = 0.95,
    max_pointing_loss: Annotated[
        float, typer.Option(help="Largest allowed share of marked defects that the heat map's peak no longer hits.")
    ] = 0.02,
    min_correlation: Annotated[
        float, typer.Option(help="Smallest median correlation of the heat maps, where no defects are marked.")
    ] = 0.9,
    split: Annotated[
        list[str], typer.Option(help="Split to compare the verdicts on, calibrate or test; may be repeated.")
    ] = ["calibrate", "test"],  # noqa: B006 - Typer wants a list as the default and never changes it
    pictures: Annotated[
        int, typer.Option(min=1, help="Number of train and val pictures that the INT8 ranges are measured on.")
    ] = 300,
    preset: Annotated[
        PresetName, typer.Option(help="mixed: for networks whose activations can be negative (not ReLU).")
    ] = PresetName.PERFORMANCE,
    control: Annotated[
        bool,
        typer.Option("--control/--no-control", help="Keep the layers that change the scores most in FP32."),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the choice of pictures.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a bundle that computes in INT8 or BF16, certify it and check that its verdicts agree with the original.

    Exit code 1 if more verdicts may differ than is allowed; nothing is written then.
    """
    from gonogo.config import settings
    from gonogo.dataset import Dataset, Split
    from gonogo.inspector import Inspector
    from gonogo.operating_point import describe_point
    from gonogo.progress import console
    from gonogo.signing import NOT_REQUIRED
    from gonogo.workflow import Allowed, QuantizingOptions, quantize_bundle

    if unknown := set(split) - set(Split):
        raise typer.BadParameter(
            f"expected {', '.join(Split)}, found {', '.join(sorted(unknown))}", param_hint="--split"
        )
    options = QuantizingOptions(
        arithmetic="int8" if arithmetic is ArithmeticName.INT8 else "bf16",
        preset="performance" if preset is PresetName.PERFORMANCE else "mixed",
        pictures=pictures,
        control=control,
        splits=tuple(Split(name) for name in dict.fromkeys(split)),
        allowed=Allowed(
            flips=max_flips,
            moves=max_moves,
            pointing_loss=max_pointing_loss,
            correlation=min_correlation,
            confidence=confidence,
        ),
        seed=seed,
    )
    source_inspector = Inspector.load(bundle, machine=settings().on_cpu(), policy=NOT_REQUIRED)
    made = quantize_bundle(source_inspector, Dataset.read(dataset), out, options, overwrite=overwrite)
    say_unsigned(source_inspector.bundle, made.bundle)
    manifest = made.bundle.manifest
    assert manifest.quantization is not None, "quantize_bundle always records it"
    assert manifest.operating_point is not None, "quantizing always certifies"
    if as_json:
        print_json(_as_json(made), allow_nan=False)
        return
    for line in manifest.quantization.sentences():
        typer.echo(line)
    for sentence in describe_point(manifest.operating_point):
        typer.echo(sentence)
    for change in made.agreement.changes:
        typer.echo(f"  {change}")
    console.print(f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo evaluate {out} {dataset}")


def _as_json(made: Quantized) -> dict[str, Any]:
    manifest = made.bundle.manifest
    assert manifest.quantization is not None, "quantize_bundle always records it"
    return {
        "bundle": str(made.bundle.root),
        "bundle_sha256": made.bundle.sha256,
        **manifest.quantization.model_dump(mode="json"),
        "changed": [
            {
                "part": change.before.part,
                "flip": change.flips,
                "before": change.before.state,
                "after": change.after.state,
                "score_before": change.before.score,
                "score_after": change.after.score,
            }
            for change in made.agreement.changes
        ],
    }
