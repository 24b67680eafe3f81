"""``gonogo bundle graph``: show how the network of a bundle is executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gonogo.anatomy import Anatomy
    from gonogo.bundle import Bundle
    from gonogo.workflow.conversion import ConversionStep, Difference


def graph_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to examine.", metavar="BUNDLE")],
    against: Annotated[
        Path | None, typer.Option(help="Inspector to compare with, for example the one that it was quantized from.")
    ] = None,
    runs: Annotated[
        int,
        typer.Option("--time", min=0, help="Measure the time of every layer over this number of runs.", metavar="RUNS"),
    ] = 0,
    from_torch: Annotated[
        bool,
        typer.Option(
            "--from-torch",
            help="Also count the operations in torch, for a fine-tuned or distilled bundle (needs gonogo[finetune]).",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Also judge the test split of this data set at each step from torch to INT8, and print what is lost "
            "(needs gonogo[finetune]; the INT8 bundle and its source are BUNDLE and --against, in either order).",
            metavar="DATASET",
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how the network runs on this processor: sizes, fused and removed operations, precision.

    Executed operations run as separate layers, fused operations run inside another layer at little or no cost, and
    'gone' operations were folded into constants or removed.
    """
    from rich.console import Console

    from gonogo import bundle as bundles
    from gonogo.anatomy import dissect

    opened = [bundles.read_bundle(path) for path in ([bundle] if against is None else [bundle, against])]
    traced = _traced(opened[0]) if from_torch else None
    found = {str(each.root): dissect(each, runs=runs) for each in opened}
    steps = None if data is None else _followed(opened, data)
    if as_json:
        shown: dict[str, Any] = {"torch": traced, "bundles": {name: each.to_json() for name, each in found.items()}}
        print_json(shown | {"steps": None if steps is None else [each.to_json() for each in steps]})
        return
    console = Console()
    if traced is not None:
        counted = ", ".join(f"{count} {kind}" for kind, count in traced.items())
        console.print(
            f"In torch: {sum(traced.values())} operations: {counted}.", markup=False, highlight=False, soft_wrap=True
        )
    for name, each in found.items():
        _print(console, name, each)
    if against is not None:
        _print_ratio(console, *found.values())
    if steps is not None:
        _print_steps(console, steps)


def _followed(opened: list[Bundle], data: Path) -> tuple[ConversionStep, ...]:
    """Judge the test split at each step; the bundles may come in either order."""
    from gonogo.dataset import Dataset
    from gonogo.workflow.conversion import follow_conversion

    full, *others = sorted(opened, key=lambda each: each.manifest.quantization is not None)
    return follow_conversion(full, others[0] if others else None, Dataset.read(data))


def _traced(opened: Bundle) -> Mapping[str, int]:
    from gonogo.errors import InputError

    if opened.manifest.classifier.evidence or opened.manifest.classifier.imported:
        raise InputError(
            f"{opened.root}: expected a fine-tuned or distilled bundle, found one whose graph was not made with "
            "torch here. Leave out --from-torch."
        )
    import torch

    from gonogo.export import traced_operations
    from gonogo.model import FeatureNetwork, MapHead, Network, Pool, architecture, load_backbone

    made, (width, height) = opened.manifest.classifier, opened.manifest.recipe.size_wh
    stack = load_backbone(made.backbone, weights="none", cuts=made.cuts).eval()
    with torch.no_grad():
        channels = stack(torch.zeros(1, 3, height, width)).shape[1]
    features = FeatureNetwork(stack, architecture(made.backbone).normalisation)
    return traced_operations(
        Network(features, MapHead(channels, Pool(made.pool), context=made.context)), (width, height)
    )


def _print(console: Console, name: str, found: Anatomy) -> None:
    from rich import box
    from rich.table import Table

    def show(text: str, style: str | None = None) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    show(f"\n{name}", style="bold")
    show(f"classifier.xml {_size(found.xml_bytes)}, classifier.bin {_size(found.bin_bytes)}")
    show(
        f"{found.stored} operations stored, {found.executed} layers executed; {found.heavy} convolutions and matrix "
        f"products, {found.heavy_int8} of them in INT8"
    )
    fates = Table(box=box.SIMPLE_HEAD)
    fates.add_column("operation")
    for title in ("stored", "executed", "fused", "gone"):
        fates.add_column(title, justify="right")
    for fate in found.fates:
        fates.add_row(fate.kind, *(str(count or "") for count in (fate.stored, fate.executed, fate.fused, fate.gone)))
    console.print(fates)
    layers = Table(box=box.SIMPLE_HEAD)
    layers.add_column("layer")
    layers.add_column("reads")
    layers.add_column("count", justify="right")
    total = sum(each.time_us or 0.0 for each in found.layers)
    if found.run_us is not None:
        layers.add_column("time", justify="right")
        layers.add_column("share", justify="right")
    for each in found.layers:
        timed = [] if each.time_us is None else [f"{each.time_us / 1e3:.2f} ms", f"{each.time_us / total:.1%}"]
        layers.add_row(each.kind, each.precision, str(each.count), *timed)
    console.print(layers)
    if found.run_us is not None:
        show(f"One run takes {found.run_us / 1e3:.2f} ms, its layers together {total / 1e3:.2f} ms (medians).")


def _print_ratio(console: Console, first: Anatomy, second: Anatomy) -> None:
    share = (first.xml_bytes + first.bin_bytes) / (second.xml_bytes + second.bin_bytes)
    text = f"\nThe first bundle takes {share:.0%} of the bytes"
    if first.run_us is not None and second.run_us is not None:
        text += f" and {first.run_us / second.run_us:.0%} of the time"
    console.print(f"{text} of the second.", markup=False, highlight=False, soft_wrap=True)


def _print_steps(console: Console, steps: tuple[ConversionStep, ...]) -> None:
    from rich import box
    from rich.table import Table

    def show(found: Difference | None) -> list[str]:
        return ["", ""] if found is None else [f"{found.largest:.2g} / {found.mean:.2g}", str(found.verdicts)]

    console.print(
        f"\nFrom torch to the processor, on {steps[0].pictures} test pictures. Largest / mean difference in score, and "
        "changed verdicts, against the step before and against the first:",
        markup=False,
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True, pad_edge=False)
    table.add_column("step", no_wrap=True)
    for title in ("size", "step before", "changed", "first step", "changed", "AUROC"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in steps:
        auroc = "" if each.auroc is None else f"{each.auroc:.4f}"
        differences = (*show(each.from_before), *show(each.from_first))
        table.add_row(each.name, _size(each.size_bytes), *differences, auroc)
    console.print(table)
    if any(each.simulated for each in steps):
        text = "This processor has no BF16: it was simulated by rounding before and after each product."
        console.print(text, markup=False, highlight=False)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
