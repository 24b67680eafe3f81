"""Draws the components around the chip: passives, cans, headers, small transistors.

Each component is drawn around the origin along the x axis and placed in quarter turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gonogo.synthetic.canvas import Canvas, Points, placed, rectangle
from gonogo.synthetic.catalogue import HOLE, SOLDER, BoardStyle, Component, Material, Rgb, scaled_board

SIZE_WH: dict[Component, tuple[float, float]] = {
    Component.RESISTOR: (44, 22),
    Component.CAPACITOR: (40, 22),
    Component.CRYSTAL: (86, 36),
    Component.TRANSISTOR: (46, 48),
    Component.HEADER: (118, 30),
    Component.TEST_POINT: (20, 20),
    Component.LED: (42, 26),
    Component.INDUCTOR: (66, 66),
    Component.ELECTROLYTIC: (82, 82),
    Component.TANTALUM: (68, 40),
}
"""Size of each component on the board, pads included, in units."""

PREFIX: dict[Component, str] = {
    Component.RESISTOR: "R",
    Component.CAPACITOR: "C",
    Component.CRYSTAL: "Y",
    Component.TRANSISTOR: "Q",
    Component.HEADER: "J",
    Component.TEST_POINT: "TP",
    Component.LED: "D",
    Component.INDUCTOR: "L",
    Component.ELECTROLYTIC: "C",
    Component.TANTALUM: "C",
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Position and rotation of a component."""

    kind: Component
    centre_xy: tuple[float, float]
    turns: int
    """Number of quarter turns clockwise."""

    def __call__(self, points: Points) -> Points:
        """Convert component coordinates to board coordinates."""
        return placed(points, self.centre_xy, self.turns * np.pi / 2)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Convert one point from component to board coordinates."""
        ((board_x, board_y),) = self(np.array([(x, y)], float)).tolist()
        return board_x, board_y

    @property
    def size_wh(self) -> tuple[float, float]:
        """Size on the board."""
        width, height = SIZE_WH[self.kind]
        return (height, width) if self.turns % 2 else (width, height)


def draw_component(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    """Draw one component with its pads and solder."""
    match site.kind:
        case Component.RESISTOR:
            _resistor(canvas, site, style, rng)
        case Component.CAPACITOR:
            _capacitor(canvas, site, style, rng)
        case Component.CRYSTAL:
            _crystal(canvas, site, style, rng)
        case Component.TRANSISTOR:
            _transistor(canvas, site, style, rng)
        case Component.HEADER:
            _header(canvas, site, style, rng)
        case Component.TEST_POINT:
            canvas.disc(site.centre_xy, 8, style.finish)
        case Component.LED:
            _led(canvas, site, style, rng)
        case Component.INDUCTOR:
            _inductor(canvas, site, style, rng)
        case Component.ELECTROLYTIC:
            _electrolytic(canvas, site, style, rng)
        case Component.TANTALUM:
            _tantalum(canvas, site, style, rng)


def _pads(canvas: Canvas, site: Site, style: BoardStyle, *, reach: float, inner: float, half: float) -> None:
    """Draw two pads on the x axis, from ``inner`` to ``reach``, with a solder fillet at the component's ends."""
    for side in (-1, 1):
        canvas.polygon(site(rectangle(side * inner, -half, side * reach, half, cut=0)), style.finish)
        fillet = rectangle(side * inner, -half + 1.5, side * (reach - 2.5), half - 1.5, cut=0)
        canvas.polygon(site(fillet), SOLDER)


def _block(canvas: Canvas, site: Site, half_w: float, half_h: float, material: Material, *, bevel: float = 2) -> None:
    """Draw a box with bevelled edges."""
    low = Material(
        rgb=scaled_board(material.rgb, 0.8), height=material.height // 2, gloss=material.gloss, metal=material.metal
    )
    canvas.polygon(site(rectangle(-half_w, -half_h, half_w, half_h)), low)
    canvas.polygon(site(rectangle(-half_w + bevel, -half_h + bevel, half_w - bevel, half_h - bevel)), material)


def _resistor(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=22, inner=9, half=9)
    _block(canvas, site, 16, 8, Material(rgb=(222, 222, 220), height=44, gloss=140, metal=110), bevel=1)
    canvas.polygon(site(rectangle(-10.5, -8, 10.5, 8)), Material(rgb=(27, 27, 30), height=48, gloss=70))
    code = f"{rng.integers(10, 99)}{rng.integers(0, 6)}"
    ink = Material(rgb=(214, 214, 208), gloss=40)
    canvas.text(code, site.centre_xy, 6.5, ink, turns=-site.turns, opacity=0.85)


def _capacitor(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=20, inner=8, half=9)
    shade = rng.uniform(0.8, 1.12)
    _block(canvas, site, 15, 8, Material(rgb=(218, 216, 210), height=56, gloss=130, metal=110), bevel=1)
    body = Material(rgb=scaled_board((166, 130, 92), shade), height=60, gloss=62)
    canvas.polygon(site(rectangle(-9, -8, 9, 8)), body)


def _crystal(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=43, inner=24, half=6)
    for inset, height in ((0, 30), (2.5, 58), (5, 74)):
        rim = Material(rgb=(186, 186, 182), height=height, gloss=150, metal=235)
        canvas.line(site(np.array([(-22.0, 0), (22.0, 0)])), 34 - 2 * inset, rim)
    marking = f"{rng.choice(('8.000', '12.000', '16.000', '25.000', '32.768'))}"
    canvas.text(marking, site.centre_xy, 7.5, Material(rgb=(70, 70, 72), gloss=60), turns=-site.turns, opacity=0.8)


def _transistor(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    for x, side in ((-13, 1), (13, 1), (0, -1)):
        canvas.polygon(site(rectangle(x - 6, side * 9, x + 6, side * 24)), style.finish)
        canvas.polygon(site(rectangle(x - 5, side * 13, x + 5, side * 22)), SOLDER)
        canvas.polygon(
            site(rectangle(x - 4, side * 8, x + 4, side * 19)),
            Material(rgb=(194, 194, 192), height=30, gloss=180, metal=255),
        )
    _block(canvas, site, 21, 11, Material(rgb=(40, 40, 43), height=74, gloss=34), bevel=2.5)
    code = "".join(rng.choice(list("ABKLTW123458"), 3))
    canvas.text(code, site.centre_xy, 8, Material(rgb=(168, 168, 162), gloss=30), turns=-site.turns, opacity=0.75)


def _header(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    count = 4
    housing = Material(rgb=(30, 30, 33), height=70, gloss=50)
    filled = rng.random() < 0.5
    if filled:
        _block(canvas, site, 59, 14, housing, bevel=2)
    for x in (np.arange(count) - (count - 1) / 2) * 29:
        centre = site.at(float(x), 0)
        if filled:
            canvas.polygon(
                site(rectangle(x - 11, -11, x + 11, 11, cut=3)), Material(rgb=(22, 22, 24), height=58, gloss=40)
            )
            canvas.polygon(
                site(rectangle(x - 4.5, -4.5, x + 4.5, 4.5)),
                Material(rgb=(214, 176, 96), height=140, gloss=180, metal=255),
            )
        else:
            canvas.disc(centre, 11, style.finish)
            canvas.disc(centre, 6, HOLE)


def _led(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=21, inner=9, half=11)
    _block(canvas, site, 16, 11, Material(rgb=(226, 224, 216), height=46, gloss=60), bevel=1.5)
    lens: Rgb = ((226, 190, 74), (236, 222, 120), (214, 120, 96))[int(rng.integers(3))]
    canvas.disc(site.centre_xy, 8.5, Material(rgb=scaled_board(lens, 0.85), height=40, gloss=150))
    canvas.disc(site.centre_xy, 6.5, Material(rgb=lens, height=46, gloss=190))
    canvas.polygon(
        site(np.array([(-15.0, -10.0), (-10, -10), (-15, -5)])), Material(rgb=(60, 120, 70), height=46, gloss=50)
    )


def _inductor(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=33, inner=20, half=22)
    ferrite = Material(rgb=(62, 61, 62), height=84, gloss=44)
    canvas.polygon(site(rectangle(-29, -29, 29, 29, cut=9)), Material(rgb=(50, 49, 50), height=50, gloss=40))
    canvas.polygon(site(rectangle(-26.5, -26.5, 26.5, 26.5, cut=9)), ferrite)
    canvas.disc(site.centre_xy, 21, Material(rgb=(46, 45, 46), height=72, gloss=60))
    canvas.disc(site.centre_xy, 19, Material(rgb=(66, 65, 66), height=92, gloss=52))
    code = ("4R7", "100", "220", "2R2", "101")[int(rng.integers(5))]
    canvas.text(code, site.centre_xy, 13, Material(rgb=(206, 206, 200), gloss=30), turns=-site.turns, opacity=0.8)


def _electrolytic(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=41, inner=26, half=7)
    base = rectangle(-36, -36, 36, 36)
    base[0], base = base[0] + (0, 14), np.insert(base, 1, (-22, -36), axis=0)
    canvas.polygon(site(base), Material(rgb=(30, 29, 31), height=40, gloss=40))
    for radius, height in ((34, 120), (32.5, 170), (30.5, 196)):
        canvas.disc(site.centre_xy, radius, Material(rgb=(196, 198, 202), height=height, gloss=130, metal=215))
    angles = np.linspace(np.pi * 0.68, np.pi * 1.32, 24)
    sector = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 30
    canvas.polygon(site(sector), Material(rgb=(34, 34, 40), height=196, gloss=60))
    ink = Material(rgb=(40, 40, 46), gloss=60)
    for text, y in ((f"{rng.choice(('47', '100', '220', '330'))}", -8), (f"{rng.choice(('16V', '25V', '35V'))}", 8)):
        canvas.text(text, site.at(6, y), 9.5, ink, turns=-site.turns, opacity=0.85)


def _tantalum(canvas: Canvas, site: Site, style: BoardStyle, rng: np.random.Generator) -> None:
    _pads(canvas, site, style, reach=34, inner=20, half=12)
    body: Rgb = ((204, 138, 40), (38, 38, 41))[int(rng.random() < 0.4)]
    _block(canvas, site, 28, 18, Material(rgb=body, height=88, gloss=54), bevel=2.5)
    bar: Rgb = (96, 52, 22) if body[0] > 100 else (172, 172, 168)
    canvas.polygon(site(rectangle(-25, -15.5, -17, 15.5)), Material(rgb=bar, height=88, gloss=50))
    ink = Material(rgb=bar, gloss=40)
    canvas.text(f"{rng.choice(('107', '226', '476'))}", site.at(4, 0), 10, ink, turns=-site.turns, opacity=0.9)
