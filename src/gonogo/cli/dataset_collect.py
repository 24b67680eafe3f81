"""``gonogo dataset collect``: bring pictures of the line back into a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.output import print_json


def collect_command(
    ledgers: Annotated[list[Path], typer.Argument(metavar="LEDGER...", help="Ledgers of stations; only read.")],
    into: Annotated[Path, typer.Option(help="The data set. With --sample, it is created if it does not exist.")],
    no_go: Annotated[bool, typer.Option("--no-go/--without-no-go", help="Collect every no-go.")] = True,
    review: Annotated[bool, typer.Option("--review/--without-review", help="Collect every review.")] = True,
    go_one_in: Annotated[
        int, typer.Option(min=0, help="Collect one go in this many, drawn by the hash of its ledger row; 0 for none.")
    ] = 500,
    near: Annotated[
        float, typer.Option(min=0.0, help="Collect parts whose score is this near to a threshold; 0 for none.")
    ] = 0.0,
    most_mb: Annotated[
        float, typer.Option(min=0.0, help="Disk budget of collected pictures without a label, in MB.")
    ] = 2000.0,
    sample: Annotated[
        str | None,
        typer.Option(
            help="Collect this designated random sample instead; see gonogo ledger sample.", show_default=False
        ),
    ] = None,
    who: Annotated[str | None, typer.Option(help="Name of the person. [default: the user]", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be collected; change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Add pictures of judged parts to a data set, unlabelled, with their provenance, into train only.

    No picture is added twice. Over the budget, unlabelled pictures are dropped: goes, then parts near a threshold, then
    no-goes, then reviews, the oldest first.
    """
    from gonogo.workflow.collecting import CollectRules, collect_parts

    rules = CollectRules(no_go=no_go, review=review, go_one_in=go_one_in, near=near, most_mb=most_mb, sample=sample)
    done = collect_parts(ledgers, into, rules, who=who, dry_run=dry_run)
    if as_json:
        content = {"into": str(into), "dry_run": dry_run, "added": len(done.added), "by_rule": done.by_rule}
        content |= {"dropped": [each.file_name for each in done.dropped], "known": done.known}
        content |= {"held_back": done.held_back, "gone": done.gone, "over_budget": done.over_budget}
        print_json(content)
        return
    rows = ", ".join(f"{count} {why}" for why, count in sorted(done.by_rule.items()))
    typer.echo(
        f"{'Would add' if dry_run else 'Added'} {len(done.added)} pictures to {into}{f' ({rows})' if rows else ''}."
    )
    for count, words in (
        (
            len(done.dropped),
            "unlabelled pictures were dropped for the disk budget, the least valuable and oldest first",
        ),
        (done.over_budget, "pictures were not added, because the budget is full of more valuable ones"),
        (done.known, "pictures are, or were, in the data set already"),
        (done.held_back, "pictures show parts in val, calibrate or test, and were held back"),
        (done.gone, "pictures are gone: deleted by retention, or never stored"),
    ):
        if count:
            typer.echo(f"{count} {words}.")
    if done.added and not dry_run:
        typer.echo("They have no label yet: label them on the data set's page.")
