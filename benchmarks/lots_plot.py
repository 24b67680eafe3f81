"""Draws the coverage of `study_lots` as one SVG that can stand alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gonogo.report.svg import line, polyline, text

_SIDE_W, _SIDE_H, _LEFT, _TOP, _GAP = 190.0, 170.0, 48.0, 40.0, 26.0
_SERIES = (
    ("certificate_kept", "certificate"),
    ("by_correlation_kept", "by correlation"),
    ("worst_case_kept", "worst case"),
)
_STYLE = """
text{font:12px system-ui,sans-serif;fill:#333}.middle{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#ddd}
.asked{stroke:#888;stroke-dasharray:4 3}polyline{fill:none;stroke-width:2.5}
.certificate_kept{stroke:#b3261e}.by_correlation_kept{stroke:#1b6ca8}.worst_case_kept{stroke:#2e7d32}
"""


def plot(panels: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw one panel per number of lots: how often each bound holds, over the correlation within a lot.

    Args:
        panels: Rows of one panel by its title; each row has ``correlation`` and a share for each series.
    """
    pieces = []
    for number, (title, rows) in enumerate(panels.items()):
        left = _LEFT + number * (_SIDE_W + _GAP)
        pieces.append(text(left + _SIDE_W / 2, _TOP - 12, title, "middle"))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = _TOP + (1 - share) * _SIDE_H
            pieces.append(line(left, y, left + _SIDE_W, y, "grid"))
            pieces.append(text(left + share * _SIDE_W, _TOP + _SIDE_H + 18, f"{share:g}", "middle"))
            if number == 0:
                pieces.append(text(left - 6, y + 4, f"{100 * share:.0f} %", "end"))
        asked = _TOP + 0.05 * _SIDE_H
        pieces.append(line(left, asked, left + _SIDE_W, asked, "asked"))
        for key, _ in _SERIES:
            corners = [(left + row["correlation"] * _SIDE_W, _TOP + (1 - row[key]) * _SIDE_H) for row in rows]
            pieces.append(polyline(corners, key))
    width = _LEFT + len(panels) * (_SIDE_W + _GAP)
    below = _TOP + _SIDE_H + 42
    pieces.append(text(width / 2, below, "correlation of scores within a lot (dashed: 95 %)", "middle"))
    for number, (key, words) in enumerate(_SERIES):
        x = _LEFT + number * 170.0
        pieces.append(line(x, below + 22, x + 28, below + 22, key))
        pieces.append(text(x + 36, below + 26, f"{words} holds", ""))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {below + 42:.0f}" role="img" '
        'aria-label="How often each bound holds, over the correlation within a lot">'
        f"<style>{_STYLE}line.certificate_kept,line.by_correlation_kept,line.worst_case_kept{{stroke-width:2.5}}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(pieces)}</svg>\n'
    )
