"""Small plots as inline SVG. Colours come from the page's style sheet, so they follow light, dark and print.

Every function returns markup with escaped text; none needs a script or an outside resource.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gonogo.evaluate import Curve
from gonogo.operating_point import DialPoint
from gonogo.schema import OperatingPoint, Scores, State


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A named point on a curve."""

    x: float
    y: float
    style: str
    """CSS class that gives it its colour."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One piece of a stacked bar."""

    count: int
    style: str
    """CSS class that gives it its colour."""
    name: str


_WIDTH, _HEIGHT = 720, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 34, 46
_BINS = 36
_SMALLEST_BAR = 2.5  # one part must stay visible beside hundreds: it may be the escape
_ZONE_NAMES = {State.GO: "go", State.REVIEW: "to a person", State.NO_GO: "no-go"}


def histogram(
    good: Scores,
    bad: Scores,
    point: OperatingPoint | None,
    *,
    title: str,
    also: Sequence[float] = (),
    say: Callable[[str], str] = str,
) -> Markup:
    """Good parts upwards, bad parts downwards, over the zones in which they are judged.

    Args:
        good: Scores of good parts.
        bad: Scores of bad parts; one of both must hold something.
        point: The thresholds to draw, where there are any.
        title: What a screen reader says of it.
        also: Further scores that the axis must reach, so that two drawings can be compared.
        say: Translates the few words in the drawing.
    """
    lines = [] if point is None else [t for t in (point.go_below, point.no_go_above) if math.isfinite(t)]
    edges = _edges([*good, *bad, *lines, *also])
    up, down = (np.histogram(scores, edges)[0] for scores in (good, bad))
    # Shares of each group, so that few bad parts among many good ones keep their shape.
    shares = up / max(1, len(good)), down / max(1, len(bad))
    per_share = (_HEIGHT - _TOP - _BOTTOM) / (shares[0].max() + shares[1].max())
    base = _TOP + per_share * shares[0].max()

    def x_of(score: float) -> float:
        return _LEFT + (score - edges[0]) / (edges[-1] - edges[0]) * (_WIDTH - _LEFT - _RIGHT)

    pieces = [_zones(point, x_of(edges[0]), x_of(edges[-1]), [x_of(line) for line in lines], say)]
    for counts, share, sign, style in ((up, shares[0], -1, "good"), (down, shares[1], 1, "bad")):
        heights = np.where(counts > 0, np.maximum(share * per_share, _SMALLEST_BAR), 0.0)
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height:
                y = base - height if sign < 0 else base
                pieces.append(_rect(x_of(left) + 0.5, y, x_of(right) - x_of(left) - 1, height, style))
        if counts.any():
            pieces.append(_count_tick(base + sign * heights.max(), int(counts.max())))
    pieces.append(_line(_LEFT, base, _WIDTH - _RIGHT, base, "axis"))
    for tick in _ticks(edges[0], edges[-1]):
        name = f"{tick:g}".replace("-", "\N{MINUS SIGN}")
        pieces.append(_text(x_of(tick), _HEIGHT - _BOTTOM + 19, name, "tick middle"))
    pieces.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, say("score (higher is worse)"), "label middle"))
    return _svg(_WIDTH, _HEIGHT, title, pieces, "histogram")


def curve(line: Curve, marks: Sequence[Mark], *, x_label: str, y_label: str, title: str, chance: Curve) -> Markup:
    """A curve in the unit square, axes in percent, with the line that guessing would give."""
    side, left, top = 270.0, 52.0, 12.0
    pieces = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + share * side, top + (1 - share) * side
        pieces += [_line(x, top, x, top + side, "grid"), _line(left, y, left + side, y, "grid")]
        if share in (0.0, 0.5, 1.0):
            pieces.append(_text(x, top + side + 17, f"{100 * share:.0f} %", "tick middle"))
            pieces.append(_text(left - 6, y + 4, f"{100 * share:.0f} %", "tick end"))
    for drawn, style in ((chance, "chance"), (line, "curve")):
        corners = " ".join(
            f"{left + x * side:.1f},{top + (1 - y) * side:.1f}" for x, y in zip(drawn.x, drawn.y, strict=True)
        )
        pieces.append(Markup('<polyline class="{}" points="{}"/>').format(style, corners))
    for mark in marks:
        x, y = left + mark.x * side, top + (1 - mark.y) * side
        pieces.append(Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="6"/>').format(mark.style, x, y))
    pieces.append(_text(left + side / 2, top + side + 38, x_label, "label middle"))
    middle = top + side / 2
    pieces.append(
        Markup('<text class="label middle" transform="translate(12 {:.1f}) rotate(-90)">{}</text>').format(
            middle, y_label
        )
    )
    return _svg(left + side + 22, top + side + 46, title, pieces, "square")


def bars(values: Sequence[tuple[str, float]], *, title: str, unit: str) -> Markup:
    """Positive values as bars on a logarithmic axis, one below the other, each with its name and number."""
    left, right, row = 265.0, 70.0, 26.0
    low = min(1.0, *(value for _, value in values))
    high = max(value for _, value in values)
    span = math.log10(high / low) or 1.0
    width, pieces = _WIDTH - left - right, []
    for number, (name, value) in enumerate(values):
        y = 8 + number * row
        length = max(width * math.log10(value / low) / span, 2.0)
        pieces.append(_text(left - 8, y + 13, name, "tick end"))
        pieces.append(_rect(left, y, length, 17, "good"))
        pieces.append(_text(left + length + 6, y + 13, f"{value:.3g}{unit}", "tick"))
    return _svg(_WIDTH, 12 + len(values) * row, title, pieces, "bars")


def stacked_bar(segments: Sequence[Segment]) -> Markup:
    """Shares of a whole as one bar; empty segments are left out."""
    whole = sum(segment.count for segment in segments)
    pieces, x = [], 0.0
    for segment in segments:
        if segment.count:
            width = 100 * segment.count / whole
            pieces.append(_rect(x, 0, width, 10, segment.style))
            x += width
    title = ", ".join(f"{segment.name}: {segment.count}" for segment in segments if segment.count) or "no parts"
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(title, Markup("").join(pieces))


def _zones(
    point: OperatingPoint | None, left: float, right: float, lines: list[float], say: Callable[[str], str]
) -> Markup:
    if point is None:
        states = [State.REVIEW]
    else:
        states = [State.GO] * math.isfinite(point.go_below) + [State.REVIEW]
        states += [State.NO_GO] * math.isfinite(point.no_go_above)
    bounds = [left, *lines, right]
    pieces = []
    for state, start, end in zip(states, bounds[:-1], bounds[1:], strict=True):
        pieces.append(_rect(start, _TOP - 24, end - start, _HEIGHT - _TOP - _BOTTOM + 24, f"zone {state.value}"))
        name = say(_ZONE_NAMES[state])
        if end - start > 8 * len(name):  # a narrower zone has no room for its name
            pieces.append(_text((start + end) / 2, _TOP - 8, name, f"zone-name middle {state.value}"))
    pieces += [_line(x, _TOP - 24, x, _HEIGHT - _BOTTOM, "threshold") for x in lines]
    return Markup("").join(pieces)


def _count_tick(y: float, count: int) -> Markup:
    return Markup("").join([_line(_LEFT - 5, y, _LEFT, y, "axis"), _text(_LEFT - 8, y + 4, str(count), "tick end")])


def _edges(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    margin = 0.03 * (high - low) or 1.0
    edges: list[float] = np.linspace(low - margin, high + margin, _BINS + 1).tolist()
    return edges


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _rect(x: float, y: float, width: float, height: float, style: str) -> Markup:
    return Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(
        style, x, y, max(width, 0.0), height
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, text)


def _svg(width: float, height: float, title: str, pieces: Sequence[Markup], style: str) -> Markup:
    return Markup('<svg class="plot {}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        style, width, height, title, Markup("").join(pieces)
    )


def dial(settings: Sequence[DialPoint], gauge: Mark, *, title: str, say: Callable[[str], str] = str) -> Markup:
    """Review rate against certified escape rate, the limits on a logarithmic axis; hollow where not certifiable.

    Args:
        settings: One per escape limit, in ascending order of the limit.
        gauge: What was certified, or refused: escape limit and review rate.
        title: What a screen reader says of it.
        say: Translates the few words in the drawing.
    """
    lows = [math.log10(setting.escape.max_rate) for setting in settings]
    low, high = min(lows), max(lows)

    def x_of(rate: float) -> float:
        return _LEFT + 14 + (math.log10(rate) - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT - 28)

    def y_of(share: float) -> float:
        return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)

    pieces = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        pieces.append(_line(_LEFT, y_of(share), _WIDTH - _RIGHT, y_of(share), "grid"))
        pieces.append(_text(_LEFT - 6, y_of(share) + 4, f"{100 * share:.0f} %", "tick end"))
    certified = [setting for setting in settings if setting.escape.holds]
    corners = " ".join(f"{x_of(s.escape.max_rate):.1f},{y_of(s.review_rate):.1f}" for s in certified)
    pieces.append(Markup('<polyline class="curve" points="{}"/>').format(corners))
    last = -math.inf
    for setting in settings:
        rate = setting.escape.max_rate
        x, y = x_of(rate), y_of(setting.review_rate)
        mark = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
        told = say("%(limit)g %%: %(rate).0f %% to review") % {"limit": 100 * rate, "rate": 100 * setting.review_rate}
        style, radius = ("setting", 4) if setting.escape.holds else ("setting refused", 4)
        pieces.append(mark.format(style, x, y, radius, told))
        if x - last > 34:  # names that would touch are left out
            pieces.append(_text(x, _HEIGHT - _BOTTOM + 19, f"{100 * rate:g} %", "tick middle"))
            last = x
    x, y = x_of(gauge.x), y_of(gauge.y)
    pieces.append(Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="7"/>').format(gauge.style, x, y))
    name = say("this gauge: %(rate).0f %%") % {"rate": 100 * gauge.y}
    pieces.append(
        _text(x + 12, y - 10, name, "zone-name") if x < _WIDTH - 170 else _text(x - 12, y - 10, name, "zone-name end")
    )
    pieces.append(
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, say("largest escape rate that is certified"), "label middle")
    )
    pieces.append(_text(_LEFT, _TOP - 14, say("parts sent to a person (estimated on val)"), "label"))
    return _svg(_WIDTH, _HEIGHT, title, pieces, "dial")
