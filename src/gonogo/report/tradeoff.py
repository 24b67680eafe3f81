"""Writes the trade-off curve as an HTML page or an SVG file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from markupsafe import Markup

from gonogo.certification import Certified
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.report import svg
from gonogo.report.page import render_page


def write_tradeoff(made: Certified, path: Path, *, bundle_name: str) -> None:
    """Plot certified escape rate against review rate, with the certified point marked, as ``.html`` or ``.svg``.

    Raises:
        InputError: the suffix is not supported, there is nothing to plot, or the file cannot be written.
    """
    if path.suffix.lower() not in (".html", ".svg"):
        raise InputError(f"{path}: expected a file name that ends in .html or .svg.")
    if not made.tradeoff or made.review_rate is None:
        raise InputError("--tradeoff: expected both good and bad parts in the val split, found only one of them.")
    plot = tradeoff_plot(made)
    if path.suffix.lower() == ".svg":
        style = resources.files("gonogo.report").joinpath("templates/page.css").read_text()
        page = str(plot).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, _, rest = page.partition(">")
        write_beside(path, f"{head}><style>{style}</style>{rest}\n".encode())
        return
    write_beside(path, render_page("tradeoff.html", made=made, plot=plot, bundle_name=bundle_name).encode())


def tradeoff_plot(made: Certified) -> Markup:
    """The curve over all escape limits, with the certified operating point marked."""
    point = made.point
    current = svg.PlotMark(
        x=point.escape.max_rate, y=made.review_rate or 0.0, style="go" if point.escape.holds else "no_go"
    )
    return svg.tradeoff_curve(made.tradeoff, current, title="Review rate against certified escape rate")
