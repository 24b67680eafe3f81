"""The trade-off as a page or a bare picture."""

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
    """Draw certified escape rate against review rate, the chosen setting marked, as ``.html`` or ``.svg``.

    Raises:
        InputError: another suffix, nothing to draw, or the place cannot be written.
    """
    if path.suffix.lower() not in (".html", ".svg"):
        raise InputError(f"{path}: expected a name that ends in .html or .svg. Choose one of them.")
    if not made.tradeoff or made.review_rate is None:
        raise InputError(
            "--tradeoff: expected good and bad parts in the val split to draw from, found only one of them."
        )
    plot = tradeoff_plot(made)
    if path.suffix.lower() == ".svg":
        style = resources.files("gonogo.report").joinpath("templates/page.css").read_text()
        page = str(plot).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, _, rest = page.partition(">")
        write_beside(path, f"{head}><style>{style}</style>{rest}\n".encode())
        return
    write_beside(path, render_page("tradeoff.html", made=made, plot=plot, bundle_name=bundle_name).encode())


def tradeoff_plot(made: Certified) -> Markup:
    """The curve over all limits, and the gauge itself as it was certified."""
    point = made.point
    gauge = svg.PlotMark(
        x=point.escape.max_rate, y=made.review_rate or 0.0, style="go" if point.escape.holds else "no_go"
    )
    return svg.tradeoff_curve(made.tradeoff, gauge, title="Review rate against certified escape rate")
