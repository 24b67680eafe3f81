"""Renders the report templates in their shared Jinja environment, and writes the evaluation report."""

from __future__ import annotations

import base64
import datetime
import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

import gonogo
from gonogo.dataset import Dataset
from gonogo.evaluate import RIGHT_IOU, Curve, Evaluation, Judge, precision_recall, quantiles_ms, roc
from gonogo.files import write_beside
from gonogo.heatmap import legend_rgb
from gonogo.images import encode_png
from gonogo.report import phrases, svg
from gonogo.report.pictures import albums
from gonogo.report.regions import region_cards
from gonogo.schema import Label, State


def write_report(evaluation: Evaluation, inspector: Judge, dataset: Dataset, path: str | Path) -> None:
    """Write an evaluation as one self-contained HTML page: no scripts, no web fonts, no external images.

    Args:
        evaluation: Result of `gonogo.evaluate.evaluate`.
        inspector: The inspector that was evaluated; it judges the parts shown again, to draw their heat maps.
        dataset: The data set that was judged.
        path: Output file; overwritten if it exists.

    Raises:
        InputError: the file cannot be written; no partial file is left behind.
    """
    shown = albums(evaluation, inspector, dataset)
    page = render_page(
        "evaluation.html",
        evaluation=evaluation,
        albums=shown,
        has_maps=all(
            card.verdict.score is None or card.verdict.heatmap is not None for each in shown for card in each.cards
        ),
        plots=_plots(evaluation),
        bars={kind.defect: _bar(kind.states) for kind in evaluation.kinds},
        region_cards=region_cards(evaluation.regions.placements, inspector, dataset),
        right_iou=RIGHT_IOU,
        timings={stage: quantiles_ms(durations) for stage, durations in evaluation.timings_ms.items()},
        bundle_name=inspector.path.name,
        dataset_name=dataset.root.resolve().name,
        Label=Label,
        State=State,
    )
    write_beside(Path(path), page.encode())


def render_page(template: str, *, templates: Path | None = None, **values: Any) -> str:
    """Render a report template. All of them extend ``page.html`` and share its phrases, style and colour key.

    Args:
        template: File name of the template.
        templates: A folder of further templates, which may extend ``page.html`` too.
        values: Variables of the template.
    """
    return (
        _environment(templates)
        .get_template(template)
        .render(
            words=phrases,
            written=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
            version=gonogo.__version__,
            heat_key=_heat_key(),
            **values,
        )
    )


@functools.cache
def _environment(templates: Path | None) -> Environment:
    own = PackageLoader("gonogo.report", "templates")
    environment = Environment(
        loader=own if templates is None else ChoiceLoader([own, FileSystemLoader(templates)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": phrases.percent,
        "level": phrases.level,
        "interval": phrases.interval,
        "number": phrases.number,
        "state_name": phrases.STATE_NAMES.__getitem__,
    }
    return environment


def _heat_key() -> str:
    ramp = cv2.resize(legend_rgb()[None], (128, 8), interpolation=cv2.INTER_LINEAR)
    return "data:image/png;base64," + base64.b64encode(encode_png(ramp)).decode()


def _plots(evaluation: Evaluation) -> dict[str, Markup]:
    good, bad = evaluation.scores(Label.GOOD), evaluation.scores(Label.BAD)
    if not len(good) + len(bad):
        return {}
    title = f"Histogram of the scores of {len(good)} good and {len(bad)} bad parts"
    plots = {"histogram": svg.histogram(good, bad, evaluation.operating_point, title=title)}
    if not (len(good) and len(bad)):
        return plots
    bad_share = len(bad) / (len(bad) + len(good))
    cuts = _cuts(evaluation)
    plots["roc"] = svg.curve(
        roc(good, bad),
        [svg.PlotMark(x=float((good >= cut).mean()), y=float((bad >= cut).mean()), style=style) for style, cut in cuts],
        x_label="good parts stopped",
        y_label="bad parts stopped",
        title=f"ROC curve, area {phrases.number(evaluation.auroc)}",
        chance=Curve(x=np.array([0.0, 1.0]), y=np.array([0.0, 1.0])),
    )
    plots["precision_recall"] = svg.curve(
        precision_recall(good, bad),
        [
            svg.PlotMark(x=float((bad >= cut).mean()), y=float((bad >= cut).sum() / stopped), style=style)
            for style, cut in cuts
            if (stopped := (bad >= cut).sum() + (good >= cut).sum())
        ],
        x_label="bad parts stopped",
        y_label="stopped parts that are bad",
        title=f"Precision-recall curve, average precision {phrases.number(evaluation.average_precision)}",
        chance=Curve(x=np.array([0.0, 1.0]), y=np.array([bad_share, bad_share])),
    )
    return plots


def _cuts(evaluation: Evaluation) -> list[tuple[str, float]]:
    """Style and lowest stopped score of each threshold: a score equal to the go threshold is stopped, one equal to the
    no-go threshold is not.
    """
    point = evaluation.operating_point
    if point is None:
        return []
    cuts = ("go", point.go_below), ("no_go", float(np.nextafter(point.no_go_above, np.inf)))
    return [(style, cut) for style, cut in cuts if np.isfinite(cut)]


def _bar(states: dict[State, int]) -> Markup:
    order = (State.NO_GO, State.REVIEW, State.FAULT, State.GO)
    return svg.stacked_bar(
        [
            svg.Segment(
                count=states[state],
                style="escape" if state is State.GO else state.value,
                name="passed" if state is State.GO else phrases.STATE_NAMES[state],
            )
            for state in order
        ]
    )
