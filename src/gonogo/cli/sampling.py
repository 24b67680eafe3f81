"""``gonogo ledger sample`` and ``gonogo certify --sample``: recertification from a random sample of production."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.centre import LedgerFile
from gonogo.cli.output import print_json
from gonogo.errors import InputError, UnfitError

if TYPE_CHECKING:
    from gonogo.cli.printed.ledger import SampleRow


def sample_command(
    ledger: LedgerFile,
    name: Annotated[
        str | None,
        typer.Option(help="Schedule a sample of this name. Without it, list all samples.", show_default=False),
    ] = None,
    parts: Annotated[int, typer.Option(min=1, help="Size of the sample; it is fixed now.")] = 500,
    one_in: Annotated[int, typer.Option(min=1, help="Draw one part in this many, regardless of the verdict.")] = 100,
    most_bad: Annotated[
        float, typer.Option(help="Largest share of bad parts among those that pass, which the sample shall confirm.")
    ] = 0.01,
    who: Annotated[str | None, typer.Option(help="Name of the person. [default: the user]", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Schedule a random sample of production, or list the samples and how far they are.

    The row of the schedule is the seed: which of the later parts are drawn follows from it and from their own rows.
    """
    from gonogo.dataset.history import user
    from gonogo.ledger import Ledger
    from gonogo.ledger.sampling import sampled_parts, schedule_sample, schedules

    with Ledger.open(ledger, create=False, read_only=name is None) as opened:
        if name is not None:
            schedule_sample(opened, name, one_in=one_in, parts=parts, most_bad=most_bad, who=who or user())
        rows: list[SampleRow] = [
            {
                "name": each.name,
                "row": each.row,
                "at": each.at.isoformat(),
                "one_in": each.one_in,
                "parts": each.parts,
                "most_bad": each.most_bad,
                "drawn": sum(1 for _ in sampled_parts(opened, each)),
            }
            for each in schedules(opened)
        ]
    if as_json:
        print_json({"ledger": str(ledger), "samples": rows})
        return
    for row in rows:
        typer.echo(
            f"{row['name']}: {row['drawn']} of {row['parts']} parts drawn, "
            f"one in {row['one_in']} since row {row['row']}"
        )
    if not rows:
        typer.echo("No samples. Schedule one with --name.")
    elif name is not None:
        typer.echo(f"Next: gonogo dataset collect {ledger} --sample {name} --into DATASET, and label its pictures.")


def certify_by_sample(
    bundle: Path,
    dataset: Path,
    name: str,
    ledger: Path,
    *,
    days: float | None,
    parts: int | None,
    as_json: bool,
) -> None:
    """Evaluate a sample, record the result, and renew the validity of the bundle if it is confirmed."""
    from gonogo.certification.sampling import evaluate_sample, record_result, renew
    from gonogo.cli.signing import say_unsigned
    from gonogo.dataset import Dataset
    from gonogo.dataset.history import user
    from gonogo.inspector import Inspector
    from gonogo.ledger import Ledger
    from gonogo.signing import NOT_REQUIRED

    data, inspector = Dataset.read(dataset), Inspector.load(bundle, policy=NOT_REQUIRED)
    with Ledger.open(ledger, create=False) as opened:
        result = evaluate_sample(inspector.bundle, opened, data, name)
        record_result(inspector.bundle, opened, result, who=user())
    validity = None
    if result.confirmed:
        made, validity = renew(inspector.bundle, result, days=days, parts=parts)
        say_unsigned(inspector.bundle, made)
    if as_json:
        counts = {each: vars(getattr(result, each)) for each in ("escape", "overkill", "accepted")}
        content = {"sample": name, "confirmed": result.confirmed, "drawn": result.drawn, **counts}
        content |= {"unlabelled": result.unlabelled, "refusals": result.refusals}
        content |= {"validity": None if validity is None else validity.model_dump(mode="json")}
        print_json(content)
    else:
        for sentence in result.sentences():
            typer.echo(sentence)
        if validity is not None:
            typer.echo(f"The thresholds stay as they are. {validity.sentence()}")
    if not result.confirmed:
        raise UnfitError(f"{bundle}: not renewed. {' '.join(result.refusals)}")


def require_sample(dataset: Path | None, ledger: Path | None) -> tuple[Path, Path]:
    """Return data set and ledger of a sample.

    Raises:
        InputError: One of them is missing.
    """
    if dataset is None or ledger is None:
        raise InputError("--sample: expected the sample's data set after the bundle, and --ledger FILE.")
    return dataset, ledger
