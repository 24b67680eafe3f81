"""Draws the defects of a chip, in chip coordinates on its detail canvas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gonogo.synthetic.canvas import Canvas, Points, grain_window, placed, ribbon
from gonogo.synthetic.catalogue import LAMINATE, ChipStyle, Defect, Material
from gonogo.synthetic.chip import BODY_HEIGHT, Bend

_KNOCK = 26.0
"""Length of an edge, in units, on which leads are missing or bent."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """Visibility of a defect."""

    contrast: float
    """Blend of the body's colour (0) and the defect's colour (1)."""
    size: float
    """Factor on lengths and widths; 1 at medium difficulty."""


@dataclass(frozen=True, kw_only=True)
class PinFault:
    """Missing or bent leads, by their index in `Mount.slots`."""

    missing: frozenset[int] = frozenset()
    bent: dict[int, Bend] = field(default_factory=dict)


def pin_fault(defect: Defect | None, style: ChipStyle, strength: Strength, rng: np.random.Generator) -> PinFault:
    """Choose the leads that a defect removes or bends; none for defects of the body.

    Neighbouring leads are affected together: the finer the pitch, the more leads.
    """
    if defect not in (Defect.MISSING_PIN, Defect.BENT_PIN):
        return PinFault()
    edges = [count for count in (style.columns, style.columns, style.rows, style.rows) if count]
    edge = int(rng.integers(len(edges)))
    count = int(np.clip(round(rng.uniform(0.8, 1.2) * strength.size * _KNOCK / style.pitch), 1, edges[edge]))
    first = sum(edges[:edge]) + int(rng.integers(edges[edge] - count + 1))
    struck = range(first, first + count)
    if defect is Defect.MISSING_PIN:
        return PinFault(missing=frozenset(struck))
    angle = float(rng.choice([-1, 1]) * rng.uniform(0.32, 0.5)) * strength.size**0.5
    bends = {
        lead: Bend(angle_rad=angle * rng.uniform(0.85, 1.1), shorten=float(rng.uniform(0.72, 0.95))) for lead in struck
    }
    return PinFault(bent=bends)


def mar_body(
    canvas: Canvas, style: ChipStyle, defect: Defect | None, strength: Strength, rng: np.random.Generator
) -> None:
    """Draw a defect of the body on a finished chip; does nothing for defects of the pins."""
    match defect:
        case Defect.SCRATCH:
            _scratch(canvas, style, strength, rng)
        case Defect.CRACK:
            _crack(canvas, style, strength, rng)
        case Defect.CHIPPED_CORNER:
            _chip_corner(canvas, style, strength, rng)
        case Defect.STAIN:
            _stain(canvas, style, strength, rng)
        case _:
            return


def _inside(style: ChipStyle, share: float, rng: np.random.Generator) -> tuple[float, float]:
    width, height = style.body_wh
    return float(rng.uniform(-0.5, 0.5) * width * share), float(rng.uniform(-0.5, 0.5) * height * share)


def _clipped(points: Points, style: ChipStyle, *, inset: float) -> Points:
    half = np.array(style.body_wh) / 2 - inset
    return np.asarray(np.clip(points, -half, half))


def _steps_inside(path: Points, style: ChipStyle) -> int:
    """Number of points of a path before it leaves the body; at least two."""
    outside = (np.abs(path) > np.array(style.body_wh) / 2 - 0.5).any(axis=1)
    outside[:2] = False  # a crack starts on the edge
    return int(outside.argmax()) if outside.any() else len(path)


def _faded(
    rgb: tuple[int, int, int], contrast: float, base: tuple[int, int, int] = (44, 44, 47)
) -> tuple[int, int, int]:
    red, green, blue = (round(low + (high - low) * contrast) for low, high in zip(base, rgb, strict=True))
    return red, green, blue


def _scratch(canvas: Canvas, style: ChipStyle, strength: Strength, rng: np.random.Generator) -> None:
    half_length = rng.uniform(26, 52) * strength.size
    along = np.linspace(-1, 1, 40)
    bow = rng.uniform(-10, 10) * (along**2 - 0.5) + rng.uniform(-4, 4) * np.sin(along * rng.uniform(1, 4))
    path = placed(np.stack([along * half_length, bow], axis=1), _inside(style, 0.5, rng), rng.uniform(0, np.pi))
    strokes = int(rng.integers(1, 4))
    for number in range(strokes):
        shift = rng.uniform(3, 6, 2) * number
        tone = _faded((206, 204, 198), strength.contrast * rng.uniform(0.75, 1))
        widths = rng.uniform(1.7, 3.0) * strength.size**0.5 * np.sin(np.linspace(0.12, np.pi - 0.25, len(path))) ** 0.6
        worn = Material(rgb=tone, height=BODY_HEIGHT - 10, gloss=60)
        part = path[int(rng.integers(0, 8)) : 40 - int(rng.integers(0, 12))] if number else path
        canvas.polygon(ribbon(_clipped(part + shift, style, inset=5), widths[: len(part)]), worn)


def _crack(canvas: Canvas, style: ChipStyle, strength: Strength, rng: np.random.Generator) -> None:
    half_w, half_h = np.array(style.body_wh) / 2
    side = float(rng.choice([-1, 1]))
    if rng.random() < 0.5:
        start, heading = np.array([rng.uniform(-0.7, 0.7) * half_w, side * half_h]), -side * np.pi / 2
    else:
        start, heading = np.array([side * half_w, rng.uniform(-0.7, 0.7) * half_h]), 0.0 if side < 0 else np.pi
    paths = [_walk(start, heading + rng.uniform(-0.6, 0.6), rng.uniform(60, 110) * strength.size, rng)]
    for _ in range(int(rng.integers(0, 3))):
        root = paths[0][int(rng.integers(3, len(paths[0]) - 1))]
        paths.append(
            _walk(root, heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), rng.uniform(18, 40) * strength.size, rng)
        )
    for path in paths:
        inside = path[: _steps_inside(path, style)]
        taper = np.linspace(1, 0.35, len(inside)) * strength.size**0.5
        lip = Material(rgb=_faded((172, 170, 163), strength.contrast), height=BODY_HEIGHT + 8, gloss=50)
        canvas.polygon(ribbon(inside + 0.9, 3.0 * taper), lip)
        gap = Material(rgb=_faded((4, 4, 5), strength.contrast), height=BODY_HEIGHT - 40, gloss=0)
        canvas.polygon(ribbon(inside, 2.2 * taper), gap)


def _walk(start: Points, heading: float, length: float, rng: np.random.Generator) -> Points:
    """Random walk with a constant general direction."""
    steps = max(4, round(length / 7))
    headings = heading + rng.normal(0, 0.45, steps) + np.cumsum(rng.normal(0, 0.12, steps))
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps)
    return np.asarray(np.concatenate([[start], start + np.cumsum(moves, axis=0)]), float)


def _chip_corner(canvas: Canvas, style: ChipStyle, strength: Strength, rng: np.random.Generator) -> None:
    """Draw a broken corner: a rough, paler, sloping face."""
    corner = np.array([rng.choice([-1, 1]), rng.choice([-1, 1])], float)
    size = rng.uniform(17, 27, 2) * strength.size**0.8
    tip = corner * np.array(style.body_wh) / 2
    bow = np.linspace(0, np.pi / 2, 9)
    ragged = 1 + rng.normal(0, 0.10, len(bow))
    for share, height, tone in ((1.0, 0.86, 0.62), (0.8, 0.7, 0.85), (0.55, 0.52, 1.0), (0.3, 0.36, 0.9)):
        arc = np.stack([(1 - np.sin(bow) * 0.85), (1 - np.cos(bow) * 0.85)], axis=1) * ragged[:, None]
        arc[0], arc[-1] = (1, 0), (0, 1)
        outline = np.concatenate([[(0.0, 0.0)], arc]) * size * share
        rough = _faded((150, 147, 140), (0.25 + 0.75 * strength.contrast) * tone)
        face = Material(rgb=rough, height=round(BODY_HEIGHT * height), gloss=20)
        canvas.polygon(tip - corner * outline, face)


def _stain(canvas: Canvas, style: ChipStyle, strength: Strength, rng: np.random.Generator) -> None:
    """Draw dried flux or grease: a blot with a denser rim."""
    size = max(12, round(rng.uniform(58, 88) * strength.size * canvas.scale))
    centre = np.array(_inside(style, 0.62, rng))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stretch = rng.uniform(0.75, 1.3)
    field_ = 0.8 - np.hypot(x * stretch, y / stretch) + 0.16 * grain_window(12, (size, size), rng)
    body = np.clip(field_ * 7, 0, 1)
    rim = np.exp(-(((field_ - 0.06) / 0.07) ** 2))
    mask = np.clip(body * 0.62 + 0.38 * rim, 0, 1) * (np.hypot(x, y) < 0.98)
    left, top = np.rint((centre - canvas.origin_xy) * canvas.scale - size / 2).astype(int).tolist()
    window = _body_window(canvas, style)
    lost = max(0, window[1] - left), max(0, window[0] - top)
    kept = mask[lost[1] : max(0, window[2] - top), lost[0] : max(0, window[3] - left)]
    ink = ((176, 156, 112), (206, 206, 200), LAMINATE.rgb)[int(rng.integers(3))]
    opacity = float(np.clip(0.75 * strength.contrast, 0.05, 0.95))
    covered = (kept * 255).astype(np.uint8)
    canvas.blend(covered, left + lost[0], top + lost[1], Material(rgb=ink, gloss=96), opacity=opacity)


def _body_window(canvas: Canvas, style: ChipStyle) -> tuple[int, int, int, int]:
    """Rows and columns of the body's flat top: top, left, bottom, right."""
    half = np.array(style.body_wh) / 2 - 4
    (left, top), (right, bottom) = (
        np.rint((point - canvas.origin_xy) * canvas.scale).astype(int).tolist() for point in (-half, half)
    )
    return top, left, bottom, right


def stronger(strength: Strength) -> Strength:
    """Increase the visibility, for a defect that changed too few pixels."""
    return replace(strength, contrast=min(1.0, strength.contrast * 1.5), size=strength.size * 1.25)
