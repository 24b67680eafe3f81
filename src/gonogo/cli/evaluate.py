"""``gonogo evaluate``: judge a labelled data set and print the error rates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from rich.table import Table

    from gonogo.evaluate import Evaluation, Rate


def evaluate_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to evaluate.", metavar="BUNDLE")],
    dataset: Annotated[Path, typer.Argument(help="A data set with labels.", metavar="DATASET")],
    split: Annotated[
        list[str],
        typer.Option(help="Split to evaluate: train, val, calibrate or test; may be repeated."),
    ] = ["test"],  # noqa: B006 - Typer wants a list as the default and never changes it
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.", metavar="FILE")] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Judge the labelled pictures of a split and print the error rates with exact intervals."""
    from rich.console import Console

    from gonogo.dataset import Dataset, Split
    from gonogo.dataset.cameras import for_cameras, require_views
    from gonogo.dataset.judged import record_judged
    from gonogo.evaluate import evaluate as judge_all
    from gonogo.inspector import Inspector
    from gonogo.progress import console as messages
    from gonogo.report import phrases, write_report

    if unknown := set(split) - set(Split):
        raise typer.BadParameter(
            f"expected {', '.join(Split)}, found {', '.join(sorted(unknown))}", param_hint="--split"
        )
    inspector = Inspector.load(bundle)
    data = for_cameras(Dataset.read(dataset), inspector.bundle.manifest.cameras)
    require_views(data, [Split(name) for name in split])
    evaluation = judge_all(inspector, data, [Split(name) for name in dict.fromkeys(split)])
    record_judged(data, evaluation.splits)
    if report is not None:
        write_report(evaluation, inspector, data, report)
        messages.print(f"Report written to {report}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        found = {**evaluation.to_json(), "device": str(inspector.device), "summary": _summary(evaluation)}
        print_json(found, allow_nan=False)
        return
    console = Console()
    console.print(phrases.headline(evaluation), style="bold", markup=False, highlight=False)
    console.print(phrases.subline(evaluation), markup=False, highlight=False)
    console.print(phrases.which_is_the_promise(evaluation), markup=False, highlight=False)
    for warning in phrases.warnings(evaluation):
        console.print(warning, style="yellow", markup=False, highlight=False)
    console.print(_table(evaluation))
    console.print(_summary(evaluation), markup=False, highlight=False, soft_wrap=True)


def _summary(evaluation: Evaluation) -> str:
    """Summarize the verdicts, the bundle and its thresholds in one line."""
    from gonogo.operating_point import to_json

    escape, overkill = evaluation.escape, evaluation.overkill
    counts = (
        f"{len(evaluation.parts)} parts: {escape.count} of {escape.of} bad parts passed, {overkill.count} of "
        f"{overkill.of} good parts rejected, {evaluation.review.count} to review, {evaluation.fault.count} not judged"
    )
    point = evaluation.operating_point
    shown = {} if point is None else to_json(point)
    limits = [
        f"{name} {shown[key]:.3f}"
        for name, key in (("go below", "go_below"), ("no-go above", "no_go_above"))
        if shown.get(key) is not None
    ]
    bundle = f"bundle {evaluation.bundle_sha256[:16]}"
    return f"{counts} ({', '.join([bundle, *(limits or ['no thresholds'])])})"


def _table(evaluation: Evaluation) -> Table:
    from rich import box
    from rich.table import Table

    from gonogo.report import phrases

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for title in ("share", f"{phrases.level(evaluation.confidence)} interval", "count"):
        table.add_column(title, justify="right")

    def row(name: str, rate: Rate) -> None:
        table.add_row(name, phrases.percent(rate.value), phrases.interval(rate), f"{rate.count} of {rate.of}")

    row("bad parts passed (escapes)", evaluation.escape)
    row("good parts rejected (overkill)", evaluation.overkill)
    row("sent to a person (review)", evaluation.review)
    row("could not be judged (faults)", evaluation.fault)
    if evaluation.localisation.pointing.of:
        row("peak of the heat map on the defect", evaluation.localisation.pointing)
        row("  centre of the picture on the defect (baseline)", evaluation.localisation.centre)
    if evaluation.naming is not None:
        row("correct defect kind", evaluation.naming.right)
        row("  unlike any known kind", evaluation.naming.unlike)
    regions = evaluation.regions
    if regions.placements:
        row("part found", regions.found)
        row("  whole part inside the region", regions.whole_inside)
        table.add_row("  mean IoU with the labelled box", phrases.number(regions.mean_iou), "", "")
    if regions.refused.of:
        row("pictures without exactly one whole part refused", regions.refused)
    low, high = evaluation.auroc_range
    between = phrases.UNDEFINED if evaluation.auroc is None else f"{phrases.number(low)} to {phrases.number(high)}"
    table.add_row("AUROC", phrases.number(evaluation.auroc), between, "")
    if regions.placements:
        table.add_row("  with the labelled boxes", phrases.number(regions.labelled.auroc), "", "")
    table.add_row("average precision", phrases.number(evaluation.average_precision), "", "")
    return table
