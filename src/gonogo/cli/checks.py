"""``gonogo bundle checks``: what a bundle checks besides the score."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gonogo.cli.output import print_json


def checks_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The inspector bundle; it is revised.")],
    checks: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CHECKS.TOML]",
            help="The checks: [scale], [[rules]], presence [[zones]] and [health]. They replace those of the bundle. "
            "Without, those of the bundle are printed.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure defects, count items and refuse spoiled pictures, in addition to the score.

    Rules that lead to review take effect at once. Rules that reject take effect once the bundle is certified again,
    with both rates certified for score and rules together.
    """
    from gonogo.bundle import read_bundle
    from gonogo.cli.checks_file import read_checks
    from gonogo.config import Checks
    from gonogo.rules import set_checks

    opened = read_bundle(bundle)
    if checks is None:
        _print(Checks.of(opened.manifest.recipe).model_dump(mode="json", exclude_none=True), as_json=as_json)
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = set_checks(opened, read_checks(checks), now=now)
    if as_json:
        content = {"bundle": str(bundle), "bundle_sha256": made.bundle.sha256, "certified": made.point_kept}
        print_json(content)
        return
    typer.echo(f"{bundle}: revised ({made.bundle.sha256[:16]})")
    if not made.point_kept:
        typer.echo(
            "The rules that reject have changed, so the thresholds are no longer in force: every part goes to review. "
            f"Next: gonogo certify {bundle} DATASET"
        )


def _print(content: dict[str, Any], *, as_json: bool) -> None:
    import tomli_w

    for zone in content.get("zones", ()):
        zone["template"] = f"{zone['template'][:16]}..." if not as_json else zone["template"]
    if as_json:
        print_json(content)
    else:
        typer.echo(tomli_w.dumps(content) or "# no checks", nl=not content)
