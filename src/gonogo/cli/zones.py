"""``gonogo zones``: an example file, the zones on a photograph, and bad parts that ignore zones hide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.dataset import HiddenDefect
    from gonogo.roi import Roi

app = typer.Typer(
    help="Areas inside the part: ignore them, or inspect each by a scale of its own.", no_args_is_help=True
)

ZonesFile = Annotated[Path, typer.Option("--zones", help="The zones.", metavar="ZONES.TOML")]
RoiFile = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        help="How the part is found: an ROI config, or a bundle with one. [default: the whole picture]",
        metavar="ROI.TOML|BUNDLE",
        show_default=False,
    ),
]

EXAMPLE = """\
# Zones of a product, for: gonogo train DATASET --out BUNDLE --zones zones.toml
#
# Corners are [x, y] in part coordinates: [0, 0] is the top left and [1, 1] the bottom right corner of the part that the
# region of interest finds, without its margin; without a region of interest, of the whole picture. Corners may lie in
# the margin, below 0 or above 1. Look at the result on a good picture: gonogo zones show PHOTO --zones zones.toml

# What changes from part to part and means nothing. It is blanked before the network, and its cells count nowhere.
[[zones]]
kind = "ignore"
name = "date code"
polygon = [[0.10, 0.60], [0.55, 0.60], [0.55, 0.75], [0.10, 0.75]]

# Judged by a scale of its own. The score of the part is the highest score of its zones and of the rest of the part.
[[zones]]
kind = "inspect"
name = "leads"
polygon = [[0.00, 0.00], [1.00, 0.00], [1.00, 0.20], [0.00, 0.20]]
# Share of good parts that score above zero in this zone: larger is stricter. The rest of the part has 0.05.
sensitivity = 0.10
"""


@app.callback()
def _zones() -> None:
    """Zones inside the part."""


@app.command("example")
def example_command() -> None:
    """Print a commented zones.toml."""
    typer.echo(EXAMPLE, nl=False)


@app.command("show")
def show_command(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph of a good part.")],
    zones: ZonesFile,
    out: Annotated[Path, typer.Option(help="Image to write, .png or .jpg.")],
    roi: RoiFile = None,
    blanked: Annotated[
        bool, typer.Option("--blanked", help="Fill the ignore zones as the network sees them, without names.")
    ] = False,
) -> None:
    """Draw zones on a photograph: ignore zones hatched, inspect zones outlined."""
    from gonogo import images
    from gonogo.config import read_zones
    from gonogo.errors import UnfitError
    from gonogo.files import write_beside
    from gonogo.images.encoding import encode_as
    from gonogo.images.zone_drawing import draw_zones
    from gonogo.images.zones import Place
    from gonogo.zoning import prepared

    found, frame = read_zones(zones), images.load_confined(photo)
    located = _search(roi).locate(frame)
    if not located.present:
        raise UnfitError(f"{photo}: the part was not found ({located.reason}). Choose another photograph.")
    place = Place.of(located)
    drawn = prepared(frame, place, found).frame.copy() if blanked else frame.copy()
    if not blanked:
        draw_zones(drawn, place, found)
    write_beside(out, encode_as(drawn, out, option="--out"))
    typer.echo(f"{out}: {', '.join(f'{zone.name} ({zone.kind})' for zone in found)}")


@app.command("hidden")
def hidden_command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set with masks of defects.")],
    zones: ZonesFile,
    roi: RoiFile = None,
    relabel: Annotated[
        bool, typer.Option("--relabel", help="Label these pictures good, and note in each record what it was.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List bad parts whose whole defect lies in an ignore zone.

    No inspector can reject them. Training and certifying refuse them until they are relabelled, the zone is drawn
    smaller, or --keep-hidden is given.
    """
    from gonogo.certification.hidden import hidden_defects, relabel_hidden_defects
    from gonogo.config import read_zones
    from gonogo.dataset import Dataset

    data = Dataset.read(dataset)
    found = hidden_defects(data, _search(roi), read_zones(zones))
    changed = relabel_hidden_defects(data, [sample.file_name for sample in found]) if relabel else 0
    if as_json:
        rows: list[HiddenDefect] = [
            {"file": each.file_name, "split": each.split, "defect": each.defect} for each in found
        ]
        print_json({"hidden": rows, "relabelled": changed})
        return
    for sample in found:
        typer.echo(f"{sample.file_name}  {sample.split or 'no split'}  {sample.defect or 'no kind'}")
    if not found:
        typer.echo("No bad part is hidden by an ignore zone.")
    elif relabel:
        typer.echo(f"Labelled {changed} pictures good. Train again: their labels were part of the data.")
    else:
        typer.echo(f"{len(found)} bad pictures show nothing outside ignore zones. Label them good with --relabel.")


def _search(path: Path | None) -> Roi:
    """Open the search for the part."""
    from gonogo.roi import RECIPE, WholeRoi, open_roi

    if path is None:
        return WholeRoi()
    inside = path / RECIPE
    if path.is_dir():
        return open_roi(inside) if inside.is_file() else WholeRoi()
    return open_roi(path)
