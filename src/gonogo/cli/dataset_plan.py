"""``gonogo dataset plan``: what a data set can promise, and what it lacks for stricter limits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.certification.planning import LabelPlan, Plan

_Dataset = Annotated[Path, typer.Argument(help="The data set.", metavar="DATASET")]


def plan_command(
    dataset: _Dataset,
    rate: Annotated[
        list[float] | None, typer.Option(help="Error rate to plan for; may be repeated. [default: 0.05, 0.02, 0.01]")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of each claim.")] = 0.95,
    parts_per_day: Annotated[float | None, typer.Option(help="Parts that the line makes in a day.")] = None,
    bad_share: Annotated[float, typer.Option(help="Share of bad parts on the line, with --parts-per-day.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Random seed of the splits.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which error rates can be certified now, and how many parts, which splits and how many days others take."""
    from gonogo.certification.planning import RATES, LineRate, make_plan
    from gonogo.dataset import Dataset

    line = None if parts_per_day is None else LineRate(parts_per_day=parts_per_day, bad_share=bad_share)
    found = make_plan(Dataset.read(dataset), rates=tuple(rate or RATES), line=line, confidence=confidence, seed=seed)
    if as_json:
        print_json(_plain(found))
        return
    for label in found.labels:
        _print_label(label)
    if found.seen:
        typer.echo("Scores of these splits were already seen: splitting the same parts again would not help.")


def _print_label(plan: LabelPlan) -> None:
    name = "escapes (bad parts)" if plan.label == "bad" else "overkill (good parts)"
    now = "nothing" if plan.best is None else f"at best {100 * plan.best:.3g} %"
    typer.echo(f"{name}: {plan.calibrate} of {plan.parts} parts are for calibration: {now}")
    for target in plan.targets:
        if not target.missing:
            typer.echo(f"  {100 * target.rate:4.3g} %: can be certified ({target.needed} parts)")
            continue
        text = f"  {100 * target.rate:4.3g} %: {target.missing} more parts for calibration, {target.more_parts} in all"
        if target.days is not None:
            text += ", never at this line" if math.isinf(target.days) else f", {target.days:,.1f} days of the line"
        typer.echo(text + (f"; or --splits {target.splits}" if target.splits else ""))


def _plain(plan: Plan) -> dict[str, object]:
    values = dataclasses.asdict(plan)
    for label in values["labels"]:
        for target in label["targets"]:
            if target["days"] is not None and math.isinf(target["days"]):
                target["days"] = None
    return values
