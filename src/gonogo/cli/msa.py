"""``gonogo station msa``: measurement system analysis of an attribute agreement study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.msa import AppraiserJson, BesideInspector, KappaJson, MsaStudy, ShareJson
    from gonogo.msa import Appraiser, Difference, Kappa, MsaReport, Paired, Share, Study


def msa_command(
    study_csv: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY.CSV",
            help="CSV with the columns appraiser, trial, part, decision (good, bad, review), reference (good, bad); "
            "optionally reference_value and picture_sha256.",
        ),
    ],
    inspector: Annotated[
        str | None,
        typer.Option(
            metavar="APPRAISER",
            help="Compare every other appraiser with this one on the same parts. On parts it sends to review, the "
            "other's own decision counts.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Analyse an attribute agreement study: within and between appraisers, and against the reference."""
    from gonogo.msa import analyse, compare, read_study

    study = read_study(study_csv)
    found = analyse(study)
    paired = None if inspector is None else compare(study, inspector)
    if report is not None:
        _write_page(study_csv, study, found, paired, report)
    if as_json:
        print_json({**_as_json(study, found), "beside_inspector": _paired_as_json(paired)}, indent=2)
        return
    _print(study, found)
    if paired is not None:
        _print_paired(paired)
    for note in found.notes:
        typer.echo(f"\nNote: {note}")


def _write_page(study_csv: Path, study: Study, found: MsaReport, paired: Paired | None, report: Path) -> None:
    import hashlib

    from gonogo.files import write_beside
    from gonogo.report import render_page

    sha256 = hashlib.sha256(study_csv.read_bytes()).hexdigest()
    page = render_page("msa.html", name=study_csv.name, sha256=sha256, study=study, found=found, paired=paired)
    write_beside(report, page.encode())


def _as_json(study: Study, found: MsaReport) -> MsaStudy:
    return {
        "appraisers": [_appraiser_as_json(one) for one in found.appraisers],
        "trials": len(study.trials),
        "parts": len(study.parts),
        "between": _share_as_json(found.between),
        "between_kappa": _kappa_as_json(found.between_kappa),
        "pairs": [
            {"first": pair.first, "second": pair.second, "kappa": _kappa_as_json(pair.kappa)} for pair in found.pairs
        ],
        "all_right": _share_as_json(found.all_right),
        "grey_zones": [
            {
                "side": zone.side,
                "accepted_to": zone.accepted_to,
                "rejected_from": zone.rejected_from,
                "width": zone.width,
            }
            for zone in found.grey_zones
        ],
        "notes": list(found.notes),
    }


def _appraiser_as_json(one: Appraiser) -> AppraiserJson:
    return {
        "name": one.name,
        "within": _share_as_json(one.within),
        "within_kappa": _kappa_as_json(one.within_kappa),
        "same_picture": one.same_picture,
        "effectiveness": _share_as_json(one.effectiveness),
        "reference_kappa": _kappa_as_json(one.reference_kappa),
        "miss_rate": _share_as_json(one.misses),
        "missed_parts": _share_as_json(one.missed_parts),
        "false_alarm_rate": _share_as_json(one.false_alarms),
        "alarmed_parts": _share_as_json(one.alarmed_parts),
        "rating": one.rating.value if one.rating else None,
    }


def _share_as_json(share: Share | None) -> ShareJson | None:
    if share is None:
        return None
    low, high = share.interval
    return {"rate": share.rate, "low": low, "high": high, "count": share.count, "total": share.total}


def _kappa_as_json(kappa: Kappa | None) -> KappaJson | None:
    return None if kappa is None else {"value": kappa.value, "low": kappa.low, "high": kappa.high}


def _paired_as_json(paired: Paired | None) -> BesideInspector | None:
    if paired is None:
        return None
    return {
        "inspector": paired.inspector,
        "review_rate": paired.reviewed,
        "people": [
            {
                "name": one.person,
                "misses": _difference_as_json(one.misses),
                "false_alarms": _difference_as_json(one.false_alarms),
            }
            for one in paired.comparisons
        ],
    }


def _difference_as_json(found: Difference) -> dict[str, Any]:
    return {**asdict(found), "difference": found.value, "finding": found.finding}


def _print(study: Study, found: MsaReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{len(study.appraisers)} appraisers, {len(study.trials)} trials, {len(study.parts)} parts; "
        "95 % intervals in brackets"
    )
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_column("", no_wrap=True)
    for one in found.appraisers:
        table.add_column(one.name, justify="right")
    rows = {
        "same in every trial": [_share(one.within) for one in found.appraisers],
        "  kappa (Fleiss)": [_kappa(one.within_kappa) for one in found.appraisers],
        "right in every trial": [_share(one.effectiveness) for one in found.appraisers],
        "  kappa (Cohen)": [_kappa(one.reference_kappa) for one in found.appraisers],
        "missed": [_share(one.misses) for one in found.appraisers],
        "false alarms": [_share(one.false_alarms) for one in found.appraisers],
        "rule of thumb": [one.rating.value if one.rating else "-" for one in found.appraisers],
    }
    for heading, cells in rows.items():
        table.add_row(heading, *cells)
    console.print(table)
    for pair in found.pairs:
        console.print(f"{pair.first} and {pair.second}: kappa (Cohen) {_kappa(pair.kappa)}")
    if found.pairs:
        console.print(f"all agree: {_share(found.between)}, kappa (Fleiss) {_kappa(found.between_kappa)}")
    console.print(f"all right: {_share(found.all_right)}")
    for zone in found.grey_zones:
        console.print(
            f"grey zone ({zone.side} limit): accepted by all to {_number(zone.accepted_to)}, rejected by all from "
            f"{_number(zone.rejected_from)}, width {_number(zone.width)}"
        )


def _print_paired(paired: Paired) -> None:
    typer.echo(
        f"\nPeople beside {paired.inspector} on the same parts; the person decides what it sends to review "
        f"({paired.reviewed:.1%} of its decisions):"
    )
    for one in paired.comparisons:
        for what, found in (("missed", one.misses), ("false alarms", one.false_alarms)):
            typer.echo(f"  {one.person}, {what}: {_difference(found, paired.inspector)}")


def _difference(found: Difference, inspector: str) -> str:
    if found.person is None or found.inspector is None or found.value is None:
        return "-"
    test = "" if found.p_value is None else f", McNemar p = {found.p_value:.2g}"
    finding = {"fewer": f"{inspector} errs less often", "more": f"{inspector} errs more often"}
    return (
        f"alone {found.person:.1%}, with {inspector} {found.inspector:.1%}, difference {100 * found.value:+.1f} points "
        f"({100 * found.low:+.1f} to {100 * found.high:+.1f}{test}): {finding.get(found.finding, 'unproven')}"
    )


def _share(share: Share | None) -> str:
    if share is None or share.rate is None:
        return "-"
    low, high = share.interval
    return f"{share.rate:.1%} ({low:.0%}-{high:.0%})"


def _kappa(kappa: Kappa | None) -> str:
    if kappa is None or kappa.value is None or kappa.low is None or kappa.high is None:
        return "-"
    return f"{kappa.value:.2f} ({kappa.low:.2f}-{kappa.high:.2f})"


def _number(value: float | None) -> str:
    return "beyond the study" if value is None else f"{value:.4g}"
