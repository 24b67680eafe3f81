"""``gonogo station grr``: repeatability and reproducibility of a measured quantity."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.msa import GrrReport, MeasuredStudy


def grr_command(
    study_csv: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY.CSV",
            help="CSV with the columns operator, trial, part, value, such as the length of a scratch in mm; optionally "
            "reference (the true value).",
        ),
    ],
    tolerance: Annotated[
        float | None, typer.Option(help="Width of the tolerance, in the unit of the values; also rates against it.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Analyse a variables study of measurements (gauge R&R, crossed ANOVA).

    An operator may be a person, a station or a camera. For decisions instead of measurements: gonogo station msa.
    """
    from gonogo.msa import analyse_variables, read_measured_study

    study = read_measured_study(study_csv)
    found = analyse_variables(study, tolerance=tolerance)
    if report is not None:
        _write_page(study_csv, study, found, report)
    if as_json:
        print_json(grr_as_json(study, found), indent=2)
        return
    typer.echo(f"{len(study.operators)} operators, {len(study.trials)} trials, {len(study.parts)} parts")
    for name, value in rows_of(found):
        typer.echo(f"  {name:38s} {value}")


def grr_as_json(study: MeasuredStudy, found: GrrReport) -> dict[str, object]:
    """Return the study's figures as a JSON object."""
    return {
        "operators": len(study.operators),
        "trials": len(study.trials),
        "parts": len(study.parts),
        **{name: value for name, value in asdict(found).items() if name != "bias"},
        "gauge": found.gauge,
        "total": found.total,
        "share_of_total": found.share_of_total,
        "share_of_tolerance": found.share_of_tolerance,
        "distinct_categories": found.distinct_categories,
        "rating": found.rating,
        "bias": None if found.bias is None else asdict(found.bias),
    }


def rows_of(found: GrrReport) -> list[tuple[str, str]]:
    """The figures with their names, as text."""
    interaction = "pooled with the repetition" if found.pooled else "significant"
    rows = [
        ("Repeatability (EV)", f"{found.repeatability:.4g}"),
        ("Reproducibility (AV)", f"{found.reproducibility:.4g}"),
        ("Interaction of operators and parts", f"p = {found.interaction_p:.2g}, {interaction}"),
        ("Gauge (GRR)", f"{found.gauge:.4g}"),
        ("Parts (PV)", f"{found.part_variation:.4g}"),
        ("%GRR of the total variation", f"{found.share_of_total:.1%}"),
    ]
    if found.share_of_tolerance is not None:
        rows.append(("%GRR of the tolerance", f"{found.share_of_tolerance:.1%}"))
    rows += [("Distinct categories (ndc)", str(found.distinct_categories)), ("Rule of thumb", found.rating)]
    if found.bias is not None:
        interval = f"{found.bias.low:+.4g} to {found.bias.high:+.4g}"
        rows.append(("Bias against the reference", f"{found.bias.mean:+.4g} ({interval})"))
        rows.append(("95 % of the errors are at most", f"{found.bias.error_95:.4g}"))
    return rows


def _write_page(study_csv: Path, study: MeasuredStudy, found: GrrReport, report: Path) -> None:
    import hashlib

    from gonogo.files import write_beside
    from gonogo.report import render_page

    sha256 = hashlib.sha256(study_csv.read_bytes()).hexdigest()
    measured = study.values.transpose(2, 0, 1).tolist()  # parts, operators, trials
    page = render_page(
        "grr.html",
        name=study_csv.name,
        sha256=sha256,
        study=study,
        measured=measured,
        found=found,
        rows=rows_of(found),
    )
    write_beside(report, page.encode())
