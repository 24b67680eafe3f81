"""``gonogo roi calibrate``: how large a pixel is, from a checkerboard or a known length."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.measure import Calibration


def calibrate_command(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph of the target, at full size.")],
    out: Annotated[
        Path, typer.Option(help="Checks file (TOML) to write the scale into; the rest of an existing file is kept.")
    ],
    checkerboard: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Inner corners of a checkerboard in the plane of the part, such as 9x6 for 10 x 7."
        ),
    ] = None,
    square_mm: Annotated[float | None, typer.Option(help="Side of a square of the checkerboard.")] = None,
    edge: Annotated[
        str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Two points at a known distance, in pixels.")
    ] = None,
    mm: Annotated[float | None, typer.Option(help="Distance of the two points.")] = None,
    preview: Annotated[Path | None, typer.Option(help="Write a picture of what was found, .png or .jpg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how large a pixel is, so that defects can be measured in mm.

    One calibration belongs to one camera at one distance. Next: gonogo bundle checks.
    """
    from gonogo import images
    from gonogo.cli.checks_file import update_checks
    from gonogo.cli.numbers import parse_corners_wh, parse_numbers
    from gonogo.errors import InputError
    from gonogo.images.encoding import encode_as
    from gonogo.measure import calibrate_checkerboard, calibrate_edge, draw_calibration

    by_board, by_edge = (checkerboard, square_mm), (edge, mm)
    if (None in by_board) == (None in by_edge) or (None in by_board and by_board != (None, None)):
        raise InputError("expected either --checkerboard with --square-mm, or --edge with --mm.")
    frame = images.load_confined(photo)
    if checkerboard is not None and square_mm is not None:
        found = calibrate_checkerboard(frame, parse_corners_wh(checkerboard), square_mm)
    else:
        assert edge is not None, "checked above"
        assert mm is not None, "checked above"
        x1, y1, x2, y2 = parse_numbers("--edge", edge, 4)
        found = calibrate_edge(frame, (x1, y1, x2, y2), mm)
    if preview is not None:
        from gonogo.files import write_beside

        write_beside(preview, encode_as(draw_calibration(frame, found), preview, option="--preview"))
    update_checks(out, scale=found.scale)
    _report(found, out, as_json=as_json)


def _report(found: Calibration, out: Path, *, as_json: bool) -> None:
    scale = found.scale
    if as_json:
        content = {
            "checks_file": str(out),
            **scale.model_dump(mode="json"),
            "residual_px": found.residual_px,
            "residual_mm": found.residual_mm,
            "residual_px_without_tilt": found.similarity_residual_px,
        }
        print_json(content)
        return
    tilt = ", corrected for a tilted camera" if scale.homography is not None else ""
    typer.echo(f"{out}: {scale.mm_per_px:.5f} mm per pixel, from a {scale.target}{tilt}")
    typer.echo(
        f"lengths are right to within {scale.relative_error:.2%} (95 %); residual {found.residual_px:.2f} pixels, "
        f"{found.residual_mm:.4f} mm"
    )
