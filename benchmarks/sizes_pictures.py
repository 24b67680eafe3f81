"""Rendered pictures for study_sizes: plates with scratches of known length, checkerboards, boards with screws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, Float64
from gonogo.schema import Frame, Mask

SIZE_WH = (640, 480)
MM_PER_PX = 0.05
_OVERSAMPLED = 4

Points = Float64[np.ndarray, "points 2"]


@dataclass(frozen=True, kw_only=True)
class Light:
    """One way of taking pictures: an operator, or a station."""

    brightness: float = 1.0
    blur_px: float = 0.9
    noise: float = 3.0
    turn_deg: float = 0.0
    """The part is laid down turned by about this angle."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A scratch of constant width along a circular arc; the length is that of the arc."""

    length_mm: float
    width_mm: float
    contrast: float
    """Grey levels against the plate; negative is dark."""
    bend_rad: float
    """Angle between the directions of its two ends."""
    angle_rad: float
    centre: tuple[float, float]
    """As shares of the picture's width and height."""

    @classmethod
    def drawn(cls, length_mm: float, rng: np.random.Generator) -> Scratch:
        """Draw everything but the length at random."""
        return cls(
            length_mm=length_mm,
            width_mm=float(rng.uniform(0.1, 0.2)),
            contrast=float(rng.choice([-1, 1]) * rng.uniform(35, 80)),
            bend_rad=float(rng.uniform(-0.6, 0.6)),
            angle_rad=float(rng.uniform(0, math.pi)),
            centre=(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7))),
        )

    def outline(self, turn_rad: float, shift_px: Points) -> Points:
        """Corners in pixels."""
        along = np.linspace(-0.5, 0.5, 160)
        heading = self.angle_rad + turn_rad + self.bend_rad * along
        length = self.length_mm / MM_PER_PX
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / (len(along) - 1)
        path = np.concatenate([np.zeros((1, 2)), np.cumsum((steps[1:] + steps[:-1]) / 2, axis=0)])
        middle = (np.array(self.centre) - 0.5) * SIZE_WH
        cos, sin = math.cos(turn_rad), math.sin(turn_rad)
        turned = np.array([[cos, -sin], [sin, cos]]) @ middle + np.array(SIZE_WH) / 2 + shift_px
        path += turned - path.mean(axis=0)
        across = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * self.width_mm / MM_PER_PX / 2
        return np.concatenate([path + across, (path - across)[::-1]])


def plate(scratch: Scratch | None, rng: np.random.Generator, light: Light | None = None) -> tuple[Frame, Mask]:
    """A brushed metal plate that fills the picture, and the pixels of its scratch."""
    light = light or Light()
    width, height = SIZE_WH
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    tilt = rng.uniform(-1, 1, 2)
    grey = 125 + 20 * tilt[0] * (columns / width - 0.5) + 20 * tilt[1] * (rows / height - 0.5)
    brushed = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigmaX=12, sigmaY=0.7)
    grey = (grey + 3 * brushed / brushed.std()).astype(np.float32)
    covered = np.zeros((height, width), np.float32)
    if scratch is not None:
        turn = math.radians(light.turn_deg) + float(rng.normal(0, 0.02))
        covered = _covered(scratch.outline(turn, rng.uniform(-8, 8, 2)))
    grey = (grey + scratch.contrast * covered if scratch is not None else grey) * light.brightness
    return _photographed(np.repeat(grey[..., None], 3, axis=2), rng, light), covered > 0.5


def _covered(outline: Points) -> Float32[np.ndarray, "rows columns"]:
    width, height = SIZE_WH
    fine = np.zeros((height * _OVERSAMPLED, width * _OVERSAMPLED), np.uint8)
    corners = np.rint((outline * _OVERSAMPLED - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, SIZE_WH, interpolation=cv2.INTER_AREA), np.float32) / 255


def _photographed(picture: np.ndarray, rng: np.random.Generator, light: Light) -> Frame:
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), light.blur_px)
    return np.asarray(np.clip(blurred + rng.normal(0, light.noise, blurred.shape), 0, 255), np.uint8)


def checkerboard(square_mm: float, corners_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
    """A checkerboard in the plane of the plates, turned a little."""
    across, down = corners_wh
    side = square_mm / MM_PER_PX
    fine = np.full((SIZE_WH[1] * 4, SIZE_WH[0] * 4), 235, np.uint8)
    turn, start = math.radians(float(rng.uniform(-4, 4))), np.array([-(across + 1) / 2, -(down + 1) / 2]) * side
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    for row in range(down + 1):
        for column in range(across + 1):
            if (row + column) % 2 == 0:
                corners = start + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * side + np.array([column, row]) * side
                placed = corners @ matrix.T + np.array(SIZE_WH) / 2
                cv2.fillPoly(fine, [np.rint((placed * 4 - 0.5) * 16).astype(np.int32)], 25, cv2.LINE_8, 4)
    small = cv2.resize(fine, SIZE_WH, interpolation=cv2.INTER_AREA)
    return _photographed(np.repeat(small[..., None], 3, axis=2), rng, Light())


SCREWS_XY = ((80, 80), (560, 80), (80, 400), (560, 400))
SCREW_BOX = (58.0, 58.0, 102.0, 102.0)


def screwed_board(missing: frozenset[int], rng: np.random.Generator, *, spread_px: float = 3.0) -> Frame:
    """A board with four cross-head screws at any angle; a missing one leaves its pad and a dark hole."""
    width, height = SIZE_WH
    laminate = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 2)
    board = np.array([40, 90, 60], np.float32) + 8 * (laminate / laminate.std())[..., None]
    for _ in range(25):
        (x, y), (to_x, _) = rng.integers(0, SIZE_WH, (2, 2)).tolist()
        cv2.line(board, (x, y), (to_x, y), (60, 120, 80), 3, cv2.LINE_AA)
    for number, place in enumerate(SCREWS_XY):
        middle = np.array(place) + rng.uniform(-spread_px, spread_px, 2)
        x, y = (middle * 16).astype(int).tolist()
        cv2.circle(board, (x, y), 26 * 16, (170, 150, 90), -1, cv2.LINE_AA, 4)
        if number in missing:
            cv2.circle(board, (x, y), 14 * 16, (15, 15, 15), -1, cv2.LINE_AA, 4)
            continue
        cv2.circle(board, (x, y), 20 * 16, (185, 185, 190), -1, cv2.LINE_AA, 4)
        angle = float(rng.uniform(0, math.pi))
        for quarter in (0.0, math.pi / 2):
            reach = np.array([math.cos(angle + quarter), math.sin(angle + quarter)]) * 14
            ends = [((middle + sign * reach) * 16).astype(int).tolist() for sign in (-1, 1)]
            cv2.line(board, ends[0], ends[1], (70, 70, 75), 5, cv2.LINE_AA, 4)
    shade = np.linspace(-12, 12, width)[None, :, None] * rng.uniform(-1, 1)
    return _photographed(board * rng.uniform(0.85, 1.15) + shade, rng, Light(blur_px=0.8))
