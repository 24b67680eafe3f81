"""``gonogo certify BUNDLE --revisions`` and ``--restore N``: list and restore earlier thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gonogo.cli.output import print_json
from gonogo.cli.signing import say_unsigned

if TYPE_CHECKING:
    from gonogo.bundle import Bundle
    from gonogo.schema import OperatingPoint


def show_revisions(path: Path, number: int | None, *, force: bool, as_json: bool) -> None:
    """Restore a revision if a number is given, then list all revisions."""
    from gonogo import bundle as bundles
    from gonogo.certification import restore
    from gonogo.inspector import Inspector
    from gonogo.signing import NOT_REQUIRED

    if number is None:
        opened = bundles.read_bundle(path)
    else:
        before = Inspector.load(path, policy=NOT_REQUIRED).bundle
        opened = restore(before, number, force=force)
        say_unsigned(before, opened)
    rows = _rows(opened)
    if as_json:
        print_json({"bundle": str(path), "bundle_sha256": opened.sha256, "revisions": rows}, allow_nan=False)
        return
    if number is not None:
        typer.echo(f"Revision {number} is in force again, as revision {len(rows)}.")
    for row in rows:
        typer.echo(f"{row['revision']}  {'in force' if row['replaced'] is None else 'until ' + row['replaced']}")
        for sentence in row["promises"]:
            typer.echo(f"   {sentence}")
    if not rows:
        typer.echo("There are no thresholds yet.")


def _rows(opened: Bundle) -> list[dict[str, Any]]:
    from gonogo.operating_point import from_json

    manifest = opened.manifest
    rows = [
        _row(number, revision.replaced, revision.bundle_sha256, from_json(revision.operating_point))
        for number, revision in enumerate(manifest.revisions, start=1)
    ]
    if manifest.operating_point is not None:
        rows.append(_row(len(rows) + 1, None, opened.sha256, manifest.operating_point))
    return rows


def _row(number: int, replaced: str | None, sha256: str, point: OperatingPoint) -> dict[str, Any]:
    from gonogo.operating_point import describe_point, to_json

    return {
        "revision": number,
        "replaced": replaced,
        "bundle_sha256": sha256,
        "promises": list(describe_point(point)),
        "operating_point": to_json(point),
    }
