"""Draw review rates before and after as SVG: one bar per data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEFT, WIDTH, ROW, TOP = 190, 360, 34, 46
BEFORE, AFTER, INK = "#dddddd", "#0072b2", "#222222"


def plot(reviews: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw what a person sees of each set: all parts before, the reviewed ones after, with the 95 % interval."""
    marks = [
        f'<text x="{LEFT}" y="16" font-weight="bold">Share of parts that a person sees</text>',
        f'<rect x="{LEFT}" y="24" width="12" height="10" fill="{BEFORE}"/><text x="{LEFT + 17}" y="33">before</text>',
        f'<rect x="{LEFT + 70}" y="24" width="12" height="10" fill="{AFTER}"/>'
        f'<text x="{LEFT + 87}" y="33">after, at the certified limit</text>',
    ]
    for number, (name, review) in enumerate(reviews.items()):
        marks += _row(name, review, TOP + ROW * number)
    bottom = TOP + ROW * len(reviews)
    for percent in (0, 25, 50, 75, 100):
        marks.append(
            f'<text x="{LEFT + WIDTH * percent / 100:.0f}" y="{bottom + 14}" text-anchor="middle">{percent} %</text>'
        )
    width, height = LEFT + WIDTH + 70, bottom + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(marks)}</svg>\n"
    )


def _row(name: str, review: Mapping[str, Any], top: int) -> list[str]:
    mean, low, high = (min(1.0, max(0.0, value)) for value in review["seen"])
    limit = max(review["max_escape"])
    middle = top + 11
    return [
        f'<text x="{LEFT - 8}" y="{top + 9}" text-anchor="end">{name}</text>',
        f'<text x="{LEFT - 8}" y="{top + 22}" text-anchor="end" font-size="10" fill="#555">'
        f"at most {100 * limit:.3g} % escapes</text>",
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="22" fill="{BEFORE}"/>',
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH * mean:.1f}" height="22" fill="{AFTER}"/>',
        f'<line x1="{LEFT + WIDTH * low:.1f}" x2="{LEFT + WIDTH * high:.1f}" y1="{middle}" y2="{middle}" '
        f'stroke="{INK}" stroke-width="2"/>',
        f'<text x="{LEFT + WIDTH + 8}" y="{top + 15}">{100 * mean:.0f} %</text>',
    ]
