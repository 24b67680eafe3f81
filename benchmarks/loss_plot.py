"""Plot the training curves of box losses as SVG: loss, IoU and missed area over the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

COLOURS = {"squared": "#0072b2", "area": "#d55e00", "pinball": "#009e73", "giou": "#222222"}
WIDTH, HEIGHT = 270, 230
LEFT, TOP, RIGHT, BOTTOM = 48, 30, 10, 36

Runs = Mapping[str, Sequence[Sequence[Any]]]
Line = Sequence[float]


def plot_losses(curves: Runs) -> str:
    """Draw three panels; thick lines are means over the seeds, thin ones the seeds."""
    relative = _lines(curves, lambda run: [each.loss / run[0].loss for each in run])
    ious = _lines(curves, lambda run: [each.iou for each in run])
    missed = _lines(curves, lambda run: [max(each.missed_of_picture, 1e-6) for each in run])
    panels = [
        _panel("training loss, first epoch = 1", relative, 0, logarithmic=True),
        _panel("IoU on test pictures", ious, WIDTH, logarithmic=False),
        _panel("missed area, share of picture", missed, 2 * WIDTH, logarithmic=True),
    ]
    legend = "".join(
        f'<line x1="{LEFT + 100 * number}" x2="{LEFT + 22 + 100 * number}" y1="{HEIGHT + 8}" y2="{HEIGHT + 8}" '
        f'stroke="{COLOURS[name]}" stroke-width="2.5"/>'
        f'<text x="{LEFT + 28 + 100 * number}" y="{HEIGHT + 12}">{name}</text>'
        for number, name in enumerate(curves)
    )
    width, height = 3 * WIDTH, HEIGHT + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(panels)}{legend}</svg>\n"
    )


def _lines(curves: Runs, values: Callable[[Sequence[Any]], Line]) -> dict[str, list[Line]]:
    return {name: [values(run) for run in runs] for name, runs in curves.items()}


def _panel(title: str, lines: Mapping[str, Sequence[Line]], left: int, *, logarithmic: bool) -> str:
    everything = [value for runs in lines.values() for run in runs for value in run]
    marks = _decades(everything) if logarithmic else [0.2 * number for number in range(6)]
    low, high = marks[0], marks[-1]
    bottom, right = HEIGHT - BOTTOM, left + WIDTH - RIGHT
    epochs = max(len(run) for runs in lines.values() for run in runs)

    def down(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return bottom - share * (bottom - TOP)

    def across(epoch: int) -> float:
        return left + LEFT + (epoch - 1) / max(1, epochs - 1) * (right - left - LEFT)

    drawn = [f'<text x="{left + LEFT}" y="18" font-weight="bold">{title}</text>']
    for mark in marks:
        name = f"{mark:g}" if mark == 0 or mark >= 1e-3 else f"{mark:.0e}".replace("e-0", "e-")
        drawn.append(f'<text x="{left + LEFT - 5}" y="{down(mark) + 4:.1f}" text-anchor="end">{name}</text>')
        drawn.append(
            f'<line x1="{left + LEFT}" x2="{right}" y1="{down(mark):.1f}" y2="{down(mark):.1f}" stroke="#ddd"/>'
        )
    for epoch in sorted({1, *range(5, epochs + 1, 5), epochs}):
        drawn.append(f'<text x="{across(epoch):.1f}" y="{bottom + 15}" text-anchor="middle">{epoch}</text>')
    drawn.append(f'<text x="{(left + LEFT + right) / 2}" y="{bottom + 30}" text-anchor="middle">epoch</text>')
    for name, runs in lines.items():
        drawn += [_polyline(run, across, down, COLOURS[name], 0.8, 0.45) for run in runs if len(runs) > 1]
        drawn.append(_polyline(np.mean(runs, axis=0).tolist(), across, down, COLOURS[name], 2.5, 1.0))
    return "".join(drawn)


def _decades(values: Sequence[float]) -> list[float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _polyline(
    line: Line,
    across: Callable[[int], float],
    down: Callable[[float], float],
    colour: str,
    width: float,
    opacity: float,
) -> str:
    points = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in enumerate(line, start=1))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"/>'
