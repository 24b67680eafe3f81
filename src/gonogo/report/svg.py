"""SVG drawing: primitives, an axis, and the small plots of the reports and pages.

Colours come from the page's style sheet, so they follow light, dark and print. Every function returns markup with
escaped text; none needs scripts or external resources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gonogo.evaluate import Curve
from gonogo.operating_point import TradeoffPoint
from gonogo.schema import OperatingPoint, Scores, State


@dataclass(frozen=True, kw_only=True)
class PlotMark:
    """A named point on a curve."""

    x: float
    y: float
    style: str
    """CSS class that sets the colour."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One piece of a stacked bar."""

    count: int
    style: str
    """CSS class that sets the colour."""
    name: str


_WIDTH, _HEIGHT = 720, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 34, 46
_BINS = 36
_SMALLEST_BAR = 2.5  # one part must stay visible next to hundreds: it may be the escape
_ZONE_NAMES = {State.GO: "go", State.REVIEW: "to a person", State.NO_GO: "no-go"}


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """A linear scale that maps ``low`` to ``start`` and ``high`` to ``end``."""
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / span


def rect(x: float, y: float, width: float, height: float, style: str) -> Markup:
    """A filled rectangle."""
    return Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(
        style, x, y, max(width, 0.0), height
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def polyline(corners: Iterable[tuple[float, float]], style: str) -> Markup:
    """A polyline through the given points."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return Markup('<polyline class="{}" points="{}"/>').format(style, places)


def circle(x: float, y: float, radius: float, style: str, *, hint: str = "") -> Markup:
    """A dot; ``hint`` is its tooltip."""
    drawn = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"').format(style, x, y, radius)
    return drawn + (Markup("><title>{}</title></circle>").format(hint) if hint else Markup("/>"))


def text(x: float, y: float, content: str, style: str) -> Markup:
    """One line of text."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, content)


def drawing(width: float, height: float, title: str, pieces: Iterable[Markup], style: str) -> Markup:
    """An SVG element made of the given pieces.

    Args:
        width: In user units; the page scales the drawing.
        height: In user units.
        title: Label for screen readers.
        pieces: Elements made by the functions above.
        style: CSS classes.
    """
    return Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        style, width, height, title, Markup("").join(pieces)
    )


def histogram(
    good: Scores,
    bad: Scores,
    point: OperatingPoint | None,
    *,
    title: str,
    also: Sequence[float] = (),
    say: Callable[[str], str] = str,
) -> Markup:
    """Histogram of scores: good parts upwards, bad parts downwards, over the zones of the verdicts.

    Args:
        good: Scores of good parts.
        bad: Scores of bad parts; at most one of the two may be empty.
        point: Operating point whose thresholds are drawn, if any.
        title: Label for screen readers.
        also: Further scores that the axis must include, so that two plots can be compared.
        say: Translates the text of the plot.
    """
    lines = [] if point is None else [t for t in (point.go_below, point.no_go_above) if math.isfinite(t)]
    edges = _edges([*good, *bad, *lines, *also])
    up, down = (np.histogram(scores, edges)[0] for scores in (good, bad))
    # Normalise each group, so that a few bad parts among many good ones stay visible.
    shares = up / max(1, len(good)), down / max(1, len(bad))
    per_share = (_HEIGHT - _TOP - _BOTTOM) / (shares[0].max() + shares[1].max())
    base = _TOP + per_share * shares[0].max()
    x_of = scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    pieces = [_zones(point, x_of(edges[0]), x_of(edges[-1]), [x_of(each) for each in lines], say)]
    for counts, share, sign, style in ((up, shares[0], -1, "good"), (down, shares[1], 1, "bad")):
        heights = np.where(counts > 0, np.maximum(share * per_share, _SMALLEST_BAR), 0.0)
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height:
                y = base - height if sign < 0 else base
                pieces.append(rect(x_of(left) + 0.5, y, x_of(right) - x_of(left) - 1, height, style))
        if counts.any():
            pieces.append(_count_tick(base + sign * heights.max(), int(counts.max())))
    pieces.append(line(_LEFT, base, _WIDTH - _RIGHT, base, "axis"))
    for tick in _ticks(edges[0], edges[-1]):
        name = f"{tick:g}".replace("-", "\N{MINUS SIGN}")
        pieces.append(text(x_of(tick), _HEIGHT - _BOTTOM + 19, name, "tick middle"))
    pieces.append(text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, say("score (higher is worse)"), "label middle"))
    return drawing(_WIDTH, _HEIGHT, title, pieces, "plot histogram")


def curve(found: Curve, marks: Sequence[PlotMark], *, x_label: str, y_label: str, title: str, chance: Curve) -> Markup:
    """A curve in the unit square with axes in percent, and the curve of random guessing for comparison."""
    side, left, top = 270.0, 52.0, 12.0
    pieces = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + share * side, top + (1 - share) * side
        pieces += [line(x, top, x, top + side, "grid"), line(left, y, left + side, y, "grid")]
        if share in (0.0, 0.5, 1.0):
            pieces.append(text(x, top + side + 17, f"{100 * share:.0f} %", "tick middle"))
            pieces.append(text(left - 6, y + 4, f"{100 * share:.0f} %", "tick end"))
    for drawn, style in ((chance, "chance"), (found, "curve")):
        corners = ((left + x * side, top + (1 - y) * side) for x, y in zip(drawn.x, drawn.y, strict=True))
        pieces.append(polyline(corners, style))
    for mark in marks:
        pieces.append(circle(left + mark.x * side, top + (1 - mark.y) * side, 6, f"mark {mark.style}"))
    pieces.append(text(left + side / 2, top + side + 38, x_label, "label middle"))
    middle = top + side / 2
    pieces.append(
        Markup('<text class="label middle" transform="translate(12 {:.1f}) rotate(-90)">{}</text>').format(
            middle, y_label
        )
    )
    return drawing(left + side + 22, top + side + 46, title, pieces, "plot square")


def bars(values: Sequence[tuple[str, float]], *, title: str, unit: str) -> Markup:
    """Horizontal bars of positive values on a logarithmic axis, each with its name and value."""
    left, right, row = 265.0, 70.0, 26.0
    low = min(1.0, *(value for _, value in values))
    high = max(value for _, value in values)
    span = math.log10(high / low) or 1.0
    width, pieces = _WIDTH - left - right, []
    for number, (name, value) in enumerate(values):
        y = 8 + number * row
        length = max(width * math.log10(value / low) / span, 2.0)
        pieces.append(text(left - 8, y + 13, name, "tick end"))
        pieces.append(rect(left, y, length, 17, "good"))
        pieces.append(text(left + length + 6, y + 13, f"{value:.3g}{unit}", "tick"))
    return drawing(_WIDTH, 12 + len(values) * row, title, pieces, "plot bars")


def stacked_bar(segments: Sequence[Segment]) -> Markup:
    """Shares of a whole as one bar; empty segments are omitted."""
    whole = sum(segment.count for segment in segments)
    pieces, x = [], 0.0
    for segment in segments:
        if segment.count:
            width = 100 * segment.count / whole
            pieces.append(rect(x, 0, width, 10, segment.style))
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
        pieces.append(rect(start, _TOP - 24, end - start, _HEIGHT - _TOP - _BOTTOM + 24, f"zone {state.value}"))
        name = say(_ZONE_NAMES[state])
        if end - start > 8 * len(name):  # a narrower zone has no room for its label
            pieces.append(text((start + end) / 2, _TOP - 8, name, f"zone-name middle {state.value}"))
    pieces += [line(x, _TOP - 24, x, _HEIGHT - _BOTTOM, "threshold") for x in lines]
    return Markup("").join(pieces)


def _count_tick(y: float, count: int) -> Markup:
    return Markup("").join([line(_LEFT - 5, y, _LEFT, y, "axis"), text(_LEFT - 8, y + 4, str(count), "tick end")])


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


def tradeoff_curve(
    settings: Sequence[TradeoffPoint], current: PlotMark, *, title: str, say: Callable[[str], str] = str
) -> Markup:
    """Review rate against certified escape rate on a logarithmic axis; points that cannot be certified are hollow.

    Args:
        settings: One point per escape limit, in ascending order.
        current: Escape limit and review rate of the certified operating point.
        title: Label for screen readers.
        say: Translates the text of the plot.
    """
    lows = [math.log10(setting.escape.max_rate) for setting in settings]
    log_x = scale(min(lows), max(lows), _LEFT + 14, _WIDTH - _RIGHT - 14)
    y_of = scale(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP)
    pieces = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        pieces.append(line(_LEFT, y_of(share), _WIDTH - _RIGHT, y_of(share), "grid"))
        pieces.append(text(_LEFT - 6, y_of(share) + 4, f"{100 * share:.0f} %", "tick end"))
    pieces += _settings(settings, log_x, y_of, say)
    x, y = log_x(math.log10(current.x)), y_of(current.y)
    pieces.append(circle(x, y, 7, f"mark {current.style}"))
    name = say("this inspector: %(rate).0f %%") % {"rate": 100 * current.y}
    left = x < _WIDTH - 170
    pieces.append(text(x + (12 if left else -12), y - 10, name, "zone-name" if left else "zone-name end"))
    middle, words = (_LEFT + _WIDTH - _RIGHT) / 2, say("largest escape rate that is certified")
    pieces.append(text(middle, _HEIGHT - 6, words, "label middle"))
    pieces.append(text(_LEFT, _TOP - 14, say("parts sent to a person (estimated on val)"), "label"))
    return drawing(_WIDTH, _HEIGHT, title, pieces, "plot tradeoff")


def _settings(
    settings: Sequence[TradeoffPoint],
    log_x: Callable[[float], float],
    y_of: Callable[[float], float],
    say: Callable[[str], str],
) -> list[Markup]:
    """The curve through the points that can be certified, and a dot for every point."""
    places = [(log_x(math.log10(each.escape.max_rate)), y_of(each.review_rate)) for each in settings]
    certified = (place for place, each in zip(places, settings, strict=True) if each.escape.holds)
    pieces, last = [polyline(certified, "curve")], -math.inf
    for (x, y), each in zip(places, settings, strict=True):
        limit = 100 * each.escape.max_rate
        hint = say("%(limit)g %%: %(rate).0f %% to review") % {"limit": limit, "rate": 100 * each.review_rate}
        pieces.append(circle(x, y, 4, "setting" if each.escape.holds else "setting refused", hint=hint))
        if x - last > 34:  # skip labels that would overlap
            pieces.append(text(x, _HEIGHT - _BOTTOM + 19, f"{limit:g} %", "tick middle"))
            last = x
    return pieces


_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_EDGE = 360, 84, 6


def sparkline(values: Sequence[float], limits: Sequence[float], *, title: str) -> Markup:
    """Values as dots from left to right, the newest at the right edge; those beyond a limit are highlighted.

    Args:
        values: Oldest first.
        limits: One upper limit, or an upper and a lower one.
        title: Label for screen readers.
    """
    everything = [*values, *limits] or [0.0, 1.0]
    low, high = min(everything), max(everything)
    y_of = scale(low, high, _SPARK_HEIGHT - _SPARK_EDGE, _SPARK_EDGE)
    upper, lower = max(limits, default=high), min(limits) if len(limits) > 1 else low
    step = (_SPARK_WIDTH - 2 * _SPARK_EDGE) / max(1, len(values) - 1)
    first = _SPARK_WIDTH - _SPARK_EDGE - step * (len(values) - 1)
    pieces = [line(0, y_of(limit), _SPARK_WIDTH, y_of(limit), "limit") for limit in limits]
    for number, value in enumerate(values):
        radius, style = (1.7, "") if lower <= value <= upper else (2.6, "beyond")
        pieces.append(circle(first + step * number, y_of(value), radius, style))
    return drawing(_SPARK_WIDTH, _SPARK_HEIGHT, title, pieces, "spark")
