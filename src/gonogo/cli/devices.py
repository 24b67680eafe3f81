"""``gonogo devices``: list the devices of this machine, and try a bundle on each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.devices import Device


def devices_command(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Replay the golden frames of this inspector on every device.", metavar="BUNDLE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the devices that OpenVINO sees, and which of them reproduce a bundle.

    Exit code 1 if a bundle is given that no device reproduces.
    """
    from gonogo import bundle as bundles
    from gonogo.devices import find_devices
    from gonogo.errors import UnfitError

    precision = "f32" if bundle is None else bundles.read_bundle(bundle).manifest.precision
    rows = [_row(each, bundle, precision) for each in find_devices()]
    if as_json:
        print_json({"bundle": None if bundle is None else str(bundle), "devices": rows})
    else:
        _print(rows, tried=bundle is not None)
    if bundle is not None and not any(row["reproduces"] for row in rows):
        raise UnfitError(f"{bundle}: no device of this machine reproduces its golden frames.")


def _row(device: Device, bundle: Path | None, precision: str) -> dict[str, Any]:
    """Describe one device; ``reproduces`` is ``None`` if no bundle is given."""
    from gonogo.devices import arithmetic

    row = {**asdict(device), "default": device.default, "precision": arithmetic(device.name, precision)}
    reproduces, reason = (None, "") if bundle is None else _replay(bundle, device.name)
    return {**row, "reproduces": reproduces, "reason": reason}


def _replay(bundle: Path, device: str) -> tuple[bool, str]:
    from gonogo.config import settings
    from gonogo.errors import BundleError
    from gonogo.inspector import Inspector

    try:
        used = Inspector.load(bundle, machine=settings().model_copy(update={"device": device})).device
    except BundleError as error:
        return False, str(error)
    return not used.fell_back, used.reason


def _print(rows: list[dict[str, Any]], *, tried: bool) -> None:
    for row in rows:
        typer.echo(f"{row['name']}: {row['full_name']}{', the default' if row['default'] else ''}")
        typer.echo(f"  can do      {', '.join(row['capabilities']) or 'unknown'}")
        typer.echo(f"  computes in {row['precision']}")
        if tried:
            found = "reproduced" if row["reproduces"] else f"NOT reproduced: {row['reason']}"
            typer.echo(f"  golden frames {found}")
    if not tried:
        typer.echo("Choose one with --device, also AUTO or HETERO:GPU,CPU. Try a bundle with: gonogo devices BUNDLE")
