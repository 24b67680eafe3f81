"""``gonogo presence``: items that must be there, such as screws and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.dataset import PresenceLearn
    from gonogo.presence import Learned
    from gonogo.schema import Frame, Located

app = typer.Typer(help="Items that must be there: learn them from one good picture.", no_args_is_help=True)


@app.callback()
def _presence() -> None:
    """Items that must be there."""


@app.command("learn")
def learn_command(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph of a good part.")],
    name: Annotated[str, typer.Option(help="Name of the zone, such as screws.")],
    item: Annotated[
        str, typer.Option(metavar="X1,Y1,X2,Y2", help="Box around one of the items, in pixels of the photograph.")
    ],
    count: Annotated[int, typer.Option(min=1, max=200, help="Number of items in the zone.")],
    out: Annotated[
        Path, typer.Option(help="Checks file (TOML) to write the zone into; the rest of an existing file is kept.")
    ],
    zone: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2", help="Box around all items, in pixels of the photograph. [default: the whole part]"
        ),
    ] = None,
    roi_config: Annotated[
        Path | None,
        typer.Option("--roi", metavar="ROI.TOML", help="How the part is found, as in training. [default: not at all]"),
    ] = None,
    round_item: Annotated[
        bool, typer.Option("--round", help="The item is round: compare the ellipse inside its box.")
    ] = False,
    turn: Annotated[float, typer.Option(min=0, max=180, help="Search items turned by up to this angle.")] = 10.0,
    scale: Annotated[
        float, typer.Option(min=0, max=0.3, help="Search larger and smaller items, by this share.")
    ] = 0.05,
    colour: Annotated[
        float, typer.Option(min=1, max=400, help="Largest distance of the mean colours (Delta E); 400 for any colour.")
    ] = 25.0,
    reject: Annotated[
        bool,
        typer.Option("--reject", help="Reject incomplete parts, once certified with this rule; otherwise review them."),
    ] = False,
    preview: Annotated[Path | None, typer.Option(help="Write a picture of what was found, .png or .jpg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn an item from one good picture, and check that all of them are found in it.

    Next: gonogo bundle checks.
    """
    from gonogo import images
    from gonogo.cli.checks_file import read_checks, update_checks
    from gonogo.cli.numbers import parse_numbers
    from gonogo.files import write_beside
    from gonogo.images.encoding import encode_as
    from gonogo.images.zones import Place, on_part
    from gonogo.presence import draw_counts, learn_presence
    from gonogo.schema import Box

    frame = images.load_confined(photo)
    place = Place.of(_located(frame, roi_config))
    polygon = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    if zone is not None:
        import numpy as np

        x1, y1, x2, y2 = parse_numbers("--zone", zone, 4)
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
        polygon = [(float(x), float(y)) for x, y in on_part(corners, place)]
    x1, y1, x2, y2 = parse_numbers("--item", item, 4)
    learned = learn_presence(
        frame,
        place,
        name=name,
        polygon=polygon,
        item=Box(x1=x1, y1=y1, x2=x2, y2=y2),
        count=count,
        round_item=round_item,
        turn_deg=turn,
        scale=scale,
        colour=colour,
        then="no_go" if reject else "review",
    )
    if preview is not None:
        drawn = frame.copy()
        draw_counts(drawn, [learned.count])
        write_beside(preview, encode_as(drawn, preview, option="--preview"))
    before = read_checks(out).zones if out.exists() else ()
    update_checks(out, zones=(*(each for each in before if each.name != name), learned.zone))
    _report(learned, out, as_json=as_json)


def _located(frame: Frame, roi_config: Path | None) -> Located:
    from gonogo.errors import InputError
    from gonogo.roi import WholeRoi, open_roi

    located = (WholeRoi() if roi_config is None else open_roi(roi_config)).locate(frame)
    if not located.present:
        raise InputError(f"the part was not found: {located.reason}. Choose another picture, or tune the ROI config.")
    return located


def _report(learned: Learned, out: Path, *, as_json: bool) -> None:
    items = learned.count.items
    if as_json:
        content: PresenceLearn = {
            "checks_file": str(out),
            "zone": learned.zone.name,
            "count": learned.zone.count,
            "items": [{"centre_xy": each.centre_xy, "correlation": each.correlation} for each in items],
            "strongest_other": learned.strongest_other,
            "least_correlation": learned.zone.correlation,
        }
        print_json(content)
        return
    weakest = min(each.correlation for each in items)
    typer.echo(f"{out}: zone {learned.zone.name}, {len(items)} items found")
    typer.echo(
        f"correlation of the weakest item {weakest:.2f}, of anything else at most {learned.strongest_other:.2f}; limit "
        f"{learned.zone.correlation:.2f}"
    )
