"""The drawings of a study: losses over the epochs, and accuracy over the number of views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gonogo.experiment.cell import Row
from gonogo.experiment.comparing import Difference
from gonogo.report import svg

_WIDTH, _HEIGHT = 300.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 8.0, 10.0, 34.0
MOST_LOSS = 2.0
"""Losses above this are drawn at the upper edge, so that one outlier does not flatten the others."""


@dataclass(frozen=True, kw_only=True)
class LossPanel:
    """The learning curves of one network."""

    title: str
    drawing: Markup


def loss_panels(rows: Sequence[Row]) -> list[LossPanel]:
    """One panel per approach, topology and augmentation; a line per initialisation and seed, dashed for train."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row.cell.topology}, approach {row.cell.approach}, {row.cell.views}", []).append(row)
    return [LossPanel(title=title, drawing=_losses(group, title)) for title, group in groups.items()]


def _losses(rows: Sequence[Row], title: str) -> Markup:
    epochs = max(len(row.measured.history) for row in rows if row.measured is not None)
    highest = max(
        min(loss, MOST_LOSS)
        for row in rows
        if row.measured is not None
        for epoch in row.measured.history
        for loss in (epoch.train_loss, epoch.val_loss)
    )
    top = max(0.8, highest)
    x_of, y_of = svg.scale(1, max(2, epochs), _LEFT, _WIDTH - _RIGHT), svg.scale(0, top, _HEIGHT - _BOTTOM, _TOP)
    pieces = []
    for tick in (0.0, 0.25 * top, 0.5 * top, 0.75 * top, top):
        pieces.append(svg.line(_LEFT, y_of(tick), _WIDTH - _RIGHT, y_of(tick), "grid"))
        pieces.append(svg.text(_LEFT - 5, y_of(tick) + 4, f"{tick:.2f}", "tick end"))
    for epoch in sorted({1, max(1, epochs // 2), epochs}):
        pieces.append(svg.text(x_of(epoch), _HEIGHT - _BOTTOM + 16, str(epoch), "tick middle"))
    for row in rows:
        assert row.measured is not None
        history, style = row.measured.history, str(row.cell.initialisation)
        for name, values in (("train", [e.train_loss for e in history]), ("val", [e.val_loss for e in history])):
            places = [(x_of(number), y_of(min(value, top))) for number, value in enumerate(values, start=1)]
            pieces.append(svg.polyline(places, f"loss {style} {name}"))
        best = history[row.measured.best_epoch - 1].val_loss
        if math.isfinite(best):
            pieces.append(svg.circle(x_of(row.measured.best_epoch), y_of(min(best, top)), 3, f"kept {style}"))
    pieces.append(svg.text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "epoch", "label middle"))
    return svg.drawing(_WIDTH, _HEIGHT, f"Losses of {title}", pieces, "plot losses")


def views_plot(found: Sequence[Difference], rows: Sequence[Row]) -> Markup | None:
    """Accuracy over the number of views, with the interval of its difference from the smallest augmentation.

    Drawn for the first network that has several augmentations; ``None`` without any.
    """
    gains = [each for each in found if each.option == "augmentation" and each.figure == "accuracy"]
    gains = [each for each in gains if each.among == gains[0].among]
    if not gains:
        return None
    counts = {row.cell.views: row.cell.augmentation.views for row in rows}
    gains = sorted(gains, key=lambda each: counts[each.value])
    names = [gains[0].baseline, *(each.value for each in gains)]
    means = [gains[0].baseline_mean, *(each.mean for each in gains)]
    spans = [(means[0], means[0])]
    for each in gains:
        reach = 0.0 if each.low is None else each.difference - each.low
        spans.append((max(0.0, each.mean - reach), min(1.0, each.mean + reach)))
    low = math.floor(5 * min(min(span) for span in spans)) / 5
    high = 1.0
    x_of = svg.scale(0, max(1, len(names) - 1), _LEFT + 30, 460 - 30)
    y_of = svg.scale(low, high, 240 - _BOTTOM, _TOP + 8)
    pieces = []
    steps = round((high - low) * 5)
    for tick in (low + 0.2 * number for number in range(steps + 1)):
        pieces.append(svg.line(_LEFT, y_of(tick), 460, y_of(tick), "grid"))
        pieces.append(svg.text(_LEFT - 5, y_of(tick) + 4, f"{100 * tick:.0f} %", "tick end"))
    pieces.append(svg.polyline([(x_of(number), y_of(mean)) for number, mean in enumerate(means)], "curve"))
    for number, (name, mean, span) in enumerate(zip(names, means, spans, strict=True)):
        pieces.append(svg.line(x_of(number), y_of(span[0]), x_of(number), y_of(span[1]), "axis"))
        pieces.append(svg.circle(x_of(number), y_of(mean), 4, "setting", hint=f"{name}: {100 * mean:.1f} %"))
        pieces.append(svg.text(x_of(number), 240 - _BOTTOM + 16, name, "tick middle"))
    pieces.append(svg.text((_LEFT + 460) / 2, 236, "crops x rotations", "label middle"))
    among = gains[0].among
    return svg.drawing(470, 242, f"Accuracy over the number of views, {among.topology}", pieces, "plot views")
