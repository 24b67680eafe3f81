"""``gonogo qualify``: write the qualification report for an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.device import DeviceOption


def qualify_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to qualify.", metavar="BUNDLE")],
    dataset: Annotated[
        Path, typer.Argument(help="The data set that it was trained and certified on.", metavar="DATASET")
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.", metavar="FILE")] = Path("qualification.html"),
    pdf: Annotated[
        Path | None,
        typer.Option(help="Also print the page to this PDF file (needs Chromium).", metavar="FILE", show_default=False),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Examine data, certificate and test, and write a printable report. Exit code 1 if it does not qualify."""
    from gonogo.dataset import Dataset, Split
    from gonogo.dataset.cameras import for_cameras
    from gonogo.dataset.judged import record_judged
    from gonogo.errors import UnfitError
    from gonogo.inspector import Inspector
    from gonogo.report import qualification

    inspector = Inspector.load(bundle)
    data = for_cameras(Dataset.read(dataset), inspector.bundle.manifest.cameras)
    found = qualification.examine_bundle(inspector, data)
    record_judged(data, (Split.TEST,))
    qualification.write_qualification(found, inspector, data, out)
    for finding in found.findings:
        typer.echo(f"{'pass' if finding.passed else 'FAIL'}  {finding.what}: {finding.detail}")
    typer.echo(f"Wrote {out}")
    if pdf is not None:
        qualification.print_pdf(out, pdf)
        typer.echo(f"Wrote {pdf}")
    if not found.qualified:
        failed = [finding.what for finding in found.findings if not finding.passed]
        raise UnfitError(f"{bundle}: not qualified ({'; '.join(failed)}). See {out} for the reasons.")
