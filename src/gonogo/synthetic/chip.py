"""Draws the chip: pads, leads, moulded body and laser mark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.synthetic.canvas import Canvas, Points, grain_window, placed, rectangle
from gonogo.synthetic.catalogue import EPOXY, LEAD, SOLDER, BoardStyle, ChipStyle, Material, scaled_board

BODY_HEIGHT = EPOXY.height
PAD_TOE = 7.0
"""Length of a pad beyond its lead, in units."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Position of one lead on the body."""

    root_xy: tuple[float, float]
    """Centre of the lead on the body's edge, in chip coordinates."""
    outward_xy: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Mount:
    """Position of one chip on the board."""

    style: ChipStyle
    centre_xy: tuple[float, float]
    angle_rad: float
    """Rotation, clockwise in the picture."""

    def __call__(self, points: Points) -> Points:
        """Convert chip coordinates to board coordinates."""
        return placed(points, self.centre_xy, self.angle_rad)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All leads, along the top, bottom, left and right edges."""
        half_w, half_h = self.style.body_wh[0] / 2, self.style.body_wh[1] / 2
        columns = (np.arange(self.style.columns) - (self.style.columns - 1) / 2) * self.style.pitch
        rows = (np.arange(self.style.rows) - (self.style.rows - 1) / 2) * self.style.pitch
        found = [Slot(root_xy=(x, side * half_h), outward_xy=(0, side)) for side in (-1, 1) for x in columns.tolist()]
        found += [Slot(root_xy=(side * half_w, y), outward_xy=(side, 0)) for side in (-1, 1) for y in rows.tolist()]
        return tuple(found)

    @property
    def outline(self) -> Points:
        """Corners of body and leads on the board, clockwise from the chip's top left."""
        return self(self.style.corners)

    @property
    def silhouette(self) -> Points:
        """All outer corners of body and leads on the board, for a tight box."""
        half_w, half_h = self.style.body_wh[0] / 2, self.style.body_wh[1] / 2
        outlines = [rectangle(-half_w, -half_h, half_w, half_h)]
        outlines += [lead_outline(slot, self.style, 0, self.style.lead_length) for slot in self.slots]
        return self(np.concatenate(outlines))


@dataclass(frozen=True, kw_only=True)
class Bend:
    """Bend of a lead: rotation about its root, and foreshortening if it is lifted."""

    angle_rad: float
    shorten: float


@dataclass(frozen=True, kw_only=True)
class ChipMark:
    """The print on the package."""

    lines: tuple[str, ...]
    contrast: float
    """Contrast of the print, 0 to 1."""
    dot_radius: float
    painted_dot: bool
    """Whether the pin-1 dot is printed in addition to being moulded."""


def lead_outline(
    slot: Slot, style: ChipStyle, start: float, stop: float, *, widen: float = 1, bend: Bend | None = None
) -> Points:
    """Polygon of a piece of one lead, from ``start`` to ``stop`` units outside the body, in chip coordinates."""
    half = style.lead_width / 2 * widen
    if bend is not None:
        start, stop = start * bend.shorten, stop * bend.shorten
    piece = rectangle(start, -half, stop, half)
    x, y = slot.outward_xy
    turned = placed(piece, (0, 0), float(np.arctan2(y, x)) + (bend.angle_rad if bend else 0))
    return np.asarray(turned + slot.root_xy, float)


def make_mark(style: ChipStyle, lot_code: str, contrast: float, rng: np.random.Generator) -> ChipMark:
    """Make the print: a part number, a date or lot code, and sometimes a maker and a country."""
    maker = "".join(rng.choice(list("AEKLMNORSTVX"), int(rng.integers(2, 5))))
    letters = "".join(rng.choice(list("ACDEFHKLMNPRSTX"), 2))
    number = f"{letters}{rng.integers(100, 9999)}{rng.choice(['', 'A', 'B', '-5', '-33', 'Q'])}"
    lines = [number, lot_code, maker, f"{letters[0]}{rng.integers(10, 99)} {rng.integers(100, 999)}"]
    room = 4 if style.body_wh[1] > 140 else 3
    count = int(rng.integers(2, room + 1))
    return ChipMark(
        lines=tuple(lines[:count]),
        contrast=contrast,
        dot_radius=float(rng.uniform(4.5, 7)),
        painted_dot=bool(rng.random() < 0.4),
    )


def draw_pads(canvas: Canvas, mount: Mount, board: BoardStyle) -> None:
    """Draw the chip's footprint, which is visible where the chip or a lead is missing."""
    style = mount.style
    for slot in mount.slots:
        pad = lead_outline(slot, style, style.lead_length * 0.30, style.lead_length + PAD_TOE, widen=1.32)
        canvas.polygon(pad, board.finish)


def draw_chip(
    canvas: Canvas,
    mount: Mount,
    mark: ChipMark,
    *,
    missing: frozenset[int],
    bent: Mapping[int, Bend],
    epoxy: Material,
    rng: np.random.Generator,
) -> None:
    """Draw leads, body and mark on a canvas in chip coordinates, over the pads.

    Args:
        canvas: The detail canvas; its origin is the chip's centre.
        mount: The chip.
        mark: The print.
        missing: Missing leads, by their index in `Mount.slots`.
        bent: Bent leads.
        epoxy: The body's material.
        rng: Random generator for the grain; its draws do not depend on the defect.
    """
    for number, slot in enumerate(mount.slots):
        if number not in missing:
            _lead(canvas, slot, mount.style, bent.get(number))
    _body(canvas, mount.style, epoxy, rng)
    _print(canvas, mount.style, mark)


def _lead(canvas: Canvas, slot: Slot, style: ChipStyle, bend: Bend | None) -> None:
    length = style.lead_length
    if bend is None:
        # Solder fillet from the pad up to the toe, and along both sides of the foot.
        for reach, widen, height, tone in ((4.6, 1.25, 11, 0.8), (2.8, 1.15, 17, 0.7), (1.2, 1.05, 24, 0.6)):
            fillet = Material(rgb=scaled_board(SOLDER.rgb, tone), height=height, gloss=SOLDER.gloss, metal=255)
            canvas.polygon(lead_outline(slot, style, length * 0.5, length + reach, widen=widen), fillet)
    # From the toe inwards: flat foot, rising knee, flat shoulder at half the body's height.
    steps = (
        (0.56, 1.0, 30, 1.0),
        (0.50, 0.58, 40, 0.8),
        (0.42, 0.52, 54, 0.7),
        (0.34, 0.44, 66, 0.85),
        (-0.1, 0.36, 72, 1.0),
    )
    lift = 26 if bend is not None else 0
    for start, stop, height, tone in steps:
        metal = Material(rgb=scaled_board(LEAD.rgb, tone), height=height + lift, gloss=LEAD.gloss, metal=255)
        canvas.polygon(lead_outline(slot, style, start * length, stop * length, bend=bend), metal)


def _body(canvas: Canvas, style: ChipStyle, epoxy: Material, rng: np.random.Generator) -> None:
    half_w, half_h = style.body_wh[0] / 2, style.body_wh[1] / 2
    for inset, share in ((0, 0.72), (1.2, 0.8), (2.4, 0.88), (3.6, 0.95), (4.8, 1.0)):
        tone = Material(rgb=epoxy.rgb, height=round(BODY_HEIGHT * share), gloss=epoxy.gloss)
        outline = rectangle(-half_w + inset, -half_h + inset, half_w - inset, half_h - inset, cut=2.2)
        canvas.polygon(outline, tone)
    if style.notch:
        angles = np.linspace(-np.pi / 2, np.pi / 2, 20)
        bowl = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 10 + (-half_w + 4.8, 0)
        canvas.polygon(bowl, Material(rgb=epoxy.rgb, height=BODY_HEIGHT - 14, gloss=epoxy.gloss))
    else:
        polish = Material(rgb=epoxy.rgb, height=BODY_HEIGHT - 5, gloss=epoxy.gloss + 26)
        canvas.disc((half_w * 0.62, half_h * 0.62), min(half_w, half_h) * 0.13, polish)
    _roughen(canvas, (half_w, half_h), rng)


def _roughen(canvas: Canvas, half_wh: tuple[float, float], rng: np.random.Generator) -> None:
    """Add the matte grain of moulded epoxy to colour and height."""
    (left, top), (right, bottom) = (
        np.rint((np.array(point) - canvas.origin_xy) * canvas.scale).astype(int).tolist()
        for point in ((-half_wh[0] + 1, -half_wh[1] + 1), (half_wh[0] - 1, half_wh[1] - 1))
    )
    size_wh = (right - left, bottom - top)
    fine, coarse = grain_window(1, size_wh, rng), grain_window(6, size_wh, rng)
    colour, height = canvas.albedo[top:bottom, left:right], canvas.relief[top:bottom, left:right, 0]
    gain = 1 + np.float32(0.055) * fine + np.float32(0.035) * coarse
    colour[:] = cv2.multiply(colour, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
    height[:] = height + np.float32(1.1) * fine + np.float32(0.5)  # cannot overflow


def _print(canvas: Canvas, style: ChipStyle, mark: ChipMark) -> None:
    width, height = style.body_wh
    tone = round(70 + 130 * mark.contrast)
    laser = Material(rgb=(tone, tone, round(tone * 0.96)), gloss=14)
    ring = (-width / 2 + 17, (-1 if not style.notch else 1) * (height / 2 - 17))
    rim = Material(rgb=(70, 70, 72), height=BODY_HEIGHT - 4, gloss=40)
    canvas.disc(ring, mark.dot_radius, rim)
    canvas.disc(
        ring,
        mark.dot_radius - 1.3,
        laser if mark.painted_dot else Material(rgb=(26, 26, 28), height=BODY_HEIGHT - 12, gloss=70),
    )
    longest = max(len(line) for line in mark.lines)
    pitch = min(height * 0.64 / len(mark.lines), width * 0.72 / longest * 1.9, 34)
    first = -pitch * (len(mark.lines) - 1) / 2
    for number, line in enumerate(mark.lines):
        canvas.text(line, (0, first + number * pitch), pitch * 0.52, laser, opacity=0.35 + 0.6 * mark.contrast)
