"""The boards, chips, components and defects that can be rendered, with their colours and dimensions.

Lengths are in *units*: one unit is one pixel of a 640 x 480 picture taken at scale 1. Colours are sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gonogo.array_types import Float64

Rgb = tuple[int, int, int]


class BoardType(StrEnum):
    """Board designs; they differ in solder mask, finish and mixture of components."""

    CONTROLLER = "controller"
    SENSOR = "sensor"
    POWER = "power"
    RADIO = "radio"
    LIGHTING = "lighting"


class ChipType(StrEnum):
    """Chip packages; all have leads, so that every kind of defect applies to each of them."""

    SOIC8 = "soic8"
    SOIC16 = "soic16"
    TSSOP20 = "tssop20"
    QFP32 = "qfp32"
    QFP48 = "qfp48"


class Defect(StrEnum):
    """Defect kinds of a chip."""

    SCRATCH = "scratch"
    CRACK = "crack"
    CHIPPED_CORNER = "chipped_corner"
    STAIN = "stain"
    MISSING_PIN = "missing_pin"
    BENT_PIN = "bent_pin"


class Component(StrEnum):
    """Components around the chip."""

    RESISTOR = "resistor"
    CAPACITOR = "capacitor"
    CRYSTAL = "crystal"
    TRANSISTOR = "transistor"
    HEADER = "header"
    TEST_POINT = "test_point"
    LED = "led"
    INDUCTOR = "inductor"
    ELECTROLYTIC = "electrolytic"
    TANTALUM = "tantalum"


@dataclass(frozen=True, kw_only=True)
class Material:
    """Optical properties of a surface."""

    rgb: Rgb
    height: int = 0
    """Height above the bare board, 0 to 255, in quarters of a unit."""
    gloss: int = 40
    """Gloss, from 0 (chalk) to 255 (mirror)."""
    metal: int = 0
    """255 for a metal, whose reflections have the colour of its surface."""


@dataclass(frozen=True, kw_only=True)
class BoardStyle:
    """Colours and density of one board design."""

    mask_rgb: Rgb
    """Solder mask over bare laminate."""
    copper_rgb: Rgb
    """Solder mask over copper."""
    silk_rgb: Rgb
    finish: Material
    """Plating of the exposed pads."""
    pours: int
    buses: int
    parts: dict[Component, float]
    """Relative frequency of each component."""
    names: tuple[str, ...]
    """Texts for the silk-screen."""


@dataclass(frozen=True, kw_only=True)
class ChipStyle:
    """Dimensions of one package in units; the origin is the centre of the body, pin 1 is at its top left."""

    body_wh: tuple[float, float]
    columns: int
    """Number of leads on the top edge, and on the bottom edge."""
    rows: int
    """Number of leads on the left edge, and on the right edge; 0 for a two-sided package."""
    pitch: float
    lead_width: float
    lead_length: float
    """Length of a lead outside the body."""
    notch: bool
    """Whether a half-round notch marks the left edge."""

    @property
    def extent_wh(self) -> tuple[float, float]:
        """Width and height of the body with its leads."""
        width, height = self.body_wh
        return (width + 2 * self.lead_length * (self.rows > 0), height + 2 * self.lead_length * (self.columns > 0))

    @property
    def corners(self) -> Float64[np.ndarray, "4 2"]:
        """Corners of the extent, clockwise from the top left."""
        half_w, half_h = self.extent_wh[0] / 2, self.extent_wh[1] / 2
        return np.array([(-half_w, -half_h), (half_w, -half_h), (half_w, half_h), (-half_w, half_h)])


GOLD = Material(rgb=(216, 172, 92), height=7, gloss=150, metal=255)
TIN = Material(rgb=(164, 165, 166), height=9, gloss=140, metal=255)
LEAD = Material(rgb=(196, 197, 196), height=30, gloss=190, metal=255)
SOLDER = Material(rgb=(190, 191, 194), height=22, gloss=215, metal=255)
EPOXY = Material(rgb=(44, 44, 47), height=110, gloss=26)
LAMINATE = Material(rgb=(158, 146, 92), height=0, gloss=30)
HOLE = Material(rgb=(8, 8, 9), height=0, gloss=0)

BOARDS: dict[BoardType, BoardStyle] = {
    BoardType.CONTROLLER: BoardStyle(
        mask_rgb=(10, 74, 44),
        copper_rgb=(24, 112, 66),
        silk_rgb=(232, 236, 230),
        finish=GOLD,
        pours=3,
        buses=7,
        parts={
            Component.RESISTOR: 5,
            Component.CAPACITOR: 5,
            Component.CRYSTAL: 0.7,
            Component.TRANSISTOR: 1,
            Component.HEADER: 0.7,
            Component.TEST_POINT: 1,
            Component.LED: 0.4,
        },
        names=("GNG-CTRL", "CPU MODULE", "MAIN I/O", "CTRL 4.2"),
    ),
    BoardType.SENSOR: BoardStyle(
        mask_rgb=(10, 38, 96),
        copper_rgb=(22, 70, 148),
        silk_rgb=(236, 238, 240),
        finish=GOLD,
        pours=2,
        buses=4,
        parts={
            Component.RESISTOR: 4,
            Component.CAPACITOR: 4,
            Component.TEST_POINT: 2,
            Component.INDUCTOR: 0.5,
            Component.TRANSISTOR: 0.7,
            Component.HEADER: 0.8,
            Component.LED: 0.3,
        },
        names=("SENSE-3", "GNG-PROBE", "THERMO", "AFE REV C"),
    ),
    BoardType.POWER: BoardStyle(
        mask_rgb=(104, 12, 18),
        copper_rgb=(150, 28, 30),
        silk_rgb=(240, 236, 228),
        finish=TIN,
        pours=6,
        buses=3,
        parts={
            Component.RESISTOR: 3,
            Component.CAPACITOR: 3,
            Component.ELECTROLYTIC: 1.4,
            Component.INDUCTOR: 1.2,
            Component.TANTALUM: 1.2,
            Component.TRANSISTOR: 1,
        },
        names=("DC-DC 24V", "GNG-PSU", "MOTOR DRV", "12V / 5A"),
    ),
    BoardType.RADIO: BoardStyle(
        mask_rgb=(20, 21, 25),
        copper_rgb=(40, 42, 48),
        silk_rgb=(226, 226, 222),
        finish=GOLD,
        pours=5,
        buses=4,
        parts={
            Component.RESISTOR: 3,
            Component.CAPACITOR: 6,
            Component.CRYSTAL: 1.1,
            Component.INDUCTOR: 0.8,
            Component.TEST_POINT: 1.2,
            Component.LED: 0.3,
        },
        names=("RF-LINK", "868 MHz", "GNG-AIR", "ANT 50R"),
    ),
    BoardType.LIGHTING: BoardStyle(
        mask_rgb=(168, 169, 163),
        copper_rgb=(190, 189, 181),
        silk_rgb=(44, 46, 52),
        finish=TIN,
        pours=4,
        buses=4,
        parts={
            Component.RESISTOR: 4,
            Component.CAPACITOR: 2,
            Component.LED: 3,
            Component.TANTALUM: 0.8,
            Component.ELECTROLYTIC: 0.6,
            Component.TRANSISTOR: 0.8,
        },
        names=("LED DRIVER", "GNG-LUX", "4000 K", "LAMP A"),
    ),
}

CHIPS: dict[ChipType, ChipStyle] = {
    ChipType.SOIC8: ChipStyle(
        body_wh=(168, 134), columns=4, rows=0, pitch=42, lead_width=15, lead_length=36, notch=True
    ),
    ChipType.SOIC16: ChipStyle(
        body_wh=(244, 100), columns=8, rows=0, pitch=29, lead_width=12, lead_length=30, notch=True
    ),
    ChipType.TSSOP20: ChipStyle(
        body_wh=(222, 150), columns=10, rows=0, pitch=21.5, lead_width=9.5, lead_length=28, notch=False
    ),
    ChipType.QFP32: ChipStyle(
        body_wh=(172, 172), columns=8, rows=8, pitch=19.5, lead_width=9, lead_length=28, notch=False
    ),
    ChipType.QFP48: ChipStyle(
        body_wh=(190, 190), columns=12, rows=12, pitch=14.6, lead_width=7, lead_length=28, notch=False
    ),
}


def scaled_board(rgb: Rgb, factor: float) -> Rgb:
    """Make a colour brighter or darker."""
    red, green, blue = (min(255, round(channel * factor)) for channel in rgb)
    return red, green, blue
