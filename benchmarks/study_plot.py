"""Plot learning curves as SVG: a panel per data set, a line per kind of evidence and for the blend."""

from __future__ import annotations

from collections.abc import Mapping

COLOURS = {"context": "#0072b2", "memory": "#d55e00", "cells": "#009e73", "blend": "#222222"}
WIDTH, HEIGHT = 260, 220
LEFT, TOP, RIGHT, BOTTOM = 40, 28, 8, 34

Curves = Mapping[str, Mapping[int, float]]


def plot(sets: Mapping[str, Curves]) -> str:
    """Draw AUROC over the number of bad training parts."""
    panels = "".join(_panel(name, curves, WIDTH * number) for number, (name, curves) in enumerate(sets.items()))
    legend = "".join(
        f'<line x1="{10 + 90 * number}" x2="{30 + 90 * number}" y1="{HEIGHT + 8}" y2="{HEIGHT + 8}" stroke="{colour}" '
        f'stroke-width="{_thick(kind)}"/><text x="{34 + 90 * number}" y="{HEIGHT + 12}">{kind}</text>'
        for number, (kind, colour) in enumerate(COLOURS.items())
    )
    width, height = max(WIDTH * len(sets), 380), HEIGHT + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f"{panels}{legend}</svg>\n"
    )


def _panel(name: str, curves: Curves, left: int) -> str:
    counts = sorted({count for line in curves.values() for count in line})
    lowest = min(0.95, int(20 * min(value for line in curves.values() for value in line.values())) / 20)
    across = (WIDTH - LEFT - RIGHT) / max(1, len(counts) - 1)
    place = {count: left + LEFT + across * number for number, count in enumerate(counts)}
    bottom, right = HEIGHT - BOTTOM, left + WIDTH - RIGHT

    def down(value: float) -> float:
        return TOP + (1 - value) / (1 - lowest) * (bottom - TOP)

    marks = [f'<text x="{left + LEFT}" y="16" font-weight="bold">{name}</text>']
    steps = round((1 - lowest) / 0.05)
    for number in range(steps + 1):
        value = 1 - 0.05 * number
        if steps <= 6 or number % 2 == 0:
            marks.append(f'<text x="{left + LEFT - 4}" y="{down(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
        marks.append(
            f'<line x1="{left + LEFT}" x2="{right}" y1="{down(value):.1f}" y2="{down(value):.1f}" stroke="#ddd"/>'
        )
    for count, x in place.items():
        marks.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{count}</text>')
    marks.append(
        f'<text x="{(left + LEFT + right) / 2}" y="{bottom + 28}" text-anchor="middle">bad training parts</text>'
    )
    for kind, colour in COLOURS.items():
        if line := curves.get(kind):
            points = " ".join(f"{place[count]:.1f},{down(value):.1f}" for count, value in sorted(line.items()))
            marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{_thick(kind)}"/>')
    return "".join(marks)


def _thick(kind: str) -> float:
    return 2.4 if kind == "blend" else 1.2
